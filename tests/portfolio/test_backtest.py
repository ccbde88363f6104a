from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DataError
from portfolio.backtest import RankRule, backtest, follow, target_weights
from portfolio.costs import CostRule
from portfolio.performance import summarise
from portfolio.sessions import GONE_SESSIONS, Signals, day_at, long_gone

FREE = CostRule(commission_bps=0.0, half_spread_bps=0.0, impact=0.0, borrow_bps=0.0)


def _market(market_of, days=90, names=20, seed=0):
    """Prices with halts, two delistings of which one comes back, a level break, sessions without volume."""
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(0.02 * rng.normal(size=(days, names)), axis=0))
    close[rng.random(close.shape) < 0.03] = np.nan
    close[45:, 0] = np.nan
    close[40 : 40 + GONE_SESSIONS + 2, 1] = np.nan
    close[40 + GONE_SESSIONS + 2 :, 1] *= 1000
    close[50:, 2] /= 4
    volume = rng.uniform(1e5, 1e6, close.shape)
    volume[rng.random(close.shape) < 0.02] = 0
    breaks = np.zeros(close.shape)
    breaks[50, 2] = 1
    market = market_of(
        close, volume, level_break=breaks, delisted=long_gone(close), sector=np.arange(names) % 3,
        open=close * rng.uniform(0.99, 1.01, close.shape),
    )  # fmt: skip
    signal = rng.normal(size=close.shape)
    signal[rng.random(close.shape) < 0.05] = np.nan
    signal[:15] = np.nan
    return signal, market


def _slow_targets(signal, sector, rule):
    """Rank portfolios, one symbol at a time, averaged."""
    days, names = signal.shape
    alone = np.zeros((days, names))
    for day in range(days):
        if np.isfinite(signal[day]).sum() < rule.min_names:
            continue
        for group in np.unique(sector):
            members = [n for n in range(names) if sector[n] == group and np.isfinite(signal[day, n])]
            for n in members:
                below = sum(signal[day, m] < signal[day, n] for m in members)
                alone[day, n] = (below + 0.5) / len(members) - 0.5
        alone[day] *= rule.gross / np.abs(alone[day]).sum()
    return np.array([alone[max(0, t + 1 - rule.hold_sessions) : t + 1].sum(axis=0) for t in range(days)]) / (
        rule.hold_sessions
    )


def _slow(targets, market, rule, every=1):
    """Shares and cash of one account, one symbol at a time; `gross, net, turnover, long, short, names` of a session."""
    days, names = targets.shape
    costs, start = rule.construction.costs, rule.construction.capital
    first = min(t for t in range(days) if targets[t].any())
    shares, last = [0.0] * names, [np.nan] * names
    orders, rows = {}, []
    for day in range(first, days):
        close, traded = market.close[day], 0.0
        fees = sum(-shares[n] * last[n] for n in range(names) if shares[n] < 0) * costs.borrow_bps * 1e-4 / 252
        earned = 0.0
        for n in range(names):
            here, broken = np.isfinite(close[n]), market.level_break[day, n] != 0
            if shares[n] and here and broken:
                shares[n] *= last[n] / close[n]
            elif shares[n] and here:
                earned += shares[n] * (close[n] - last[n])
            price = market.open[day, n] if rule.execution == "open" else close[n]
            if n in orders and here and not broken and market.volume[day, n] > 0:
                number, adv, sigma = orders[n]
                size = abs(number * price)
                rate = (costs.commission_bps + costs.half_spread_bps) * 1e-4
                fees += size * (rate + 2 / 3 * costs.impact * sigma * np.sqrt(size / adv))
                earned += number * (close[n] - price)
                traded += size
                shares[n] += number
            last[n] = close[n] if here else last[n]
            if market.delisted[day, n] and shares[n]:
                earned += shares[n] * last[n] * rule.delisting_return
                shares[n] = 0.0
        held = [shares[n] * last[n] if shares[n] else 0.0 for n in range(names)]
        wealth = start + earned - fees
        if day > first:
            weights = [value / wealth for value in held]
            long, short = sum(w for w in weights if w > 0), sum(w for w in weights if w < 0)
            row = earned / start, wealth / start - 1, traded / start / 2, long, short, sum(w != 0 for w in weights)
            rows.append(row)
        # What was earned is paid out.
        shares = [number * start / wealth for number in shares]
        orders = {}
        for n in range(names) if (day - first) % every == 0 else ():
            if not np.isfinite(close[n]) or not market.volume[day, n] > 0:
                continue
            amounts = market.close[max(0, day - 20) : day + 1, n] * market.volume[max(0, day - 20) : day + 1, n]
            amounts = amounts[np.isfinite(amounts)]
            moves = [
                market.close[d, n] / market.close[d - 1, n] - 1
                for d in range(max(1, day - 62), day + 1)
                if np.isfinite(market.close[d - 1 : d + 1, n]).all() and not market.level_break[d, n]
            ]
            if len(amounts) < 10.5 or len(moves) < 31.5:
                continue
            value = shares[n] * last[n] if shares[n] else 0.0
            number = (targets[day, n] * start - value) / last[n]
            if number:
                orders[n] = number, amounts.mean(), np.std(moves, ddof=1)
    return np.array(rows)


