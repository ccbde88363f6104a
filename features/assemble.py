"""From clean tables to the panel.

The result does not depend on the order of a table's rows or columns: prices are scattered by key,
events are sorted by session, symbol, their own dates, then every other column.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import DataError
from features.companies import companies
from features.panel import EVENT_TABLES, OWN_SERIES, PRICE_FIELDS, Array, Dates, Events, Panel, spread
from features.universe import UniverseRule, universe

OPTIONAL_FIELDS = ("close_unadjusted", "vwap", "level_break")

SERIES_STALE = 63
"""Weekdays for which a market-wide value stands; a bound, so that the daily job needs no older rows."""


def assemble(tables: Mapping[str, pd.DataFrame], dates: Dates, rule: UniverseRule) -> Panel:
    """Build the panel of the given sessions.

    Parameters
    ----------
    tables
        Cleaned tables by name; `prices` is required, the others may be missing. Prices outside
        `dates`, and events that were known before its first session or are not known by its last, are left out.
    dates
        `(T,)` consecutive sessions, ascending.
    rule
        The universe's rule.

    Raises
    ------
    DataError
        No price row lies within `dates`; a price date is no session; a key occurs twice.
    """
    dates = np.asarray(dates, dtype="datetime64[D]")
    prices = _within(tables["prices"], "date", dates)
    if prices.empty:
        raise DataError(f"no price row lies in {dates[0]}..{dates[-1]}: choose dates that the prices cover")
    symbols = np.array(sorted(prices["symbol"].unique()), dtype=str)
    optional = (name for name in OPTIONAL_FIELDS if name in prices and (name != "vwap" or prices[name].notna().any()))
    columns = [*PRICE_FIELDS, *optional]
    fields = spread(prices, columns, dates, symbols)
    if "level_break" in fields:
        fields["level_break"] = np.nan_to_num(fields["level_break"], nan=0.0)
    return Panel(
        dates=dates,
        symbols=symbols,
        fields=fields,
        universe=universe(fields, rule),
        company=companies(fields),
        sector=group_codes(tables.get("securities"), "sector", symbols),
        events={name: _events(table, dates, symbols) for name, table in _event_tables(tables).items()},
        series=_series(tables["macro"], dates) if "macro" in tables else {},
    )


def group_codes(securities: pd.DataFrame | None, column: str, symbols: NDArray[np.str_]) -> NDArray[np.int64]:
    """Code of each symbol's group in the sorted list of all groups of the table; -1 where unknown or empty.

    Parameters
    ----------
    securities : DataFrame, optional
        One row per symbol.
    column : str
        Names the groups: "sector" or "industry"; nothing is known where the table has no such column.
    symbols : (N,) array of str
        In the order wanted.
    """
    if securities is None or column not in securities:
        return np.full(len(symbols), -1, dtype=np.int64)
    labels = securities.set_index("symbol")[column]
    if labels.index.has_duplicates:
        raise DataError(
            f"table 'securities': symbol {labels.index[labels.index.duplicated()][0]!r} occurs twice: keep one row"
        )
    names = sorted(set(labels.dropna()) - {""})
    return pd.Index(names, dtype=object).get_indexer(pd.Index(labels.reindex(symbols), dtype=object)).astype(np.int64)


def _event_tables(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Tables of events by name, the user's own series each for itself."""
    out = {name: tables[name] for name in EVENT_TABLES if name in tables}
    if OWN_SERIES in tables:
        for name, rows in tables[OWN_SERIES].groupby("series", sort=True):
            out[f"{OWN_SERIES}:{name}"] = rows.drop(columns="series")
    return out


def _within(frame: pd.DataFrame, column: str, dates: Dates) -> pd.DataFrame:
    """Rows whose session lies within `dates`; NaT does not."""
    known = frame[column].to_numpy("datetime64[D]")
    return frame[(known >= dates[0]) & (known <= dates[-1])]


def _events(frame: pd.DataFrame, dates: Dates, symbols: NDArray[np.str_]) -> Events:
    """Rows of an event table by position, in one order whatever the input's."""
    frame = _within(frame, "session", dates)
    frame = frame[frame["symbol"].isin(symbols)]
    columns = sorted(str(name) for name in frame.columns if name not in ("session", "symbol"))
    moments = [name for name in columns if pd.api.types.is_datetime64_any_dtype(frame[name])]
    others = [name for name in columns if name not in moments]
    frame = frame.sort_values(["session", "symbol", *moments, *others], kind="stable", ignore_index=True)
    known = frame["session"].to_numpy("datetime64[D]")
    session = np.searchsorted(dates, known)
    if (dates[session] != known).any():
        raise DataError(f"event session {known[dates[session] != known][0]} is not a session of the calendar")
    return Events(
        session=session.astype(np.int64),
        symbol=np.searchsorted(symbols, frame["symbol"].to_numpy(dtype=str)).astype(np.int64),
        values={name: _plain(frame[name]) for name in (*moments, *others)},
    )


def _plain(column: pd.Series) -> NDArray:
    """A column as a NumPy array: UTC times in seconds, dates in days, texts with "" for absent, else numbers."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[s]")
    if pd.api.types.is_datetime64_any_dtype(column):
        values = column.to_numpy("datetime64[s]")
        days = values.astype("datetime64[D]")
        return days if ((days == values) | np.isnat(values)).all() else values
    if pd.api.types.is_bool_dtype(column):
        return column.to_numpy(dtype=bool)
    if pd.api.types.is_integer_dtype(column) and not column.hasnans:
        return column.to_numpy(dtype=np.int64)
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return column.fillna("").to_numpy(dtype=str)


def _series(macro: pd.DataFrame, dates: Dates) -> dict[str, Array]:
    """The last known value of each series at every session, while it is not stale."""
    known = macro["session"].to_numpy("datetime64[D]")
    macro = macro[known <= dates[-1]].sort_values(["series", "session"], kind="stable")
    repeated = macro.duplicated(["series", "session"])
    if repeated.any():
        row = macro[repeated].iloc[0]
        raise DataError(f"table 'macro': ({row['series']}, {row['session']:%Y-%m-%d}) occurs twice: keep one row")
    macro = macro.dropna(subset="value")
    out: dict[str, Array] = {}
    for name, part in macro.groupby("series", sort=True):
        when, value = part["session"].to_numpy("datetime64[D]"), part["value"].to_numpy(dtype=np.float64)
        last = np.searchsorted(when, dates, side="right") - 1
        # Sessions before the panel are not on its calendar, so age is counted in weekdays.
        stale = np.busday_count(when[last], dates) >= SERIES_STALE
        out[str(name)] = np.where((last < 0) | stale, np.nan, value[last])
    return out
