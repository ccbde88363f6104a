"""Sums over every power of two up to the longest window, kept side by side so that several windows can share them.

`level[k]` holds sums over 2**k sessions, for a stretch of sessions of `WIDTH` symbols (`features.kernels.pieces`); the
functions named `..._windowed` put a window together from it, for the last rows of the stretch.
"""

from __future__ import annotations

import numpy as np

from core.jit import compiled
from features.kernels.pieces import WIDTH, double, double_highest


@compiled
def inverse(x, less, out):
    """`1 / (x - less)`, NaN where that is 0."""
    for i in range(out.size):
        rest = x[i] - less
        out[i] = 1.0 / (rest if rest != 0.0 else np.nan)


@compiled
def levels(level):
    """Sums over 1, 2, 4 .. sessions, `level[0]` given; rows are `WIDTH` apart."""
    for k in range(1, level.shape[0]):
        double(level[k - 1], 1 << (k - 1), level[k])


@compiled
def windowed(level, window, out):
    """Sum over `window` sessions for the last rows, from the sums over powers of two, two pieces at a time."""
    start = level.shape[1] - out.size
    back, waiting = 0, -1
    for k in range(level.shape[0]):
        if not (window >> k) & 1:
            continue
        if waiting < 0:
            waiting = k
            continue
        low, high = start - back * WIDTH, start - (back + (1 << waiting)) * WIDTH
        new, old = level[waiting, low : low + out.size], level[k, high : high + out.size]
        if back == 0:
            for i in range(out.size):
                out[i] = new[i] + old[i]
        else:
            for i in range(out.size):
                out[i] = (out[i] + new[i]) + old[i]
        back += (1 << waiting) + (1 << k)
        waiting = -1
    if waiting >= 0:
        low = start - back * WIDTH
        last = level[waiting, low : low + out.size]
        if back == 0:
            for i in range(out.size):
                out[i] = last[i]
        else:
            for i in range(out.size):
                out[i] += last[i]


@compiled
def aged_levels(level, plain):
    """Sums weighted with the age in sessions, over 1, 2, 4 .. sessions; `plain` holds the unweighted ones."""
    level[0, :] = 0.0
    for k in range(1, level.shape[0]):
        older = 1 << (k - 1)
        step = older * WIDTH
        below, here, flat = level[k - 1], level[k], plain[k - 1]
        for i in range(step):
            here[i] = below[i]
        for i in range(step, here.size):
            here[i] = below[i] + (below[i - step] + older * flat[i - step])


@compiled
def aged_windowed(level, plain, window, out):
    """Sum weighted with the age over `window` sessions, for the last rows."""
    start = level.shape[1] - out.size
    back = 0
    out[:] = 0.0
    for k in range(level.shape[0]):
        if (window >> k) & 1:
            low = start - back * WIDTH
            piece, flat = level[k, low : low + out.size], plain[k, low : low + out.size]
            for i in range(out.size):
                out[i] += piece[i] + back * flat[i]
            back += 1 << k


@compiled
def aged_twice_levels(level, aged, plain):
    """Sums weighted with the square of the age; `aged` and `plain` hold the others."""
    level[0, :] = 0.0
    for k in range(1, level.shape[0]):
        older = 1 << (k - 1)
        step = older * WIDTH
        below, here, once, flat = level[k - 1], level[k], aged[k - 1], plain[k - 1]
        for i in range(step):
            here[i] = below[i]
        for i in range(step, here.size):
            here[i] = below[i] + (below[i - step] + 2.0 * older * once[i - step] + older * older * flat[i - step])


@compiled
def aged_twice_windowed(level, aged, plain, window, out):
    """Sum weighted with the square of the age over `window` sessions, for the last rows."""
    start = level.shape[1] - out.size
    back = 0
    out[:] = 0.0
    for k in range(level.shape[0]):
        if (window >> k) & 1:
            low = start - back * WIDTH
            piece = level[k, low : low + out.size]
            once, flat = aged[k, low : low + out.size], plain[k, low : low + out.size]
            for i in range(out.size):
                out[i] += piece[i] + (2.0 * back * once[i] + back * back * flat[i])
            back += 1 << k


@compiled
def oldest_levels(level):
    """Age of the oldest session that is there, over 1, 2, 4 .. sessions; -inf where none is."""
    for k in range(1, level.shape[0]):
        older = 1 << (k - 1)
        step = older * WIDTH
        below, here = level[k - 1], level[k]
        for i in range(step):
            here[i] = below[i]
        for i in range(step, here.size):
            new, old = below[i], below[i - step] + older
            here[i] = old if old > new else new


@compiled
def oldest_windowed(level, window, out):
    """Age of the oldest session of `window` that is there, for the last rows."""
    k = 0
    while (2 << k) <= window:
        k += 1
    start = level.shape[1] - out.size
    back = window - (1 << k)
    low = start - back * WIDTH
    recent, before = level[k, start:], level[k, low : low + out.size]
    for i in range(out.size):
        new, old = recent[i], before[i] + back
        out[i] = old if old > new else new


