"""Kernels over time: the value of row t uses rows `(t - window, t]` of the same symbol.

A window is put together from pieces whose lengths are powers of two (`features.kernels.pieces`): O(log window) a
step, without running sums; means and squared deviations of pieces are joined by the update of Chan, Golub and LeVeque
(1983), so that a large mean does not swallow a small deviation. Quantiles and ranks keep the window's values sorted,
which rounds nothing (-0.0 counts as 0.0). A row's bits are the same on the full history, on a prefix and on the window
alone; rows before the first count as NaN.

Parameters shared by all: `window` in sessions; `min_count`, the present values a window needs (default: all of it),
NaN otherwise. Arrays are `(T, N)`, float64 or float32, and so is the result; sums are float64 throughout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from core.jit import compiled
from features.kernels.blocks import dense, narrowed, over_blocks
from features.kernels.pieces import (
    COUNT,
    FLAT,
    TOTAL_X,
    TOTAL_Y,
    WIDTH,
    XX,
    XY,
    YY,
    correlation_of,
    double,
    double_highest,
    double_weighted,
    gather,
    join_pairs,
    places,
    quantile_sorted,
    replace_sorted,
    scatter,
)
from features.panel import Array

SUM, MEAN, STD, SKEW = 0, 1, 2, 3
MAX, ARGMAX, MIN, ARGMIN = 0, 1, 2, 3
QUANTILE, RANK, TOP_MEAN = 0, 1, 2
CORR, BETA, RESIDUAL_STD, R2, RESIDUAL = 0, 1, 2, 3, 4

STRETCH = 256
"""Sessions worked on at a time, at least: the arrays of a stretch fit the second-level cache."""

TOTAL, SQUARE, CUBE = 1, 2, 3


@compiled
def _join_moments(new, new_at, old, old_at, out, out_at, size, kind):
    """Count, total and central moments of two neighbouring pieces together."""
    n0, s0, q0, c0 = new[COUNT], new[TOTAL], new[SQUARE], new[CUBE]
    n1, s1, q1, c1 = old[COUNT], old[TOTAL], old[SQUARE], old[CUBE]
    n, s, q, c = out[COUNT], out[TOTAL], out[SQUARE], out[CUBE]
    if kind == SKEW:
        for i in range(size):
            a, b = n0[new_at + i], n1[old_at + i]
            both = a * b
            gap = (s1[old_at + i] * a - s0[new_at + i] * b) / (both if both > 0.0 else 1.0)
            c[out_at + i] = gap * gap * gap * both * (a - b) / ((a + b) * (a + b) if both > 0.0 else 1.0)
        for i in range(size):
            a, b = n0[new_at + i], n1[old_at + i]
            both = a * b
            gap = (s1[old_at + i] * a - s0[new_at + i] * b) / (both if both > 0.0 else 1.0)
            turn = 3.0 * gap * (a * q1[old_at + i] - b * q0[new_at + i]) / (a + b if both > 0.0 else 1.0)
            c[out_at + i] += turn
        for i in range(size):
            c[out_at + i] += c0[new_at + i] + c1[old_at + i]
    if kind >= STD:
        for i in range(size):
            a, b = n0[new_at + i], n1[old_at + i]
            gap = s1[old_at + i] * a - s0[new_at + i] * b
            weight = a * b * (a + b)
            q[out_at + i] = (q0[new_at + i] + q1[old_at + i]) + gap * gap / (weight if weight > 0.0 else 1.0)
    for i in range(size):
        s[out_at + i] = s0[new_at + i] + s1[old_at + i]
    for i in range(size):
        n[out_at + i] = n0[new_at + i] + n1[old_at + i]


@compiled
def _moment(low, high, x, window, least, kind, out):
    halo, rows = window - 1, max(STRETCH, window)
    size, rest = (halo + rows) * WIDTH, rows * WIDTH
    raw, value = np.empty(size), np.empty(rest)
    piece, other = np.zeros((4, size)), np.zeros((4, size))
    joined, spare = np.zeros((4, rest)), np.zeros((4, rest))
    for t0 in range(0, x.shape[0], rows):
        gather(x, t0 - halo, low, high - low, raw)
        for i in range(size):
            a = raw[i]
            piece[COUNT, i] = 1.0 if a == a else 0.0
            piece[TOTAL, i] = a if a == a else 0.0
        piece[SQUARE:] = 0.0
        joined[:] = 0.0
        length, back = 1, 0
        while length <= window:
            if window & length:
                _join_moments(joined, 0, piece, size - rest - back * WIDTH, spare, 0, rest, kind)
                joined, spare = spare, joined
                back += length
            if 2 * length <= window:
                step = length * WIDTH
                other[:, :step] = piece[:, :step]
                _join_moments(piece, step, piece, 0, other, step, size - step, kind)
                piece, other = other, piece
            length *= 2
        for i in range(rest):
            n, total, square = joined[COUNT, i], joined[TOTAL, i], joined[SQUARE, i]
            square = 0.0 if square <= FLAT * total * total / n else square
            found = total
            if kind == MEAN:
                found = total / n
            elif kind == STD:
                found = math.sqrt(square / (n - 1.0)) if n > 1.0 else np.nan
            elif kind == SKEW:
                found = (joined[CUBE, i] / n) / (square / n) ** 1.5 if square > 0.0 else np.nan
            value[i] = found if n >= least else np.nan
        scatter(value, t0, low, high - low, out)


@compiled
def _pair(low, high, x, y, timed, window, least, kind, out):
    """Statistics of two series; `timed`: of the session's number and a series."""
    halo, rows = window - 1, max(STRETCH, window)
    size, rest = (halo + rows) * WIDTH, rows * WIDTH
    raw_x, raw_y, value = np.empty(size), np.empty(size), np.empty(rest)
    piece, other = np.zeros((6, size)), np.zeros((6, size))
    joined, spare = np.zeros((6, rest)), np.zeros((6, rest))
    for t0 in range(0, x.shape[0], rows):
        gather(y, t0 - halo, low, high - low, raw_y)
        if timed:
            # Sums of whole numbers are exact, so the number that a stretch begins with does not matter.
            for i in range(size):
                raw_x[i] = i // WIDTH
        else:
            gather(x, t0 - halo, low, high - low, raw_x)
        for i in range(size):
            a, b = raw_x[i], raw_y[i]
            both = (a == a) & (b == b)
            piece[COUNT, i] = 1.0 if both else 0.0
            piece[TOTAL_X, i] = a if both else 0.0
            piece[TOTAL_Y, i] = b if both else 0.0
        piece[XX:] = 0.0
        joined[:] = 0.0
        length, back = 1, 0
        while length <= window:
            if window & length:
                join_pairs(joined, 0, piece, size - rest - back * WIDTH, spare, 0, rest)
                joined, spare = spare, joined
                back += length
            if 2 * length <= window:
                step = length * WIDTH
                other[:, :step] = piece[:, :step]
                join_pairs(piece, step, piece, 0, other, step, size - step)
                piece, other = other, piece
            length *= 2
        for i in range(rest):
            n, sx, sy = joined[COUNT, i], joined[TOTAL_X, i], joined[TOTAL_Y, i]
            xx, xy, yy = joined[XX, i], joined[XY, i], joined[YY, i]
            x_flat, y_flat = xx <= FLAT * sx * sx / n, yy <= FLAT * sy * sy / n
            found = np.nan
            if n < least or n < 1.0 or x_flat:
                found = np.nan
            elif kind == BETA:
                found = 0.0 if y_flat else xy / xx
            elif kind == RESIDUAL_STD:
                found = math.sqrt(max(yy - xy * xy / xx, 0.0) / (n - 2.0)) if n > 2.0 else np.nan
            elif kind == RESIDUAL:
                a, b = raw_x[size - rest + i], raw_y[size - rest + i]
                # `a * n - sx` is exact for sessions' numbers, whichever the first one is.
                found = (b - sy / n) - (0.0 if y_flat else xy / xx) * ((a * n - sx) / n)
            else:
                found = correlation_of(n, sx, sy, xx, xy, yy)
                if kind == R2:
                    found *= found
            value[i] = found
        scatter(value, t0, low, high - low, out)


