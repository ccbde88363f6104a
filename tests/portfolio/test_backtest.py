import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from portfolio.backtest import GONE_SESSIONS, BacktestRule, backtest, price_returns, summarise, target_weights
from portfolio.costs import CostRule

FREE = CostRule(commission_bps=0.0, half_spread_bps=0.0, impact=0.0, borrow_bps=0.0)


def _market(days=60, names=20, seed=0):
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(0.02 * rng.normal(size=(days, names)), axis=0))
    close[rng.random(close.shape) < 0.03] = np.nan
    volume = rng.uniform(1e5, 1e6, close.shape)
    signal = rng.normal(size=close.shape)
    signal[rng.random(close.shape) < 0.05] = np.nan
    signal[:15] = np.nan
    sector = np.arange(names) % 3
    dates = np.arange("2020-01-01", "2020-03-01", dtype="datetime64[D]")[:days]
    return signal, close, volume, dates, sector


def _slow(signal, close, volume, rule, sector):
    """Shares and cash, one order at a time; targets, volumes and volatilities from scratch each day."""
    days, names = signal.shape

    def portfolio(day):
        if np.isfinite(signal[day]).sum() < rule.min_names:
            return np.zeros(names)
        weights = np.zeros(names)
        for group in np.unique(sector):
            members = [n for n in range(names) if sector[n] == group and np.isfinite(signal[day, n])]
            for n in members:
                below = sum(signal[day, m] < signal[day, n] for m in members)
                weights[n] = (below + 0.5) / len(members) - 0.5
        return rule.gross * weights / np.abs(weights).sum()

    cash, shares, last = 1.0, np.zeros(names), np.full(names, np.nan)
    history, rows = [[] for _ in range(names)], []
    wealth_before, held_before = 1.0, False
    for day in range(days):
        previous = last.copy()
        for n in range(names):
            if np.isfinite(close[day, n]):
                last[n] = close[day, n]
        target = sum(portfolio(d) for d in range(max(0, day - rule.hold_sessions), day)) / rule.hold_sessions
        value = np.array([shares[n] * last[n] if shares[n] else 0.0 for n in range(names)])
        wealth = cash + value.sum()
        gross = wealth / wealth_before - 1
        short = sum(-shares[n] * previous[n] for n in range(names) if shares[n] < 0) / wealth_before
        paid = wealth * short * rule.costs.borrow_bps * 1e-4 / 252
        cash -= paid
        traded = 0.0
        for n in range(names):
            window = [close[d, n] * volume[d, n] for d in range(max(0, day - rule.adv_sessions), day)]
            window = [v for v in window if np.isfinite(v)]
            moves = [r for r in history[n][-rule.volatility_sessions :] if np.isfinite(r)]
            if not np.isfinite(close[day, n]) or len(window) < 10 or len(moves) < 10:
                continue
            order = (target[n] if held_before or np.abs(target).sum() else 0.0) * wealth - value[n]
            size = abs(order) / wealth
            if size == 0:
                continue
            impact = 2 / 3 * rule.costs.impact * np.std(moves, ddof=1)
            impact *= np.sqrt(size * rule.capital / np.mean(window))
            fee = size * wealth * ((rule.costs.commission_bps + rule.costs.half_spread_bps) * 1e-4 + impact)
            shares[n] += order / close[day, n]
            cash -= order + fee
            paid += fee
            traded += size
        held_before = True
        for n in range(names):
            step = close[day, n] / previous[n] - 1 if day and np.isfinite(previous[n]) else 0.0
            history[n].append(step if np.isfinite(close[day, n]) else np.nan)
        net = (wealth - paid) / wealth_before - 1
        rows.append((gross, net, traded / 2))
        wealth_before = wealth - paid
    return np.array(rows)


def test_equals_a_book_of_shares_and_cash():
    signal, close, volume, dates, sector = _market()
    rule = BacktestRule(min_names=5, capital=3e6)
    got = backtest(signal, close, volume, dates, rule, sector=sector).daily
    expected = _slow(signal, close, volume, rule, sector)[-len(got) :]
    assert len(got) == len(dates) - 16
    np.testing.assert_allclose(got[["gross", "net", "turnover"]].to_numpy(), expected, atol=1e-9, rtol=0)
    np.testing.assert_allclose(got["gross"] - got["cost"], got["net"], atol=1e-15)
    assert (got["cost"] > 0).all()


