"""A walk's money against a slow ledger: shares, prices and cash, one symbol and one order at a time."""

import math
from dataclasses import replace

import numpy as np
import pytest

from portfolio.costs import CostRule
from portfolio.hedge import HedgeRule
from portfolio.holdings import BookState
from portfolio.sessions import Market, Signals, day_at
from portfolio.settlement import settle
from portfolio.walk import walk

START = 40


class IndexHedge:
    """A short future, or puts until their last day, in plain numbers."""

    def __init__(self, market, a_rule):
        self.market, self.rule, self.kind = market, a_rule.hedge, a_rule.stance.defence
        self.future, self.insured, self.level, self.end = 0.0, 0.0, 1.0, 0

    def carry(self, day):
        """Cash of a session."""
        gain, step = self.future * self.market.index_return[day], 1 + self.market.index_return[day]
        self.future, self.level = self.future * step, self.level * step
        if self.insured and day == self.end:
            gain += self.insured * max(self.rule.moneyness - self.level, 0.0)
            self.insured = 0.0
        return gain

    def worth(self, day):
        """What the puts would be sold at, by Black and Scholes."""
        if not self.insured:
            return 0.0
        spread = self.market.index_volatility[day] * math.sqrt((self.end - day) / 252)
        d1 = math.log(self.level / self.rule.moneyness) / spread + spread / 2
        strike = self.rule.moneyness * math.erfc((d1 - spread) / math.sqrt(2)) / 2
        return self.insured * (strike - self.level * math.erfc(d1 / math.sqrt(2)) / 2)

    def trade(self, day, wanted):
        """Cash paid to get to the notional that is wanted."""
        if self.kind == "future":
            costs = (
                abs(wanted - self.future) * self.rule.future_bps / 1e4 + abs(wanted) * self.rule.roll_bps / 1e4 / 252
            )
            self.future = wanted
            return costs
        if bool(self.insured) == (wanted > 0):
            return 0.0
        if self.insured:
            got, self.insured = self.worth(day), 0.0
            return -got * (1 - self.rule.put_markup)
        self.insured, self.level, self.end = wanted, 1.0, day + self.rule.put_sessions
        return self.worth(day) * (1 + self.rule.put_markup)

    def wanted(self, day, mode, weights, equity):
        """Notional that takes the beta of weights away, in the mode that hedges."""
        beta = self.market.factors["market"][day] @ weights
        if mode != "defensive" or self.kind == "passive":
            return 0.0
        return -beta * equity if self.kind == "future" else max(beta, 0.0) * equity


def ledger(market, found, a_rule, start):
    """Shares, prices and cash, one symbol at a time, from the weights that were asked for at each close."""
    costs, names = a_rule.construction.costs, len(market.symbols)
    prices = {
        "close": market.close,
        "open": market.open,
        "vwap": (market.high + market.low + market.close) / 3,
    }[a_rule.execution]
    cash, shares = a_rule.construction.capital, [0.0] * names
    last = [np.nan] * names
    pending, wealth = [], []
    index, hedge = IndexHedge(market, a_rule), 0.0
    for day in range(start, len(market.dates)):
        overnight = sum(-shares[i] * last[i] for i in range(names) if shares[i] < 0)
        fee = overnight * costs.borrow_bps / 1e4 / 252
        for i in range(names):
            close = market.close[day, i]
            if market.level_break[day, i] and np.isfinite(close):
                # As after a split: as many more shares as the price has fallen.
                shares[i] *= last[i] / close if shares[i] else 1.0
        for i, number, adv, sigma in pending:
            price = prices[day, i]
            halted = not np.isfinite(market.close[day, i]) or not market.volume[day, i] > 0
            if halted or not np.isfinite(price) or market.level_break[day, i] or market.delisted[day, i]:
                continue
            notional = abs(number * price)
            rate = (costs.commission_bps + costs.half_spread_bps) / 1e4
            rate += 2 / 3 * costs.impact * sigma * np.sqrt(notional / adv)
            cash -= number * price + notional * rate
            shares[i] += number
        for i in range(names):
            if np.isfinite(market.close[day, i]):
                last[i] = market.close[day, i]
            if market.delisted[day, i] and shares[i]:
                cash += shares[i] * last[i] * (1 + a_rule.delisting_return)
                shares[i] = 0.0
        cash += index.carry(day) - index.trade(day, hedge) - fee
        equity = cash + sum(shares[i] * last[i] for i in range(names) if shares[i]) + index.worth(day)
        wealth.append(equity)
        pending, row = [], day - start
        hedge = index.wanted(day, found.daily["mode"][row], found.targets[row], equity)
        for i in range(names) if found.daily["because"][row] else ():
            value = shares[i] * last[i] if shares[i] else 0.0
            if found.targets[row, i] == found.weights[row, i]:
                continue
            window = [market.close[d, i] * market.volume[d, i] for d in range(day - 20, day + 1)]
            window = [x for x in window if np.isfinite(x)]
            moves = []
            for d in range(max(1, day - 62), day + 1):
                if np.isfinite(market.close[d - 1 : d + 1, i]).all() and not market.level_break[d, i]:
                    moves.append(market.close[d, i] / market.close[d - 1, i] - 1)
            number = (found.targets[row, i] * equity - value) / last[i]
            pending.append((i, number, sum(window) / len(window), np.std(moves, ddof=1)))
    return np.array(wealth)


