"""Features of crowding: closed forms on panels made by hand, naive oracles, what a value may depend on."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from core.errors import ConfigError
from core.params import parse
from features.families import crowding as module
from features.families.crowding import CrowdingParams, crowding
from features.invariance import prove, require, spread_cuts
from features.panel import Panel
from features.perturb import permute
from features.returns import universe_risk
from features.sleeves import SLEEVES, payoffs
from features.volume import bought_less_sold, imbalance, mean_volume
from market.games.crowding import CrowdingGame
from market.games.entry_exit import STATES, solve

FEATURES = {feature.name: feature for feature in crowding.build()}
OF_SYMBOLS = [name for name in FEATURES if name.startswith("crowd")]
OF_MARKET = [name for name in FEATURES if name not in OF_SYMBOLS]
PARAMS = CrowdingParams()


def make(close, volume=None, **fields) -> Panel:
    close = np.asarray(close, dtype=float)
    rows, columns = close.shape
    base = dict.fromkeys(("open", "high", "low", "close"), close)
    return Panel(
        dates=np.datetime64("2014-01-01") + np.arange(rows),
        symbols=np.array([f"S{i}" for i in range(columns)]),
        fields={**base, "volume": np.ones(close.shape) if volume is None else np.asarray(volume, float), **fields},
        universe=np.ones(close.shape, dtype=bool),
        sector=np.zeros(columns, dtype=np.int64),
    )


def path(returns) -> np.ndarray:
    """`(T + 1, N)` closes with the given returns."""
    return 100.0 * np.cumprod(np.vstack([np.ones((1, returns.shape[1])), 1.0 + returns]), axis=0)


@pytest.fixture(scope="module")
def drawn() -> Panel:
    """Seven symbols that differ in how volume answers returns; a few values are missing."""
    rng = np.random.default_rng(7)
    returns = rng.normal(0, 0.01, (260, 1)) + rng.standard_t(5, (260, 7)) * np.linspace(0.005, 0.02, 7)
    answer = 1.0 + np.linspace(0, 2, 7) * np.abs(returns) / 0.02
    volume = np.vstack([np.ones((1, 7)), answer]) * np.exp(rng.normal(11, 0.4, (261, 7)))
    volume[[40, 200], [2, 5]] = np.nan
    panel = make(path(returns), volume)
    universe = panel.universe.copy()
    universe[:, 6] = False
    return replace(panel, universe=universe)


# --- volume bought and sold ----------------------------------------------------------------------------------


def test_bulk_volume_check_value():
    assert float(bought_less_sold(np.array(0.01 / 0.02))) == pytest.approx(0.382925, abs=5e-7)
    assert float(bought_less_sold(np.array(-0.5))) == pytest.approx(-0.382925, abs=5e-7)


def naive_imbalance(panel: Panel) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Standardised returns and imbalances."""
    returns = pd.DataFrame(panel["close"]).pct_change(fill_method=None)
    volume = pd.DataFrame(panel["volume"])
    z = returns / returns.rolling(63, min_periods=51).std()
    return z, volume / volume.rolling(63, min_periods=51).mean() * (2 * norm.cdf(z) - 1)


def test_imbalance_equals_pandas(drawn):
    np.testing.assert_allclose(imbalance(drawn), naive_imbalance(drawn)[1], rtol=1e-9, atol=1e-12)


def test_nothing_traded_and_nothing_moved():
    close, volume = path(np.random.default_rng(1).normal(0, 0.01, (130, 2))), np.ones((131, 2))
    close[:, 1] = 50.0
    volume[-100:, 0] = 0.0
    got = imbalance(make(close, volume))
    assert np.isnan(got[-1]).all()
    assert np.isnan(mean_volume(make(close, volume), 63)[-1, 0])


# --- the crowd of a symbol -----------------------------------------------------------------------------------


