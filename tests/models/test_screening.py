"""A screen of single features says what can be worked out by hand, and looks at no outcome of the holdout."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri

from models.scoring import rank_ic
from models.screening import (
    CORRELATION_EVERY,
    Screen,
    benjamini_hochberg_t,
    bonferroni_t,
    coverage_by_year,
    ic_by_year,
    nearest,
    screen,
    summarise,
    timing_of,
)

T, N, HORIZON, HOLDOUT = 620, 40, 5, 560
DATES = pd.bdate_range("2012-01-02", periods=T).to_numpy("datetime64[D]")


def _world(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Universe with gaps, an outcome with gaps, the market's return."""
    rng = np.random.default_rng(seed)
    universe = rng.random((T, N)) < 0.9
    outcome = rng.normal(size=(T, N))
    outcome[rng.random((T, N)) < 0.02] = np.nan
    outcome[-HORIZON - 1 :] = np.nan
    return universe, outcome, rng.normal(size=T)


def _features(outcome: np.ndarray, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    gappy = rng.normal(size=(T, N))
    gappy[rng.random((T, N)) < 0.2] = np.nan
    # Until its feed begins there is no value at all.
    gappy[:100] = np.nan
    return {
        "label": outcome,
        "against": -np.exp(outcome),
        "noise": rng.normal(size=(T, N)),
        "gappy": gappy,
        "ties": rng.integers(0, 4, (T, N)).astype(float),
        "fixed": np.repeat(rng.normal(size=N)[None], T, axis=0),
        "wide": np.repeat(np.cumsum(rng.normal(size=T))[:, None], N, axis=1),
        "absent": np.full((T, N), np.nan),
    }


def _screen(universe: np.ndarray, outcome: np.ndarray, market: np.ndarray, features: dict, **changes: int) -> Screen:
    options = {"horizon": HORIZON, "holdout_start": HOLDOUT, **changes}
    return screen(list(features.values()), DATES, universe, outcome, market, **options)


@pytest.fixture(scope="module")
def features() -> dict[str, np.ndarray]:
    return _features(_world()[1])


@pytest.fixture(scope="module")
def found(features: dict[str, np.ndarray]) -> Screen:
    return _screen(*_world(), features)


@pytest.fixture(scope="module")
def summary(found: Screen, features: dict[str, np.ndarray]) -> pd.DataFrame:
    return summarise(found).set_index(pd.Index(features))


def test_the_outcome_itself_is_perfect_in_every_year(found, summary):
    years = ic_by_year(found)
    assert years.columns.tolist() == [2012, 2013, 2014]
    np.testing.assert_allclose(years.loc[0], 1.0, atol=1e-12)
    np.testing.assert_allclose(years.loc[1], -1.0, atol=1e-12)
    assert summary.loc["label", "ic"] == pytest.approx(1.0)
    assert summary.loc["label", "days"] == HOLDOUT - HORIZON


def test_what_does_not_tell_names_apart_has_no_rank_ic(found, summary):
    assert summary["market_wide"].tolist() == [name == "wide" for name in summary.index]
    for name in ("wide", "absent"):
        assert np.isnan(summary.loc[name, ["ic", "turnover"]].astype(float)).all()
    assert np.isfinite(summary.loc["wide", ["timing", "t"]].astype(float)).all()
    assert summary.loc["absent", ["coverage", "days"]].tolist() == [0, 0]
    assert np.isnan(ic_by_year(found).loc[6]).all()


def test_turnover_is_none_for_a_fixed_order_and_whole_for_noise(summary):
    assert summary.loc["fixed", "turnover"] == 0.0
    assert summary.loc["noise", "turnover"] == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_noise_stays_noise(seed):
    universe, outcome, market = _world(seed)
    rng = np.random.default_rng(100 + seed)
    t = summarise(_screen(universe, outcome, market, {i: rng.normal(size=(T, N)) for i in range(20)}))["t"]
    assert t.abs().max() < 4
    assert t.std() == pytest.approx(1.0, abs=0.5)


def test_daily_figures_agree_with_pandas(found, features):
    universe, outcome, _ = _world()
    session, symbol = np.nonzero(universe)
    judged = session <= HOLDOUT - HORIZON - 1
    for row, (name, values) in enumerate(features.items()):
        rows = judged & np.isfinite(values[session, symbol])
        expected = rank_ic(values[session, symbol][rows], outcome[session, symbol][rows], session[rows])
        daily = pd.Series(found.ic[row]).dropna()
        np.testing.assert_array_equal(daily.index, expected.index, err_msg=name)
        np.testing.assert_allclose(daily, expected, atol=1e-12, err_msg=name)
        shown = pd.DataFrame(np.where(universe, values, np.nan))
        for t in (1, 63, 64, 300, T - 1):
            pair = shown.iloc[[t - 1, t]].T.dropna()
            slow = pair.corr("spearman").iloc[0, 1] if len(pair) >= 20 else np.nan
            np.testing.assert_allclose(found.persistence[row, t], slow, atol=1e-12, err_msg=name)


def test_correlations_agree_with_pandas(found, features):
    universe, _, _ = _world()
    total, count = 0.0, 0
    for t in range(0, T, CORRELATION_EVERY):
        frame = pd.DataFrame({name: np.where(universe[t], values[t], np.nan) for name, values in features.items()})
        slow = frame.rank(pct=True).corr(min_periods=20)
        total, count = total + slow.fillna(0), count + slow.notna()
    expected = (total / count.where(count > 0)).to_numpy()
    np.testing.assert_allclose(found.correlation, expected, atol=2e-5)
    assert nearest(found.correlation, 2)[0][0] == (1, pytest.approx(-1.0, abs=1e-5))
    assert nearest(found.correlation, 2)[6] == []


def test_coverage_counts_rows_of_the_universe(found, features, summary):
    universe, _, _ = _world()
    known = np.isfinite(features["gappy"]) & universe
    assert summary.loc["gappy", "coverage"] == pytest.approx(known.sum() / universe.sum())
    first = np.datetime64("2013-01-01") > DATES
    assert coverage_by_year(found).loc[3, 2012] == pytest.approx(known[first].sum() / universe[first].sum())


def test_no_outcome_that_reaches_into_the_holdout_is_looked_at(found, features):
    universe, outcome, market = _world()
    # The outcome of this session ends with the close at which the holdout begins.
    last = HOLDOUT - HORIZON - 1
    outcome[last + 1 :], market[last + 1 :] = 1e6, -1e6
    again = _screen(universe, outcome, market, {**features})
    for name in ("ic", "market", "persistence"):
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))
    pd.testing.assert_frame_equal(summarise(found), summarise(again))
    assert np.isnan(found.ic[:, last + 1 :]).all()
    assert np.isfinite(found.ic[0, last])