@pytest.mark.parametrize(
    ("execution", "defence"), [("close", "passive"), ("open", "passive"), ("close", "future"), ("vwap", "put")]
)
def test_the_ledger_agrees(world, rule, execution, defence):
    market, signals = world()
    limits = {}
    if defence != "passive":
        # Active, hedged for longer than a put lives, scaled, and hedged again; always with a beta.
        stress = np.repeat([0.1, 0.7, 0.1, 0.45, 0.65], [START + 8, 28, 7, 8, 9])
        signals, limits = replace(signals, p_stress=stress), {"net_low": 0.02, "net_high": 0.3}
    a_rule = rule(
        execution=execution,
        delisting_return=-0.3,
        rebalance_sessions=3,
        stance={"defence": defence, "dwell": 2},
        hedge=HedgeRule(put_sessions=12),
        limits=limits,
    )
    found = walk(market, signals, a_rule, start=START)
    slow = ledger(market, found, a_rule, START)
    daily = found.daily
    np.testing.assert_allclose(daily["equity"], slow, rtol=1e-11)
    assert np.abs(daily["equity"] - slow).max() < 0.005
    net = slow / np.concatenate([[a_rule.construction.capital], slow[:-1]]) - 1
    np.testing.assert_allclose(daily["net"], net, atol=1e-12)
    np.testing.assert_allclose(daily["net"], daily["gross"] - daily["cost"], atol=1e-14)
    # Everything that the case is there for happened.
    if defence != "passive":
        assert set(daily["mode"]) == {"active", "scaled", "defensive"}
        assert (daily["hedge"] != 0).sum() > 20
        assert (daily["hedge_cost"] > 0).sum() > 2
    held = found.weights != 0
    assert held[69 - START, 1], "the level break was not held over"
    assert held[65 - START, 2], "the halt was not held over"
    assert held[81 - START, 3], "the delisting was not held"
    assert daily["delisted"][82 - START] != 0
    assert daily["dropped"].max() > 0
    assert {"commission", "impact", "borrow"} <= {name for name in daily if (daily[name] != 0).any()}
    assert (found.filled[66 - START : 70 - START, 2] == 0).all()
    assert (found.filled[74 - START : 76 - START, 4] == 0).all()
    assert not held[82 - START :, 3].any()
    # A halted symbol is not even ordered.
    asked = found.targets != found.weights
    assert not asked[66 - START : 70 - START, 2].any()
    assert not asked[74 - START : 76 - START, 4].any()


def test_a_fill_to_the_cent(rule):
    """100 shares ordered at 100 are filled at 102; 50 of another are sold short at 20 and cost a night."""
    market = Market(
        np.datetime64("2020-01-01") + np.arange(3), ["A", "B"],
        close=np.array([[100.0, 20.0], [103.0, 19.0], [101.0, 21.0]]),
        volume=np.full((3, 2), 1e4),
        returns=np.full((3, 2), np.nan),
        index_return=np.zeros(3),
        open=np.array([[100.0, 20.0], [102.0, 20.5], [103.0, 19.5]]),
    )  # fmt: skip
    nothing = Signals(np.full((3, 2), np.nan), np.full((3, 2), np.nan), np.zeros(3))
    costs = CostRule(commission_bps=1.0, half_spread_bps=4.0, impact=1.0, borrow_bps=252.0)
    a_rule = rule(execution="open", capital=20_000.0, costs=costs)
    state = replace(
        BookState.start(["A", "B"], 20_000.0),
        last=market.close[0], orders=np.array([10_000.0, -1_000.0]),
        adv=np.array([1e6, 4e5]), volatility=np.array([0.02, 0.03]),
    )  # fmt: skip
    state, first = settle(state, day_at(market, nothing, 1, a_rule), a_rule)
    impact = 2 / 3 * 0.02 * np.sqrt(10_200 / 1e6) * 10_200 + 2 / 3 * 0.03 * np.sqrt(1_025 / 4e5) * 1_025
    assert first.filled == pytest.approx([10_200.0, -1_025.0])
    assert first.commission == pytest.approx((10_200 + 1_025) * 5e-4)
    assert first.impact == pytest.approx(impact)
    assert first.borrow == 0
    assert state.cash == pytest.approx(20_000 - 10_200 + 1_025 - 5.6125 - impact, abs=1e-9)
    assert state.value == pytest.approx([10_300.0, -950.0])
    state, second = settle(state, day_at(market, nothing, 2, a_rule), a_rule)
    assert second.borrow == pytest.approx(950 * 1e-4)
    assert second.gain == pytest.approx(-200 - 100)
    assert state.equity == pytest.approx(20_000 + 100 + 75 - 5.6125 - impact - 0.095 - 300, abs=1e-9)
