"""The same book in bt, an independent backtester: https://github.com/pmorissette/bt (MIT)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import bt
import numpy as np
import pandas as pd

from benchmarks.books import Aims, weekly
from portfolio.costs import BPS, CostRule
from portfolio.sessions import Market


@dataclass(frozen=True, eq=False)
class Charges:
    """What bt charges fills by: costs, and frames of the volume in shares and of the daily volatility."""

    costs: CostRule
    volume: pd.DataFrame
    volatility: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Ran:
    """`(T,)` equity by bt, and the CPU seconds of the run."""

    equity: np.ndarray
    cpu_s: float


def prices_of(market: Market, start: int) -> pd.DataFrame:
    """Closes, where there is none the last one: bt has no other way to hold what does not trade."""
    return pd.DataFrame(market.close, pd.DatetimeIndex(market.dates), list(market.symbols)).ffill()[start:]


def frame_of(values: np.ndarray, prices: pd.DataFrame) -> pd.DataFrame:
    """`(T, N)` values with the names of the prices."""
    return pd.DataFrame(values, prices.index, prices.columns)


def splits_of(market: Market, prices: pd.DataFrame) -> pd.DataFrame:
    """Shares after over shares before, where a price level breaks."""
    broken = frame_of(market.breaks[-len(prices) :], prices)
    ratio = (prices.shift(1) / prices).where(broken, 1.0).fillna(1.0)
    return ratio[(ratio != 1.0).any(axis=1)]


def aimed_at(aims: Aims, prices: pd.DataFrame) -> pd.DataFrame:
    """The weights aimed at, in the session after the decision."""
    return frame_of(aims.targets, prices).shift(1)[np.append(False, aims.asked[:-1])]


def run(
    prices: pd.DataFrame,
    splits: pd.DataFrame,
    charges: Charges,
    *,
    orders: pd.DataFrame | None = None,
    weights: pd.DataFrame | None = None,
    whole: bool = False,
) -> Ran:
    """Run a backtest of orders in shares, or of weights to trade to; rows of the sessions in which to trade."""
    given = orders if orders is not None else weights
    by_day = {day: row[row != 0] for day, row in given.iterrows()}
    trade = [_Send(by_day)] if orders is not None else [_Aim(by_day), bt.algos.Rebalance()]
    costs = charges.costs
    rate = (costs.commission_bps + costs.half_spread_bps) * BPS
    test = bt.Backtest(
        bt.Strategy("book", [bt.algos.CorporateActions(pd.DataFrame(), splits), *trade]),
        prices,
        initial_capital=weekly().construction.capital,
        commissions=_SquareRoot(rate, costs.impact) if costs.impact else _proportional(rate),
        integer_positions=whole,
        volume=charges.volume,
        volatility=charges.volatility,
    )
    began = time.process_time()
    test.run()
    return Ran(test.strategy.values.to_numpy()[1:], time.process_time() - began)


class _Send(bt.Algo):
    """Send orders of as many shares as are given."""

    def __init__(self, by_day: dict[pd.Timestamp, pd.Series]) -> None:
        super().__init__()
        self._by_day = by_day

    def __call__(self, target: Any) -> bool:
        for name, number in self._by_day.get(target.now, pd.Series(dtype=float)).items():
            target.transact(number, child=name)
        return True


class _Aim(bt.Algo):
    """Name the weights of the sessions that have some; the others end here."""

    def __init__(self, by_day: dict[pd.Timestamp, pd.Series]) -> None:
        super().__init__()
        self._by_day = by_day

    def __call__(self, target: Any) -> bool:
        target.temp["weights"] = self._by_day.get(target.now)
        return target.now in self._by_day


class _SquareRoot(bt.core.SqrtCostModel):
    """bt's square-root law, and a cost in proportion beside it."""

    def __init__(self, rate: float, coefficient: float) -> None:
        super().__init__(coefficient)
        self._rate = rate

    def cost(self, q: float, p: float, V: float, sigma: float) -> float:
        return super().cost(q, p, V, sigma) + self._rate * abs(q) * p


def _proportional(rate: float) -> Callable[[float, float], float]:
    return lambda number, price: rate * abs(number) * price
