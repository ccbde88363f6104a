"""Outcomes join only once they are known; ranks agree with a plain slow reading of the same tables."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from core.errors import DataError
from monitoring.realised import daily_rank_ic, is_due, realise

SYMBOLS = np.array(["A", "B", "C", "D", "E"])


def _world(seed, sessions):
    rng = np.random.default_rng(seed)
    dates = np.datetime64("2020-01-01") + np.arange(sessions)
    forward = rng.normal(size=(sessions, len(SYMBOLS)))
    forward[rng.random(forward.shape) < 0.2] = np.nan
    served = [
        (dates[t], name, rng.normal(), 1) for t in range(sessions) for name in [*SYMBOLS, "Z"] if rng.random() < 0.9
    ]
    return dates, forward, pd.DataFrame(served, columns=["date", "symbol", "signal", "version"])


def test_an_outcome_is_due_after_horizon_and_one():
    dates = np.datetime64("2020-01-01") + np.arange(10)
    # Bought at the close of D+1, held five: judged at session 9, session 3 (sold at 9) is the last one due.
    assert np.flatnonzero(is_due(dates, dates[9], 5)).tolist() == [0, 1, 2, 3]
    assert not is_due(dates, dates[5], 5).any()
    with pytest.raises(DataError, match="2021-01-01 is none of the 10 sessions"):
        is_due(dates, np.datetime64("2021-01-01"), 5)


def _slow(rows, dates, forward, at, horizon, min_names):
    """Outcomes row by row, rank IC day by day, with nothing but loops and scipy."""
    place = {day: t for t, day in enumerate(dates.tolist())}
    outcomes, found = [], {}
    for row in rows.itertuples():
        t = place[row.date.date()]
        known = t + horizon + 1 <= at and row.symbol in SYMBOLS.tolist()
        outcomes.append(forward[t, SYMBOLS.tolist().index(row.symbol)] if known else np.nan)
    rows = rows.assign(outcome=outcomes)
    for day, part in rows.groupby("date"):
        part = part.dropna()
        if len(part) >= min_names:
            found[day] = spearmanr(part["signal"], part["outcome"]).statistic
    return np.array(outcomes), found


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(4, 14), st.integers(1, 6), st.integers(0, 13))
def test_equals_the_plain_reading(seed, sessions, horizon, at):
    dates, forward, rows = _world(seed, sessions)
    at = min(at, sessions - 1)
    found = realise(rows, dates, SYMBOLS, forward, dates[at], horizon)
    outcomes, ranks = _slow(rows, dates, forward, at, horizon, min_names=3)
    np.testing.assert_array_equal(found["forward"].to_numpy(), outcomes)
    told = daily_rank_ic(found, {"stack": "signal"}, min_names=3)
    assert told["date"].tolist() == list(ranks)
    np.testing.assert_allclose(told["stack"], list(ranks.values()), atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(6, 14), st.integers(1, 6), st.floats(-9, 9))
def test_what_is_not_known_yet_changes_nothing(seed, sessions, horizon, poison):
    dates, forward, rows = _world(seed, sessions)
    at = sessions // 2
    before = realise(rows, dates, SYMBOLS, forward, dates[at], horizon)
    poisoned = forward.copy()
    poisoned[max(0, at - horizon) :] = poison
    after = realise(rows, dates, SYMBOLS, poisoned, dates[at], horizon)
    pd.testing.assert_frame_equal(before, after)
    # Cut after the judged session, the tables say the same of the sessions that are left.
    cut = rows[rows["date"] <= pd.Timestamp(dates[at])]
    short = realise(cut, dates[: at + 1], SYMBOLS, forward[: at + 1], dates[at], horizon)
    pd.testing.assert_frame_equal(before.loc[cut.index], short)


def test_judging_later_only_adds():
    dates, forward, rows = _world(4, 12)
    earlier = realise(rows, dates, SYMBOLS, forward, dates[7], 3)
    later = realise(rows, dates, SYMBOLS, forward, dates[9], 3)
    known = earlier["forward"].notna()
    assert 0 < known.sum() < later["forward"].notna().sum()
    assert (earlier.loc[known, "forward"] == later.loc[known, "forward"]).all()


def test_a_stranger_has_no_outcome_and_a_strange_day_is_refused():
    dates, forward, rows = _world(4, 12)
    found = realise(rows, dates, SYMBOLS, forward, dates[-1], 2)
    assert found.loc[found["symbol"] == "Z", "forward"].isna().all()
    with pytest.raises(DataError, match="2020-01-12, which is no session"):
        realise(rows, dates[:-1], SYMBOLS, forward[:-1], dates[-2], 2)


def test_order_of_rows_changes_no_rank_ic():
    dates, forward, rows = _world(9, 12)
    columns = {"stack": "signal"}
    first = daily_rank_ic(realise(rows, dates, SYMBOLS, forward, dates[-1], 2), columns, 3)
    shuffled = rows.sample(frac=1, random_state=1)
    second = daily_rank_ic(realise(shuffled, dates, SYMBOLS, forward, dates[-1], 2), columns, 3)
    pd.testing.assert_frame_equal(first, second)
