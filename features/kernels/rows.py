"""Kernels over symbols: each row by itself, restricted to a mask; NaN outside it.

Values are summed in ascending order, so that the order of the symbols cannot change a bit;
`+ 0.0` makes -0.0 and 0.0 one value for the same reason.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from core.jit import compiled
from features.kernels.blocks import dense, over_blocks
from features.panel import Array, Mask

RANK, ZSCORE, WINSORISE, MEAN = 0, 1, 2, 3


@compiled
def _across(low, high, x, mask, kind, level, out):
    size = x.shape[1]
    value = np.empty(size)
    place = np.empty(size, np.int64)
    for t in range(low, high):
        n = 0
        for j in range(size):
            out[t, j] = np.nan
            if mask[t, j] and x[t, j] == x[t, j]:
                value[n] = x[t, j] + 0.0
                place[n] = j
                n += 1
        if n == 0:
            continue
        order = np.argsort(value[:n])
        if kind == 0:
            i = 0
            while i < n:
                same = i
                while same + 1 < n and value[order[same + 1]] == value[order[i]]:
                    same += 1
                for k in range(i, same + 1):
                    out[t, place[order[k]]] = (0.5 * (i + same) + 0.5) / n
                i = same + 1
        elif kind == 2:
            position = level * (n - 1)
            floor = int(position)
            part = position - floor
            bottom, top = value[order[floor]], value[order[n - 1 - floor]]
            if part > 0:
                bottom += part * (value[order[floor + 1]] - bottom)
                top += part * (value[order[n - 2 - floor]] - top)
            for i in range(n):
                out[t, place[i]] = min(max(value[i], bottom), top)
        else:
            total = 0.0
            for i in order:
                total += value[i]
            mean = total / n
            if kind == 3:
                for i in range(n):
                    out[t, place[i]] = mean
                continue
            square = 0.0
            for i in order:
                square += (value[i] - mean) ** 2
            if n > 1 and square > 1e-26 * n * mean * mean:
                scale = math.sqrt(square / (n - 1))
                for i in range(n):
                    out[t, place[i]] = (value[i] - mean) / scale


@compiled
def _by_group(low, high, x, mask, group, groups, least, out):
    size = x.shape[1]
    value = np.empty(size)
    place = np.empty(size, np.int64)
    total, count = np.empty(groups), np.empty(groups)
    for t in range(low, high):
        n = 0
        total[:] = 0.0
        count[:] = 0.0
        for j in range(size):
            out[t, j] = np.nan
            if mask[t, j] and x[t, j] == x[t, j]:
                value[n] = x[t, j] + 0.0
                place[n] = j
                n += 1
        everything = 0.0
        for i in np.argsort(value[:n]):
            code = group[place[i]]
            everything += value[i]
            if code >= 0:
                total[code] += value[i]
                count[code] += 1.0
        for j in range(size):
            if mask[t, j] and n > 0:
                code = group[j]
                small = code < 0 or count[code] < least
                out[t, j] = everything / n if small else total[code] / count[code]


def _rows(x: Array, mask: Mask, kind: int, level: float = 0.0) -> Array:
    x = dense(x)
    out = np.empty(x.shape)
    over_blocks(_across, len(x), x, np.ascontiguousarray(mask), kind, level, out)
    return out


def rank(x: Array, mask: Mask) -> Array:
    """Rank within the row, average ties, `(rank - 0.5) / n` in (0, 1)."""
    return _rows(x, mask, RANK)


def gauss_rank(x: Array, mask: Mask) -> Array:
    """Normal quantile of the rank: `ppf((rank - 0.5) / n)`; average ties."""
    return ndtri(_rows(x, mask, RANK))


def zscore(x: Array, mask: Mask) -> Array:
    """`(x - mean) / std` within the row (n - 1); NaN where the row is constant."""
    return _rows(x, mask, ZSCORE)


def winsorise(x: Array, mask: Mask, share: float = 0.01) -> Array:
    """Clip to the row's `share` and `1 - share` quantiles (linear), `share` in [0, 0.5)."""
    if not 0 <= share < 0.5:
        raise ValueError(f"share must be in [0, 0.5), got {share}")
    return _rows(x, mask, WINSORISE, float(share))


def row_mean(x: Array, mask: Mask) -> Array:
    """Mean of the row's masked values, `(T,)`; NaN where there is none."""
    spread = _rows(x, mask, MEAN)
    some = ~np.isnan(spread)
    first = np.argmax(some, axis=1)
    return np.where(some.any(axis=1), spread[np.arange(len(spread)), first], np.nan)


def group_mean(x: Array, mask: Mask, group: NDArray[np.int64], min_count: int = 3) -> Array:
    """Mean over the symbol's group in the row, for every masked symbol.

    The mean of all masked symbols stands in where the group is unknown (-1) or has fewer than
    `min_count` present values.

    Parameters
    ----------
    group
        `(N,)` integer code per symbol.
    """
    x = dense(x)
    out = np.empty(x.shape)
    groups = int(group.max(initial=0)) + 1
    over_blocks(_by_group, len(x), x, np.ascontiguousarray(mask), group.astype(np.int64), groups, float(min_count), out)
    return out


def demean(x: Array, mask: Mask, group: NDArray[np.int64] | None = None, min_count: int = 3) -> Array:
    """Minus the row's mean, or minus the group's mean (see `group_mean`)."""
    if group is None:
        return np.where(mask, x - row_mean(x, mask)[:, None], np.nan)
    return x - group_mean(x, mask, group, min_count)
