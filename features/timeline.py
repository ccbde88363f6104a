"""Figures that several sources report, spread over the sessions: at each session the best source then.

A figure is never mixed from two sources; freshness comes first, and the order of preference breaks ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.jit import compiled
from features.panel import Array

SOURCES = ("simulated", "pystock", "stockpup", "kaggle_nyse")
"""Which source is preferred where several are equally fresh; unlisted ones come last, by name."""

SAME_QUARTER = 45
"""Days: periods that end no further apart are one quarter's, reported by two sources."""


@dataclass(frozen=True)
class Timeline:
    """The moments at which a source's figures for a symbol changed.

    Attributes
    ----------
    session, symbol
        `(C,)` positions in the panel, ordered by symbol, then source, then session.
    source
        `(C,)` index into `sources`.
    period_end
        `(C,)` newest period known then, days since 1970.
    sources
        Names, sorted.
    """

    session: NDArray[np.int64]
    symbol: NDArray[np.int64]
    source: NDArray[np.int64]
    period_end: NDArray[np.int64]
    sources: tuple[str, ...]

    def spread(self, values: Array, shape: tuple[int, int], max_age: int, priority: Sequence[str] = SOURCES) -> Array:
        """One figure per session and symbol, each from one source.

        Among the sources that give a number, those whose newest period lies within `SAME_QUARTER` days of the
        freshest are equally fresh, and the first of `priority` is taken.

        Parameters
        ----------
        values
            `(C,)` figure at each moment; NaN where the source does not give it.
        shape
            `(T, N)` of the panel.
        max_age
            Sessions for which a figure stands, the one in which it became known included.
        """
        listed = [*priority, *sorted(set(self.sources) - set(priority))]
        rank = np.array([listed.index(name) for name in self.sources], dtype=np.int64)[self.source]
        order = np.lexsort((rank, self.session, self.symbol))
        out = np.full(shape, np.nan)
        _spread(
            self.session[order],
            self.symbol[order],
            rank[order],
            self.period_end[order],
            values[order],
            len(listed),
            max_age,
            out,
        )
        return out


@compiled
def _spread(session, symbol, rank, period, values, ranks, max_age, out):
    """Walk each symbol's moments through the sessions, choosing the source at each."""
    value = np.empty(ranks)
    newest, since = np.zeros(ranks, np.int64), np.zeros(ranks, np.int64)
    at = 0
    while at < len(session):
        column = symbol[at]
        value[:] = np.nan
        for row in range(session[at], len(out)):
            while at < len(session) and symbol[at] == column and session[at] == row:
                value[rank[at]], newest[rank[at]], since[rank[at]] = values[at], period[at], row
                at += 1
            freshest, found = 0, False
            for k in range(ranks):
                if np.isfinite(value[k]) and row - since[k] < max_age:
                    freshest = max(freshest, newest[k]) if found else newest[k]
                    found = True
            # The first in rank of those that are as fresh as the freshest.
            for k in range(ranks if found else 0):
                usable = np.isfinite(value[k]) and row - since[k] < max_age
                if usable and newest[k] >= freshest - SAME_QUARTER:
                    out[row, column] = value[k]
                    break
