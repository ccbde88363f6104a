"""Tickers that came to another company: while something is computed, each company has a column of its own.

A symbol without a price for more than `LONG_GAP` sessions, or for more than `SHORT_GAP` before a broken price level
(which cleaning marks with `ANOTHER_COMPANY`), is taken for another company from its next price on: a new
listing under an old ticker, or new shares after a bankruptcy. A long halt of one company looks the same, and begins
again too. Prices, volume and events of the company before are out of sight of every feature and target of the company
after it, whatever their windows. What became known between the two may be of either, and both see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from features.memo import remembered
from features.panel import Array, Events, Panel
from sources.identity import ANOTHER_COMPANY, LONG_GAP


def companies(fields: Mapping[str, Array]) -> NDArray[np.int64] | None:
    """`(T, N)` company that has each symbol, as `Panel.company` has it; None where no symbol changed hands.

    Parameters
    ----------
    fields
        Panel fields: `close`, and where present `level_break`.
    """
    close = fields["close"]
    known = np.isfinite(close)
    row = np.arange(len(close))[:, None]
    latest = np.maximum.accumulate(np.where(known, row, -1), axis=0)
    before = np.vstack([np.full((1, close.shape[1]), -1), latest[:-1]])
    begins = known & (before >= 0) & (row - before > LONG_GAP)
    if "level_break" in fields:
        begins |= fields["level_break"] == ANOTHER_COMPANY
    if not begins.any():
        return None
    following = np.minimum.accumulate(np.where(known, row, len(close))[::-1], axis=0)[::-1]
    ends = np.take_along_axis(np.vstack([begins, np.zeros((1, close.shape[1]), bool)]), following, axis=0)
    return 2 * np.cumsum(begins, axis=0) + (~known & ends)


@dataclass(frozen=True)
class Columns:
    """A column for each company instead of each symbol.

    Attributes
    ----------
    company
        `(T, N)` number of the company that has each symbol.
    origin, number
        `(M,)` symbol of each column, and the company's number.
    """

    company: NDArray[np.int64]
    origin: NDArray[np.int64]
    number: NDArray[np.int64]

    @classmethod
    def of(cls, company: NDArray[np.int64]) -> Columns:
        """The columns of the companies that the sessions of a panel's `company` hold."""
        company = company // 2
        counts = company[-1] - company[0] + 1
        origin = np.repeat(np.arange(len(counts)), counts)
        ahead = np.arange(len(origin)) - np.repeat(np.cumsum(counts) - counts, counts)
        return cls(company, origin, company[0][origin] + ahead)

    @property
    def place(self) -> NDArray[np.int64]:
        """`(T, N)` column that holds a symbol in a session."""
        counts = self.company[-1] - self.company[0] + 1
        return self.company - self.company[0] + np.cumsum(counts) - counts

    def apart(self, values: NDArray, absent: float | bool) -> NDArray:
        """`(T, N)` as `(T, M)`, with `absent` where a column's company does not have the symbol."""
        return np.where(self.company[:, self.origin] == self.number, values[:, self.origin], absent)

    def together(self, values: NDArray) -> NDArray:
        """`(T, M)` as `(T, N)`: of each session the company that has the symbol then."""
        return np.take_along_axis(values, self.place, axis=1)

    def fields(self, fields: Mapping[str, Array]) -> dict[str, Array]:
        """Panel fields of the companies; that a company begins is no break of its price level."""
        out = {name: self.apart(values, np.nan) for name, values in fields.items()}
        if "level_break" in out:
            broken = np.nan_to_num(out["level_break"])
            out["level_break"] = np.where(broken == ANOTHER_COMPANY, 0.0, broken)
        return out


def separated(panel: Panel) -> Panel:
    """The panel with a column for each company; itself where no symbol changed hands."""
    return panel if panel.company is None else _separated(panel)


def joined(panel: Panel, values: NDArray) -> NDArray:
    """What was computed on the separated panel, by the panel's own symbols."""
    return values if panel.company is None else Columns.of(panel.company).together(values)


@remembered
def _separated(panel: Panel) -> Panel:
    company: NDArray[np.int64] = panel.company  # type: ignore[assignment]
    columns = Columns.of(company)
    place = columns.place

    def moved(events: Events) -> Events:
        """Each event with its company; one between two companies with both."""
        here = company[events.session, events.symbol]
        twice = np.flatnonzero((here % 2 == 1) & (company[-1, events.symbol] // 2 > here // 2))
        rows = np.append(np.arange(len(events)), twice)
        symbol = place[events.session, events.symbol][rows]
        symbol[len(events) :] += 1
        order = np.lexsort((rows, symbol, events.session[rows]))
        return replace(events.take(rows[order]), symbol=symbol[order])

    return replace(
        panel,
        symbols=panel.symbols[columns.origin],
        fields=columns.fields(panel.fields),
        universe=columns.apart(panel.universe, False),
        sector=panel.sector[columns.origin],
        events={name: moved(events) for name, events in panel.events.items()},
        company=None,
    )
