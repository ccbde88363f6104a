"""What windows are built from: sums over 1, 2, 4 .. sessions, and sorted values.

A window of w sessions is put together from at most log2(w) pieces whose lengths are the powers of two in w, the
newest and shortest first. A piece of twice the length is two pieces, one session apart from their neighbours. So a
step costs O(log w), nothing is ever subtracted again (no drift), and a value's bits depend on its window alone: not on
what lies before it, as those of a running sum would.

Arrays here are one-dimensional: a stretch of sessions of `WIDTH` symbols, row after row, so that "p sessions earlier"
is `p * WIDTH` places before, and one loop runs over all of it.
"""

from __future__ import annotations

import math

import numpy as np

from core.jit import compiled

WIDTH = 16
"""Symbols of a block: sixteen float32, or two times eight float64, are whole lines of the cache."""
FLAT = 1e-26
"""A sum of squared deviations below `FLAT * n * mean**2` is rounding: the window is constant."""

COUNT, TOTAL_X, TOTAL_Y, XX, XY, YY = 0, 1, 2, 3, 4, 5
"""Parts of a pair of series: sessions with both, totals, and sums of products of deviations."""


@compiled
def gather(x, first, low, width, out):
    """Copy `x[first : .., low : low + width]` into rows of `WIDTH`; what lies outside is NaN."""
    for row in range(out.size // WIDTH):
        t = first + row
        at = row * WIDTH
        if 0 <= t < x.shape[0]:
            for j in range(width):
                out[at + j] = x[t, low + j]
            for j in range(width, WIDTH):
                out[at + j] = np.nan
        else:
            for j in range(WIDTH):
                out[at + j] = np.nan


@compiled
def scatter(values, first, low, width, out):
    """Write rows of `WIDTH` to `out[first : .., low : low + width]`."""
    for row in range(min(values.size // WIDTH, out.shape[0] - first)):
        for j in range(width):
            out[first + row, low + j] = values[row * WIDTH + j]


# --- sums ------------------------------------------------------------------------------------------------------


@compiled
def double(piece, older, out):
    """Sums over twice as many sessions: a piece plus the piece `older` sessions before it; None before the first."""
    step = older * WIDTH
    for i in range(step):
        out[i] = piece[i]
    for i in range(step, out.size):
        out[i] = piece[i] + piece[i - step]


@compiled
def double_weighted(piece, older, weight, out):
    """As `double`, the older piece times `weight`."""
    step = older * WIDTH
    for i in range(step):
        out[i] = piece[i]
    for i in range(step, out.size):
        out[i] = piece[i] + weight * piece[i - step]


# --- pairs of series --------------------------------------------------------------------------------------------


@compiled
def _join_product(new, new_at, old, old_at, out, out_at, size, x, y, xy):
    """Sum of the products of two series' deviations, over two neighbouring pieces together."""
    n0, x0, y0, p0 = new[COUNT], new[x], new[y], new[xy]
    n1, x1, y1, p1 = old[COUNT], old[x], old[y], old[xy]
    p = out[xy]
    for i in range(size):
        a, b = n0[new_at + i], n1[old_at + i]
        gap_x = x1[old_at + i] * a - x0[new_at + i] * b
        gap_y = y1[old_at + i] * a - y0[new_at + i] * b
        weight = a * b * (a + b)
        p[out_at + i] = (p0[new_at + i] + p1[old_at + i]) + gap_x * gap_y / (weight if weight > 0.0 else 1.0)


@compiled
def join_pairs(new, new_at, old, old_at, out, out_at, size):
    """Count, totals and products of deviations of two neighbouring pieces together."""
    _join_product(new, new_at, old, old_at, out, out_at, size, TOTAL_X, TOTAL_X, XX)
    _join_product(new, new_at, old, old_at, out, out_at, size, TOTAL_X, TOTAL_Y, XY)
    _join_product(new, new_at, old, old_at, out, out_at, size, TOTAL_Y, TOTAL_Y, YY)
    for part in range(3):
        n0, n1, n = new[part], old[part], out[part]
        for i in range(size):
            n[out_at + i] = n0[new_at + i] + n1[old_at + i]


@compiled
def correlation_of(n, sx, sy, xx, xy, yy):
    """Pearson correlation from the parts of a pair; NaN where one is constant or nothing is there."""
    value = xy / math.sqrt(xx * yy)
    value = 1.0 if value > 1.0 else value
    value = -1.0 if value < -1.0 else value
    flat = (xx <= FLAT * sx * sx / n) | (yy <= FLAT * sy * sy / n)
    return np.nan if flat else value


# --- extremes --------------------------------------------------------------------------------------------------


@compiled
def double_highest(value, age, older, oldest, out, out_age):
    """Largest value of two neighbouring pieces and its age; of equals the older one if `oldest`. Absent is -inf."""
    step = older * WIDTH
    for i in range(step):
        out[i] = value[i]
        out_age[i] = age[i]
    for i in range(step, out.size):
        new, old = value[i], value[i - step]
        out[i] = old if old > new else new
    if oldest:
        for i in range(step, out.size):
            new, old = age[i], age[i - step] + older
            out_age[i] = old if value[i - step] >= value[i] else new
    else:
        for i in range(step, out.size):
            new, old = age[i], age[i - step] + older
            out_age[i] = old if value[i - step] > value[i] else new


# --- sorted values ---------------------------------------------------------------------------------------------


@compiled
def places(window):
    """Length of the sorted values of a window, without the two ends: a multiple of the vector's width."""
    return (window + 7) // 8 * 8


@compiled
def replace_sorted(kept, old, new, out):
    """Sorted values with one taken out and one put in; absent ones are +inf and stand at the end.

    `kept` begins with -inf and ends with +inf. Without a branch: a place takes the middle one of the new value and
    of its two neighbours after the old value has gone, so that a vector unit moves several places at a time.
    """
    for i in range(1, kept.size - 1):
        # Read before any choice: a load that hangs on one keeps the loop from being vectorised.
        left, here, right = kept[i - 1], kept[i], kept[i + 1]
        before = here if left >= old else left
        after = right if here >= old else here
        most = before if before > new else new
        out[i] = most if most < after else after


@compiled
def quantile_sorted(kept, count, level):
    """Linear between the order statistics of the `count` values that begin at `kept[1]`; `count` at least 1."""
    position = level * (count - 1.0)
    floor = int(position)
    part, value = position - floor, kept[floor + 1]
    return value + part * (kept[floor + 2] - value) if part > 0.0 else value


@compiled
def count_below(x, first, lags, below):
    """Count the values `first` .. `lags - 1` sessions back that are below the last rows', and half of the equal."""
    start = x.size - below.size
    now = x[start:]
    for lag in range(first, lags):
        low = start - lag * WIDTH
        past = x[low : low + below.size]
        for i in range(below.size):
            then, today = past[i], now[i]
            below[i] += 1.0 if then < today else (0.5 if then == today else 0.0)