@compiled
def _extreme(low, high, x, window, least, kind, out):
    halo, rows = window - 1, max(STRETCH, window)
    size, rest = (halo + rows) * WIDTH, rows * WIDTH
    sign = 1.0 if kind < MIN else -1.0
    value, age, other, other_age = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    count, more, found = np.empty(size), np.empty(size), np.empty(rest)
    for t0 in range(0, x.shape[0], rows):
        gather(x, t0 - halo, low, high - low, value)
        for i in range(size):
            a = sign * value[i]
            count[i] = 1.0 if a == a else 0.0
            value[i] = a if a == a else -np.inf
        age[:] = 0.0
        found[:] = 0.0
        length, back = 1, 0
        while length <= window:
            if window & length:
                piece = count[size - rest - back * WIDTH : size - back * WIDTH]
                for i in range(rest):
                    found[i] += piece[i]
                back += length
            if 2 * length <= window:
                double(count, length, more)
                double_highest(value, age, length, False, other, other_age)
                count, more = more, count
                value, other = other, value
                age, other_age = other_age, age
            length *= 2
        # Two pieces of the longest length cover the window; where they overlap they agree.
        last = window - length // 2
        recent, before = value[size - rest :], value[size - rest - last * WIDTH : size - last * WIDTH]
        recent_age, before_age = age[size - rest :], age[size - rest - last * WIDTH : size - last * WIDTH]
        for i in range(rest):
            new, old = recent[i], before[i]
            young, aged = recent_age[i], before_age[i] + last
            best = old if old > new else new
            best_age = aged if old > new else young
            n = found[i]
            found[i] = (best_age if kind % 2 else sign * best) if n >= least else np.nan
        scatter(found, t0, low, high - low, out)