FIGURES = ["gross", "net", "turnover", "long", "short", "names"]


@pytest.mark.parametrize("execution", ["close", "open"])
def test_equals_an_account_of_shares_and_cash(market_of, rule, execution):
    signal, market = _market(market_of)
    rank, book = RankRule(min_names=5), rule(capital=3e6, execution=execution, delisting_return=-0.3)
    got = backtest(signal, market, rank, book).daily
    expected = _slow(_slow_targets(signal, market.sector, rank), market, book)
    assert len(got) == len(market.dates) - 16
    np.testing.assert_allclose(got[FIGURES].to_numpy(), expected, atol=1e-11, rtol=0)
    np.testing.assert_allclose(got["gross"] - got["cost"], got["net"], atol=1e-13)
    # The last sessions hold positions of everything that happened.
    assert got["names"].iloc[-1] >= 15


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    every=st.integers(1, 4),
    books=st.integers(1, 3),
    capital=st.floats(1e4, 1e9),
    borrow=st.floats(0, 500),
    lost=st.floats(-1, 0),
)
def test_any_target_weights_equal_an_account_of_shares_and_cash(
    market_of, rule, seed, every, books, capital, borrow, lost
):
    rng = np.random.default_rng(seed)
    _, market = _market(market_of, days=75, names=8, seed=seed)
    targets = rng.normal(0, 0.1, (books, *market.close.shape)) * (rng.random((books, *market.close.shape)) < 0.7)
    targets[:, : int(rng.integers(0, 40))] = 0.0
    a_rule = rule(capital=capital, costs=CostRule(borrow_bps=borrow), delisting_return=lost)
    walked = list(follow(targets, market, a_rule, every))
    got = np.array([[done.figures(weights)[name] for name in FIGURES] for _, weights, done, _ in walked])
    np.testing.assert_allclose(got[:, :5], _slow(targets.sum(axis=0), market, a_rule, every)[:, :5], atol=1e-9, rtol=0)
    for _, _, done, traded in walked:
        np.testing.assert_allclose(traded.sum(axis=0), done.filled, atol=1e-9 * capital)


def test_volume_and_volatility_are_those_of_the_book(market_of, rule):
    signal, market = _market(market_of)
    a_rule = rule(adv_sessions=13, volatility_sessions=30)
    adv, volatility = market.liquidity(13, 30)
    nothing = Signals(signal * np.nan, signal * np.nan, signal[:, 0] * np.nan)
    for t in (0, 20, 89):
        day = day_at(market, nothing, t, a_rule)
        np.testing.assert_array_equal(day.liquidity(a_rule), [adv[t], volatility[t]])


def test_trades_at_the_next_close(market_of, rule):
    """A signal that knows tomorrow's return earns nothing from it; one that knows the day after's does."""
    rng = np.random.default_rng(1)
    returns = 0.02 * rng.normal(size=(300, 40))
    close = np.exp(np.cumsum(returns, axis=0))
    market, rank = market_of(close, close), RankRule(hold_sessions=1, sector_neutral=False)
    tomorrow = np.vstack([returns[1:], np.zeros((1, 40))])
    after = np.vstack([returns[2:], np.zeros((2, 40))])
    assert abs(backtest(tomorrow, market, rank, rule(costs=FREE)).summary["gross_sharpe"]) < 3
    assert backtest(after, market, rank, rule(costs=FREE)).summary["gross_sharpe"] > 30


def test_the_future_changes_no_past_day(market_of, rule):
    signal, market = _market(market_of)
    panels = ("close", "volume", "returns", "index_return", "open", "level_break", "delisted", "dates")
    early = replace(market, **{name: getattr(market, name)[:60] for name in panels})
    full = backtest(signal, market, RankRule(min_names=5), rule()).daily
    cut = backtest(signal[:60], early, RankRule(min_names=5), rule()).daily
    pd.testing.assert_frame_equal(full[: len(cut)], cut)


def test_weights_are_neutral_and_scaled(market_of):
    signal, market = _market(market_of)
    rank, sector = RankRule(min_names=5, hold_sessions=1, gross=1.5), market.sector
    weights = target_weights(signal, rank, sector)
    live = weights[15:]
    np.testing.assert_allclose(np.abs(live).sum(axis=1), 1.5)
    for code in range(3):
        np.testing.assert_allclose(live[:, sector == code].sum(axis=1), 0, atol=1e-12)
    assert (weights[:15] == 0).all()
    order = np.random.default_rng(0).permutation(20)
    np.testing.assert_allclose(target_weights(signal[:, order], rank, sector[order]), weights[:, order])


def _still(days, names=20, spread=0.01):
    return 10 + np.random.default_rng(3).normal(size=(days, names)) * spread


