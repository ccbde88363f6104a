"""Every table through its rules, for a span of sessions."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from core.errors import DataError
from sources import calendar
from sources.cleaning import events, filings, prices
from sources.cleaning.findings import join

# One session more where rows are not dated by session: what became known over a weekend belongs to the one after it.
LOOKBACKS: Mapping[str, int] = {
    "prices": prices.LOOKBACK,
    "fundamentals": filings.LOOKBACK + 1,
    "earnings": 2,
    "posts": events.REPEAT_SESSIONS + 1,
    "macro": 2,
    "alternative": 2,
}
"""Sessions, a row's own included, that a clean row of each raw table depends on."""


@dataclass(frozen=True)
class Cleaned:
    """Clean tables and what was found on the way.

    Attributes
    ----------
    tables
        By name: `prices`, and `filings`, `earnings`, `posts`, `securities`, `macro`, `alternative` as far as given.
    findings
        `table, rule, symbol, rows, action, example`; rows are counted once a rule.
    """

    tables: dict[str, pd.DataFrame]
    findings: pd.DataFrame


def clean(tables: Mapping[str, pd.DataFrame], first: datetime.date, last: datetime.date) -> Cleaned:
    """Clean normalised tables.

    Parameters
    ----------
    tables
        Normalised tables by their name in `sources.schemas.TABLES`. For the same rows as from the
        whole history they must reach back `LOOKBACKS` sessions, the first wanted one included.
    first, last
        Dates that bound the sessions wanted. Nothing that became known after `last` is looked at.

    Returns
    -------
    Cleaned
        Rows of the sessions in `[first, last]`.

    Raises
    ------
    DataError
        No price in the span is one that cleaning could keep.
    """
    start, stop = np.datetime64(first, "D"), np.datetime64(last, "D")
    bars = tables["prices"]
    bars = bars[bars["date"] <= pd.Timestamp(last)]
    if bars.empty:
        raise DataError(f"prices: no row up to {stop}: choose a later date, or add earlier prices")
    days = calendar.sessions(bars["date"].min().date(), stop)
    if not (np.isin(bars["date"].to_numpy().astype("datetime64[D]"), days) & (bars["close"] > 0)).any():
        raise DataError(
            f"prices: none of the {len(bars):,} rows up to {stop} has a close above 0 on a session of the exchange: "
            "check the columns date and close"
        )
    results = {"prices": prices.clean_prices(bars, days, start)}
    dated = {
        "fundamentals": ("filings", filings.clean_filings),
        "earnings": ("earnings", events.clean_earnings),
        "posts": ("posts", events.clean_posts),
        "macro": ("macro", events.clean_macro),
        "alternative": ("alternative", events.clean_alternative),
    }
    for table, (name, rules) in dated.items():
        if table in tables:
            results[name] = rules(tables[table], start, stop)
    if "securities" in tables:
        results["securities"] = events.clean_securities(tables["securities"])
    cleaned = {name: table for name, (table, _) in results.items()}
    return Cleaned(cleaned, join([found for _, found in results.values()]))