def test_without_a_holdout_every_known_outcome_counts(features):
    everything = _screen(*_world(), features, holdout_start=T)
    assert summarise(everything)["days"].iloc[0] == T - HORIZON - 1


def test_the_order_of_the_symbols_does_not_matter(found, features):
    universe, outcome, market = _world()
    order = np.random.default_rng(3).permutation(N)
    turned = _screen(universe[:, order], outcome[:, order], market, {k: v[:, order] for k, v in features.items()})
    pd.testing.assert_frame_equal(summarise(found), summarise(turned))
    np.testing.assert_array_equal(found.ic, turned.ic)
    np.testing.assert_allclose(found.correlation, turned.correlation, atol=1e-5)


def test_timing():
    rng = np.random.default_rng(0)
    market = rng.normal(size=T)
    correlation, t, days = timing_of(np.where(np.arange(T) < 50, np.nan, market**3), market, HORIZON)
    assert (correlation, days) == (pytest.approx(1.0), T - 50)
    assert t > 10
    assert np.isnan(timing_of(np.ones(T), market, HORIZON)[0])


def test_thresholds():
    assert bonferroni_t(1) == pytest.approx(1.96, abs=0.001)
    assert bonferroni_t(100) == pytest.approx(3.481, abs=0.001)
    # Benjamini and Hochberg (1995), section 4: of 15 p-values four are rejected at 5 %.
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.324,
        0.4262,
        0.5719,
        0.6528,
        0.759,
        1,
    ]
    t = -ndtri(np.array(p) / 2)
    assert benjamini_hochberg_t(t) == pytest.approx(t[3])
    assert benjamini_hochberg_t([0.1, np.nan, -0.2]) == np.inf
    assert benjamini_hochberg_t([]) == np.inf
