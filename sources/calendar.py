"""The exchange's sessions, and the session at whose close something may be used.

What `exchange_calendars` does not know can be declared: days on which the exchange was closed or open against its
table (params.yaml: `data.closings`, `data.openings`). A declaration holds for the process, as the exchange does, so
that no question about sessions can miss it; it is made where params.yaml is read.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from core.errors import ConfigError, DataError
from sources.timetable import EXCHANGE, FIRST, LAST, Dates, timetable

_BLOCK_YEARS = 20
_FIRST_YEAR, _LAST_YEAR = 1700, 2259
"""Complete blocks within pandas' nanoseconds, which the library needs."""
_USUAL_CLOSE = datetime.time(16, tzinfo=ZoneInfo("America/New_York"))

Days = tuple[datetime.date, ...]
_declared: tuple[Days, Days] = (), ()


def declare(closings: Sequence[datetime.date] = (), openings: Sequence[datetime.date] = ()) -> None:
    """Declare days on which the exchange was closed or open against the calendar; replaces what was declared before.

    Parameters
    ----------
    closings
        Sessions of the calendar on which the exchange did not open.
    openings
        Days that the calendar calls closed and on which it did; they close at the usual time.

    Raises
    ------
    ConfigError
        A closing is not a session of the calendar, or an opening is one.
    """
    global _declared
    for name, days in (("closings", closings), ("openings", openings)):
        for day in days:
            if not FIRST <= day.year <= LAST:
                raise ConfigError(f"data.{name}: {day} lies outside the years {FIRST} to {LAST}: correct the date")
            known, _ = _block(EXCHANGE, day.year - day.year % _BLOCK_YEARS, ((), ()))
            if (np.datetime64(day) in known) == (name == "openings"):
                raise ConfigError(
                    f"data.{name}: {day} is {'' if name == 'openings' else 'not '}a session of {EXCHANGE} in "
                    f"exchange_calendars {version('exchange_calendars')} already: correct or remove the date"
                )
    _declared = tuple(sorted(set(closings))), tuple(sorted(set(openings)))


@lru_cache(maxsize=16)
def _block(exchange: str, year: int, declared: tuple[Days, Days]) -> tuple[Dates, Dates]:
    """Sessions and their closing times (UTC) of `_BLOCK_YEARS` years from `year`."""
    days, closes = timetable(exchange, year, year + _BLOCK_YEARS - 1)
    if exchange == EXCHANGE and any(declared):
        days, closes = _amended(days, closes, year, declared)
    days.flags.writeable = closes.flags.writeable = False
    return days, closes


def _amended(days: Dates, closes: Dates, year: int, declared: tuple[Days, Days]) -> tuple[Dates, Dates]:
    """A block without the declared closings and with the declared openings."""
    kept = ~np.isin(days, np.array(declared[0], "datetime64[D]"))
    opened = [day for day in declared[1] if year <= day.year < year + _BLOCK_YEARS]
    ends = [
        datetime.datetime.combine(day, _USUAL_CLOSE).astimezone(datetime.UTC).replace(tzinfo=None) for day in opened
    ]
    days = np.concatenate([days[kept], np.array(opened, "datetime64[D]")])
    closes = np.concatenate([closes[kept], np.array(ends, "datetime64[us]")])
    order = np.argsort(days)
    return days[order], closes[order]


def _schedule(exchange: str, first: np.datetime64, last: np.datetime64) -> tuple[Dates, Dates]:
    """Sessions and closing times that cover `[first, last]` and at least two weeks after it."""
    start = _year(first)
    stop = _year(last.astype("datetime64[D]") + np.timedelta64(14, "D"))
    if start < _FIRST_YEAR or stop > _LAST_YEAR:
        raise DataError(
            f"the exchange's calendar covers the years {_FIRST_YEAR} to {_LAST_YEAR}, not "
            f"{first.astype('datetime64[D]')} to {last.astype('datetime64[D]')}: correct the dates"
        )
    years = range(start - start % _BLOCK_YEARS, stop + 1, _BLOCK_YEARS)
    blocks = [_block(exchange, year, _declared) for year in years]
    return np.concatenate([block[0] for block in blocks]), np.concatenate([block[1] for block in blocks])


def _year(moment: np.datetime64) -> int:
    return int(moment.astype("datetime64[Y]").astype(np.int64)) + 1970


def sessions(
    start: datetime.date | np.datetime64 | str, end: datetime.date | np.datetime64 | str, exchange: str = EXCHANGE
) -> Dates:
    """Trading sessions in `[start, end]`, ascending.

    Returns
    -------
    `(T,)` datetime64[D]
    """
    first, last = np.array([start, end], "datetime64").astype("datetime64[D]")
    if last < first:
        return np.empty(0, "datetime64[D]")
    days, _ = _schedule(exchange, first, last)
    low, high = np.searchsorted(days, first), np.searchsorted(days, last, side="right")
    return days[low:high]


def sessions_until(day: np.datetime64, count: int, exchange: str = EXCHANGE) -> Dates:
    """The last `count` trading sessions on or before a day, ascending.

    Returns
    -------
    `(count,)` datetime64[D]
    """
    # A year has 252 sessions in 365 days, 1.45 days per session; a month more covers holidays and most closings.
    span = count * 3 // 2 + 30
    while len(found := sessions(day - np.timedelta64(span, "D"), day, exchange)) < count:
        span *= 2
    return found[len(found) - count :]


def last_completed(now: datetime.datetime, exchange: str = EXCHANGE) -> np.datetime64:
    """Last session whose close lies at or before a moment.

    Parameters
    ----------
    now
        Moment with its time zone.
    """
    moment = np.datetime64(now.astimezone(datetime.UTC).replace(tzinfo=None), "us")
    days, closes = _schedule(exchange, moment - np.timedelta64(14, "D"), moment)
    return days[np.searchsorted(closes, moment, side="right") - 1]


def session_of_date(dates: ArrayLike | pd.Series, exchange: str = EXCHANGE) -> Dates:
    """First session on or after each date: what is available before the open of A is used at its close.

    Parameters
    ----------
    dates
        Dates (naive); NaT stays NaT.
    """
    return _first_at_or_after(np.asarray(dates).astype("datetime64[D]"), exchange, by_close=False)


def session_of_time(timestamps: ArrayLike | pd.Series, exchange: str = EXCHANGE) -> Dates:
    """First session whose closing time is at or after each moment.

    Half days and daylight saving time count: the closing time is the exchange's own. What happens
    exactly at the close still belongs to that session.

    Parameters
    ----------
    timestamps
        Moments in UTC (zoned, or naive and meant as UTC); NaT stays NaT.
    """
    if isinstance(timestamps, pd.Series) and isinstance(timestamps.dtype, pd.DatetimeTZDtype):
        timestamps = timestamps.dt.tz_convert(None)
    elif isinstance(timestamps, pd.DatetimeIndex) and timestamps.tz is not None:
        timestamps = timestamps.tz_convert(None)
    return _first_at_or_after(np.asarray(timestamps).astype("datetime64[us]"), exchange, by_close=True)


def _first_at_or_after(moments: Dates, exchange: str, by_close: bool) -> Dates:
    out = np.full(moments.shape, np.datetime64("NaT"), "datetime64[D]")
    known = ~np.isnat(moments)
    if known.any():
        asked = moments[known]
        days, closes = _schedule(exchange, asked.min(), asked.max())
        out[known] = days[np.searchsorted(closes if by_close else days, asked)]
    return out
