"""A feed that stopped is told from one that is only quiet."""

from __future__ import annotations

import numpy as np
import pytest

from features.feeds import LEAST, silences, stopped
from features.panel import Events, Panel

LENGTH = 300


def panel(*sessions: int, length: int = LENGTH) -> Panel:
    """A panel of two symbols with filings in the given sessions."""
    shape = (length, 2)
    filings = Events(np.array(sessions, dtype=np.int64), np.zeros(len(sessions), dtype=np.int64), {})
    return Panel(
        dates=np.datetime64("2012-01-02") + np.arange(length),
        symbols=np.array(["A", "B"]),
        fields={"close": np.ones(shape)},
        universe=np.ones(shape, dtype=bool),
        sector=np.zeros(2, dtype=np.int64),
        events={"filings": filings},
    )


def test_the_longest_silence_and_the_one_that_goes_on() -> None:
    assert silences(panel(0, 100, 103, 103, 120, 290))["filings"] == {"longest": 169, "current": 9}
    assert silences(panel())["filings"] == {"longest": 0, "current": LENGTH}
    # What lies more than a year back says nothing about today.
    assert silences(panel(0, 10, *range(60, 300)))["filings"] == {"longest": 0, "current": 0}


@pytest.mark.parametrize(("last", "limit"), [(277, None), (276, 22), (150, 22)])
def test_a_feed_has_stopped_after_twice_the_usual_silence(last: int, limit: int | None) -> None:
    usual = silences(panel(*range(60, 300, 12)))
    assert usual["filings"] == {"longest": 11, "current": 11}
    days = list(range(0, last, 12))
    found = stopped(usual, panel(*days, last))
    assert found == ({} if limit is None else {"filings": limit})


def test_a_few_days_of_silence_are_never_too_long() -> None:
    usual = silences(panel(*range(LENGTH)))
    assert stopped(usual, panel(*range(LENGTH - LEAST))) == {}
    assert stopped(usual, panel(*range(LENGTH - LEAST - 1))) == {"filings": LEAST}


def test_nothing_at_all_is_silence() -> None:
    assert stopped(silences(panel(*range(LENGTH))), panel(length=20)) == {"filings": LEAST}


def test_a_feed_that_was_dead_in_training_is_not_asked_for() -> None:
    dead = silences(panel(*range(100)))
    assert dead["filings"]["current"] == 200
    assert stopped(dead, panel()) == {}