def test_a_stock_without_a_close_keeps_its_position_until_it_is_delisted(market_of, rule):
    close = _still(90)
    close[60:, 0] = np.nan
    signal = np.tile(np.arange(20.0), (90, 1))
    signal[61:] = np.nan
    market = market_of(close, close * 1e6, delisted=long_gone(close))
    daily = backtest(signal, market, RankRule(), rule(costs=FREE, delisting_return=-0.3)).daily.set_index("date")
    last = market.dates[59 + GONE_SESSIONS]
    assert daily.loc[market.dates[70] : last - 1, "names"].eq(1).all()
    short = daily.loc[last - 1, "short"]
    assert short < 0
    assert daily.loc[last:, "names"].eq(0).all()
    # A short gains what the holders of a delisted stock lose.
    assert daily.loc[last, "gross"] == pytest.approx(-0.3 * short)


def test_a_level_break_is_no_return(market_of, rule):
    close = _still(90, 30, 1e-3)
    signal = np.tile(np.arange(30.0), (90, 1))
    close[70:, 29] /= 2
    flag = np.zeros_like(close)
    flag[70, 29] = 1
    bad, good = (
        backtest(signal, market_of(close, close, level_break=breaks), RankRule(), rule(costs=FREE)).daily["gross"].min()
        for breaks in (np.zeros_like(close), flag)
    )
    assert bad < -0.01
    assert good > -0.001


def test_who_comes_back_after_a_delisting_has_no_return_over_it(market_of, rule):
    """A share that returns out of a bankruptcy at a thousand times the price is another share."""
    close = np.full((90, 3), 10.0)
    close[45 : 45 + GONE_SESSIONS - 1, 1] = np.nan
    close[45 : 45 + GONE_SESSIONS, 2] = np.nan
    close[45 + GONE_SESSIONS - 1 :, 1] = 11.0
    close[45 + GONE_SESSIONS :, 2] = 11_000.0
    market = market_of(close, np.full(close.shape, 1e6), delisted=long_gone(close))
    # Nowhere a return over a gap: not of a symbol, and not in the index.
    assert np.isnan(market.returns[45 + GONE_SESSIONS - 1, 1])
    assert (np.nan_to_num(market.returns) == 0).all()
    assert (market.index_return == 0).all()
    # A position over a halt gains what the price does, and one over a delisting is cash before the price returns.
    targets = np.zeros((1, 90, 3))
    targets[0, 40:] = [0.0, 0.2, 0.2]
    daily = {market.dates[t]: done.gain for t, _, done, _ in follow(targets, market, rule(costs=FREE, capital=100.0))}
    earned = {day: gain for day, gain in daily.items() if abs(gain) > 1e-9}
    assert earned == {market.dates[45 + GONE_SESSIONS - 1]: pytest.approx(0.2 * 100 * 0.1)}


def test_larger_capital_costs_more(market_of, rule):
    signal, market = _market(market_of)
    small, large = (backtest(signal, market, RankRule(min_names=5), rule(capital=c)).summary for c in (1e5, 1e8))
    assert large["cost_annual"] > 2 * small["cost_annual"]
    assert large["gross_return"] == pytest.approx(small["gross_return"], abs=0.02)


def test_fewer_rebalances_trade_less(market_of, rule):
    signal, market = _market(market_of)
    daily, weekly = (
        backtest(signal, market, RankRule(min_names=5, rebalance_sessions=k), rule()).summary for k in (1, 5)
    )
    assert weekly["turnover"] < daily["turnover"]


def test_summary_values():
    daily = pd.DataFrame(
        {
            "gross": [0.02, -0.01, 0.03, 0.0],
            "cost": 0.001,
            "net": [0.019, -0.011, 0.029, -0.001],
            "turnover": 0.2,
            "names": 10,
            "market": [0.01, -0.02, 0.01, 0.0],
        }
    )
    got = summarise(daily)
    assert got["net_return"] == pytest.approx(0.009 * 252)
    assert got["max_drawdown"] == pytest.approx(0.011)
    assert got["net_sharpe"] == pytest.approx(0.009 / np.std(daily["net"], ddof=1) * np.sqrt(252))
    assert got["cost_share"] == pytest.approx(0.1)
    assert got["beta"] == pytest.approx(np.cov(daily["market"], daily["net"])[0, 1] / np.var(daily["market"], ddof=1))


def test_bad_input(market_of, rule):
    signal, market = _market(market_of)
    with pytest.raises(DataError, match=r"signal of shape \(90, 19\)"):
        backtest(signal[:, 1:], market, RankRule(), rule())
    with pytest.raises(DataError, match="no session has 50 signals"):
        backtest(signal, market, RankRule(min_names=50), rule())
    with pytest.raises(DataError, match="no session to summarise"):
        summarise(pd.DataFrame({"net": [], "gross": [], "cost": [], "market": []}))
    with pytest.raises(DataError, match="returns has shape"):
        replace(market, returns=market.returns[1:])
