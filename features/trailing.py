"""Trailing-twelve-month figures from filings, as they were known at the time.

Filings come from several sources with different habits: single quarters only; quarters and full years;
full years only; cash flows of the year to date. A figure is worked out from ONE source:

- a full year that ends with the newest period, where there is one;
- else the year to date, plus the last full year, less the year to date of a year ago;
- else four single quarters in a row, a missing fourth quarter being the full year less the other three.

A figure is worked out whenever a filing of its source arrives, from the filings that became known within a
fixed number of sessions (`window`) up to then; of several versions of one period the latest known one counts.
It then stands until the next filing of that source, for at most `max_age` sessions. So it depends on the last
`window + max_age` sessions and on nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.jit import compiled
from features.memo import remembered
from features.panel import Array, Events
from features.timeline import Timeline

INCOME_FLOWS = ("gross_profit", "revenue", "operating_income", "net_income")
CASH_FLOWS = ("cash_flow_operating",)
BALANCES = ("current_assets", "current_liabilities", "cash", "long_term_debt", "assets", "equity", "shares")
ITEMS = (*INCOME_FLOWS, *CASH_FLOWS, *BALANCES)
OPTIONAL = ("gross_profit",)
"""Items of which a source may lack the column: unknown throughout."""

_DAYS_A_MONTH = 365.25 / 12
_SAME_PERIOD = 7.0  # days: a period's end as two versions of it state it
_QUARTER_SLACK = 30.0  # days: quarters of 12 and of 17 weeks end up to four weeks off a calendar's
_YEAR_SLACK = 20.0  # days: years of 52 and of 53 weeks drift
_ANY_LENGTH = 0  # balances have no months


@dataclass(frozen=True)
class Trailing:
    """Figures at each moment of a timeline.

    Attributes
    ----------
    now, year_ago
        `(C,)` by item: flows over the twelve months up to the newest period (and up to the period a year
        before it), balances at its end; NaN where the filings known then do not give it.
    """

    timeline: Timeline
    now: Mapping[str, Array]
    year_ago: Mapping[str, Array]


@remembered
def trailing(filings: Events, window: int) -> Trailing:
    """Trailing-twelve-month flows and balances, now and a year ago.

    Parameters
    ----------
    filings
        Rows with `period_end`, `source`, `amended`, `income_months`, `cashflow_months` and the items.
    window
        Sessions, up to the arrival of a filing, in which the filings behind a figure became known.
    """
    book = _Book.of(filings)
    values = np.column_stack([book.column(name) for name in ITEMS])
    months = np.column_stack([book.months(name) for name in ITEMS])
    moments, period, now, year_ago = _trailing(
        book.session, book.period, months, values, len(ITEMS) - len(BALANCES), book.starts, window
    )
    return Trailing(
        book.timeline(moments, period),
        {name: now[:, at] for at, name in enumerate(ITEMS)},
        {name: year_ago[:, at] for at, name in enumerate(ITEMS)},
    )


@remembered
def quarters(filings: Events, item: str, count: int, window: int) -> tuple[Timeline, Array]:
    """The last single quarters of a flow, newest first.

    Returns
    -------
    timeline
        The moments.
    values
        `(C, count)`; NaN where a quarter is not known and cannot be had from the full year or the year to date.
    """
    book = _Book.of(filings)
    moments, period, values = _quarters(
        book.session, book.period, book.months(item), book.column(item), book.starts, count, window
    )
    return book.timeline(moments, period), values


@dataclass(frozen=True)
class _Book:
    """Filings ordered by symbol, source and arrival."""

    filings: Events
    session: NDArray[np.int64]
    period: NDArray[np.int64]
    source: NDArray[np.int64]
    sources: tuple[str, ...]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, filings: Events) -> _Book:
        names, source = np.unique(np.asarray(filings.values["source"]).astype(str), return_inverse=True)
        period = np.asarray(filings.values["period_end"], dtype="datetime64[D]").astype(np.int64)
        amended = np.asarray(filings.values["amended"], dtype=np.float64)
        # Two unlike rows of one period, session and source: the values decide which stands, not the input's order.
        ties = [_item(filings, name) for name in ITEMS]
        order = np.lexsort((*ties, amended, period, filings.session, source, filings.symbol))
        filings = filings.take(order)
        source = source[order].astype(np.int64)
        changed = (filings.symbol[1:] != filings.symbol[:-1]) | (source[1:] != source[:-1])
        starts = np.concatenate(([0], np.flatnonzero(changed) + 1, [len(filings)])).astype(np.int64)
        return cls(filings, filings.session, period[order], source, tuple(map(str, names)), starts)

    def column(self, item: str) -> Array:
        return _item(self.filings, item)

    def months(self, item: str) -> NDArray[np.int64]:
        """Months that each row's value of the item covers; 0 where that is unknown or the item is a balance."""
        if item in BALANCES:
            return np.full(len(self.session), _ANY_LENGTH, dtype=np.int64)
        kind = "cashflow_months" if item in CASH_FLOWS else "income_months"
        return np.nan_to_num(np.asarray(self.filings.values[kind], dtype=np.float64)).astype(np.int64)

    def timeline(self, moments: NDArray[np.int64], period: NDArray[np.int64]) -> Timeline:
        return Timeline(self.session[moments], self.filings.symbol[moments], self.source[moments], period, self.sources)


