"""The book's accounting against bt's: `python -m benchmarks.cross_check [--bundle FOLDER]`.

The weekly optimiser is walked once through a market; its weights are then accounted for at several costs by
`portfolio.settlement` and by `bt`, an independent backtester (MIT; `pip install 'bt>=1.4'`), and the two equities are
compared day by day. bt is given the same thing in four ways:

- `orders`: the shares that were filled, on the day they were;
- `held`: the weights that the book had after each fill, which bt trades to at the same close;
- `held, whole shares`: the same with bt's default, no fractions of a share;
- `aimed at`: the weights as decided, which bt trades to at the next close, where the book sends the shares that they
  were at the close of the decision.

Markets: a simulated one, and of a folder of tables that `--bundle` names. Printed as JSON on standard output.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.books import market_of, weekly
from portfolio.costs import BPS, CostRule
from portfolio.holdings import BookState
from portfolio.sessions import Market, Signals, day_at
from portfolio.settlement import settle
from portfolio.walk import Walk, walk

FREE = CostRule(commission_bps=0.0, half_spread_bps=0.0, impact=0.0, borrow_bps=0.0)
COSTS = {
    "none": FREE,
    "proportional": CostRule(impact=0.0, borrow_bps=0.0),
    "proportional and impact": CostRule(borrow_bps=0.0),
}
SESSIONS_PER_YEAR = 252


def main() -> None:
    """Check every market asked for and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="folder of tables of a real market")
    parser.add_argument("--first", default="2010-01-04", help="first session of it that is traded")
    parser.add_argument("--last", default="2016-12-30", help="last one")
    parser.add_argument("--symbols", type=int, default=60, help="symbols of the simulated market")
    parser.add_argument("--years", type=int, default=3, help="its years, the first of them not traded")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()},
        "bt": version("bt"),
        "simulated": simulated(arguments.symbols, arguments.years),
    }
    if arguments.bundle:
        result["real"] = check(*market_of(arguments.bundle, arguments.first, arguments.last))
    print(json.dumps(result, indent=1))


def simulated(symbols: int, years: int) -> dict[str, Any]:
    """Check a market of the project's own simulation."""
    from sources.simulation.archive import write_world
    from sources.simulation.params import SimulationParams

    first = datetime.date(2018 - years, 1, 2)
    with tempfile.TemporaryDirectory(prefix="cross-check-") as folder:
        write_world(SimulationParams(symbols=symbols, start=first), Path(folder) / "market")
        return check(*market_of(Path(folder) / "market", f"{first.year + 1}-01-01", "2017-12-29"))


def check(market: Market, signals: Signals, start: int) -> dict[str, Any]:
    """Walk a market and hold the accounts of its weights against bt's."""
    found = walk(market, signals, weekly(), start=start)
    same = account(market, signals, found, weekly().construction.costs, start)
    prices = pd.DataFrame(market.close, pd.DatetimeIndex(market.dates), list(market.symbols)).ffill()[start:]
    result: dict[str, Any] = {
        "symbols": len(market.symbols),
        "sessions": len(prices),
        "rebalances": int((found.daily["because"] != "").sum()),
        "names": round(float(found.daily["names"].mean()), 1),
        "turnover_annual": round(float(found.daily["turnover"].mean()) * SESSIONS_PER_YEAR, 2),
        # The weights alone, accounted for again, are the walk.
        "walk_again": float(np.abs(same.equity / found.daily["equity"].to_numpy() - 1.0).max()),
        "against_bt": [],
    }
    for name, costs in COSTS.items():
        ours = account(market, signals, found, costs, start)
        for way, theirs, spent in peers(market, found, ours, prices, costs):
            result["against_bt"].append(
                {"costs": name, "bt_is_given": way, **differences(ours.equity, theirs), "bt_cpu_s": round(spent, 1)}
            )
    return result


@dataclass(frozen=True)
class Account:
    """What the book's accounting makes of given weights: equity, and what was traded at which liquidity.

    Attributes
    ----------
    equity
        `(T,)` currency at each close.
    shares
        `(T, N)` filled in the session.
    held
        `(T, N)` weights at the close.
    volume, volatility
        `(T, N)` shares a session, and daily volatility, that the session's fills were charged by.
    """

    equity: np.ndarray
    shares: np.ndarray
    held: np.ndarray
    volume: np.ndarray
    volatility: np.ndarray


def account(market: Market, signals: Signals, found: Walk, costs: CostRule, start: int) -> Account:
    """Settle the weights that a walk asked for, at other costs."""
    rule = weekly(costs)
    state = BookState.start(market.symbols, rule.construction.capital)
    rows = []
    for row, because in enumerate(found.daily["because"]):
        day = day_at(market, signals, start + row, rule)
        adv, volatility = state.adv, state.volatility
        state, done = settle(state, day, rule)
        with np.errstate(invalid="ignore"):
            rows.append((done.after, done.filled / day.close, state.weights, adv / day.close, volatility))
        if because:
            asked = found.targets[row]
            orders = np.where(asked == found.weights[row], 0.0, asked * state.equity - state.value)
            adv, volatility = day.liquidity(rule)
            state = replace(state, orders=orders, adv=adv, volatility=volatility)
    return Account(*(np.nan_to_num(np.array(column)) for column in zip(*rows, strict=True)))


