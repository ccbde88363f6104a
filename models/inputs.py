"""Cross-sectional transforms of the features, one session at a time.

Nothing is fitted: a row's value depends on the rows of its own session only, so neither the past nor
the future of the sample can enter, and a single day gives the same bits as the full history.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from core.jit import njit

Matrix = NDArray[np.float32]

_CHUNK = 65_536


def session_bounds(session: NDArray[np.int32]) -> NDArray[np.int64]:
    """(S + 1,) row offsets at which each present session starts, and the number of rows at the end."""
    changes = np.flatnonzero(session[1:] != session[:-1]) + 1
    ends = [len(session)] if len(session) else []
    return np.concatenate([[0], changes, ends]).astype(np.int64)


def rank_fractions(X: NDArray[np.floating], session: NDArray[np.int32]) -> Matrix:
    """Rank of each value within its session and column as a fraction in (0, 1).

    Parameters
    ----------
    X : (R, F)
        Feature values; rows of one session are adjacent.
    session : (R,)
        Session of each row, ascending.

    Returns
    -------
    (R, F) float32
        (rank - 1/2) / n over the n defined values, ties sharing their mean rank; NaN stays NaN.
    """
    out = np.empty(X.shape, dtype=np.float32)
    _rank_fractions(X, session_bounds(session), out)
    return out


@njit(parallel=True)
def _rank_fractions(X: NDArray[np.floating], bounds: NDArray[np.int64], out: Matrix) -> None:
    columns = X.shape[1]
    for block in numba.prange(len(bounds) - 1):
        first, last = bounds[block], bounds[block + 1]
        size = last - first
        values = np.empty(size, dtype=X.dtype)
        where = np.empty(size, dtype=np.int64)
        for column in range(columns):
            count = 0
            for row in range(first, last):
                value = X[row, column]
                if np.isnan(value):
                    out[row, column] = np.nan
                else:
                    values[count] = value
                    where[count] = row
                    count += 1
            order = np.argsort(values[:count])
            start = 0
            while start < count:
                stop = start + 1
                value = values[order[start]]
                while stop < count and values[order[stop]] == value:
                    stop += 1
                # ranks start+1..stop share their mean, (start + 1 + stop) / 2
                fraction = np.float32(0.5 * (start + stop) / count)
                for tie in range(start, stop):
                    out[where[order[tie]], column] = fraction
                start = stop


def gaussian_ranks(X: NDArray[np.floating], session: NDArray[np.int32]) -> Matrix:
    """Gauss rank of each value within its session and column: the normal quantile of `rank_fractions`.

    Undefined values become 0, the middle of the cross-section.

    Returns
    -------
    (R, F) float32
    """
    out = rank_fractions(X, session)
    for start in range(0, len(out), _CHUNK):
        part = out[start : start + _CHUNK]
        part[np.isnan(part)] = 0.5
        ndtri(part, out=part)
    return out


def uniform_ranks(X: NDArray[np.floating], session: NDArray[np.int32]) -> Matrix:
    """Rank of each value within its session and column, scaled to (-1, 1); NaN stays NaN.

    Returns
    -------
    (R, F) float32
    """
    out = rank_fractions(X, session)
    out *= np.float32(2)
    out -= np.float32(1)
    return out


def zscores(values: NDArray[np.floating], session: NDArray[np.int32]) -> NDArray[np.float64]:
    """Values less their session's mean, over its standard deviation (ddof 0).

    A session whose values are all equal gets 0: such values rank nothing. NaN stays NaN and is left
    out of the moments.

    Returns
    -------
    (R,) float64
    """
    out = np.empty(len(values), dtype=np.float64)
    _zscores(np.ascontiguousarray(values, dtype=np.float64), session_bounds(session), out)
    return out


@njit()
def _zscores(values: NDArray[np.float64], bounds: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    for block in range(len(bounds) - 1):
        first, last = bounds[block], bounds[block + 1]
        count, total = 0, 0.0
        low, high = np.inf, -np.inf
        for row in range(first, last):
            if not np.isnan(values[row]):
                count += 1
                total += values[row]
                low = min(low, values[row])
                high = max(high, values[row])
        mean = total / max(count, 1)
        squares = 0.0
        for row in range(first, last):
            if not np.isnan(values[row]):
                squares += (values[row] - mean) ** 2
        deviation = np.sqrt(squares / max(count, 1))
        for row in range(first, last):
            if np.isnan(values[row]):
                out[row] = np.nan
            elif high > low and deviation > 0.0:
                out[row] = (values[row] - mean) / deviation
            else:
                out[row] = 0.0


def coverage(X: NDArray[np.floating]) -> NDArray[np.float64]:
    """(F,) share of rows in which each feature is defined."""
    if not len(X):
        return np.zeros(X.shape[1])
    return np.array([np.isfinite(X[:, column]).mean() for column in range(X.shape[1])])
