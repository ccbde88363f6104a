import numpy as np
import pandas as pd
import pytest

from core.errors import ConfigError, DataError
from portfolio.capacity import capacity_curve, compare, variants
from portfolio.targets import StrategyTarget, check_targets
from portfolio.walk import walk

START = 40


@pytest.fixture(scope="module")
def walked(world, rule):
    market, signals = world(days=70, names=8)
    return market, signals, walk(market, signals, rule(), start=START)


def test_the_curve_passes_the_walk_and_falls(rule, walked):
    _, _, found = walked
    curve = capacity_curve(found, rule(), [1e6, 1e7, 4e7, 1e9]).set_index("capital")
    for name in ("net_sharpe", "net_return", "cost_annual"):
        assert curve.loc[1e7, name] == pytest.approx(found.summary[name], rel=1e-12)
    assert curve.loc[4e7, "impact_annual"] == pytest.approx(2 * curve.loc[1e7, "impact_annual"], rel=1e-12)
    more = curve.loc[4e7, "cost_annual"] - curve.loc[1e7, "cost_annual"]
    assert more == pytest.approx(found.daily["impact"].mean() * 252)
    assert (np.diff(curve["net_sharpe"]) < 0).all()
    assert curve["tradable"].tolist()[0]
    assert not curve["tradable"].tolist()[-1]
    with pytest.raises(ConfigError, match="positive"):
        capacity_curve(found, rule(), [0.0])


def test_other_ways_to_run_it_are_compared(rule, walked):
    market, signals, found = walked
    rules = variants(rule(), rebalance_sessions=[5, 15], schemes=["optimised", "equal_weight"])
    assert len(rules) == 4
    table = compare(market, signals, rules, start=START).set_index(["scheme", "rebalance_sessions"])
    assert table.loc[("optimised", 5), "net_sharpe"] == found.summary["net_sharpe"]
    assert (table["turnover"].xs(15, level=1) < table["turnover"].xs(5, level=1)).all()
    large = compare(market, signals, variants(rule(), capitals=[1e7, 1e9]), start=START)
    # A book that knows its capital trades less.
    assert large["turnover"][1] < large["turnover"][0]


def test_targets():
    rng = np.random.default_rng(0)
    net = rng.normal(0.001, 0.01, 100)
    dates = pd.date_range("2020-01-01", periods=100)

    def daily(values):
        columns = {"date": dates, "gross": values, "net": values, "cost": 0.0, "turnover": 0.1, "names": 5}
        return pd.DataFrame(columns | {"market": rng.normal(0, 0.01, 100)})

    books = {"a": daily(net), "b": daily(net + rng.normal(0, 1e-4, 100)), "c": daily(np.zeros(100))}
    asked = {"a": StrategyTarget(volatility=0.5, turnover=0.05), "c": StrategyTarget(net_sharpe=0.0)}
    found = check_targets(books, asked, correlation=0.7).set_index(["strategy", "target"])
    assert found["met"].to_dict() == {
        ("a", "volatility"): True,
        ("a", "turnover"): False,
        ("c", "net_sharpe"): False,
        ("a, b", "correlation"): False,
        ("a, c", "correlation"): False,
        ("b, c", "correlation"): False,
    }
    assert found.loc[("a, b", "correlation"), "value"] > 0.99
    with pytest.raises(DataError, match="no book of d"):
        check_targets(books, {"d": StrategyTarget()})