def differences(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """How far apart two equities are: daily returns, their tracking error a year, and the end."""
    steps = [np.diff(equity) / equity[:-1] for equity in (ours, theirs)]
    apart = steps[0] - steps[1]
    return {
        "largest_daily_return": float(np.abs(apart).max()),
        "tracking_bps_annual": float(apart.std() * np.sqrt(SESSIONS_PER_YEAR) / BPS),
        "return_bps_annual": float(apart.mean() * SESSIONS_PER_YEAR / BPS),
        "equity_at_the_end": float(theirs[-1] / ours[-1] - 1.0),
    }


# --- bt --------------------------------------------------------------------------------------------------------


def peers(
    market: Market, found: Walk, ours: Account, prices: pd.DataFrame, costs: CostRule
) -> list[tuple[str, np.ndarray, float]]:
    """What bt makes of the same, by the way it is given it: its equity and CPU seconds."""

    def frame(values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(values, prices.index, prices.columns)

    asked = (found.daily["because"] != "").to_numpy()
    later = np.append(False, asked[:-1])
    held = frame(np.where(ours.held == 0, np.nan, ours.held))[later]
    aims = frame(np.vstack([found.targets[:1] * 0.0, found.targets[:-1]]))[later]
    splits = splits_of(market, prices)
    shares = frame(ours.shares)[(ours.shares != 0).any(axis=1)]
    charged = {"costs": costs, "volume": frame(ours.volume), "volatility": frame(ours.volatility)}
    runs = [("orders", run(prices, splits, orders=shares, **charged))]
    if not costs.impact:
        runs.append(("held", run(prices, splits, weights=held, **charged)))
        runs.append(("held, whole shares", run(prices, splits, weights=held, whole=True, **charged)))
        runs.append(("aimed at", run(prices, splits, weights=aims.where(aims != 0), **charged)))
    return [(way, *done) for way, done in runs]


def splits_of(market: Market, prices: pd.DataFrame) -> pd.DataFrame:
    """Shares after over shares before, where a price level breaks."""
    before = prices.shift(1)
    broken = pd.DataFrame(market.breaks[-len(prices) :], prices.index, prices.columns)
    ratio = (before / prices).where(broken, 1.0).fillna(1.0)
    return ratio[(ratio != 1.0).any(axis=1)]


def run(
    prices: pd.DataFrame,
    splits: pd.DataFrame,
    *,
    costs: CostRule,
    volume: pd.DataFrame,
    volatility: pd.DataFrame,
    orders: pd.DataFrame | None = None,
    weights: pd.DataFrame | None = None,
    whole: bool = False,
) -> tuple[np.ndarray, float]:
    """Equity by bt, and the CPU seconds that it took."""
    import bt

    algos = [bt.algos.CorporateActions(pd.DataFrame(), splits)]
    if orders is not None:
        algos.append(_orders(bt, orders))
    else:
        algos += [bt.algos.WeighTarget(weights), bt.algos.Rebalance()]
    rate = (costs.commission_bps + costs.half_spread_bps) * BPS
    test = bt.Backtest(
        bt.Strategy("book", algos),
        prices,
        initial_capital=weekly().construction.capital,
        commissions=_cost_model(bt, rate, costs.impact) if costs.impact else _proportional(rate),
        integer_positions=whole,
        volume=volume,
        volatility=volatility,
    )
    began = time.process_time()
    test.run()
    return test.strategy.values.to_numpy()[1:], time.process_time() - began


def _proportional(rate: float) -> Callable[[float, float], float]:
    return lambda number, price: rate * abs(number) * price


def _orders(bt: Any, orders: pd.DataFrame) -> Any:
    """bt's algorithm that sends given numbers of shares."""
    by_day: Mapping[pd.Timestamp, pd.Series] = {day: row[row != 0] for day, row in orders.iterrows()}

    class Send(bt.Algo):
        def __call__(self, target: Any) -> bool:
            for name, number in by_day.get(target.now, pd.Series(dtype=float)).items():
                target.transact(number, child=name)
            return True

    return Send()


def _cost_model(bt: Any, rate: float, coefficient: float) -> Any:
    """bt's square-root law with a cost in proportion beside it."""

    class Cost(bt.core.SqrtCostModel):
        def cost(self, q: float, p: float, V: float, sigma: float) -> float:
            return super().cost(q, p, V, sigma) + rate * abs(q) * p

    return Cost(coefficient)


if __name__ == "__main__":
    main()