@compiled
def highest_levels(value, age):
    """Largest value and its age over 1, 2, 4 .. sessions, the older of equals; absent is -inf."""
    age[0, :] = 0.0
    for k in range(1, value.shape[0]):
        double_highest(value[k - 1], age[k - 1], 1 << (k - 1), True, value[k], age[k])


@compiled
def highest_windowed(value, age, window, out, out_age):
    """Largest value and its age over `window` sessions: two windows of a power of two, overlapping."""
    k = 0
    while (2 << k) <= window:
        k += 1
    start = value.shape[1] - out.size
    older = window - (1 << k)
    low = start - older * WIDTH
    new, old = value[k, start:], value[k, low : low + out.size]
    age_new, age_old = age[k, start:], age[k, low : low + out.size]
    for i in range(out.size):
        a, b = new[i], old[i]
        out[i] = b if b >= a else a
    for i in range(out.size):
        a, b = age_new[i], age_old[i] + older
        out_age[i] = b if old[i] >= new[i] else a


@compiled
def sum_levels(x, level, there, whole):
    """Levels of a series, 0 where it is absent, and of its presence (1 throughout if `whole`)."""
    value, present = level[0], there[0]
    for i in range(x.size):
        a = x[i]
        value[i] = a if a == a else 0.0
    levels(level)
    if not whole:
        for i in range(x.size):
            present[i] = 1.0 if x[i] == x[i] else 0.0
        levels(there)


@compiled
def product_sum_levels(x, y, level):
    """Levels of the product of two series that are 0 where they are absent."""
    value = level[0]
    for i in range(x.size):
        value[i] = x[i] * y[i]
    levels(level)


@compiled
def number(there, window, whole, n, per):
    """Sessions of the window in which a series is there, and one over their number."""
    if whole:
        n[:] = window
        per[:] = 1.0 / window
    else:
        windowed(there, window, n)
        inverse(n, 0.0, per)


@compiled
def freedom(n, window, whole, per):
    """One over the number less 1."""
    if whole:
        per[:] = 1.0 / (window - 1.0)
    else:
        inverse(n, 1.0, per)


@compiled
def joined_levels(x, y, n, whole, level):
    """Sums of the products of two series' deviations over 1, 2, 4 .. sessions, from the levels of their sums."""
    level[0, :] = 0.0
    for k in range(1, level.shape[0]):
        older = 1 << (k - 1)
        step = older * WIDTH
        below, here, x0, y0, n0 = level[k - 1], level[k], x[k - 1], y[k - 1], n[k - 1]
        for i in range(step):
            here[i] = below[i]
        if whole:
            per = 1.0 / (2.0 * older * older * older)
            for i in range(step, here.size):
                gap_x = x0[i - step] * older - x0[i] * older
                gap_y = y0[i - step] * older - y0[i] * older
                here[i] = (below[i] + below[i - step]) + gap_x * gap_y * per
        else:
            for i in range(step, here.size):
                new, old = n0[i], n0[i - step]
                gap_x = x0[i - step] * new - x0[i] * old
                gap_y = y0[i - step] * new - y0[i] * old
                weight = new * old * (new + old)
                per = 1.0 / (weight if weight > 0.0 else 1.0)
                here[i] = (below[i] + below[i - step]) + gap_x * gap_y * per


@compiled
def joined_windowed(level, x, y, n, window, whole, work, out):
    """Sum of the products of deviations over `window` sessions, for the last rows."""
    start = level.shape[1] - out.size
    count, total_x, total_y = work[0], work[1], work[2]
    count[:], total_x[:], total_y[:], out[:] = 0.0, 0.0, 0.0, 0.0
    back = 0
    for k in range(level.shape[0]):
        if (window >> k) & 1:
            older = 1 << k
            low = start - back * WIDTH
            piece, x1 = level[k, low : low + out.size], x[k, low : low + out.size]
            y1, n1 = y[k, low : low + out.size], n[k, low : low + out.size]
            if whole:
                weight = 1.0 * back * older * (back + older)
                per = 1.0 / (weight if weight > 0.0 else 1.0)
                for i in range(out.size):
                    gap_x = x1[i] * back - total_x[i] * older
                    gap_y = y1[i] * back - total_y[i] * older
                    out[i] = (out[i] + piece[i]) + gap_x * gap_y * per
            else:
                for i in range(out.size):
                    new, old = count[i], n1[i]
                    gap_x = x1[i] * new - total_x[i] * old
                    gap_y = y1[i] * new - total_y[i] * old
                    weight = new * old * (new + old)
                    per = 1.0 / (weight if weight > 0.0 else 1.0)
                    out[i] = (out[i] + piece[i]) + gap_x * gap_y * per
                for i in range(out.size):
                    count[i] += n1[i]
            for i in range(out.size):
                total_x[i] += x1[i]
            for i in range(out.size):
                total_y[i] += y1[i]
            back += older
