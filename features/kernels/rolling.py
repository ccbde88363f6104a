"""Kernels over time: the value of row t uses rows `(t - window, t]` of the same symbol.

Every window is computed from scratch, oldest row first (never by adding one row and dropping
another), or by keeping values sorted, which rounds nothing (-0.0 counts as 0.0 there). So a row's
bits are the same on the full history, on a prefix and on the window alone; rows before the first
count as NaN.

Parameters shared by all: `window` in sessions; `min_count`, the present values a window needs
(default: all of it), NaN otherwise.
"""

from __future__ import annotations

import math

import numpy as np

from features.kernels.blocks import compiled, dense, over_blocks
from features.panel import Array

SUM, MEAN, STD, SKEW = 0, 1, 2, 3
MAX, ARGMAX, MIN, ARGMIN = 0, 1, 2, 3
QUANTILE, RANK, TOP_MEAN = 0, 1, 2
CORR, BETA, RESIDUAL = 0, 1, 2

FLAT = 1e-26
"""A sum of squared deviations below `FLAT * n * mean**2` is rounding: the window is constant."""


@compiled
def _moment(low, high, x, window, least, kind, out):
    width = high - low
    count, total, square, cube = np.empty(width), np.empty(width), np.empty(width), np.empty(width)
    for t in range(x.shape[0]):
        first = max(0, t - window + 1)
        count[:] = 0.0
        total[:] = 0.0
        for k in range(first, t + 1):
            row = x[k, low:high]
            for j in range(width):
                present = row[j] == row[j]
                total[j] += row[j] if present else 0.0
                count[j] += 1.0 if present else 0.0
        if kind >= 2:
            square[:] = 0.0
            cube[:] = 0.0
            for k in range(first, t + 1):
                row = x[k, low:high]
                for j in range(width):
                    gap = row[j] - total[j] / count[j] if row[j] == row[j] else 0.0
                    square[j] += gap * gap
                    cube[j] += gap * gap * gap
        for j in range(width):
            n = count[j]
            mean = total[j] / n if n > 0 else np.nan
            value = np.nan
            if n >= least:
                if kind == 0:
                    value = total[j]
                elif kind == 1:
                    value = mean
                else:
                    spread = 0.0 if square[j] <= FLAT * n * mean * mean else square[j]
                    if kind == 2:
                        value = math.sqrt(spread / (n - 1.0)) if n > 1 else np.nan
                    elif spread > 0:
                        value = (cube[j] / n) / (spread / n) ** 1.5
            out[t, low + j] = value


@compiled
def _extreme(low, high, x, window, least, kind, out):
    width = high - low
    sign = 1.0 if kind < 2 else -1.0
    count, best, age = np.empty(width), np.empty(width), np.empty(width)
    for t in range(x.shape[0]):
        count[:] = 0.0
        best[:] = -np.inf
        age[:] = 0.0
        for k in range(max(0, t - window + 1), t + 1):
            row = x[k, low:high]
            for j in range(width):
                value = sign * row[j]
                newer = value >= best[j]
                best[j] = value if newer else best[j]
                age[j] = t - k if newer else age[j]
                count[j] += 1.0 if value == value else 0.0
        for j in range(width):
            found = age[j] if kind % 2 else sign * best[j]
            out[t, low + j] = found if count[j] >= least and count[j] > 0 else np.nan


@compiled
def _sorted(low, high, x, window, least, kind, level, out):
    kept = np.empty(window)
    for j in range(low, high):
        column = x[:, j] + 0.0
        n = 0
        for t in range(len(column)):
            if t >= window:
                gone = column[t - window]
                if gone == gone:
                    place = np.searchsorted(kept[:n], gone)
                    for i in range(place, n - 1):
                        kept[i] = kept[i + 1]
                    n -= 1
            new = column[t]
            if new == new:
                place = np.searchsorted(kept[:n], new)
                for i in range(n, place, -1):
                    kept[i] = kept[i - 1]
                kept[place] = new
                n += 1
            value = np.nan
            if n >= least and n > 0:
                if kind == 0:
                    position = level * (n - 1)
                    floor = int(position)
                    part = position - floor
                    value = kept[floor]
                    if part > 0:
                        value += part * (kept[floor + 1] - kept[floor])
                elif kind == 1:
                    if new == new:
                        below = np.searchsorted(kept[:n], new)
                        upto = np.searchsorted(kept[:n], new, side="right")
                        value = (below + upto) / (2.0 * n)
                elif n >= level:
                    value = 0.0
                    for i in range(n - int(level), n):
                        value += kept[i]
                    value /= level
            out[t, j] = value


