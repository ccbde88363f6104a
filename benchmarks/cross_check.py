"""The book's accounting against bt's: `python -m benchmarks.cross_check [--bundle FOLDER]`.

The weekly optimiser is walked once through a market; its weights are then accounted for at several costs by
`portfolio.settlement` and by `bt`, an independent backtester (MIT; `pip install bt`), and the two equities are
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.books import Account, Aims, account, market_of, weekly
from benchmarks.peer import Charges, Ran, aimed_at, frame_of, prices_of, run, splits_of
from portfolio.costs import BPS, CostRule
from portfolio.performance import SESSIONS_PER_YEAR
from portfolio.sessions import Market, Signals
from portfolio.walk import walk

FREE = CostRule(commission_bps=0.0, half_spread_bps=0.0, impact=0.0, borrow_bps=0.0)
COSTS = {
    "none": FREE,
    "proportional": CostRule(impact=0.0, borrow_bps=0.0),
    "proportional and impact": CostRule(borrow_bps=0.0),
}


def main() -> None:
    """Check every market asked for and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="folder of tables of a real market")
    parser.add_argument("--first", default="2010-01-04", help="first session of it that is traded")
    parser.add_argument("--last", default="2016-12-30", help="last one")
    parser.add_argument("--symbols", type=int, default=60, help="symbols of the simulated market")
    parser.add_argument("--years", type=int, default=2, help="its years that are traded")
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

    # A year before the universe begins, and one of its returns for the betas.
    first = datetime.date(2018 - years - 2, 1, 2)
    with tempfile.TemporaryDirectory(prefix="cross-check-") as folder:
        write_world(SimulationParams(symbols=symbols, planted_ic=None, start=first), Path(folder) / "market")
        return check(*market_of(Path(folder) / "market", f"{2018 - years}-01-01", "2017-12-29"))


def check(market: Market, signals: Signals, start: int) -> dict[str, Any]:
    """Walk a market and hold the accounts of its weights against bt's."""
    found = walk(market, signals, weekly(), start=start)
    aims, prices = Aims.of(found), prices_of(market, start)
    same = account(market, signals, aims, weekly(), start)
    result: dict[str, Any] = {
        "symbols": len(market.symbols),
        "sessions": len(prices),
        "rebalances": int(aims.asked.sum()),
        "names": round(float(found.daily["names"].mean()), 1),
        "turnover_annual": round(float(found.daily["turnover"].mean()) * SESSIONS_PER_YEAR, 2),
        # The weights alone, accounted for again, are the walk.
        "walk_again": float(np.abs(same.equity / found.daily["equity"].to_numpy() - 1.0).max()),
        "against_bt": [],
    }
    for name, costs in COSTS.items():
        ours = account(market, signals, aims, weekly(costs), start)
        for way, theirs in peers(aims, ours, prices, market, costs).items():
            apart = differences(ours.equity, theirs.equity)
            result["against_bt"].append({"costs": name, "bt_is_given": way, **apart})
    return result


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


def peers(aims: Aims, ours: Account, prices: pd.DataFrame, market: Market, costs: CostRule) -> dict[str, Ran]:
    """What bt makes of the same, by what it is given."""
    splits = splits_of(market, prices)
    later = np.append(False, aims.asked[:-1])
    frames = [frame_of(values, prices) for values in (ours.shares, ours.volume, ours.volatility)]
    traded = Charges(costs, *frames[1:])
    out = {"orders": run(prices, splits, traded, orders=frames[0][later])}
    if not costs.impact:
        held = frame_of(ours.held, prices)[later]
        out["held"] = run(prices, splits, traded, weights=held)
        out["held, whole shares"] = run(prices, splits, traded, weights=held, whole=True)
        out["aimed at"] = run(prices, splits, traded, weights=aimed_at(aims, prices))
    return out


if __name__ == "__main__":
    main()
