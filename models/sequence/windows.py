"""Windows of the last sessions of each stock, read from one dense grid.

The grid is `(T, N, C)`: sessions from the first to the last of the data without a gap, the symbols that
have a row, the chosen channels as Gauss ranks within their session, clipped. The window of a day is a
view of L consecutive sessions of it; only the stocks of that day are gathered, so nothing is ever held
L times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.dataset import Dataset
from models.inputs import gaussian_ranks, session_bounds

CLIP = 3.0
"""Ranks beyond so many standard deviations count as that many."""


@dataclass(frozen=True, eq=False)
class Windows:
    """The grid of a dataset, and where each day's rows stand in it.

    Attributes
    ----------
    lookback
        Number L of sessions in a window, the day itself last.
    grid : (T + L - 1, N, C) float32
        Gauss ranks within +-`CLIP`; 0 where a value is undefined or the stock had no row. The first
        L - 1 sessions lie before the data and are zeros, so that every day has a window.
    mask : (T + L - 1, N) bool
        Whether the stock had a row.
    start : (D,) int64
        First session of each day's window, as a position in the grid; only sessions with rows are days.
    column : (R,) int64
        Position of each row's symbol in the grid.
    bounds : (D + 1,) int64
        Offsets of each day's rows.
    session : (D,) int32
        Session of each day, as in the dataset.
    """

    lookback: int
    grid: NDArray[np.float32]
    mask: NDArray[np.bool_]
    start: NDArray[np.int64]
    column: NDArray[np.int64]
    bounds: NDArray[np.int64]
    session: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.session)

    def rows(self, day: int) -> slice:
        """Rows of the dataset that a day holds."""
        return slice(int(self.bounds[day]), int(self.bounds[day + 1]))

    def span(self, day: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Views of the (L, N, C) grid and the (L, N) mask under a day's window."""
        start = int(self.start[day])
        return self.grid[start : start + self.lookback], self.mask[start : start + self.lookback]

    def day(self, day: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The (n, L, C) windows and the (n, L) mask of a day's n rows, in the order of the dataset."""
        members = self.column[self.rows(day)]
        grid, mask = self.span(day)
        return grid[:, members].transpose(1, 0, 2), mask[:, members].T

    def whole(self) -> NDArray[np.bool_]:
        """(D,) whether a day's window lies within the data; all True where none does."""
        inside = self.start >= self.lookback - 1
        return inside if inside.any() else np.ones(len(self), dtype=bool)

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        return (self.day(day) for day in range(len(self)))


def make_windows(data: Dataset, lookback: int) -> Windows:
    """Grid of all columns of a dataset.

    Parameters
    ----------
    data
        Rows with the channels as their only features (`Dataset.with_columns`).
    lookback
        Number L of sessions in a window.
    """
    bounds = session_bounds(data.session)
    sessions = data.session[bounds[:-1]]
    first = int(sessions[0]) if len(sessions) else 0
    length = (int(sessions[-1]) - first + 1 if len(sessions) else 0) + lookback - 1
    present = np.bincount(data.symbol, minlength=len(data.symbols)) > 0
    column = (np.cumsum(present) - 1)[data.symbol]
    ranks = gaussian_ranks(data.X, data.session)
    np.clip(ranks, -CLIP, CLIP, out=ranks)
    row = data.session.astype(np.int64) - first + lookback - 1
    grid = np.zeros((length, int(present.sum()), data.X.shape[1]), dtype=np.float32)
    mask = np.zeros(grid.shape[:2], dtype=bool)
    grid[row, column] = ranks
    mask[row, column] = True
    return Windows(lookback, grid, mask, sessions.astype(np.int64) - first, column, bounds, sessions)
