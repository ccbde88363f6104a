import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from portfolio.backtest import RankRule, backtest
from portfolio.costs import CostRule
from portfolio.pod_walk import PodsRule, walk_pods

T, N = 260, 30
FREE = CostRule(commission_bps=0.0, half_spread_bps=0.0, impact=0.0, borrow_bps=0.0)
RANK = RankRule(min_names=10)


def better(net):
    """Share of good days, in place of the probabilistic Sharpe ratio."""
    return float((net > 0).mean())


@pytest.fixture(scope="module")
def signals_and_market(market_of):
    rng = np.random.default_rng(1)
    returns = rng.normal(0, 0.01, (T, N))
    close = 50 * np.exp(np.cumsum(returns, axis=0))
    tomorrow = np.zeros((T, N))
    tomorrow[:-2] = returns[2:]
    signals = {"good": tomorrow + rng.normal(0, 0.02, (T, N)), "noise": rng.normal(size=(T, N))}
    # Before the first signal volumes and volatilities become known.
    signals = {name: np.where(np.arange(T)[:, None] < 40, np.nan, signal) for name, signal in signals.items()}
    return signals, market_of(close, np.full((T, N), 1e6))


@pytest.fixture
def run(signals_and_market, rule):
    def run(signals=None, market=None, costs=CostRule(), **given):  # noqa: B008
        few = {"review_sessions": 20, "evidence_sessions": 120, "least_sessions": 60, "position": 0.05}
        known, all_of_it = signals_and_market
        return walk_pods(
            signals or known, market or all_of_it, RANK, rule(costs=costs), PodsRule(**few | given), better
        )

    return run


def test_evidence_moves_the_capital(run):
    found = run(budget=1.0, position=None)
    shares = found.reviews.pivot(index="date", columns="pod", values="share")
    assert shares.iloc[0].tolist() == [0.5, 0.5]
    assert shares.iloc[-1]["good"] > 0.8
    assert found.daily["net"].iloc[-100:].mean() > found.alone["noise"]["net"].iloc[-100:].mean()
    assert found.figures["shares"]["good"] == shares.iloc[-1]["good"]
    assert found.figures["saved"] > 0
    assert found.daily["net"].to_numpy() == pytest.approx((found.daily["gross"] - found.daily["cost"]).to_numpy())


def test_pods_of_one_signal_are_that_portfolio(run, signals_and_market, rule):
    signals, market = signals_and_market
    twice = run(signals={"one": signals["good"], "other": signals["good"]}, budget=1.0, position=None)
    alone = backtest(signals["good"], market, RANK, rule()).daily
    for name in ("net", "cost", "turnover", "long", "market"):
        pd.testing.assert_series_equal(twice.daily[name], alone[name], atol=1e-12, check_exact=False)
    assert twice.daily["crossed"].max() == pytest.approx(0.0, abs=1e-12)


def test_opposite_pods_cross_everything(run, signals_and_market):
    signals, _ = signals_and_market
    found = run(signals={"one": signals["noise"], "other": -signals["noise"]}, least_sessions=200)
    early = found.daily.iloc[:150]
    assert early["turnover"].max() == pytest.approx(0.0, abs=1e-12)
    assert early["crossed"].max() > 0.05
    assert early["cost"].max() == pytest.approx(0.0, abs=1e-12)


def test_no_review_knows_its_future(run, signals_and_market, market_of):
    signals, market = signals_and_market
    cut = 200
    early = market_of(market.close[:cut], market.volume[:cut])
    part, whole = run(signals={n: s[:cut] for n, s in signals.items()}, market=early), run()
    rows = len(part.daily)
    pd.testing.assert_frame_equal(part.daily, whole.daily[:rows], check_exact=True)
    pd.testing.assert_frame_equal(part.reviews, whole.reviews[: len(part.reviews)], check_exact=True)


def test_limits_scale_down_and_are_counted(run, signals_and_market):
    found = run(position=0.01, gross=0.2, pod_gross=0.5)
    assert (found.daily["long"] - found.daily["short"]).max() < 0.21
    assert {"pod 0 gross", "position"} <= set(found.bound)
    with pytest.raises(DataError, match="two or more"):
        run(signals={"one": signals_and_market[0]["good"]})