def _item(filings: Events, name: str) -> Array:
    if name in OPTIONAL and name not in filings.values:
        return np.full(len(filings), np.nan)
    return np.asarray(filings.values[name], dtype=np.float64)


@compiled
def _find(period, months, values, low, high, target, slack, wanted):
    """Latest known value of the period of `wanted` months that ends nearest to `target`; NaN if none is near."""
    found = np.nan
    nearest = slack
    for row in range(low, high):
        gap = abs(period[row] - target)
        if months[row] == wanted and gap <= nearest and np.isfinite(values[row]):
            nearest = gap
            found = values[row]
    return found


@compiled
def _quarter(period, months, values, low, high, end, slack):
    """The single quarter that ends near `end`."""
    found = _find(period, months, values, low, high, end, slack, 3)
    for total in (6, 9, 12):
        if np.isfinite(found):
            return found
        whole = _find(period, months, values, low, high, end, slack, total)
        # Income: the year less its other quarters, all filed alone. Cash flow: less the year to date before it.
        before = _find(period, months, values, low, high, end - 3 * _DAYS_A_MONTH, _QUARTER_SLACK, total - 3)
        found = whole - before
        if not np.isfinite(found):
            found = whole
            for back in range(1, total // 3):
                found -= _find(period, months, values, low, high, end - 3 * back * _DAYS_A_MONTH, _QUARTER_SLACK, 3)
    return found


@compiled
def _year(period, months, values, low, high, end):
    """The flow over the twelve months that end at `end`."""
    found = _find(period, months, values, low, high, end, _SAME_PERIOD, 12)
    for so_far in (9, 6, 3):
        if np.isfinite(found):
            return found
        to_date = _find(period, months, values, low, high, end, _SAME_PERIOD, so_far)
        full = _find(period, months, values, low, high, end - so_far * _DAYS_A_MONTH, _QUARTER_SLACK, 12)
        earlier = _find(period, months, values, low, high, end - 12 * _DAYS_A_MONTH, _YEAR_SLACK, so_far)
        found = to_date + full - earlier
    if not np.isfinite(found):
        found = _quarter(period, months, values, low, high, end, _SAME_PERIOD)
        for back in range(1, 4):
            found += _quarter(period, months, values, low, high, end - 3 * back * _DAYS_A_MONTH, _QUARTER_SLACK)
    return found


@compiled
def _moments(session, starts):
    """Last row of each source's arrivals in a session."""
    rows = []
    for group in range(len(starts) - 1):
        for row in range(starts[group], starts[group + 1]):
            if row + 1 == starts[group + 1] or session[row + 1] != session[row]:
                rows.append((group, row))
    return rows


@compiled
def _first_visible(session, start, row, window):
    """First row of the group that became known within `window` sessions up to the given row's."""
    while session[start] <= session[row] - window:
        start += 1
    return start


@compiled
def _trailing(session, period, months, values, flows, starts, window):
    """Figures at every moment; the first `flows` columns are flows, the rest balances."""
    rows = _moments(session, starts)
    items = values.shape[1]
    moments = np.empty(len(rows), np.int64)
    newest = np.empty(len(rows), np.int64)
    now = np.full((len(rows), items), np.nan)
    year_ago = np.full((len(rows), items), np.nan)
    for at, (group, row) in enumerate(rows):
        low = _first_visible(session, starts[group], row, window)
        high = row + 1
        moments[at] = row
        newest[at] = period[low:high].max()
        before = newest[at] - 12 * _DAYS_A_MONTH
        anchor = np.nan
        for other in range(low, high):
            gap = abs(period[other] - before)
            if gap <= _YEAR_SLACK and (np.isnan(anchor) or gap < abs(anchor - before)):
                anchor = float(period[other])
        for item in range(items):
            column, length = values[:, item], months[:, item]
            if item < flows:
                now[at, item] = _year(period, length, column, low, high, newest[at])
                year_ago[at, item] = _year(period, length, column, low, high, anchor)
            else:
                now[at, item] = _find(period, length, column, low, high, newest[at], _SAME_PERIOD, _ANY_LENGTH)
                year_ago[at, item] = _find(period, length, column, low, high, anchor, _SAME_PERIOD, _ANY_LENGTH)
    return moments, newest, now, year_ago


@compiled
def _quarters(session, period, months, values, starts, count, window):
    """Single quarters at every moment, newest first."""
    rows = _moments(session, starts)
    moments = np.empty(len(rows), np.int64)
    newest = np.empty(len(rows), np.int64)
    out = np.full((len(rows), count), np.nan)
    for at, (group, row) in enumerate(rows):
        low = _first_visible(session, starts[group], row, window)
        moments[at] = row
        newest[at] = period[low : row + 1].max()
        for back in range(count):
            end = newest[at] - 3 * back * _DAYS_A_MONTH
            slack = _QUARTER_SLACK if back else _SAME_PERIOD
            out[at, back] = _quarter(period, months, values, low, row + 1, end, slack)
    return moments, newest, out