@compiled
def _sorted(low, high, x, window, least, kind, level, out):
    kept, other = np.empty(places(window) + 2), np.empty(places(window) + 2)
    for j in range(low, high):
        column = x[:, j] + 0.0
        kept[:] = np.inf
        kept[0], other[0], other[-1] = -np.inf, -np.inf, np.inf
        n = 0
        for t in range(len(column)):
            new, old = column[t], column[t - window] if t >= window else np.nan
            there, gone = new == new, old == old
            n += int(there) - int(gone)
            if there or gone:
                replace_sorted(kept, old if gone else np.inf, new if there else np.inf, other)
                kept, other = other, kept
            value = np.nan
            if n >= least:
                if kind == QUANTILE:
                    value = quantile_sorted(kept, float(n), level)
                elif kind == RANK:
                    if there:
                        below = np.searchsorted(kept[1 : n + 1], new)
                        upto = np.searchsorted(kept[1 : n + 1], new, side="right")
                        value = (below + upto) / (2.0 * n)
                elif n >= level:
                    value = 0.0
                    for i in range(n - int(level) + 1, n + 1):
                        value += kept[i]
                    value /= level
            out[t, j] = value


@compiled
def _faded(low, high, x, window, least, decay, out):
    halo, rows = window - 1, max(STRETCH, window)
    size, rest = (halo + rows) * WIDTH, rows * WIDTH
    raw, other = np.empty(size), np.empty(size)
    weight, other_weight, count = np.empty(size), np.empty(size), np.empty(size)
    total, weights, n = np.empty(rest), np.empty(rest), np.empty(rest)
    for t0 in range(0, x.shape[0], rows):
        gather(x, t0 - halo, low, high - low, raw)
        for i in range(size):
            a = raw[i]
            count[i] = 1.0 if a == a else 0.0
            weight[i] = 1.0 if a == a else 0.0
            raw[i] = a if a == a else 0.0
        total[:], weights[:], n[:] = 0.0, 0.0, 0.0
        length, back = 1, 0
        while length <= window:
            if window & length:
                at, factor = size - rest - back * WIDTH, decay**back
                for i in range(rest):
                    total[i] += factor * raw[at + i]
                for i in range(rest):
                    weights[i] += factor * weight[at + i]
                for i in range(rest):
                    n[i] += count[at + i]
                back += length
            if 2 * length <= window:
                double_weighted(raw, length, decay**length, other)
                double_weighted(weight, length, decay**length, other_weight)
                raw, other = other, raw
                weight, other_weight = other_weight, weight
                double(count, length, other)
                count, other = other, count
            length *= 2
        for i in range(rest):
            total[i] = total[i] / weights[i] if n[i] >= least else np.nan
        scatter(total, t0, low, high - low, out)


