"""The exchange's sessions, and the session at whose close something may be used."""

from __future__ import annotations

import datetime
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sources.timetable import EXCHANGE, Dates, timetable

_BLOCK_YEARS = 20


@lru_cache(maxsize=16)
def _block(exchange: str, year: int) -> tuple[Dates, Dates]:
    """Sessions and their closing times (UTC) of `_BLOCK_YEARS` years from `year`."""
    days, closes = timetable(exchange, year, year + _BLOCK_YEARS - 1)
    days.flags.writeable = closes.flags.writeable = False
    return days, closes


def _schedule(exchange: str, first: np.datetime64, last: np.datetime64) -> tuple[Dates, Dates]:
    """Sessions and closing times that cover `[first, last]` and at least two weeks after it."""
    start = _year(first)
    stop = _year(last.astype("datetime64[D]") + np.timedelta64(14, "D"))
    blocks = [_block(exchange, year) for year in range(start - start % _BLOCK_YEARS, stop + 1, _BLOCK_YEARS)]
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
    first, last = (pd.Timestamp(day).to_datetime64().astype("datetime64[D]") for day in (start, end))
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