@compiled
def _pair(low, high, x, y, window, least, kind, out):
    width = high - low
    count, sx, sy = np.empty(width), np.empty(width), np.empty(width)
    xx, xy, yy = np.empty(width), np.empty(width), np.empty(width)
    for t in range(x.shape[0]):
        first = max(0, t - window + 1)
        count[:], sx[:], sy[:] = 0.0, 0.0, 0.0
        xx[:], xy[:], yy[:] = 0.0, 0.0, 0.0
        for k in range(first, t + 1):
            a, b = x[k, low:high], y[k, low:high]
            for j in range(width):
                both = (a[j] == a[j]) & (b[j] == b[j])
                sx[j] += a[j] if both else 0.0
                sy[j] += b[j] if both else 0.0
                count[j] += 1.0 if both else 0.0
        for k in range(first, t + 1):
            a, b = x[k, low:high], y[k, low:high]
            for j in range(width):
                both = (a[j] == a[j]) & (b[j] == b[j])
                da = a[j] - sx[j] / count[j] if both else 0.0
                db = b[j] - sy[j] / count[j] if both else 0.0
                xx[j] += da * da
                xy[j] += da * db
                yy[j] += db * db
        for j in range(width):
            n, value = count[j], np.nan
            flat = n == 0 or xx[j] <= FLAT * sx[j] * sx[j] / n
            if n >= least and not flat:
                if kind == 1:
                    value = xy[j] / xx[j]
                elif kind == 2:
                    value = math.sqrt(max(yy[j] - xy[j] * xy[j] / xx[j], 0.0) / (n - 2.0)) if n > 2 else np.nan
                elif yy[j] > FLAT * sy[j] * sy[j] / n:
                    value = min(max(xy[j] / math.sqrt(xx[j] * yy[j]), -1.0), 1.0)
            out[t, low + j] = value


@compiled
def _slope(low, high, x, window, least, out):
    width = high - low
    count, when, total = np.empty(width), np.empty(width), np.empty(width)
    across, along = np.empty(width), np.empty(width)
    for t in range(x.shape[0]):
        first = max(0, t - window + 1)
        count[:], when[:], total[:] = 0.0, 0.0, 0.0
        across[:], along[:] = 0.0, 0.0
        for k in range(first, t + 1):
            row = x[k, low:high]
            for j in range(width):
                present = row[j] == row[j]
                total[j] += row[j] if present else 0.0
                when[j] += k - t if present else 0.0
                count[j] += 1.0 if present else 0.0
        for k in range(first, t + 1):
            row = x[k, low:high]
            for j in range(width):
                present = row[j] == row[j]
                time = (k - t) - when[j] / count[j] if present else 0.0
                across[j] += time * (row[j] - total[j] / count[j]) if present else 0.0
                along[j] += time * time
        for j in range(width):
            out[t, low + j] = across[j] / along[j] if count[j] >= max(least, 2) else np.nan


def _roll(kernel, inputs: tuple[Array, ...], window: int, min_count: int | None, *more: float) -> Array:
    """Run a rolling kernel over blocks of symbols."""
    least = window if min_count is None else min_count
    if not 1 <= least <= window:
        raise ValueError(f"min_count must be in 1..{window}, got {least}")
    arrays = tuple(dense(values) for values in inputs)
    if len({values.shape for values in arrays}) > 1:
        raise ValueError(f"arrays of different shapes: {', '.join(str(values.shape) for values in arrays)}")
    out = np.empty_like(arrays[0])
    over_blocks(kernel, arrays[0].shape[1], *arrays, window, least, *more, out)
    return out


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
    """Least-squares slope against time, per session."""
    return _roll(_slope, (x,), window, min_count)


def rolling_corr(x: Array, y: Array, window: int, min_count: int | None = None) -> Array:
    """Pearson correlation over rows where both are present; NaN where one is constant."""
    return _roll(_pair, (x, y), window, min_count, CORR)


def rolling_beta(x: Array, y: Array, window: int, min_count: int | None = None) -> Array:
    """Least-squares slope of `y` on `x` (with intercept) over rows where both are present."""
    return _roll(_pair, (x, y), window, min_count, BETA)


def rolling_residual_std(x: Array, y: Array, window: int, min_count: int | None = None) -> Array:
    """Standard deviation (n - 2) of the residuals of `y` on `x` with intercept."""
    return _roll(_pair, (x, y), window, min_count, RESIDUAL)