def test_trades_at_the_next_close():
    """A signal that knows tomorrow's return earns nothing from it; one that knows the day after's does."""
    rng = np.random.default_rng(1)
    returns = 0.02 * rng.normal(size=(300, 40))
    close = np.exp(np.cumsum(returns, axis=0))
    dates = np.arange(300).astype("datetime64[D]")
    rule = BacktestRule(hold_sessions=1, costs=FREE, sector_neutral=False)
    tomorrow = np.vstack([returns[1:], np.zeros((1, 40))])
    after = np.vstack([returns[2:], np.zeros((2, 40))])
    assert abs(backtest(tomorrow, close, close, dates, rule).summary["gross_sharpe"]) < 3
    assert backtest(after, close, close, dates, rule).summary["gross_sharpe"] > 30


def test_the_future_changes_no_past_day():
    signal, close, volume, dates, sector = _market()
    rule = BacktestRule(min_names=5)
    full = backtest(signal, close, volume, dates, rule, sector=sector).daily
    cut = backtest(signal[:40], close[:40], volume[:40], dates[:40], rule, sector=sector).daily
    pd.testing.assert_frame_equal(full[: len(cut)], cut)


def test_weights_are_neutral_and_scaled():
    signal, _, _, _, sector = _market()
    rule = BacktestRule(min_names=5, hold_sessions=1, gross=1.5)
    weights = target_weights(signal, rule, sector)
    live = weights[15:]
    np.testing.assert_allclose(np.abs(live).sum(axis=1), 1.5)
    for code in range(3):
        np.testing.assert_allclose(live[:, sector == code].sum(axis=1), 0, atol=1e-12)
    assert (weights[:15] == 0).all()
    order = np.random.default_rng(0).permutation(20)
    np.testing.assert_allclose(target_weights(signal[:, order], rule, sector[order]), weights[:, order])


def test_a_stock_without_a_close_keeps_its_position():
    days, names = 40, 20
    close = np.full((days, names), 10.0)
    close += np.random.default_rng(3).normal(size=close.shape) * 0.01
    close[30:, 0] = np.nan
    signal = np.tile(np.arange(names, dtype=float), (days, 1))
    signal[31:] = np.nan
    daily = backtest(
        signal, close, close * 1e6, np.arange(days).astype("datetime64[D]"), BacktestRule(costs=FREE)
    ).daily
    assert daily["names"].iloc[-1] == 1
    assert daily["short"].iloc[-1] < 0


def test_a_level_break_is_no_return():
    close = np.ones((60, 30)) * np.exp(np.random.default_rng(5).normal(size=(60, 30)) * 1e-4)
    signal = np.tile(np.arange(30.0), (60, 1))
    halved = close.copy()
    halved[50:, 29] /= 2
    flag = np.zeros_like(close)
    flag[50, 29] = 1
    dates, rule = np.arange(60).astype("datetime64[D]"), BacktestRule(costs=FREE)
    bad = backtest(signal, halved, close, dates, rule).daily["gross"].min()
    good = backtest(signal, halved, close, dates, rule, level_break=flag).daily["gross"].min()
    assert bad < -0.01
    assert good > -0.001


def test_who_comes_back_after_a_delisting_has_no_return_over_it():
    close = np.full((40, 3), 10.0)
    close[5 : 5 + GONE_SESSIONS - 1, 1] = np.nan
    close[5 : 5 + GONE_SESSIONS, 2] = np.nan
    close[5 + GONE_SESSIONS - 1 :, 1] = 11.0
    close[5 + GONE_SESSIONS :, 2] = 11_000.0
    returns, market = price_returns(close)
    assert returns[5 + GONE_SESSIONS - 1, 1] == pytest.approx(0.1)
    assert market[5 + GONE_SESSIONS - 1] == pytest.approx(0.05)
    assert (returns[:, 2] == 0).all()
    assert (market[5 + GONE_SESSIONS :] == 0).all()


def test_larger_capital_costs_more():
    signal, close, volume, dates, sector = _market()
    small, large = (
        backtest(signal, close, volume, dates, BacktestRule(min_names=5, capital=c), sector=sector).summary
        for c in (1e5, 1e8)
    )
    assert large["cost_annual"] > 2 * small["cost_annual"]
    assert large["gross_return"] == pytest.approx(small["gross_return"], abs=0.02)


def test_fewer_rebalances_trade_less():
    signal, close, volume, dates, sector = _market()
    daily, weekly = (
        backtest(signal, close, volume, dates, BacktestRule(min_names=5, rebalance_sessions=k), sector=sector).summary
        for k in (1, 5)
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


def test_bad_input():
    signal, close, volume, dates, _ = _market()
    with pytest.raises(DataError, match=r"close has shape \(60, 19\)"):
        backtest(signal, close[:, 1:], volume, dates, BacktestRule())
    with pytest.raises(DataError, match="no session has 50 signals"):
        backtest(signal, close, volume, dates, BacktestRule(min_names=50))
    with pytest.raises(DataError, match="no session to summarise"):
        summarise(pd.DataFrame({"net": [], "gross": [], "cost": [], "market": []}))
