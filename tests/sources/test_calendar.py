from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sources import calendar


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
