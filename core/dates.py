"""Dates and moments as users write them, within the years that the project computes with."""

from __future__ import annotations

import datetime

from core.errors import SignalsError

FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2199, 12, 31)
"""Dates that are accepted; lookbacks and horizons around them stay within pandas' nanoseconds (1677 to 2262)."""


def parse_date(text: str) -> datetime.date:
    """A date from YYYY-MM-DD.

    Raises
    ------
    ValueError
        Another form, a day that does not exist, or a date outside `FIRST` to `LAST`; the message says what to write.
    """
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        raise ValueError("write a date as YYYY-MM-DD") from None
    # Python also reads 20170103 and 2017-W01-2, which are as often a slip.
    if day.isoformat() != text:
        raise ValueError("write a date as YYYY-MM-DD")
    return in_range(day)


def in_range(day: datetime.date) -> datetime.date:
    """The date, where it is one that is accepted.

    Raises
    ------
    ValueError
        It is outside `FIRST` to `LAST`.
    """
    if not FIRST <= day <= LAST:
        raise ValueError(f"choose a date from {FIRST} to {LAST}")
    return day


def parse_moment(text: str) -> datetime.datetime:
    """A moment in UTC from YYYY-MM-DD, which means the end of that day, or YYYY-MM-DDTHH:MM:SS with or without offset.

    Raises
    ------
    ValueError
        Another form, or a date outside `FIRST` to `LAST`; the message says what to write.
    """
    day = parse_date(text[:10])
    if len(text) == 10:
        return datetime.datetime.combine(day, datetime.time.max, datetime.UTC)
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("write a date as YYYY-MM-DD, or a moment as YYYY-MM-DDTHH:MM:SS (UTC)") from None
    return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)


def date_option(option: str, text: str, error: type[SignalsError], otherwise: str = "") -> datetime.date:
    """The date of a command-line option.

    Parameters
    ----------
    option : str
        As typed, for the message: `--as-of`.
    text : str
        Its value.
    error : type[SignalsError]
        What to raise; its exit code is the command's.
    otherwise : str, default ""
        What else may be written, for the message.

    Raises
    ------
    SignalsError
        `error`, where the text is not a date that is accepted.
    """
    try:
        return parse_date(text)
    except ValueError as problem:
        raise error(f"{option} {text!r} is not a valid date: {problem}{otherwise}") from None
