"""Behavioural features: the papers' check values, closed forms, naive oracles, what a value may depend on."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError
from core.params import parse
from features import kernels as k
from features.biases import TYPICAL_TURNOVER, gains_overhang, reference_price, salience_value, weighted_fall
from features.families.behaviour import BehaviourParams, behaviour
from features.families.market import market
from features.herding import (
    absolute_deviation,
    correlation_below,
    deviation_curvature,
    expected_imbalance,
    herding_measure,
    others_mean,
)
from features.invariance import prove, require, spread_cuts
from features.panel import Events, Panel
from features.perturb import permute

FEATURES = {feature.name: feature for feature in behaviour.build()}
RNG = np.random.default_rng(5)


def make(close, volume=None, sector=None, events=None, series=None, **fields) -> Panel:
    close = np.asarray(close, dtype=float)
    rows, columns = close.shape
    base = dict.fromkeys(("open", "high", "low", "close"), close)
    return Panel(
        dates=np.datetime64("2014-01-01") + np.arange(rows),
        symbols=np.array([f"S{i}" for i in range(columns)]),
        fields={**base, "volume": np.ones(close.shape) if volume is None else np.asarray(volume, float), **fields},
        universe=np.ones(close.shape, dtype=bool),
        sector=np.zeros(columns, dtype=np.int64) if sector is None else np.asarray(sector),
        events=events or {},
        series=series or {},
    )


def path(returns, start: float = 100.0) -> np.ndarray:
    """`(T + 1, N)` closes with the given returns."""
    return start * np.cumprod(np.vstack([np.ones((1, returns.shape[1])), 1.0 + returns]), axis=0)


def column(values) -> np.ndarray:
    return np.asarray(values, dtype=float)[:, None]


# --- CSAD ----------------------------------------------------------------------------------------------------

BETAS = np.array([0.5, 1.0, 1.5])


def test_deviation_of_three_betas():
    market_move = np.array([-0.02, 0.03])
    deviation = absolute_deviation(np.outer(market_move, BETAS), market_move, np.ones((2, 3), dtype=bool))
    np.testing.assert_allclose(deviation, [0.0066667, 0.01], atol=5e-8)


def test_deviation_in_step_with_the_market_does_not_bend():
    move = RNG.normal(0, 0.01, 121)
    g2, t = deviation_curvature(np.abs(move) / 3, move, 120, 96, 4)
    assert g2[-1] == pytest.approx(0.0, abs=1e-10)
    assert np.isnan(t[-1])
    panel = make(path(np.outer(move, BETAS)))
    np.testing.assert_allclose(FEATURES["market_herding"](panel)[-1], 0.0, atol=1e-9)


def planted(sessions: int = 120):
    t = np.arange(1, sessions + 1)
    move = 0.01 * np.sin(t**1.3 / 7) + 0.004 * np.cos(1.7 * t)
    return 0.008 + 0.5 * np.abs(move) - 6 * move**2 + 0.0008 * np.sin(t**1.5), move


def test_bend_equals_statsmodels():
    deviation, move = planted()
    g2, t = deviation_curvature(deviation, move, 120, 96, 4)
    # OLS(...).fit(cov_type="HAC", cov_kwds={"maxlags": 4, "use_correction": False}) of statsmodels 0.15.
    assert g2[-1] == pytest.approx(-10.7664798, rel=1e-8)
    assert t[-1] == pytest.approx(-3.28896469, rel=1e-8)
    assert np.isnan(g2[:95]).all()


@pytest.mark.parametrize("lags", [0, 4, 9])
def test_bend_equals_matrices(lags):
    deviation, move = planted(150)
    deviation[[100, 130]] = np.nan
    move[111] = np.nan
    g2, t = deviation_curvature(deviation, move, 120, 96, lags)
    known = np.flatnonzero(np.isfinite(deviation) & np.isfinite(move))
    known = known[known > 149 - 120]
    X = np.column_stack([np.ones(len(known)), np.abs(move[known]), move[known] ** 2])
    inverse = np.linalg.inv(X.T @ X)
    slopes = inverse @ X.T @ deviation[known]
    scores = X * (deviation[known] - X @ slopes)[:, None]
    variance = scores.T @ scores
    for lag in range(1, lags + 1):
        cross = scores[lag:].T @ scores[:-lag]
        variance += (1 - lag / (lags + 1)) * (cross + cross.T)
    assert g2[-1] == pytest.approx(slopes[2], rel=1e-8)
    assert t[-1] == pytest.approx(slopes[2] / math.sqrt((inverse @ variance @ inverse)[2, 2]), rel=1e-8)


def test_moves_of_one_size_show_no_bend():
    move = 0.01 * np.where(np.arange(120) % 2, 1.0, -1.0)
    assert np.isnan(deviation_curvature(RNG.random(120), move, 120, 96, 4)[0]).all()


# --- Lakonishok, Shleifer and Vishny -------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "p", "expected"), [(10, 0.5, 0.123047), (5, 0.4, 0.165888), (20, 0.55, 0.087642)])
def test_adjustment_check_values(n, p, expected):
    assert float(expected_imbalance(np.array(n), np.array(p))) == pytest.approx(expected, abs=5e-7)


def test_herding_measure_check_value():
    measure = herding_measure(np.array([8.0, 0.0]), np.array([2.0, 0.0]), np.array([0.5, 0.5]))
    assert measure[0] == pytest.approx(0.176953, abs=5e-7)
    assert np.isnan(measure[1])


@given(st.integers(1, 60), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_adjustment_equals_enumeration(n, p):
    expected = sum(math.comb(n, x) * p**x * (1 - p) ** (n - x) * abs(x / n - p) for x in range(n + 1))
    assert float(expected_imbalance(np.array(n), np.array(p))) == pytest.approx(expected, abs=1e-12)


def test_adjustment_of_many_traders_is_that_of_the_normal_law():
    expected = math.sqrt(2 * 0.3 * 0.7 / (math.pi * 50_000))
    assert float(expected_imbalance(np.array(50_000), np.array(0.3))) == pytest.approx(expected, rel=1e-4)


def test_posts_as_buyers_and_sellers():
    tones = [(0, 0.5)] * 8 + [(0, -0.5)] * 2 + [(1, 0.5)] * 2 + [(1, -0.5)] * 8 + [(2, 0.5), (2, 0.01)]
    posts = Events(
        np.full(len(tones), 10),
        np.array([symbol for symbol, _ in tones]),
        {"sentiment": np.array([tone for _, tone in tones]), "lang": np.array(["en"] * len(tones))},
    )
    panel = make(np.ones((20, 3)), events={"posts": posts})
    got = FEATURES["herding_posts"](panel)
    share = 11 / 21
    for symbol, up in ((0, 0.8), (1, 0.2)):
        expected = abs(up - share) - float(expected_imbalance(np.array(10), np.array(share)))
        np.testing.assert_allclose(got[10:15, symbol], expected, rtol=1e-6)
    assert np.isnan(got[[9, 15]]).all()
    assert np.isnan(got[:, 2]).all()


# --- a symbol and its sector ---------------------------------------------------------------------------------


def test_mean_of_the_others():
    x = np.array([[1.0, 2.0, 6.0, 4.0, 10.0, np.nan, 7.0]])
    group = np.array([0, 0, 0, 1, 1, 0, -1])
    mask = np.array([[True, True, True, True, True, True, False]])
    got = others_mean(x, mask, group, min_count=2)[0]
    everyone = 23.0
    expected = [4.0, 3.5, 1.5, (everyone - 4) / 4, (everyone - 10) / 4, np.nan, everyone / 5]
    np.testing.assert_allclose(got, expected)
    assert np.isnan(others_mean(x[:, :1], mask[:, :1], group[:1])).all()


def test_sector_correlation_equals_pandas():
    returns = RNG.normal(0, 0.02, (40, 6)) + RNG.normal(0, 0.01, (40, 1))
    sector = np.array([0, 0, 0, 0, 1, -1])
    got = FEATURES["sector_correlation_21"](make(path(returns), sector=sector))
    frame = pd.DataFrame(returns)
    for symbol, others in ((0, [1, 2, 3]), (2, [0, 1, 3]), (4, [0, 1, 2, 3, 5]), (5, [0, 1, 2, 3, 4])):
        expected = frame[symbol].iloc[-21:].corr(frame[others].mean(axis=1).iloc[-21:])
        assert got[-1, symbol] == pytest.approx(expected, rel=1e-5)
    together = FEATURES["market_sector_correlation"](make(path(returns), sector=sector))
    np.testing.assert_allclose(together[-1], got[-1].mean(), rtol=1e-5)


def test_share_of_days_with_the_majority():
    up = np.ones((21, 4)) * 0.01
    up[:7, 0] = -0.01  # alone against three
    up[10, 0] = 0.0  # no move is none with the majority
    up[20, 1:3] = [-0.01, 0.0]  # the others are split: no majority for the first, -1 + 1 + 0
    got = FEATURES["sector_same_sign_21"](make(path(up)))
    assert got[-1, 0] == pytest.approx(12 / 20)
    assert got[-1, 3] == pytest.approx(20 / 20)


# --- panic ---------------------------------------------------------------------------------------------------


def test_weighted_fall_check_value():
    r, v = column([-0.01, 0.005, -0.03, -0.02, 0.01]), column([1, 0.8, 2.5, 2, 1.2])
    assert weighted_fall(r, v, 5, 5)[-1, 0] == pytest.approx(0.0166667, abs=5e-8)


def test_panic_needs_a_fall_and_heavy_volume():
    returns = RNG.normal(0, 0.01, (80, 3))
    volume = np.exp(RNG.normal(10, 0.3, (81, 3)))
    returns[-5:] = [[-0.03, -0.03, 0.02]] * 5
    volume[-5:] = [[1e5, 1e3, 1e5]] * 5
    got = FEATURES["panic_selling"](make(path(returns), volume))[-1]
    usual = volume[-60:, 0]
    assert got[0] == pytest.approx(0.03 * (1e5 - usual.mean()) / usual.std(ddof=1), rel=1e-5)
    assert got[1] == got[2] == 0.0


def test_correlation_on_days_of_a_fall_equals_pandas():
    shock = RNG.standard_t(4, (300, 1)) * 0.01
    returns = np.where(shock < -0.01, 1.5, 0.3) * shock + RNG.normal(0, 0.01, (300, 8))
    returns[RNG.random(returns.shape) < 0.03] = 0.0
    got = FEATURES["correlation_down"](make(path(returns)))
    for last in (270, 300):
        window = pd.DataFrame(returns[last - 252 : last])
        whole = window.mean(axis=1)
        below = whole < -whole.std()
        for symbol in (0, 7):
            expected = window[symbol][below].corr(whole[below]) - window[symbol].corr(whole)
            assert got[last, symbol] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(got[:200]).all()


def test_correlation_below_needs_days():
    move, returns = np.linspace(-1, 1, 30), RNG.random((30, 2))
    below = correlation_below(move, returns, np.zeros(30), 30, 10, 15)
    assert np.isfinite(below[-1]).all()
    returns[3, 0] = np.nan
    below = correlation_below(move, returns, np.zeros(30), 30, 10, 15)
    np.testing.assert_array_equal(np.isfinite(below[-1]), [False, True])
    assert np.isnan(correlation_below(move, returns, np.full(30, np.nan), 30, 10, 3)).all()
    assert np.isnan(correlation_below(move, np.ones((30, 2)), np.zeros(30), 30, 10, 3)).all()


def test_share_of_the_universe_at_its_low():
    close = np.array([np.linspace(100, 80, 30), np.linspace(80, 100, 30), np.full(30, 50.0), np.full(30, 9.0)]).T
    close[-1, 3] = 10.0
    broken = np.zeros(close.shape)
    np.testing.assert_array_equal(FEATURES["market_lows"](make(close, level_break=broken))[-1], 0.5)
    broken[-5, 0] = 1.0
    np.testing.assert_allclose(FEATURES["market_lows"](make(close, level_break=broken))[-1], 1 / 3, rtol=1e-6)


def test_backwardation_counts_sessions():
    near, far = np.full(40, 20.0), np.full(40, 22.0)
    near[[-1, -21, -22]] = 30.0
    far[-2] = np.nan
    panel = make(np.ones((40, 2)), series={"VIX_CLOSE": near, "VXVCLS": far})
    np.testing.assert_allclose(FEATURES["market_backwardation"](panel)[-1], 2 / 20, rtol=1e-6)
    assert FEATURES["market_backwardation"].missing(make(np.ones((40, 2)))) == ("VIX_CLOSE", "VXVCLS")


# --- lottery demand, salience, attention ---------------------------------------------------------------------


def test_lottery_demand_check_values():
    r = column([0.01, -0.02, 0.05, 0.03, -0.01, 0.04, 0.02, 0, 0.06, -0.03])
    assert k.rolling_top_mean(r, 10, 1)[-1, 0] == pytest.approx(0.06)
    assert k.rolling_top_mean(r, 10, 5)[-1, 0] == pytest.approx(0.04)


def test_salience_check_value():
    r, rm = np.array([0.05, -0.03, 0, 0.01, -0.01]), np.array([0.01, -0.01, 0.005, 0, -0.015])
    sigma = np.abs(r - rm) / (np.abs(r) + np.abs(rm) + 0.1)
    np.testing.assert_allclose(sigma, [0.25, 0.142857, 0.047619, 0.090909, 0.04], atol=5e-7)
    assert salience_value(column(r), rm, 5, 5)[-1, 0] == pytest.approx(0.00735877, abs=5e-9)
    mirrored = salience_value(column(np.append(np.nan, -r)), np.append(0.1, -rm), 6, 5)
    assert mirrored[-1, 0] == pytest.approx(-0.00735877, abs=5e-9)


def test_salience_equals_numpy():
    returns = RNG.normal(0, 0.02, (40, 5))
    returns[25, 1] = np.nan
    market_move = RNG.normal(0, 0.01, 40)
    got = salience_value(returns, market_move, 21, 17)
    for symbol in range(5):
        r, rm = returns[-21:, symbol], market_move[-21:]
        known = np.isfinite(r)
        r, rm = r[known], rm[known]
        rank = np.argsort(np.argsort(-np.abs(r - rm) / (np.abs(r) + np.abs(rm) + 0.1))) + 1
        weight = 0.7**rank / np.mean(0.7**rank)
        assert got[-1, symbol] == pytest.approx(np.cov(weight, r, ddof=0)[0, 1], rel=1e-9)
    assert np.isnan(got[:16]).all()


def test_salience_is_that_of_the_market_return():
    returns = RNG.normal(0, 0.02, (30, 4))
    got = FEATURES["salience"](make(path(returns)))[-1]
    np.testing.assert_allclose(got, salience_value(returns, returns.mean(axis=1), 21, 21)[-1], rtol=1e-5)


def test_a_tie_of_moves_is_a_tie_on_any_split_basis():
    rng = np.random.default_rng(1)
    # A few prices in cents, between which the same moves come again and again.
    close = np.array([10.1, 11.11, 20.2, 22.22, 30.3, 33.33])[rng.integers(0, 6, (300, 3))]
    ranks = FEATURES["attention_return"](make(close))
    for factor in (3.0, 7.0, 1 / 3):
        np.testing.assert_array_equal(FEATURES["attention_return"](make(close * factor)), ranks)


def test_attention():
    returns, volume = RNG.normal(0, 0.01, (300, 2)), np.exp(RNG.normal(10, 0.5, (301, 2)))
    returns[-1] = [-0.2, 0.0]
    volume[-1] = [1e9, 1.0]
    panel = make(path(returns), volume)
    # The volume over its mean, V / mean252(V), is the market family's, as a log.
    abnormal = next(feature for feature in market.build() if feature.name == "abnormal_volume_1")
    np.testing.assert_allclose(np.exp(abnormal(panel)[-1]), volume[-1] / volume[-252:].mean(axis=0), rtol=1e-5)
    for name in ("attention_volume", "attention_return"):
        np.testing.assert_allclose(FEATURES[name](panel)[-1], [251.5 / 252, 0.5 / 252], rtol=1e-6)


def test_fear_of_missing_out():
    returns, volume = np.full((300, 2), [0.01, -0.01]), np.ones((301, 2))
    volume[-5:] = 3.0
    got = FEATURES["fomo"](make(path(returns), volume))[-1]
    assert got[0] == pytest.approx((1.01**21 - 1) * 3 / ((247 + 15) / 252), rel=1e-5)
    assert got[1] == 0.0


# --- gains not yet taken -------------------------------------------------------------------------------------


def test_overhang_check_value():
    price, turnover = np.array([10.0, 11, 12, 11]), np.array([0.1, 0.2, 0.05, 0.3])
    reference = reference_price(price, turnover)
    assert reference == pytest.approx(10.965081, abs=5e-7)
    assert (price[-1] - reference) / price[-1] == pytest.approx(0.0031745, abs=5e-8)
    assert math.isnan(reference_price(price, np.zeros(4)))


@pytest.mark.parametrize(("turnover", "growth", "expected"), [
    (0.02, 0.001, 0.0466889), (0.005, 0.0005, 0.0904751), (0.02, -0.002, -0.1087680),
])  # fmt: skip
def test_overhang_of_constant_growth(turnover, growth, expected):
    price = np.exp(growth * np.arange(-20_000, 1))
    got = 1 - reference_price(price, np.full(len(price), turnover))
    assert got == pytest.approx(1 - turnover / (1 - (1 - turnover) * math.exp(-growth)), rel=1e-9)
    assert got == pytest.approx(expected, abs=5e-8)


def filed(rows, sessions: int, columns: int) -> np.ndarray:
    shares = np.full((sessions, columns), np.nan)
    for session, symbol, value in rows:
        shares[session, symbol] = value
    return shares


def test_overhang_of_weeks():
    sessions, weeks = 70, 12
    close = path(RNG.normal(0, 0.03, (sessions - 1, 5)))
    traded = k.rolling_sum(np.exp(RNG.normal(3, 0.4, close.shape)), 5)
    broken = np.zeros(close.shape)
    broken[sessions - 27, 3] = 1.0
    traded[sessions - 11, 4] = np.nan
    # In time; only late, so that it stands for the weeks before as well; never; before a break; larger turnover than 1.
    reports = [(12, 0, 2000.0), (40, 0, 4000.0), (50, 1, 3000.0), (30, 3, 1000.0), (20, 4, 40.0)]
    got = gains_overhang(close, traded, filed(reports, sessions, 5), broken, weeks, 4)[-1]

    ends = np.arange(sessions - 1, sessions - 1 - 5 * weeks, -5)[::-1]
    usual = traded[ends].mean(axis=0) / TYPICAL_TURNOVER
    recent = ends[-5:]
    shares = [np.where(ends < 40, 2000.0, 4000.0), 3000.0, usual[2], traded[recent, 3].mean() / TYPICAL_TURNOVER, 40.0]
    for symbol in range(5):
        used = recent if symbol == 3 else ends
        turnover = np.minimum(traded[used, symbol] / shares[symbol], 1.0)
        known = np.isfinite(turnover)
        expected = 1 - reference_price(close[used, symbol][known], turnover[known]) / close[-1, symbol]
        assert got[symbol] == pytest.approx(expected, rel=1e-12)


def test_overhang_of_a_panel():
    close = np.exp(0.002 * np.arange(1500))[:, None] * np.array([[20.0, 5.0, 40.0]])
    volume = np.full(close.shape, 1000.0)
    volume[:, 2] = np.nan
    filings = Events(np.array([3]), np.array([0]), {"shares": np.array([250_000.0])})
    got = FEATURES["gains_overhang_260"](make(close, volume, events={"filings": filings}))
    for symbol, turnover in ((0, 0.02), (1, TYPICAL_TURNOVER)):
        expected = 1 - reference_price(np.exp(0.01 * np.arange(-259, 1)), np.full(260, turnover))
        assert got[1302, symbol] == pytest.approx(expected, rel=1e-5)
    # The report of the fourth session has left this window, which knows of no other.
    assert got[1303, 0] == pytest.approx(got[1303, 1], rel=1e-6)
    assert np.isnan(got[:259]).all()
    assert np.isfinite(got[259, :2]).all()
    assert np.isnan(got[:, 2]).all()


def test_nearness_to_the_high():
    close = path(RNG.normal(0, 0.02, (299, 2)))
    high = close * 1.01
    near = next(feature for feature in market.build() if feature.name == "high_52w")
    np.testing.assert_allclose(near(make(close, high=high))[-1], close[-1] / high[-252:].max(axis=0), rtol=1e-6)


# --- herding of the market -----------------------------------------------------------------------------------


def test_dispersion_of_betas():
    move = RNG.normal(0, 0.01, 130)
    betas = np.where(np.arange(130)[:, None] < 65, [[0.4, 1.0, 1.6]], [[0.8, 1.0, 1.2]])
    panel = make(path(move[:, None] * betas))
    np.testing.assert_allclose(
        FEATURES["market_beta_dispersion"](panel)[[64, -1]], [[0.24] * 3, [0.08 / 3] * 3], rtol=1e-5
    )
    change = FEATURES["market_beta_dispersion_change"](panel)
    level = FEATURES["market_beta_dispersion"](panel)
    np.testing.assert_allclose(change[100], level[100] - level[79], rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in FEATURES if name.startswith("market_")])
def test_one_value_for_all_symbols(name, panel):
    values = FEATURES[name](panel)
    np.testing.assert_array_equal(values, np.repeat(values[:, :1], panel.shape[1], axis=1))


# --- what a value may depend on ------------------------------------------------------------------------------


def test_every_feature_is_documented():
    for feature in FEATURES.values():
        assert feature.doc.endswith(".")
        assert feature.reference
        assert 1 <= feature.lookback <= 1300


def test_parameters():
    names = {feature.name for feature in behaviour.build({"overhang": [104], "sector_herding": [10, 63]})}
    assert {"gains_overhang_104", "sector_correlation_10", "sector_same_sign_63"} <= names
    assert "gains_overhang_260" not in names
    with pytest.raises(ConfigError, match="overhangs: unknown parameter"):
        parse(BehaviourParams, {"overhangs": [104]}, "features.behaviour")


def test_every_invariance_holds(panel):
    require(prove(list(FEATURES.values()), panel, spread_cuts(panel)))


@pytest.mark.parametrize("name", FEATURES)
def test_the_order_of_symbols_changes_no_bit_before_storing(name, panel):
    order = np.random.default_rng(2).permutation(panel.shape[1])
    compute = FEATURES[name].compute
    np.testing.assert_array_equal(compute(permute(panel, order)), compute(panel)[:, order])


def test_the_harness_sees_a_window_one_session_short(panel):
    weeks = behaviour.build({"overhang": [52]})
    feature = next(feature for feature in weeks if feature.name == "gains_overhang_52")
    report = prove([feature, replace(feature, name="short", lookback=feature.lookback - 1)], panel, [500])
    failed = report[~report["ok"]]
    assert set(failed["feature"]) == {"short"}
    assert "lookback" in set(failed["invariance"])
