"""Market-wide features: hand-made series and universes with known answers, and names that parameters choose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.errors import ConfigError
from core.params import parse
from features.families.macro import MacroParams, macro
from features.invariance import prove, require, spread_cuts
from features.panel import Panel

FEATURES = {feature.name: feature for feature in macro.build()}
RNG = np.random.default_rng(5)
SERIES = {"VIX_CLOSE": 20.0, "VXVCLS": 25.0, "BAA10Y": 2.0, "T10Y2Y": 1.0, "DCOILWTICO": 50.0, "DTWEXB": 100.0}


def make(close, series: dict[str, np.ndarray] | None = None, **changes) -> Panel:
    """A panel of the given closes `(T, N)`, all of it in the universe."""
    close = np.asarray(close, dtype=float)
    return replace(
        Panel(
            dates=np.arange(len(close)).astype("datetime64[D]"),
            symbols=np.array([f"S{column}" for column in range(close.shape[1])]),
            fields={"close": close},
            universe=np.ones(close.shape, dtype=bool),
            sector=np.zeros(close.shape[1], dtype=np.int64),
            series=series or {},
        ),
        **changes,
    )


def told(**series: np.ndarray) -> Panel:
    """A panel of two symbols with the given series, the others constant."""
    length = max((len(values) for values in series.values()), default=300)
    constant = {name: np.full(length, value) for name, value in SERIES.items()}
    return make(np.ones((length, 2)), {**constant, **series})


def without(panel: Panel, column: int) -> Panel:
    """The panel with one symbol outside the universe."""
    universe = panel.universe.copy()
    universe[:, column] = False
    return replace(panel, universe=universe)


def last(name: str, panel: Panel) -> float:
    row = FEATURES[name](panel)[-1]
    assert (row == row[0]).all() or np.isnan(row).all()
    return float(row[0])


def test_every_feature_is_documented():
    for feature in FEATURES.values():
        assert feature.doc.endswith(".")
        assert feature.reference
        assert feature.sign in (-1, 0, 1)


# --- series --------------------------------------------------------------------------------------------------


def test_levels_and_the_term_structure():
    panel = told()
    assert {name: last(name, panel) for name in ("vix", "vix_term", "credit_spread", "term_spread")} == pytest.approx(
        {"vix": 20.0, "vix_term": 0.8, "credit_spread": 2.0, "term_spread": 1.0}
    )
    assert np.isnan(last("vix_term", told(VXVCLS=np.zeros(300))))


@pytest.mark.parametrize(
    ("name", "series", "expected"),
    [
        ("vix_change_21", "VIX_CLOSE", np.log(1.5)),
        ("oil_change_21", "DCOILWTICO", np.log(1.5)),
        ("dollar_change_21", "DTWEXB", np.log(1.5)),
        ("credit_spread_change_21", "BAA10Y", 10.0),
        ("term_spread_change_21", "T10Y2Y", 10.0),
    ],
)
def test_changes_over_a_month(name, series, expected):
    values = np.full(100, 20.0)
    values[79:] = 30.0
    assert last(name, told(**{series: values})) == pytest.approx(expected)
    values[78] = 30.0
    assert last(name, told(**{series: values})) == 0.0


@pytest.mark.parametrize(("name", "series"), [("vix_z", "VIX_CLOSE"), ("credit_spread_z", "BAA10Y")])
def test_distance_from_the_year(name, series):
    values = RNG.uniform(10, 40, 400)
    year = values[-252:]
    expected = (values[-1] - year.mean()) / year.std(ddof=1)
    assert last(name, told(**{series: values})) == pytest.approx(expected, rel=1e-5)
    assert np.isnan(last(name, told()))
    values[150:200] = np.nan
    known = values[-252:][~np.isnan(values[-252:])]
    expected = (values[-1] - known.mean()) / known.std(ddof=1)
    assert last(name, told(**{series: values})) == pytest.approx(expected, rel=1e-5)


def test_spreads_may_be_negative_and_prices_may_not():
    negative = np.linspace(0.5, -0.5, 101)
    assert last("term_spread", told(T10Y2Y=negative)) == -0.5
    assert last("term_spread_change_21", told(T10Y2Y=negative)) == pytest.approx(-0.21)
    assert np.isnan(last("oil_change_21", told(DCOILWTICO=negative)))


# --- the universe as a whole ----------------------------------------------------------------------------------


def test_breadth_counts_who_is_above_the_mean():
    rising, falling = np.linspace(10, 20, 300), np.linspace(20, 10, 300)
    turned = np.concatenate([falling[:279], np.full(21, 30.0)])
    close = np.column_stack([rising, rising, falling, turned])
    panel = make(close)
    assert last("market_breadth", panel) == 0.75
    assert last("market_breadth_change_21", panel) == 0.25
    assert last("market_breadth", without(panel, 0)) == pytest.approx(2 / 3)
    # What is not known is neither above nor below.
    close[-1, 1] = np.nan
    assert last("market_breadth", without(make(close), 0)) == 0.5


def test_advances_less_declines():
    steps = np.ones((40, 4))
    steps[-21:, :2] = 1.01
    steps[-21:, 2] = 0.99
    panel = make(100 * np.cumprod(steps, axis=0))
    assert last("market_advances", panel) == pytest.approx(0.25)
    assert last("market_advances", without(panel, 3)) == pytest.approx(1 / 3)


def test_dispersion_of_returns():
    steps = np.ones((400, 4)) * [1.02, 1.02, 0.98, 0.98]
    assert last("market_dispersion", make(np.cumprod(steps, axis=0))) == pytest.approx(0.02)
    steps[-1] = [1.105, 1.105, 0.895, 0.895]
    panel = make(np.cumprod(steps, axis=0))
    assert last("market_dispersion", panel) == pytest.approx(0.02 + 0.085 / 21)
    # 251 equal values and one that is higher by d: d - d / 252, over d / sqrt(252).
    assert last("market_dispersion_z", panel) == pytest.approx(251 / np.sqrt(252), rel=1e-4)


def test_a_return_counts_for_those_who_were_in_the_universe_before():
    steps = np.ones((40, 3)) * [1.02, 0.98, 1.5]
    universe = np.ones((40, 3), dtype=bool)
    universe[:-1, 2] = False
    panel = make(np.cumprod(steps, axis=0), universe=universe)
    assert last("market_dispersion", panel) == pytest.approx(0.02)
    assert last("market_advances", panel) == pytest.approx(0.0, abs=1e-9)


def returns_to_close(returns) -> np.ndarray:
    return 100 * np.cumprod(np.vstack([np.ones(returns.shape[1]), 1 + returns]), axis=0)


def test_correlation_of_one_and_of_none():
    common = RNG.normal(0, 0.01, 90)
    # Symbols of unlike risk that move together.
    alike = make(returns_to_close(np.outer(common, [0.5, 1.0, 3.0])))
    assert last("market_correlation", alike) == pytest.approx(1.0)
    opposite = make(returns_to_close(np.outer(common, [1.0, -1.0])))
    assert last("market_correlation", opposite) == pytest.approx(-1.0)
    assert np.isnan(last("market_correlation", make(returns_to_close(common[:, None]))))
    assert np.isnan(last("market_correlation", make(np.ones((90, 3)))))


def test_correlation_is_the_mean_of_pairs():
    returns = RNG.normal(0, 1, (120, 5)) * [0.01, 0.02, 0.015, 0.03, 0.01] + RNG.normal(0, 0.01, (120, 1))
    panel = make(returns_to_close(returns))

    def mean_of_pairs(part: np.ndarray) -> float:
        covariance, risk = np.cov(part.T), part.std(axis=0, ddof=1)
        off = ~np.eye(5, dtype=bool)
        return covariance[off].mean() / np.outer(risk, risk)[off].mean()

    now, before = mean_of_pairs(returns[-63:]), mean_of_pairs(returns[-84:-21])
    assert last("market_correlation", panel) == pytest.approx(now, rel=1e-5)
    assert last("market_correlation_change_21", panel) == pytest.approx(now - before, rel=1e-4)


# --- parameters ----------------------------------------------------------------------------------------------


def test_parameters_name_the_series_and_the_windows():
    mine = {feature.name: feature for feature in macro.build({"implied_volatility": "FEAR", "change": [5, 63]})}
    assert mine["vix"].inputs == ("FEAR",)
    assert mine["vix_term"].inputs == ("FEAR", "VXVCLS")
    assert mine["vix_change_5"].lookback == 6
    assert "vix_change_21" not in mine
    panel = told(FEAR=np.full(300, 7.0))
    assert float(mine["vix"](panel)[-1, 0]) == 7.0
    with pytest.raises(ConfigError, match=r"features\.macro\.vix: unknown parameter"):
        parse(MacroParams, {"vix": "FEAR"}, "features.macro")
    with pytest.raises(ConfigError, match=r"features\.macro\.oil = ''"):
        parse(MacroParams, {"oil": ""}, "features.macro")


def test_a_feature_without_its_series_is_not_available():
    panel = told()
    some = replace(panel, series={"VIX_CLOSE": panel.series["VIX_CLOSE"]})
    assert FEATURES["vix"].available(some)
    assert FEATURES["vix_term"].missing(some) == ("VXVCLS",)
    assert FEATURES["market_breadth"].available(some)


def test_the_invariances_hold(make_panel):
    panel = make_panel(700, 15, 2)
    require(prove(macro.build({"change": [5, 21]}), panel, spread_cuts(panel)))
