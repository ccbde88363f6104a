from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, SessionError
from sources import calendar
from sources.base import last_session
from sources.closing import superseded


def days(*texts: str) -> np.ndarray:
    return np.array(texts, dtype="datetime64[D]")


def test_sessions_of_the_bundle_are_3335() -> None:
    found = calendar.sessions(datetime.date(2004, 1, 2), np.datetime64("2017-03-31"))
    assert len(found) == 3335
    assert found.dtype == np.dtype("datetime64[D]")
    assert found[0] == np.datetime64("2004-01-02")
    assert found[-1] == np.datetime64("2017-03-31")


def test_sessions_skip_holidays_and_special_closures() -> None:
    assert np.array_equal(calendar.sessions("2012-10-26", "2012-10-31"), days("2012-10-26", "2012-10-31"))
    assert len(calendar.sessions("2014-07-04", "2014-07-06")) == 0
    assert len(calendar.sessions("2014-07-08", "2014-07-07")) == 0


def test_sessions_cross_a_block() -> None:
    found = calendar.sessions("2019-12-30", "2020-01-03")
    assert np.array_equal(found, days("2019-12-30", "2019-12-31", "2020-01-02", "2020-01-03"))


@pytest.mark.parametrize(
    ("moment", "session"),
    [
        ("2014-07-01T20:00:00", "2014-07-01"),  # summer time: the close is 20:00 UTC
        ("2014-07-01T20:00:01", "2014-07-02"),
        ("2014-01-02T21:00:00", "2014-01-02"),  # winter time: 21:00 UTC
        ("2014-01-02T21:00:01", "2014-01-03"),
        ("2014-03-07T21:00:00", "2014-03-07"),  # the last session before summer time
        ("2014-03-10T20:00:01", "2014-03-11"),  # the first one in it
        ("2014-11-28T18:00:00", "2014-11-28"),  # half day: 13:00 New York
        ("2014-11-28T18:00:01", "2014-12-01"),
        ("2014-07-04T12:00:00", "2014-07-07"),  # a holiday before a weekend
    ],
)
def test_session_of_time_at_the_close(moment: str, session: str) -> None:
    zoned = pd.Series([pd.Timestamp(moment, tz="UTC")])
    assert calendar.session_of_time(zoned)[0] == np.datetime64(session)
    assert calendar.session_of_time(zoned.dt.tz_convert("Asia/Tokyo"))[0] == np.datetime64(session)
    assert calendar.session_of_time(np.array([moment], "datetime64[us]"))[0] == np.datetime64(session)


def test_session_of_date_and_nat() -> None:
    found = calendar.session_of_date(days("2014-07-03", "2014-07-04", "NaT"))
    assert found[0] == np.datetime64("2014-07-03")
    assert found[1] == np.datetime64("2014-07-07")
    assert np.isnat(found[2])
    assert np.isnat(calendar.session_of_date(days("NaT"))).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 5000))
def test_session_of_date_is_the_first_at_or_after(offset: int) -> None:
    asked = np.datetime64("2004-01-01") + offset
    found = calendar.session_of_date(np.array([asked]))[0]
    assert found >= asked
    assert np.array_equal(calendar.sessions(asked, found), np.array([found]))


@pytest.mark.parametrize(
    ("moment", "session"),
    [
        ("2017-03-27T19:59:59+00:00", "2017-03-24"),
        ("2017-03-27T20:00:00+00:00", "2017-03-27"),
        ("2017-03-28T00:30:00+00:00", "2017-03-27"),
        ("2017-03-27T15:00:00-05:00", "2017-03-27"),
        ("2017-03-26T12:00:00+00:00", "2017-03-24"),
        ("2016-11-25T18:00:00+00:00", "2016-11-25"),  # a half day: the close is 18:00 UTC
    ],
)
def test_the_last_completed_session_ends_with_its_close(moment: str, session: str) -> None:
    assert calendar.last_completed(datetime.datetime.fromisoformat(moment)) == np.datetime64(session)


@pytest.fixture
def declared():
    """Declares for one test."""
    yield calendar.declare
    calendar.declare()


def test_declarations_take_part_wherever_sessions_are_asked_for(declared) -> None:
    closing, opening = datetime.date(2017, 12, 18), datetime.date(2017, 12, 25)
    declared([closing], [opening])
    found = calendar.sessions("2017-12-15", "2017-12-26")
    expected = ["2017-12-15", *(f"2017-12-{day}" for day in (19, 20, 21, 22, 25, 26))]
    assert np.array_equal(found, days(*expected))
    assert np.array_equal(calendar.session_of_date(days("2017-12-16", "2017-12-23")), days("2017-12-19", "2017-12-25"))
    moments = np.array(["2017-12-18T12:00", "2017-12-25T21:00", "2017-12-25T21:01"], "datetime64[us]")
    assert np.array_equal(calendar.session_of_time(moments), days("2017-12-19", "2017-12-25", "2017-12-26"))
    evening = datetime.datetime(2017, 12, 18, 23, tzinfo=datetime.UTC)
    assert calendar.last_completed(evening) == np.datetime64("2017-12-15")
    assert superseded(np.datetime64("2017-12-22")) == datetime.datetime(2017, 12, 25, 21, tzinfo=datetime.UTC)
    declared()
    assert np.datetime64(closing) in calendar.sessions(closing, closing)


@pytest.mark.parametrize(
    ("closings", "openings", "words"),
    [
        (["2017-12-25"], [], "data.closings: 2017-12-25 is not a session"),
        ([], ["2017-12-18"], "data.openings: 2017-12-18 is a session"),
        (["1989-01-03"], [], "data.closings: 1989-01-03 lies outside the years"),
        ([], ["2040-01-01"], "data.openings: 2040-01-01 lies outside the years"),
    ],
)
def test_an_impossible_declaration_is_refused(declared, closings: list[str], openings: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        declared(*([datetime.date.fromisoformat(day) for day in named] for named in (closings, openings)))
    assert len(calendar.sessions("2017-12-18", "2017-12-26")) == 6


class Prices:
    """A source that has prices of one symbol on the given days."""

    def __init__(self, *dates: str) -> None:
        self.dates = days(*dates)

    def last_day(self) -> np.datetime64:
        return self.dates.max()

    def read(self, table: str) -> pd.DataFrame:
        return pd.DataFrame({"date": self.dates.astype("datetime64[ms]")})


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (["2017-12-28", "2017-12-29"], "2017-12-29"),
        (["2017-12-29", "2017-12-30"], "2017-12-29"),  # a Saturday
        (["2017-12-22", "2017-12-25"], "2017-12-22"),  # Christmas
        (["2017-12-28", "2017-12-30", "2017-12-31"], "2017-12-28"),  # whose Friday is missing
    ],
)
def test_the_latest_session_of_the_data_is_a_session_with_prices(dates: list[str], expected: str) -> None:
    assert last_session(Prices(*dates)) == np.datetime64(expected)


def test_data_without_a_session_has_no_latest(declared) -> None:
    with pytest.raises(SessionError, match="no price up to 2017-12-25"):
        last_session(Prices("2017-12-25"))
    declared([], [datetime.date(2017, 12, 25)])
    assert last_session(Prices("2017-12-25")) == np.datetime64("2017-12-25")
