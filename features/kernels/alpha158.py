"""All of Alpha158 in one pass: a block of sixteen symbols and a stretch of sessions stay in the cache.

Qlib (Yang et al. 2020, `qlib.contrib.data.loader.Alpha158DL`) writes the set as 158 expressions, each of which
walks the whole history. Here sums over a window are sums of sums over 1, 2, 4 .. sessions
(`features.kernels.pieces`), which all windows share; a value's bits depend on its window alone.

Where the definition departs from Qlib's: the small constants that keep Qlib from dividing by zero are left out
(0 / 0 is 0 where Qlib has 0, a nonzero over zero is NaN), so that a split basis cancels exactly; a session without
a close has no value; rows that are missing inside a window do not count, except in CNT* and IM* as sessions;
CORR takes the logarithm of the volume itself (Qlib: of one share more) unless told otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from core.jit import compiled
from features.kernels.blocks import dense, over_blocks
from features.kernels.levels import (
    aged_levels,
    aged_twice_levels,
    aged_twice_windowed,
    aged_windowed,
    freedom,
    highest_levels,
    highest_windowed,
    inverse,
    joined_levels,
    joined_windowed,
    levels,
    number,
    oldest_levels,
    oldest_windowed,
    product_sum_levels,
    sum_levels,
    windowed,
)
from features.kernels.pieces import (
    WIDTH,
    count_below,
    gather,
    places,
    quantile_sorted,
    replace_sorted,
)
from features.panel import Array

ROWS = 384
"""Sessions of a stretch: what is worked on at a time fits the second-level cache."""
FLAT = 1e-14
"""A sum of squared deviations below `FLAT` times the sum of squares is rounding: the window is constant."""

CANDLE = (
    "KMID", "KLEN", "KMID2", "KUP", "KUP2", "KLOW", "KLOW2", "KSFT", "KSFT2", "OPEN0", "HIGH0", "LOW0", "VWAP0",
)  # fmt: skip
"""Features of one session."""
ROLLING = (
    "ROC", "MA", "STD", "BETA", "RSQR", "RESI", "MAX", "MIN", "QTLU", "QTLD", "RANK", "RSV", "IMAX", "IMIN", "IMXD",
    "CORR", "CORD", "CNTP", "CNTN", "CNTD", "SUMP", "SUMN", "SUMD", "VMA", "VSTD", "WVMA", "VSUMP", "VSUMN", "VSUMD",
)  # fmt: skip
"""Features of every window, in Qlib's order."""
FIELDS = ("open", "high", "low", "close", "volume", "vwap")

GRAIN = 2.0**30
"""Steps of the logarithm of volume: so coarse that sums are exact and a split of shares cancels to the bit."""


# --- what a stretch of sessions gives --------------------------------------------------------------------------