@compiled
def _weighted(low, high, x, weights, least, out):
    window = len(weights)
    halo, rows = window - 1, max(STRETCH, window)
    size, rest = (halo + rows) * WIDTH, rows * WIDTH
    raw, total, n = np.empty(size), np.empty(rest), np.empty(rest)
    for t0 in range(0, x.shape[0], rows):
        gather(x, t0 - halo, low, high - low, raw)
        total[:], n[:] = 0.0, 0.0
        for age in range(window - 1, -1, -1):
            at, weight = size - rest - age * WIDTH, weights[age]
            for i in range(rest):
                a = raw[at + i]
                total[i] += weight * a if a == a else 0.0
                n[i] += 1.0 if a == a else 0.0
        for i in range(rest):
            total[i] = total[i] if n[i] >= least else np.nan
        scatter(total, t0, low, high - low, out)


def _roll(kernel, inputs: tuple[Array, ...], window: int, min_count: int | None, *more: float, before=()) -> Array:
    """Run a rolling kernel over blocks of symbols; `before`: arguments that it takes ahead of the window."""
    least = window if min_count is None else min_count
    if not 1 <= least <= window:
        raise ValueError(f"min_count must be in 1..{window}, got {least}")
    arrays = tuple(dense(values) for values in inputs)
    if len({values.shape for values in arrays}) > 1:
        raise ValueError(f"arrays of different shapes: {', '.join(str(values.shape) for values in arrays)}")
    out = np.empty(arrays[0].shape)
    over_blocks(kernel, arrays[0].shape[1], *arrays, *before, window, least, *more, out, width=WIDTH)
    return narrowed(out, *inputs)


def shift(x: Array, sessions: int) -> Array:
    """The value `sessions` rows earlier; NaN where there is none.

    Raises
    ------
    ValueError
        `sessions` is negative: that would look ahead.
    """
    if sessions < 0:
        raise ValueError(f"shift({sessions}) would look ahead: sessions must be 0 or more")
    out = np.full(x.shape, np.nan)
    out[sessions:] = x[: len(x) - sessions] if sessions < len(x) else x[:0]
    return out


def change(x: Array, sessions: int = 1) -> Array:
    """`x[t] / x[t - sessions] - 1`; NaN where either is absent or the base is not positive."""
    base = shift(x, sessions)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(base > 0, x / base - 1.0, np.nan)


def log_change(x: Array, sessions: int = 1) -> Array:
    """`log(x[t] / x[t - sessions])`; NaN unless both are positive."""
    base = shift(x, sessions)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((base > 0) & (x > 0), np.log(x / base), np.nan)


def rolling_count(x: Array, window: int) -> Array:
    """Number of present values; 0 where there is none."""
    return rolling_sum(np.where(np.isnan(x), 0.0, 1.0), window, 1)


def rolling_sum(x: Array, window: int, min_count: int | None = None) -> Array:
    """Sum of the present values."""
    return _roll(_moment, (x,), window, min_count, SUM)


def rolling_mean(x: Array, window: int, min_count: int | None = None) -> Array:
    """Mean of the present values."""
    return _roll(_moment, (x,), window, min_count, MEAN)


def rolling_std(x: Array, window: int, min_count: int | None = None) -> Array:
    """Sample standard deviation (n - 1); 0 for a constant window."""
    return _roll(_moment, (x,), window, min_count, STD)


def rolling_skew(x: Array, window: int, min_count: int | None = None) -> Array:
    """Skewness `m3 / m2 ** 1.5` with moments over n; NaN for a constant window."""
    return _roll(_moment, (x,), window, min_count, SKEW)


def rolling_max(x: Array, window: int, min_count: int | None = None) -> Array:
    """Largest present value."""
    return _roll(_extreme, (x,), window, min_count, MAX)


def rolling_min(x: Array, window: int, min_count: int | None = None) -> Array:
    """Smallest present value."""
    return _roll(_extreme, (x,), window, min_count, MIN)


