"""Which sectors lead, and how fast the lead changes hands.

A sector's relative strength is the log of its price over the market's; its slope and its distance from its own mean
over a month, a quarter and half a year say which way it goes. Rotation compares the order of the sectors with that of
a month ago, 1 - rho of Spearman: 0 where it stands, 1 where the old order says nothing, 2 where it is turned over.

Row t of every result reads the rows up to t, at most its own window of them, and has the bits of these alone. An entry
that is not finite is unknown (a sector not yet launched): a trailing figure needs its whole window, a figure across
sectors is that of those known.

References
----------
Levy, R. A. (1967). Relative strength as a criterion for investment selection. Journal of Finance 22.
Moskowitz, T. J. and Grinblatt, M. (1999). Do industries explain momentum? Journal of Finance 54.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, DataError
from core.jit import compiled

Array = NDArray[np.float64]


WINDOWS = (21, 63, 126)
"""Sessions of a month, a quarter and half a year."""

LAG = 21
"""Sessions between the two orders that rotation compares."""

MIN_SECTORS = 3
"""Sectors that a comparison of orders needs: two have only two orders."""


def relative_strength(sectors: ArrayLike, market: ArrayLike) -> Array:
    """Log of each sector's price over the market's.

    Parameters
    ----------
    sectors
        `(T, S)` prices or total-return indexes.
    market
        `(T,)` of the same kind.

    Returns
    -------
    `(T, S)`; NaN where a price is unknown. Its level means nothing, its changes do.

    Raises
    ------
    DataError
        The shapes do not fit, or a price is zero or negative.
    """
    prices, whole = _table(sectors), np.asarray(market, dtype=np.float64)
    if whole.shape != (len(prices),):
        raise DataError(f"rotation: market {whole.shape} for sectors {prices.shape}: give one price a session, (T,)")
    if (prices <= 0).any() or (whole <= 0).any():
        raise DataError("rotation: a price is zero or negative: leave it unknown (NaN) or clean it")
    ratio = np.log(prices) - np.log(whole)[:, None]
    return np.where(np.isfinite(ratio), ratio, np.nan)


def trailing_slope(values: ArrayLike, window: int) -> Array:
    """Least-squares slope of each column over its last `window` rows, per session.

    Parameters
    ----------
    values
        `(T, S)`, as of `relative_strength`.
    window
        Rows, at least 2.

    Returns
    -------
    `(T, S)`; NaN where a value of the window is unknown.

    Raises
    ------
    ConfigError
        The window is too short.
    DataError
        The values are no `(T, S)` array.
    """
    table, out = _windowed(values, window)
    _slope(table, window, out)
    return out


def trailing_zscore(values: ArrayLike, window: int) -> Array:
    """Distance of each value from the mean of its last `window` rows, itself among them, in their standard deviations.

    Parameters
    ----------
    values
        `(T, S)`.
    window
        Rows, at least 2.

    Returns
    -------
    `(T, S)`, deviations over n - 1; NaN where a value of the window is unknown, or where it is constant.

    Raises
    ------
    ConfigError
        The window is too short.
    DataError
        The values are no `(T, S)` array.
    """
    table, out = _windowed(values, window)
    _zscore(table, window, out)
    return out


def group_spread(values: ArrayLike, first: ArrayLike, second: ArrayLike) -> Array:
    """Mean over the first group of sectors less that over the second: cyclicals minus defensives.

    Above zero on slopes of relative strength, money goes into what gains when business does.

    Parameters
    ----------
    values
        `(T, S)`: returns, slopes or z-scores. Of levels, a sector that joins its group makes a step.
    first, second
        `(S,)` booleans, apart from each other and neither empty.

    Returns
    -------
    `(T,)` over the known sectors of each group; NaN where one of the groups has none.

    Raises
    ------
    ConfigError
        A group is empty or of another length, or a sector is in both.
    DataError
        The values are no `(T, S)` array.
    """
    table = _table(values)
    groups = [np.asarray(group, dtype=np.bool_) for group in (first, second)]
    fits = all(group.shape == table.shape[1:] and group.any() for group in groups)
    if not fits or (groups[0] & groups[1]).any():
        raise ConfigError(
            f"rotation: groups {[group.shape for group in groups]} of {table.shape[1]} sectors: give two that are not "
            "empty and share no sector"
        )
    known = np.isfinite(table)
    means = []
    for group in groups:
        count = (known & group).sum(axis=1)
        means.append(np.where(known & group, table, 0.0).sum(axis=1) / np.where(count > 0, count, np.nan))
    return means[0] - means[1]


def rank_rotation(scores: ArrayLike, lag: int = LAG, minimum: int = MIN_SECTORS) -> Array:
    """1 - Spearman's correlation of the sectors' order with that of `lag` rows before, 0 to 2.

    Parameters
    ----------
    scores
        `(T, S)` whose order counts, as slopes of relative strength or returns over a window. Ties share a mean rank.
    lag
        Rows between the two orders.
    minimum
        Sectors that must be known at both.

    Returns
    -------
    `(T,)`; NaN in the first `lag` rows, where fewer sectors are known, or where all of either order are tied.

    Raises
    ------
    ConfigError
        `lag` is below 1 or `minimum` below 2.
    DataError
        The scores are no `(T, S)` array.
    """
    if lag < 1 or minimum < 2:
        raise ConfigError(f"rotation: lag {lag}, minimum {minimum}: need a lag of at least 1 and 2 sectors")
    table = _table(scores)
    out = np.full(len(table), np.nan)
    _rotation(table, lag, minimum, out)
    return out


def _table(values: ArrayLike) -> Array:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2:
        raise DataError(f"rotation: values of shape {table.shape}: give (T, S)")
    return np.ascontiguousarray(table)


def _windowed(values: ArrayLike, window: int) -> tuple[Array, Array]:
    """The table, and one of NaN for results over windows of it."""
    if window < 2:
        raise ConfigError(f"rotation: window {window}: choose at least 2 rows")
    table = _table(values)
    return table, np.full(table.shape, np.nan)


@compiled
def _slope(values, window, out):
    middle = 0.5 * (window - 1)
    square = window * (window * window - 1.0) / 12.0
    for s in range(values.shape[1]):
        for t in range(window - 1, len(values)):
            total = 0.0
            for i in range(window):
                total += (i - middle) * (values[t - window + 1 + i, s] - values[t, s])
            out[t, s] = total / square if np.isfinite(total) else np.nan


@compiled
def _zscore(values, window, out):
    for s in range(values.shape[1]):
        for t in range(window - 1, len(values)):
            # Distances from the newest value: they are exactly zero where nothing moves.
            mean = 0.0
            for i in range(1, window):
                mean += values[t - i, s] - values[t, s]
            mean /= window
            square = mean * mean
            for i in range(1, window):
                gap = values[t - i, s] - values[t, s] - mean
                square += gap * gap
            if square > 0.0 and np.isfinite(square):
                out[t, s] = -mean / np.sqrt(square / (window - 1))


@compiled
def _ranks(values, size, out):
    """Ranks from 1 of the first `size` values, ties sharing their mean."""
    for i in range(size):
        below, equal = 0, 0
        for j in range(size):
            if values[j] < values[i]:
                below += 1
            elif values[j] == values[i]:
                equal += 1
        out[i] = below + 0.5 * (equal + 1)


@compiled
def _rotation(scores, lag, minimum, out):
    count = scores.shape[1]
    new, old, new_rank, old_rank = np.empty(count), np.empty(count), np.empty(count), np.empty(count)
    for t in range(lag, len(scores)):
        size = 0
        for s in range(count):
            if np.isfinite(scores[t, s]) and np.isfinite(scores[t - lag, s]):
                new[size], old[size] = scores[t, s], scores[t - lag, s]
                size += 1
        if size < minimum:
            continue
        _ranks(new, size, new_rank)
        _ranks(old, size, old_rank)
        middle = 0.5 * (size + 1)
        both, new_square, old_square = 0.0, 0.0, 0.0
        for i in range(size):
            a, b = new_rank[i] - middle, old_rank[i] - middle
            both += a * b
            new_square += a * a
            old_square += b * b
        if new_square > 0.0 and old_square > 0.0:
            out[t] = 1.0 - both / np.sqrt(new_square * old_square)