def test_alternating_moves_have_a_closed_form():
    step = 0.01 * np.tile([1.0, -1.0], 150)[:, None] * np.array([[1.0, 2.0, 0.5]])
    panel = make(path(step), np.full((301, 3), 1e6))
    # Of 63 alternating returns the two signs' counts differ by one.
    z = 1 / math.sqrt((63 - 1 / 63) / 62)
    leaning = 2 * norm.cdf(z) - 1
    held = -leaning * (1 - (-0.9) ** 63) / 1.9  # the last move was a fall
    game = CrowdingGame(z / leaning, 1 / math.sqrt(leaning), 0.15, 10.0, 10.0)
    expected = {
        "crowded_inventory": held,
        "crowd_cost": game.cost(held) / abs(held),
        "crowd_drift": game.drift(held),
        "crowd_half_life": game.half_life,
        "crowd_cost_multiplier": game.multiplier(),
        "crowd_fragility": game.stressed().cost(2 * held) / game.cost(held),
    }
    assert list(expected) == OF_SYMBOLS
    for name, value in expected.items():
        np.testing.assert_allclose(FEATURES[name](panel)[-1], float(value), rtol=1e-6)


def naive_games(panel: Panel, last: int) -> list[dict[str, float]]:
    """Every symbol's features of one session, one number at a time."""
    z, leaning = naive_imbalance(panel)
    slopes, errors, inventories, shares = [], [], [], []
    for symbol in range(panel.shape[1]):
        pair = pd.DataFrame({"x": leaning[symbol], "y": z[symbol]}).iloc[last - 119 : last + 1].dropna()
        x, y = pair["x"].to_numpy(), pair["y"].to_numpy()
        design = np.column_stack([np.ones_like(x), x])
        (level, slope), *_ = np.linalg.lstsq(design, y, rcond=None)
        slopes.append(slope)
        errors.append(((y - level - slope * x) ** 2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
        recent = leaning[symbol].iloc[last - 62 : last + 1].to_numpy()[::-1]
        inventories.append(sum(0.9**age * value for age, value in enumerate(recent) if np.isfinite(value)))
        shares.append(np.abs(x).mean())
    held = np.flatnonzero(panel.universe[last])
    mean = np.mean([slopes[i] for i in held])
    true = max(np.mean([(slopes[i] - mean) ** 2 for i in held]) - np.mean([errors[i] for i in held]), 0.0)
    out = []
    for slope, error, inventory, share in zip(slopes, errors, inventories, shares, strict=True):
        alpha = min(max(mean + true / (true + error) * (slope - mean), 0.0), 5.0)
        game = CrowdingGame(alpha, 1 / math.sqrt(share), 0.15, 10.0, 10.0)
        out.append({
            "crowded_inventory": inventory,
            "crowd_cost": float(game.cost(inventory)) / abs(inventory),
            "crowd_drift": float(game.drift(inventory)),
            "crowd_half_life": float(game.half_life),
            "crowd_cost_multiplier": float(game.cost(1.0) / replace(game, alpha=np.array(0.0)).cost(1.0)),
            "crowd_fragility": float(replace(game, phi=np.array(0.3)).cost(2.0) / game.cost(1.0)),
        })  # fmt: skip
    return out


@pytest.mark.parametrize("last", [190, 260])
def test_games_of_symbols_equal_a_naive_oracle(drawn, last):
    expected = naive_games(drawn, last)
    for name in OF_SYMBOLS:
        np.testing.assert_allclose(FEATURES[name](drawn)[last], [row[name] for row in expected], rtol=2e-6)
    assert len({round(row["crowd_cost_multiplier"], 6) for row in expected}) == 7


def test_a_crowd_is_expected_to_push_against_its_inventory(drawn):
    held, drift, cost = (FEATURES[name](drawn)[-1] for name in ("crowded_inventory", "crowd_drift", "crowd_cost"))
    assert (np.sign(drift) == -np.sign(held)).all()
    assert (cost > 0).all()


def test_an_uncertain_impact_is_drawn_to_that_of_the_universe():
    rng = np.random.default_rng(2)
    returns = rng.normal(0, 0.01, (200, 40))
    same = make(path(returns), np.exp(rng.normal(11, 0.3, (201, 40))))
    multiplier = FEATURES["crowd_cost_multiplier"]
    loose = multiplier(same)[-1].std()
    busy = np.exp(rng.normal(11, 0.3, (201, 40)))
    busy[1:] *= np.where(np.arange(40) < 20, 1.0 + 40 * np.abs(returns), 1.0)
    answered = multiplier(make(path(returns), busy))[-1]
    assert answered[:20].mean() < answered[20:].mean()
    assert loose < answered.std()


def test_a_break_of_the_price_level_is_no_return():
    close = path(np.random.default_rng(3).normal(0, 0.01, (200, 2)))
    close[100:, 0] *= 7.0
    broken = np.zeros(close.shape)
    broken[100, 0] = 1.0
    got = FEATURES["crowded_inventory"](make(close, level_break=broken))
    smooth = close / np.where(np.arange(201)[:, None] >= 100, [[7.0, 1.0]], 1.0)
    whole = FEATURES["crowded_inventory"](make(smooth))
    assert np.isfinite(got[-1]).all()
    np.testing.assert_allclose(got[-1, 0], whole[-1, 0], atol=0.05)


def test_blocks_of_games_change_no_bit(drawn, monkeypatch):
    whole = {name: FEATURES[name].compute(drawn) for name in OF_SYMBOLS}
    monkeypatch.setattr(module, "CELLS", 30)
    for name in OF_SYMBOLS:
        np.testing.assert_array_equal(FEATURES[name].compute(drawn), whole[name])


# --- the market as a whole -----------------------------------------------------------------------------------


def test_chance_of_a_systemic_event(drawn):
    returns = pd.DataFrame(drawn["close"][:, :6]).pct_change(fill_method=None).iloc[-63:]
    risk, whole = returns.std(), returns.mean(axis=1).var()
    pairs = np.outer(risk, risk)[~np.eye(6, dtype=bool)].mean()
    shared = (36 * whole - (risk**2).sum()) / 30 / pairs
    spread = risk.mean() * math.sqrt(21 * (shared + (1 - shared) / 6))
    got = FEATURES["systemic_event_probability"](drawn)[-1]
    np.testing.assert_allclose(got, 2 * norm.cdf(-0.1 / spread), rtol=1e-5)
    count, mean_risk, correlation = (values[-1] for values in universe_risk(drawn, 63))
    assert (count, mean_risk, correlation) == pytest.approx((6, risk.mean(), shared), rel=1e-9)
    deeper = next(f for f in crowding.build({"fall": -0.2}) if f.name == "systemic_event_probability")(drawn)[-1]
    assert (deeper < got).all()


def test_sleeves_equal_numpy():
    returns = np.random.default_rng(5).normal(0.0002, 0.015, (300, 8))
    panel = make(path(returns))
    panel.universe[298:, 7] = False
    for last in (299, 300):
        np.testing.assert_allclose(payoffs(panel)[last], naive_payoffs(panel, last - 1, returns), rtol=1e-9)


def naive_payoffs(panel: Panel, before: int, returns) -> list[float]:
    """Pay-offs of the session after `before`, from closes and that session's universe."""
    close, held = panel["close"], panel.universe[before]
    today = returns[before][held]
    out = [today.mean()]
    for signal, sign in ((close[before - 21] / close[before - 252], 1), (close[before] / close[before - 5], -1)):
        z = (signal[held] - signal[held].mean()) / signal[held].std(ddof=1)
        weight = sign * np.clip(z, -3, 3)
        out.append((weight * today).sum() / np.abs(weight).sum())
    return out


@pytest.fixture(scope="module")
def long() -> Panel:
    rng = np.random.default_rng(6)
    common = rng.normal(0.0003, 0.008, (560, 1))
    return make(path(common + rng.normal(0, 0.015, (560, 12))))


def test_states_are_the_sleeves_and_those_who_left():
    assert (*SLEEVES, "exited") == STATES


def test_population_equals_a_single_game(long):
    earned = payoffs(long)
    ratio = [column[-63:].mean() / column[-63:].std(ddof=1) * math.sqrt(5) for column in earned.T]
    year = [column[-252:].mean() / column[-252:].std(ddof=1) * math.sqrt(252) for column in earned.T]
    odds = np.exp([*np.clip(year, -3, 3), 0.0])
    game = solve([*(-np.clip(ratio, -1, 1)), 0.0], module.COSTS, odds / odds.sum(), 2.0, steps=200, tolerance=1e-8)
    week = game.theta[100]
    expected = {
        "theta_momentum": week[1], "theta_contrarian": week[2],
        "exit_flow": game.flows[0, 3], "switching_regret": game.u[0].max() - game.u[0].min(),
    }  # fmt: skip
    for name, value in expected.items():
        np.testing.assert_allclose(FEATURES[name](long)[-1], value, atol=5e-5)


def test_traders_go_where_it_paid():
    noise = np.random.default_rng(8).normal(0, 0.005, (561, 12))
    trending = make(path(np.linspace(-0.004, 0.004, 12) + noise[1:]))
    bouncing = make(100.0 * np.exp(4.0 * noise))
    for panel, sleeve, other in ((trending, "momentum", "contrarian"), (bouncing, "contrarian", "momentum")):
        # A paying sleeve is crowded, so that not everyone is there.
        assert FEATURES[f"theta_{sleeve}"](panel)[-1, 0] > 2 * FEATURES[f"theta_{other}"](panel)[-1, 0]


@pytest.mark.parametrize("name", OF_MARKET)
def test_one_value_for_all_symbols(name, panel):
    values = FEATURES[name](panel)
    assert np.isfinite(values).any()
    np.testing.assert_array_equal(values, np.repeat(values[:, :1], panel.shape[1], axis=1))


def test_only_wanted_sessions_are_played(panel):
    lookback = FEATURES["exit_flow"].lookback
    alone = panel.tail(650, lookback, 3)
    for name in ("theta_momentum", "exit_flow"):
        got = FEATURES[name](alone)
        assert np.isnan(got[:-3]).all()
        np.testing.assert_array_equal(got[-3:], FEATURES[name](panel)[648:651])


# --- what a value may depend on ------------------------------------------------------------------------------


def test_every_feature_is_documented():
    assert set(OF_MARKET) == {
        "systemic_event_probability", "theta_momentum", "theta_contrarian", "exit_flow", "switching_regret"
    }  # fmt: skip
    for feature in FEATURES.values():
        assert feature.doc.endswith(".")
        assert feature.reference


@pytest.mark.parametrize(("block", "text"), [
    ({"forgeting": 0.1}, "forgeting: unknown parameter"), ({"forgetting": 1.0}, "forgetting = 1.0"),
    ({"impact": 0.0}, "impact = 0.0"), ({"fall": 0.1}, "fall = 0.1"), ({"aversion": -1.0}, "aversion = -1.0"),
])  # fmt: skip
def test_bad_parameters_are_named(block, text):
    with pytest.raises(ConfigError, match=text):
        parse(CrowdingParams, block, "features.crowding")


def test_preferences_matter(drawn):
    timid = {feature.name: feature for feature in crowding.build({"aversion": 0.6, "impact": 2.0, "forgetting": 0.3})}
    assert (timid["crowd_half_life"](drawn)[-1] != FEATURES["crowd_half_life"](drawn)[-1]).all()
    assert (np.abs(timid["crowded_inventory"](drawn)[-1]) != np.abs(FEATURES["crowded_inventory"](drawn)[-1])).all()


def test_every_invariance_holds(panel):
    require(prove(list(FEATURES.values()), panel, spread_cuts(panel)))


@pytest.mark.parametrize("name", FEATURES)
def test_the_order_of_symbols_changes_no_bit_before_storing(name, panel):
    order = np.random.default_rng(2).permutation(panel.shape[1])
    compute = FEATURES[name].compute
    np.testing.assert_array_equal(compute(permute(panel, order)), compute(panel)[:, order])


@pytest.mark.parametrize("name", ["crowded_inventory", "crowd_drift", "systemic_event_probability", "exit_flow"])
def test_the_harness_sees_a_window_one_session_short(name, panel):
    feature = FEATURES[name]
    report = prove([feature, replace(feature, name="short", lookback=feature.lookback - 1)], panel, [640])
    failed = report[~report["ok"]]
    assert set(failed["feature"]) == {"short"}
    assert "lookback" in set(failed["invariance"])


def test_halted_symbols_and_equal_moves_hold_on_any_split_basis(make_panel):
    panel = make_panel(620, 12, 9)
    close = panel["close"].copy()
    close[:, 3] = close[:1, 4]  # halted throughout
    close[300:, 5] = np.nanmean(close[:, 5])
    close[:, 6] = 2.0 * close[:, 7]  # the same moves twice
    panel = replace(panel, fields={**panel.fields, "close": close})
    require(prove(list(FEATURES.values()), panel, [560, 575]))
