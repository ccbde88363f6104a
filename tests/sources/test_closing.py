"""Until when a session is the latest one."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from sources.calendar import last_completed
from sources.closing import superseded


@pytest.mark.parametrize(
    ("session", "close"),
    [
        ("2016-12-30", "2017-01-03T21:00"),  # New Year's Day was kept on Monday
        ("2016-11-23", "2016-11-25T18:00"),  # Thanksgiving, then a half day
        ("2016-03-11", "2016-03-14T20:00"),  # daylight saving time began on Sunday
        ("2016-12-25", "2016-12-27T21:00"),  # no session itself
    ],
)
def test_a_session_ends_being_the_latest_with_the_next_close(session: str, close: str) -> None:
    moment = superseded(np.datetime64(session))
    assert moment == datetime.datetime.fromisoformat(close).replace(tzinfo=datetime.UTC)
    before = last_completed(moment - datetime.timedelta(seconds=1))
    assert before < last_completed(moment)
    assert before <= np.datetime64(session)