@compiled
def _put(values, to, out):
    """Write the values of a stretch, NaN where the close is absent; `to`: the close, first row and column, width."""
    here, t0, low, width = to
    flat = out.reshape(-1)
    for row in range(min(here.size // WIDTH, out.shape[0] - t0)):
        at, place = row * WIDTH, (t0 + row) * out.shape[1] + low
        if width == WIDTH:
            for j in range(WIDTH):
                value = values[at + j]
                flat[place + j] = value if here[at + j] == here[at + j] else np.float32(np.nan)
        else:
            for j in range(width):
                value = values[at + j]
                flat[place + j] = value if here[at + j] == here[at + j] else np.float32(np.nan)


@compiled
def _product_put(a, b, to, value, out):
    """Write `a * b`."""
    for i in range(value.size):
        value[i] = a[i] * b[i]
    _put(value, to, out)


@compiled
def _moments(total, square, per, mean, deviation):
    """Mean and sum of squared deviations (0 where all is one value) from sums and `per`, one over the count."""
    for i in range(mean.size):
        mean[i] = total[i] * per[i]
    for i in range(mean.size):
        rest = square[i] - total[i] * mean[i]
        deviation[i] = 0.0 if rest <= FLAT * square[i] else rest


@compiled
def _quotient(a, b, out):
    """`a / b`; 0 / 0 is 0, anything else over 0 is NaN."""
    for i in range(out.size):
        x, y = a[i], b[i]
        ratio = x / (y if y != 0.0 else np.nan)
        out[i] = 0.0 if (x == 0.0) & (y == 0.0) else ratio


@compiled
def _log2(value):
    """Logarithm to base 2 in steps of `1 / GRAIN`: of twice the value it is exactly one more. NaN unless positive."""
    if not value > 0.0:
        return np.nan
    mantissa, exponent = math.frexp(value)
    return exponent + math.floor(math.log2(mantissa) * GRAIN + 0.5) / GRAIN


@compiled
def _line(c, windows, whole, level, to, value, out):
    """ROC, MA, STD, BETA, RSQR and RESI."""
    here = to[0]
    rest = here.size
    price, price2, weighted, there, aged, aged_twice = level[0], level[1], level[2], level[3], level[4], level[5]
    work = np.empty((9, rest))
    n, per, per_freedom, mean, deviation = work[0], work[1], work[2], work[3], work[4]
    age, along, slope, per_close = work[5], work[6], work[7], work[8]
    sum_levels(c, price, there, whole)
    product_sum_levels(price[0], price[0], price2)
    aged_levels(weighted, price)
    if not whole:
        aged_levels(aged, there)
        aged_twice_levels(aged_twice, aged, there)
    inverse(here, 0.0, per_close)
    for place in range(windows.size):
        window = windows[place]
        at = place * len(ROLLING)
        back = c.size - rest - window * WIDTH
        _product_put(c[back : back + rest], per_close, to, value, out[at])
        number(there, window, whole, n, per)
        freedom(n, window, whole, per_freedom)
        windowed(price, window, age)
        windowed(price2, window, slope)
        _moments(age, slope, per, mean, deviation)
        _product_put(mean, per_close, to, value, out[at + 1])
        for i in range(rest):
            value[i] = math.sqrt(deviation[i] * per_freedom[i]) * per_close[i]
        _put(value, to, out[at + 2])
        if whole:
            age[:] = 0.5 * window * (window - 1)
            along[:] = window * (window - 1) * (2 * window - 1) / 6
        else:
            aged_windowed(aged, there, window, age)
            aged_twice_windowed(aged_twice, aged, there, window, along)
        aged_windowed(weighted, price, window, slope)
        for i in range(rest):
            along[i] -= age[i] * age[i] * per[i]
        for i in range(rest):
            across = age[i] * mean[i] - slope[i]
            slope[i] = (across if deviation[i] > 0.0 else 0.0) / along[i]
        _product_put(slope, per_close, to, value, out[at + 3])
        for i in range(rest):
            value[i] = slope[i] * slope[i] * along[i] / deviation[i]
        _put(value, to, out[at + 4])
        for i in range(rest):
            value[i] = (here[i] - (mean[i] + slope[i] * (age[i] * per[i]))) * per_close[i]
        _put(value, to, out[at + 5])


@compiled
def _range(c, h, low_, windows, whole, level, to, value, out):
    """MAX, MIN, RSV, IMAX, IMIN, IMXD, CNTP, CNTN and CNTD."""
    here = to[0]
    rest = here.size
    highs, high_age, lows, low_age, oldest, rises = level[0], level[1], level[2], level[3], level[4], level[5]
    work = np.empty((8, rest))
    top, top_age, bottom, bottom_age, span, per_span, per_close, width = (
        work[0], work[1], work[2], work[3], work[4], work[5], work[6], work[7]
    )  # fmt: skip
    first, second = highs[0], lows[0]
    for i in range(c.size):
        high_price, low_price = h[i], -low_[i]
        first[i] = high_price if high_price == high_price else -np.inf
        second[i] = low_price if low_price == low_price else -np.inf
    highest_levels(highs, high_age)
    highest_levels(lows, low_age)
    if not whole:
        for i in range(c.size):
            oldest[0, i] = 0.0 if c[i] == c[i] else -np.inf
        oldest_levels(oldest)
    inverse(here, 0.0, per_close)
    for place in range(windows.size):
        window = windows[place]
        unit = 1.0 / window
        at = place * len(ROLLING)
        highest_windowed(highs, high_age, window, top, top_age)
        highest_windowed(lows, low_age, window, bottom, bottom_age)
        for i in range(rest):
            high_price, low_price = top[i], bottom[i]
            top[i] = high_price if high_price > -np.inf else np.nan
            bottom[i] = -low_price if low_price > -np.inf else np.nan
        _product_put(top, per_close, to, value, out[at + 6])
        _product_put(bottom, per_close, to, value, out[at + 7])
        for i in range(rest):
            span[i] = here[i] - bottom[i]
            width[i] = top[i] - bottom[i]
        _quotient(span, width, value)
        _put(value, to, out[at + 11])
        if whole:
            span[:] = window
        else:
            oldest_windowed(oldest, window, span)
            for i in range(rest):
                span[i] += 1.0
        # An extreme that is not there has no age: adding 0 times the price makes NaN of it.
        for i in range(rest):
            value[i] = (span[i] - top_age[i]) * unit + 0.0 * top[i]
        _put(value, to, out[at + 12])
        for i in range(rest):
            value[i] = (span[i] - bottom_age[i]) * unit + 0.0 * bottom[i]
        _put(value, to, out[at + 13])
        for i in range(rest):
            value[i] = (bottom_age[i] - top_age[i]) * unit + 0.0 * width[i]
        _put(value, to, out[at + 14])
    falls, up, down = lows, top, bottom
    for i in range(WIDTH):
        rises[0, i], falls[0, i] = 0.0, 0.0
    for i in range(WIDTH, c.size):
        rises[0, i] = 1.0 if c[i] > c[i - WIDTH] else 0.0
        falls[0, i] = 1.0 if c[i] < c[i - WIDTH] else 0.0
    levels(rises)
    levels(falls)
    for place in range(windows.size):
        at = place * len(ROLLING)
        if whole:
            span[:] = windows[place]
        else:
            oldest_windowed(oldest, windows[place], span)
            for i in range(rest):
                span[i] += 1.0
        inverse(span, 0.0, per_span)
        windowed(rises, windows[place], up)
        windowed(falls, windows[place], down)
        _product_put(up, per_span, to, value, out[at + 17])
        _product_put(down, per_span, to, value, out[at + 18])
        for i in range(rest):
            up[i] -= down[i]
        _product_put(up, per_span, to, value, out[at + 19])


@compiled
def _order(c, windows, whole, ordered, level, to, value, out):
    """QTLU, QTLD and RANK; `ordered` holds each window's sorted values, from one stretch to the next."""
    close = to[0]
    rest = close.size
    there, work = level[0], np.empty((6, rest))
    n, per, upper, lower, below, per_close = work[0], work[1], work[2], work[3], work[4], work[5]
    if not whole:
        sum_levels(c, level[1], there, False)
    inverse(close, 0.0, per_close)
    below[:] = 0.0
    ranked = 0
    ahead = (c.size - rest) // WIDTH
    for place in np.argsort(windows):
        window = windows[place]
        at = place * len(ROLLING)
        ends = places(window) + 2
        high, deep = 0.8 * (window - 1.0), 0.2 * (window - 1.0)
        top, bottom = int(high) + 1, int(deep) + 1
        top_part, bottom_part = high - int(high), deep - int(deep)
        number(there, window, whole, n, per)
        for j in range(WIDTH):
            kept, other = ordered[place, 0, j, :ends], ordered[place, 1, j, :ends]
            for row in range(rest // WIDTH):
                new, old = c[(ahead + row) * WIDTH + j], c[(ahead + row - window) * WIDTH + j]
                new = new if new == new else np.inf
                old = old if old == old else np.inf
                replace_sorted(kept, old, new, other)
                kept, other = other, kept
                i = row * WIDTH + j
                if whole:
                    upper[i] = kept[top] + top_part * (kept[top + 1] - kept[top])
                    lower[i] = kept[bottom] + bottom_part * (kept[bottom + 1] - kept[bottom])
                else:
                    count = max(n[i], 1.0)
                    upper[i] = quantile_sorted(kept, count, 0.8)
                    lower[i] = quantile_sorted(kept, count, 0.2)
        _product_put(upper, per_close, to, value, out[at + 8])
        _product_put(lower, per_close, to, value, out[at + 9])
        count_below(c, ranked, window, below)
        ranked = window
        for i in range(rest):
            value[i] = (below[i] + 0.5) * per[i]
        _put(value, to, out[at + 10])


@compiled
def _price_volume(c, logv, windows, whole, level, to, value, out):
    """CORR: joined from the products of deviations, which a split of shares does not move by a bit."""
    rest = to[0].size
    price, volume, price2, there, spread, together = level[0], level[1], level[2], level[3], level[4], level[5]
    work = np.empty((8, rest))
    n, per, mean, xx, yy, xy = work[0], work[1], work[2], work[3], work[4], work[5]
    spare = np.empty((3, rest))
    x, y = price[0], volume[0]
    for i in range(c.size):
        a, b = c[i], logv[i]
        both = (a == a) & (b == b)
        x[i] = a if both else 0.0
        y[i] = b if both else 0.0
    levels(price)
    levels(volume)
    product_sum_levels(x, x, price2)
    if not whole:
        for i in range(c.size):
            there[0, i] = 1.0 if c[i] + logv[i] == c[i] + logv[i] else 0.0
        levels(there)
    joined_levels(volume, volume, there, whole, spread)
    joined_levels(price, volume, there, whole, together)
    for place in range(windows.size):
        window = windows[place]
        joined_windowed(spread, volume, volume, there, window, whole, spare, yy)
        joined_windowed(together, price, volume, there, window, whole, spare, xy)
        number(there, window, whole, n, per)
        windowed(price, window, mean)
        windowed(price2, window, xx)
        for i in range(rest):
            square = xx[i] - mean[i] * mean[i] * per[i]
            xx[i] = yy[i] * (0.0 if square <= FLAT * xx[i] else square)
        _correlate(xy, xx, value)
        _put(value, to, out[place * len(ROLLING) + 15])


@compiled
def _correlate(product, spread, out):
    """`product / sqrt(spread)` between -1 and 1, NaN where there is no spread."""
    for i in range(out.size):
        square = spread[i]
        ratio = product[i] / math.sqrt(square)
        ratio = 1.0 if ratio > 1.0 else ratio
        ratio = -1.0 if ratio < -1.0 else ratio
        out[i] = ratio if square > 0.0 else np.nan


@compiled
def _changes(gain, growth, windows, whole, level, to, value, out):
    """CORD: the correlation of the price's gain with the growth of volume."""
    rest = to[0].size
    work = np.empty((7, rest))
    x, y, xx, yy, xy, n, per = work[0], work[1], work[2], work[3], work[4], work[5], work[6]
    first, second, there = level[0], level[1], level[5]
    a0, b0, present = first[0], second[0], there[0]
    for i in range(gain.size):
        a, b = gain[i], growth[i]
        both = (a == a) & (b == b)
        a0[i] = a if both else 0.0
        b0[i] = b if both else 0.0
        present[i] = 1.0 if both else 0.0
    levels(first)
    levels(second)
    if not whole:
        levels(there)
    product_sum_levels(a0, a0, level[2])
    product_sum_levels(b0, b0, level[3])
    product_sum_levels(a0, b0, level[4])
    for place in range(windows.size):
        for part in range(5):
            windowed(level[part], windows[place], work[part])
        number(there, windows[place], whole, n, per)
        for i in range(rest):
            square = xx[i] - x[i] * x[i] * per[i]
            xx[i] = 0.0 if square <= FLAT * xx[i] else square
        for i in range(rest):
            square = yy[i] - y[i] * y[i] * per[i]
            yy[i] = xx[i] * (0.0 if square <= FLAT * yy[i] else square)
        for i in range(rest):
            xy[i] -= x[i] * y[i] * per[i]
        _correlate(xy, yy, value)
        _put(value, to, out[place * len(ROLLING) + 16])


@compiled
def _moves(x, windows, whole, level, to, value, out, first):
    """Rises, falls and their difference as shares of all moves: SUMP, SUMN, SUMD of a price or a volume."""
    rest = to[0].size
    rises, falls, there, work = level[0], level[1], level[2], np.empty((4, rest))
    n, up, down, per = work[0], work[1], work[2], work[3]
    a0, b0, present = rises[0], falls[0], there[0]
    for i in range(WIDTH):
        a0[i], b0[i], present[i] = 0.0, 0.0, 0.0
    for i in range(WIDTH, x.size):
        move = x[i] - x[i - WIDTH]
        a0[i] = move if move > 0.0 else 0.0
        b0[i] = -move if move < 0.0 else 0.0
        present[i] = 1.0 if move == move else 0.0
    levels(rises)
    levels(falls)
    if not whole:
        levels(there)
    for place in range(windows.size):
        at = place * len(ROLLING) + first
        number(there, windows[place], whole, n, per)
        windowed(rises, windows[place], up)
        windowed(falls, windows[place], down)
        for i in range(rest):
            both = up[i] + down[i] if n[i] > 0.0 else np.nan
            per[i] = 1.0 / both if both != 0.0 else 0.0
        _product_put(up, per, to, value, out[at])
        _product_put(down, per, to, value, out[at + 1])
        for i in range(rest):
            up[i] -= down[i]
        _product_put(up, per, to, value, out[at + 2])


@compiled
def _traded(v, flow, windows, whole, level, to, value, out):
    """VMA, VSTD and WVMA."""
    rest = to[0].size
    total, square, there, work = level[0], level[1], level[2], np.empty((8, rest))
    n, per, per_freedom, mean, deviation, s, q, per_share = (
        work[0], work[1], work[2], work[3], work[4], work[5], work[6], work[7]
    )  # fmt: skip
    for i in range(rest):
        shares = v[v.size - rest + i]
        per_share[i] = 1.0 / (shares if shares > 0.0 else np.nan)
    for weighted in range(2):
        sum_levels(flow if weighted else v, total, there, whole)
        product_sum_levels(total[0], total[0], square)
        for place in range(windows.size):
            at = place * len(ROLLING)
            number(there, windows[place], whole, n, per)
            freedom(n, windows[place], whole, per_freedom)
            windowed(total, windows[place], s)
            windowed(square, windows[place], q)
            _moments(s, q, per, mean, deviation)
            for i in range(rest):
                deviation[i] = math.sqrt(deviation[i] * per_freedom[i])
            if weighted:
                _quotient(deviation, mean, value)
                _put(value, to, out[at + 25])
            else:
                _product_put(mean, per_share, to, value, out[at + 23])
                _product_put(deviation, per_share, to, value, out[at + 24])


@compiled
def _candle(o, h, l, c, w, to, value, out):  # noqa: E741
    """The features of one session."""
    size = value.size
    for i in range(size):
        value[i] = (c[i] - o[i]) / o[i]
    _put(value, to, out[0])
    for i in range(size):
        value[i] = (h[i] - l[i]) / o[i]
    _put(value, to, out[1])
    span, part = np.empty(size), np.empty(size)
    for i in range(size):
        span[i] = h[i] - l[i]
    for i in range(size):
        part[i] = c[i] - o[i]
    _quotient(part, span, value)
    _put(value, to, out[2])
    for i in range(size):
        part[i] = h[i] - (o[i] if o[i] > c[i] else c[i])
    for i in range(size):
        value[i] = part[i] / o[i]
    _put(value, to, out[3])
    for i in range(size):
        part[i] = part[i] if o[i] == o[i] else np.nan
    _quotient(part, span, value)
    _put(value, to, out[4])
    for i in range(size):
        part[i] = (o[i] if o[i] < c[i] else c[i]) - l[i]
    for i in range(size):
        value[i] = part[i] / o[i]
    _put(value, to, out[5])
    for i in range(size):
        part[i] = part[i] if o[i] == o[i] else np.nan
    _quotient(part, span, value)
    _put(value, to, out[6])
    for i in range(size):
        part[i] = 2.0 * c[i] - h[i] - l[i]
    for i in range(size):
        value[i] = part[i] / o[i]
    _put(value, to, out[7])
    _quotient(part, span, value)
    _put(value, to, out[8])
    for i in range(size):
        value[i] = o[i] / c[i]
    _put(value, to, out[9])
    for i in range(size):
        value[i] = h[i] / c[i]
    _put(value, to, out[10])
    for i in range(size):
        value[i] = l[i] / c[i]
    _put(value, to, out[11])
    for i in range(size):
        value[i] = w[i] / c[i]
    _put(value, to, out[12])


@compiled
def _block(low, high, open_, high_, low_, close, volume, vwap, windows, single, one_share, out):
    """Every feature of the symbols `[low, high)`, one stretch of sessions after another."""
    width = high - low
    widest, depth = 1, 1
    for window in windows:
        widest = max(widest, window)
    while (1 << depth) <= widest:
        depth += 1
    halo = widest + 1
    # Even, so that the sorted values of `_order` end where the next stretch looks for them.
    rows = min(ROWS, (close.shape[0] + 1) // 2 * 2)
    size, rest = (halo + rows) * WIDTH, rows * WIDTH
    now = size - rest
    raw = np.empty((6, size))
    o, h, l, c, v, w = raw[0], raw[1], raw[2], raw[3], raw[4], raw[5]  # noqa: E741
    derived = np.full((4, size), np.nan)
    gain, logv, growth, flow = derived[0], derived[1], derived[2], derived[3]
    # The same few arrays serve one group of features after another: they stay in the cache.
    level = np.empty((6, depth, size))
    ordered = np.full((len(windows), 2, WIDTH, places(widest) + 2), np.inf)
    ordered[:, :, :, 0] = -np.inf
    value = np.empty(rest, np.float32)
    rolling = out[len(CANDLE) if single else 0 :]
    for t0 in range(0, close.shape[0], rows):
        gather(open_, t0 - halo, low, width, o)
        gather(high_, t0 - halo, low, width, h)
        gather(low_, t0 - halo, low, width, l)
        gather(close, t0 - halo, low, width, c)
        gather(volume, t0 - halo, low, width, v)
        to = (c[now:], t0, low, width)
        if single:
            gather(vwap, t0 - halo, low, width, w)
            _candle(o[now:], h[now:], l[now:], c[now:], w[now:], to, value, out)
        if len(windows) == 0:
            continue
        missing = 0
        for i in range(size):
            missing += 0 if (c[i] > 0.0) & (v[i] > 0.0) else 1
        whole = missing == 0
        for i in range(WIDTH, size):
            gain[i] = c[i] / c[i - WIDTH] - 1.0
        for i in range(size):
            logv[i] = _log2(v[i] + one_share)
        for i in range(WIDTH, size):
            growth[i] = math.log(v[i] / v[i - WIDTH] + 1.0) if v[i - WIDTH] > 0.0 else np.nan
        for i in range(size):
            flow[i] = abs(gain[i]) * v[i]
        _line(c, windows, whole, level, to, value, rolling)
        _range(c, h, l, windows, whole, level, to, value, rolling)
        _order(c, windows, whole, ordered, level, to, value, rolling)
        _price_volume(c, logv, windows, whole, level, to, value, rolling)
        _changes(gain, growth, windows, whole, level, to, value, rolling)
        _moves(c, windows, whole, level, to, value, rolling, 20)
        _moves(v, windows, whole, level, to, value, rolling, 26)
        _traded(v, flow, windows, whole, level, to, value, rolling)


def names(windows: Sequence[int], single: bool = True) -> tuple[str, ...]:
    """Names of the features that `alpha158` computes, in its order."""
    return (*(CANDLE if single else ()), *(f"{name}{window}" for window in windows for name in ROLLING))


def alpha158(
    fields: Mapping[str, Array],
    windows: Sequence[int] = (5, 10, 20, 30, 60),
    single: bool = True,
    one_share: float = 0.0,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Compute the set.

    Parameters
    ----------
    fields
        `(T, N)` arrays `open high low close vwap` (currency per share) and `volume` (shares), float32 or float64;
        NaN where there is nothing. What depends on a field that is not given is NaN.
    windows
        Sessions, each at least 2.
    single
        Whether the thirteen features of one session come first.
    one_share
        Added to the volume before the logarithm of CORR: 1.0 is Qlib's, which does not survive a split.
    out
        `(F, T, N)` float32 to write into; a new array when None.

    Returns
    -------
    `(F, T, N)` float32, features in the order of `names(windows, single)`; NaN where undefined.
    """
    if any(window < 2 for window in windows):
        raise ValueError(f"windows must be of 2 sessions or more, got {min(windows)}")
    close = fields["close"]
    given = [fields[name].shape for name in FIELDS if name in fields]
    if len(set(given)) > 1:
        raise ValueError(f"arrays of different shapes: {', '.join(map(str, given))}")
    # Rows that an array does not have are NaN, so one without any is a field without a value.
    inputs = [dense(fields.get(name, np.empty((0, 0)))) for name in FIELDS]
    shape = (len(names(windows, single)), *close.shape)
    if out is None:
        out = np.empty(shape, dtype=np.float32)
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, expected {shape}")
    lengths = np.asarray(windows, dtype=np.int64)
    over_blocks(_block, close.shape[1], *inputs, lengths, single, one_share, out, width=WIDTH)
    return out
