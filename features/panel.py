"""The panel: dense `(dates, symbols)` arrays on the exchange calendar, plus dated events.

This is the one place that turns long tables into dense arrays and back.

A panel can be cut (`cut`) and narrowed to its last sessions (`tail`); a feature sees nothing
but the panel it is handed, so cutting the panel is cutting what the feature may know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import DataError

Dates = NDArray[np.datetime64]
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

PRICE_FIELDS = ("open", "high", "low", "close", "volume")
EVENT_TABLES = ("filings", "earnings", "posts")
OWN_SERIES = "alternative"
"""Table of the user's own series: `alternative:NAME` is the event table of one of them."""


@dataclass(frozen=True)
class Events:
    """Rows that became known at some session: filings, announcements, posts.

    Attributes
    ----------
    session
        `(E,)` index into the panel's dates of the first session at whose close the row may be
        used; ascending, ties in a fixed order that does not depend on the input's.
    symbol
        `(E,)` index into the panel's symbols.
    values
        Columns of length E: floats, strings, dates as `datetime64[D]`.
    """

    session: NDArray[np.int64]
    symbol: NDArray[np.int64]
    values: Mapping[str, NDArray]

    def __len__(self) -> int:
        return len(self.session)

    def between(self, start: int, stop: int) -> Events:
        """Rows known in sessions `[start, stop)`, with sessions counted from `start`."""
        low, high = np.searchsorted(self.session, [start, stop])
        return Events(
            self.session[low:high] - start,
            self.symbol[low:high],
            {name: column[low:high] for name, column in self.values.items()},
        )

    def take(self, rows: NDArray) -> Events:
        """The rows selected by a mask or by ascending positions."""
        return Events(self.session[rows], self.symbol[rows], {k: v[rows] for k, v in self.values.items()})


@dataclass(frozen=True)
class Panel:
    """What was known about every symbol at every session's close.

    Attributes
    ----------
    dates
        `(T,)` sessions of the exchange, ascending, none missing.
    symbols
        `(N,)` names, sorted.
    fields
        `(T, N)` float64 arrays by name: at least `open high low close` (currency per share, on one
        split basis) and `volume` (shares, same basis), `vwap` where the source has it; NaN where there is
        nothing. `level_break` is 1.0 at a session where the price level jumped for a reason that cleaning
        could not resolve, 2.0 where that came after more than a month without a price, else 0.0.
    universe
        `(T, N)` True where the symbol may be held at that session.
    sector
        `(N,)` integer code per symbol, -1 where unknown.
    events
        Event tables by name (`filings`, `earnings`, `posts`, `alternative:NAME` of each series of the user's own); a
        table that the source lacks is absent.
    series
        `(T,)` market-wide series by name (macro), NaN before the first known value.
    company
        `(T, N)` company of the symbol: `2 k` while the k-th one trades, `2 k + 1` from its last price to the first
        of the next; None where no ticker came to another company.
    wanted
        First session whose features are asked for: an expensive feature may leave those before it NaN.
    """

    dates: Dates
    symbols: NDArray[np.str_]
    fields: Mapping[str, Array]
    universe: Mask
    sector: NDArray[np.int64]
    events: Mapping[str, Events] = field(default_factory=dict)
    series: Mapping[str, Array] = field(default_factory=dict)
    company: NDArray[np.int64] | None = None
    wanted: int = 0

    def __post_init__(self) -> None:
        shape = self.shape
        for name, values in {**self.fields, "universe": self.universe}.items():
            if values.shape != shape:
                raise DataError(f"panel field {name!r} has shape {values.shape}, expected {shape}")

    @property
    def shape(self) -> tuple[int, int]:
        """`(T, N)`."""
        return len(self.dates), len(self.symbols)

    def __getitem__(self, name: str) -> Array:
        return self.fields[name]

    def window(self, start: int, stop: int) -> Panel:
        """Sessions `[start, stop)` and what became known in them; nothing else is visible."""
        company = None if self.company is None else self.company[start:stop]
        if company is not None and (company == company[:1]).all():
            company = None
        return replace(
            self,
            dates=self.dates[start:stop],
            fields={name: values[start:stop] for name, values in self.fields.items()},
            universe=self.universe[start:stop],
            events={name: events.between(start, stop) for name, events in self.events.items()},
            series={name: values[start:stop] for name, values in self.series.items()},
            company=company,
            wanted=0,
        )

    def cut(self, last: int) -> Panel:
        """Everything up to and including session `last`."""
        return self.window(0, last + 1)

    def tail(self, last: int, lookback: int, sessions: int = 1) -> Panel:
        """What the `sessions` up to `last` depend on, each on the `lookback` that end with it; only they are wanted."""
        alone = self.window(max(0, last + 2 - lookback - sessions), last + 1)
        return replace(alone, wanted=max(0, len(alone.dates) - sessions))

    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions `(session, symbol)` of the universe, ordered by session, then symbol."""
        session, symbol = np.nonzero(self.universe)
        return session, symbol


def pivot(frame: pd.DataFrame, column: str, dates: Dates, symbols: NDArray[np.str_]) -> Array:
    """Spread one column of a long (date, symbol) frame over `(T, N)`; NaN where there is no row.

    Raises
    ------
    DataError
        A date is not in `dates`, a symbol is not in `symbols`, or a key occurs twice.
    """
    return spread(frame, [column], dates, symbols)[column]


def spread(frame: pd.DataFrame, columns: Sequence[str], dates: Dates, symbols: NDArray[np.str_]) -> dict[str, Array]:
    """`pivot` of several columns of one frame; the keys are looked up once."""
    row, col = positions(frame, dates, symbols)
    flat = row * len(symbols) + col
    taken = np.zeros(len(dates) * len(symbols), dtype=bool)
    taken[flat] = True
    if taken.sum() != len(flat):
        repeated = frame[frame.duplicated(["date", "symbol"])].iloc[0]
        raise DataError(
            f"columns {', '.join(columns)}: ({repeated['date']:%Y-%m-%d}, {repeated['symbol']}) occurs twice: "
            "keep one row"
        )
    out = {}
    for column in columns:
        out[column] = np.full((len(dates), len(symbols)), np.nan)
        out[column][row, col] = frame[column].to_numpy(dtype=np.float64)
    return out


def positions(
    frame: pd.DataFrame, dates: Dates, symbols: NDArray[np.str_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of every (date, symbol) key of a long frame.

    Raises
    ------
    DataError
        A key lies outside the calendar or the symbols.
    """
    # a lookup for each distinct key, not for each row
    row, col = (
        pd.Index(known).get_indexer(pd.Index(distinct))[codes]
        for known, (codes, distinct) in (
            (dates, pd.factorize(frame["date"].to_numpy("datetime64[D]"), use_na_sentinel=False)),
            (symbols, pd.factorize(frame["symbol"], use_na_sentinel=False)),
        )
    )
    if (row < 0).any():
        raise DataError(f"{frame['date'].iloc[int(np.argmax(row < 0))]:%Y-%m-%d} is not a session of the calendar")
    if (col < 0).any():
        raise DataError(f"symbol {frame['symbol'].iloc[int(np.argmax(col < 0))]!r} is not in the panel")
    return row.astype(np.int64), col.astype(np.int64)