def rolling_argmax(x: Array, window: int, min_count: int | None = None) -> Array:
    """Sessions since the largest value (0 = today); the latest of equals."""
    return _roll(_extreme, (x,), window, min_count, ARGMAX)


def rolling_argmin(x: Array, window: int, min_count: int | None = None) -> Array:
    """Sessions since the smallest value (0 = today); the latest of equals."""
    return _roll(_extreme, (x,), window, min_count, ARGMIN)


def rolling_quantile(x: Array, window: int, level: float, min_count: int | None = None) -> Array:
    """Quantile of the present values, linear between order statistics; `level` in [0, 1]."""
    if not 0 <= level <= 1:
        raise ValueError(f"level must be in [0, 1], got {level}")
    return _roll(_sorted, (x,), window, min_count, QUANTILE, float(level))


def rolling_median(x: Array, window: int, min_count: int | None = None) -> Array:
    """Median of the present values."""
    return rolling_quantile(x, window, 0.5, min_count)


def rolling_rank(x: Array, window: int, min_count: int | None = None) -> Array:
    """Rank of today's value among the window's, average ties, `(rank - 0.5) / n` in (0, 1)."""
    return _roll(_sorted, (x,), window, min_count, RANK, 0.0)


def rolling_top_mean(x: Array, window: int, count: int, min_count: int | None = None) -> Array:
    """Mean of the `count` largest present values."""
    if not 1 <= count <= window:
        raise ValueError(f"count must be in 1..{window}, got {count}")
    return _roll(_sorted, (x,), window, min_count, TOP_MEAN, float(count))


def rolling_slope(x: Array, window: int, min_count: int | None = None) -> Array:
    """Least-squares slope against time, per session; needs two values."""
    return _roll(_pair, (x, x), window, min_count, BETA, before=(True,))


def rolling_r2(x: Array, window: int, min_count: int | None = None) -> Array:
    """Share of the variance that a straight line in time explains; NaN for a constant window."""
    return _roll(_pair, (x, x), window, min_count, R2, before=(True,))


def rolling_residual(x: Array, window: int, min_count: int | None = None) -> Array:
    """Today's value less that of the straight line in time through the window."""
    return _roll(_pair, (x, x), window, min_count, RESIDUAL, before=(True,))


def rolling_weighted_sum(x: Array, weights: Sequence[float], min_count: int | None = None) -> Array:
    """Sum of the present values times `weights`, that of today first; O(window) a step, for any weights."""
    ages = np.asarray(weights, dtype=np.float64)
    if ages.ndim != 1 or not len(ages) or not np.isfinite(ages).all():
        raise ValueError("weights must be a list of one or more finite numbers")
    least = len(ages) if min_count is None else min_count
    if not 1 <= least <= len(ages):
        raise ValueError(f"min_count must be in 1..{len(ages)}, got {least}")
    wide = dense(x)
    out = np.empty_like(wide)
    over_blocks(_weighted, wide.shape[1], wide, ages, least, out, width=WIDTH)
    return narrowed(out, x)


def rolling_ewm_mean(x: Array, window: int, half_life: float, min_count: int | None = None) -> Array:
    """Mean of the present values, a weight halving every `half_life` sessions, cut off after `window`."""
    if not half_life > 0:
        raise ValueError(f"half_life must be above 0, got {half_life}")
    return _roll(_faded, (x,), window, min_count, 0.5 ** (1.0 / half_life))


def rolling_corr(x: Array, y: Array, window: int, min_count: int | None = None) -> Array:
    """Pearson correlation over rows where both are present; NaN where one is constant."""
    return _roll(_pair, (x, y), window, min_count, CORR, before=(False,))


def rolling_beta(x: Array, y: Array, window: int, min_count: int | None = None) -> Array:
    """Least-squares slope of `y` on `x` (with intercept) over rows where both are present."""
    return _roll(_pair, (x, y), window, min_count, BETA, before=(False,))


def rolling_residual_std(x: Array, y: Array, window: int, min_count: int | None = None) -> Array:
    """Standard deviation (n - 2) of the residuals of `y` on `x` with intercept."""
    return _roll(_pair, (x, y), window, min_count, RESIDUAL_STD, before=(False,))
