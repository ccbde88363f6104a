import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from core.errors import DataError
from models.scoring import (
    decile_means,
    decile_spread,
    default_lags,
    ic,
    icir,
    newey_west_t,
    rank_ic,
    rank_ic_by,
    score,
)

SERIES = 0.02 + 0.05 * np.sin(np.arange(1, 101) ** 1.3 / 7)


@pytest.mark.parametrize(("lags", "expected"), [(0, 6.088773), (5, 4.148039), (9, 6.698613)])
def test_newey_west(lags, expected):
    assert newey_west_t(SERIES, lags) == pytest.approx(expected, abs=1e-6)


def test_icir():
    assert SERIES.mean() == pytest.approx(0.021393, abs=1e-6)
    assert icir(SERIES) == pytest.approx(0.605825, abs=1e-6)
    assert np.isnan(icir([0.1]))
    assert np.isnan(newey_west_t([0.1, 0.1], 2))


def test_lags_cover_the_overlap():
    assert default_lags(100, 5) == 5
    assert default_lags(100, 1) == 4
    assert default_lags(0, 3) == 3


def _planted(rho, names, days, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=names * days)
    y = rho * z + np.sqrt(1 - rho**2) * rng.normal(size=names * days)
    return z, y, np.repeat(np.arange(days), names), np.tile(np.arange(names), days)


def test_planted_signal():
    z, y, session, _ = _planted(0.03, 200, 1000)
    series = ic(z, y, session)
    assert icir(series) == pytest.approx(0.423, abs=0.1)
    assert newey_west_t(series, 0) == pytest.approx(13.4, abs=3.6)
    assert series.std() == pytest.approx(1 / np.sqrt(199), rel=0.1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_rank_ic_equals_scipy(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(5, 60, 12)
    session = np.repeat(np.arange(12) * 3, sizes)
    pred = rng.integers(0, 12, len(session)).astype(float)
    outcome = np.round(rng.normal(size=len(session)), 1)
    pred[rng.random(len(session)) < 0.1] = np.nan
    outcome[rng.random(len(session)) < 0.1] = np.nan
    shuffle = rng.permutation(len(session))
    got = rank_ic(pred[shuffle], outcome[shuffle], session[shuffle], min_names=10)
    expected = {}
    for s in np.unique(session):
        rows = (session == s) & np.isfinite(pred) & np.isfinite(outcome)
        if rows.sum() >= 10:
            expected[s] = spearmanr(pred[rows], outcome[rows]).statistic
    pd.testing.assert_series_equal(got, pd.Series(expected), check_names=False, check_index_type=False)


def test_days_that_cannot_be_judged_are_left_out():
    session = np.repeat([0, 1, 2], [30, 10, 30])
    pred, outcome = np.arange(70.0), np.arange(70.0)
    pred[40:] = 1.0
    assert rank_ic(pred, outcome, session).to_dict() == {0: 1.0}
    assert len(rank_ic([], [], [])) == 0
    assert score([], [], [], horizon=5)["days"] == 0


def test_rows_of_different_length_are_refused():
    with pytest.raises(DataError, match="rows differ in length"):
        rank_ic([1.0, 2.0], [1.0], [0, 0])


def test_rank_ic_by_group():
    z, y, session, symbol = _planted(0.5, 60, 20)
    group = np.where(symbol < 30, "tech", "energy")
    table = rank_ic_by(z, y, session, group)
    assert list(table.columns) == ["energy", "tech"]
    rows = group == "tech"
    np.testing.assert_allclose(table["tech"], rank_ic(z[rows], y[rows], session[rows]))


def _slow_spread(pred, forward, session, symbol, horizon, cost):
    """One tranche a day, names looked up one by one."""
    frame = pd.DataFrame({"pred": pred, "forward": forward, "session": session, "symbol": symbol}).dropna()
    books, out = [], {}
    for s, day in frame.groupby("session"):
        ordered = day.sort_values("pred")
        k = len(ordered) // 10
        book = dict.fromkeys(ordered["symbol"].tail(k), 1 / k) | dict.fromkeys(ordered["symbol"].head(k), -1 / k)
        gross = sum(book[n] * r for n, r in zip(day["symbol"], day["forward"], strict=True) if n in book)
        before = books[-horizon] if len(books) >= horizon else {}
        traded = sum(abs(book.get(n, 0) - before.get(n, 0)) for n in set(book) | set(before))
        out[s] = (gross - traded * cost / 1e4) / horizon
        books.append(book)
    return pd.Series(out)


def test_decile_spread_equals_a_slow_book():
    z, y, session, symbol = _planted(0.1, 50, 40)
    y = y * 0.02
    got = decile_spread(z, y, session, horizon=5, cost_bps=12.0, symbol=symbol)
    np.testing.assert_allclose(got, _slow_spread(z, y, session, symbol, 5, 12.0), atol=1e-15)
    full = decile_spread(z, y, session, horizon=5, cost_bps=12.0)
    gross = decile_spread(z, y, session, horizon=5, cost_bps=0.0)
    np.testing.assert_allclose(gross - full, 4 * 12e-4 / 5)
    assert (got >= full - 1e-15).all()


def test_constant_prediction_holds_nothing():
    spread = decile_spread(np.ones(60), np.arange(60.0), np.repeat([0, 1], 30), horizon=5, symbol=np.tile(range(30), 2))
    assert (spread == 0).all()


def test_decile_means_are_the_mean_of_days():
    pred = np.concatenate([np.arange(20.0), np.arange(40.0)[::-1]])
    outcome = np.concatenate([np.arange(20.0), np.arange(40.0)])
    got = decile_means(pred, outcome, np.repeat([0, 1], [20, 40]))
    np.testing.assert_allclose(got, [((2 * d + 0.5) + (37.5 - 4 * d)) / 2 for d in range(10)])


def test_score_of_a_perfect_prediction():
    _, y, session, symbol = _planted(0.0, 40, 30)
    got = score(y, y, session, horizon=5, symbol=symbol)
    assert got["rank_ic"] == pytest.approx(1.0)
    assert got["hit_rate"] == 1.0
    assert (got["days"], got["rows"]) == (30, 1200)


@pytest.mark.slow
def test_a_million_rows_take_less_than_a_second():
    z, y, session, _ = _planted(0.03, 400, 2500)
    rank_ic(z[:4000], y[:4000], session[:4000])
    start = time.process_time()
    rank_ic(z, y, session)
    assert time.process_time() - start < 1.0
