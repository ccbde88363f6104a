import numpy as np
import pytest

from core.errors import DataError
from portfolio.conditions import conditions, trailing_percentile
from portfolio.exposures import exposures

T, N = 330, 30


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(3)
    beta = rng.uniform(0.5, 1.5, N)
    market = rng.normal(0, 0.01, T)
    returns = market[:, None] * beta + rng.normal(0, 0.002, (T, N)) * np.linspace(0.5, 2, N)
    traded = np.exp(np.linspace(10, 15, N)) * np.ones((T, 1))
    return beta, market, returns, traded


def test_exposures_are_slopes_and_deviations(world):
    beta, market, returns, traded = world
    everyone = np.ones((T, N), dtype=bool)
    told = exposures(returns, market, traded, everyone, {"value": np.tile(np.arange(N, dtype=float), (T, 1))})
    assert set(told) == {"market", "size", "momentum", "low_volatility", "reversal", "value"}
    slope = [np.polyfit(market[-252:], returns[-252:, k], 1)[0] for k in range(N)]
    assert told["market"][-1] == pytest.approx(slope, rel=1e-9)
    assert np.abs(told["market"][-1] - beta).max() < 0.1
    for name in ("size", "low_volatility", "value"):
        assert told[name][-1].mean() == pytest.approx(0.0, abs=1e-12)
        assert told[name][-1].std(ddof=1) == pytest.approx(1.0)
    # Small is what little is traded of.
    assert (np.diff(told["size"][-1]) < 0).all()
    assert np.corrcoef(told["low_volatility"][-1], -returns[-63:].std(axis=0))[0, 1] > 0.999


def test_exposures_know_no_future_and_one_panel(world):
    _, market, returns, traded = world
    everyone = np.ones((T, N), dtype=bool)
    whole = exposures(returns, market, traded, everyone)
    part = exposures(returns[:300], market[:300], traded[:300], everyone[:300])
    for name, values in part.items():
        assert np.array_equal(values, whole[name][:300], equal_nan=True), name
    with pytest.raises(DataError, match="size"):
        exposures(returns, market, traded[:300], everyone)


def test_an_outlier_ends_at_three_deviations(world):
    _, market, returns, traded = world
    far = np.zeros((T, N))
    far[:, 0] = 1e6
    told = exposures(returns, market, traded, np.ones((T, N), dtype=bool), {"value": far})
    assert told["value"][-1, 0] == 3.0


def test_percentiles_are_of_the_past():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 2))
    values[350, 1] = np.nan
    found = trailing_percentile(values, 252)
    window = values[400 - 252 :, 0]
    assert found[-1, 0] == pytest.approx(((window < window[-1]).sum() + 0.5) / 252)
    assert np.isnan(found[350, 1])
    assert np.isnan(found[:125]).all()
    assert np.array_equal(found[:300], trailing_percentile(values[:300], 252), equal_nan=True)


def test_what_is_switched_off_is_not_known():
    nothing = conditions({"momentum_252": np.zeros((5, 3))})
    assert (nothing.systemic, nothing.implied_ratio, nothing.crowd_cost, nothing.panic) == (None,) * 4
    ratio = np.tile([[1.1], [np.nan], [0.9]], (1, 3))
    ratio[0, 0] = np.nan
    told = conditions({"vix_term": ratio, "vix": 100 * ratio, "crowd_cost": ratio})
    assert told.implied_ratio == pytest.approx([1.1, np.nan, 0.9], nan_ok=True)
    assert told.index_volatility == pytest.approx([1.1, np.nan, 0.9], nan_ok=True)
    with pytest.raises(DataError, match="shape"):
        conditions({"vix": np.zeros((2, 3)), "crowd_cost": np.zeros((3, 3))})
