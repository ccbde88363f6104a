"""Looking up a row's own past: the rows above it, as far back as they still say something."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]


class Past:
    """Rows ordered by group, then time; a row's past is the rows of its group above it.

    Parameters
    ----------
    group
        `(R,)` ascending group codes.
    time
        `(R,)` time as a number, ascending within a group.
    reach
        Largest difference of time at which an earlier row is still seen.
    """

    def __init__(self, group: NDArray[np.int64], time: NDArray[np.int64], reach: int) -> None:
        self.group, self.time, self.reach = group, time, reach

    def _seen(self, row: Positions, earlier: Positions, reach: int) -> Mask:
        safe = np.maximum(earlier, 0)
        return (earlier >= 0) & (self.group[row] == self.group[safe]) & (self.time[row] - self.time[safe] <= reach)

    def shifted(self, values: Values, back: int) -> Values:
        """`(R,)` value of the `back`-th row above; NaN where there is none within reach."""
        out = np.full(len(values), np.nan)
        if len(values) > back:
            seen = (self.group[back:] == self.group[:-back]) & (self.time[back:] - self.time[:-back] <= self.reach)
            out[back:] = np.where(seen, values[:-back], np.nan)
        return out

    def last(self, allowed: Mask, values: Values, reach: int) -> Values:
        """`(R,)` value of the last allowed row above; NaN where there is none within `reach`."""
        row = np.arange(len(values))
        latest = np.maximum.accumulate(np.where(allowed, row, -1))
        earlier = np.concatenate([np.full(1, -1), latest[:-1]])[: len(values)]
        return np.where(self._seen(row, earlier, reach), values[np.maximum(earlier, 0)], np.nan)

    def window(self, rows: Positions, values: Values, depth: int, reach: int) -> Values:
        """`(K, depth)` values of the rows above each of `rows`, latest first; NaN beyond `reach`."""
        earlier = rows[:, None] - np.arange(1, depth + 1)
        return np.where(self._seen(rows[:, None], earlier, reach), values[np.maximum(earlier, 0)], np.nan)


def median_of_known(values: Values, least: int = 1) -> Values:
    """Median over the known values of each row; NaN with fewer than `least` of them.

    Parameters
    ----------
    values
        `(R, K)`.
    """
    ordered = np.sort(values, axis=1)
    counts = np.isfinite(ordered).sum(axis=1)
    row = np.arange(len(ordered))
    # NaN sorts last, so the known values are the first `counts` of a row.
    low, high = np.maximum((counts - 1) // 2, 0), np.minimum(counts // 2, values.shape[1] - 1)
    return np.where(counts >= least, (ordered[row, low] + ordered[row, high]) / 2, np.nan)


def log_distance(values: Values, other: Values) -> Values:
    """Absolute log ratio; 0 where either is unknown or not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.abs(np.log(values / other))
    return np.where(np.isfinite(out), out, 0.0)
