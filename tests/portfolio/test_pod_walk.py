import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from portfolio.backtest import BacktestRule, backtest
from portfolio.costs import CostRule
from portfolio.pod_walk import PodsRule, walk_pods

T, N = 260, 30
FREE = CostRule(commission_bps=0.0, half_spread_bps=0.0, impact=0.0, borrow_bps=0.0)
RANK = BacktestRule(costs=CostRule(), min_names=10)


def better(net):
    """Evidence that is the share of good days: a stand-in for the probabilistic Sharpe ratio."""
    return float((net > 0).mean())


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(1)
    returns = rng.normal(0, 0.01, (T, N))
    close = 50 * np.exp(np.cumsum(returns, axis=0))
    tomorrow = np.zeros((T, N))
    tomorrow[:-2] = returns[2:]
    signals = {"good": tomorrow + rng.normal(0, 0.02, (T, N)), "noise": rng.normal(size=(T, N))}
    return signals, close, np.full((T, N), 1e6), np.datetime64("2020-01-01") + np.arange(T)


def run(world, rank=RANK, signals=None, **given):
    told, *market = world
    rule = PodsRule(**{"review_sessions": 20, "evidence_sessions": 120, "least_sessions": 60, "position": 0.05} | given)
    return walk_pods(told if signals is None else signals, *market, rank, rule, better)


def test_evidence_moves_the_capital(world):
    found = run(world, budget=1.0, position=None)
    shares = found.reviews.pivot(index="date", columns="pod", values="share")
    assert shares.iloc[0].tolist() == [0.5, 0.5]
    assert shares.iloc[-1]["good"] > 0.8
    assert found.daily["net"].iloc[-100:].mean() > found.alone["noise"]["net"].iloc[-100:].mean()
    assert found.figures["shares"]["good"] == shares.iloc[-1]["good"]
    assert found.figures["saved"] > 0
    assert found.daily["net"].to_numpy() == pytest.approx((found.daily["gross"] - found.daily["cost"]).to_numpy())


def test_pods_of_one_signal_are_that_book(world):
    signals, *market = world
    twice = run(world, signals={"one": signals["good"], "other": signals["good"]}, budget=1.0, position=None)
    alone = backtest(signals["good"], *market, RANK).daily
    pd.testing.assert_series_equal(twice.daily["net"], alone["net"], atol=1e-12, check_exact=False)
    assert twice.daily["crossed"].max() == pytest.approx(0.0, abs=1e-12)


def test_opposite_pods_cross_everything(world):
    signals, *_ = world
    found = run(world, signals={"one": signals["noise"], "other": -signals["noise"]}, least_sessions=200)
    early = found.daily.iloc[:150]
    assert early["turnover"].max() == pytest.approx(0.0, abs=1e-12)
    assert early["crossed"].max() > 0.05
    assert early["cost"].max() == pytest.approx(0.0, abs=1e-12)


def test_no_review_knows_its_future(world):
    signals, close, volume, dates = world
    whole = run(world)
    cut = 200
    part = run(({n: s[:cut] for n, s in signals.items()}, close[:cut], volume[:cut], dates[:cut]))
    rows = len(part.daily)
    pd.testing.assert_frame_equal(part.daily, whole.daily[:rows], check_exact=True)
    pd.testing.assert_frame_equal(part.reviews, whole.reviews[: len(part.reviews)], check_exact=True)


def test_limits_scale_down_and_are_counted(world):
    found = run(world, position=0.01, gross=0.2, pod_gross=0.5)
    assert (found.daily["long"] - found.daily["short"]).max() < 0.21
    assert {"pod 0 gross", "position"} <= set(found.bound)
    with pytest.raises(DataError, match="two or more"):
        run(world, signals={"one": world[0]["good"]})
