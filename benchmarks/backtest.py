"""The daily backtest with a weekly optimiser: `python -m benchmarks.backtest --bundle FOLDER [--oof FILE]`.

A book of every symbol of a folder of tables is walked day by day. Beside it stand, on the weights that it asked for,
its accounting alone and that of `bt` (`pip install bt`; left out where it is not installed), which has no optimiser.
Each in a process of its own; printed as JSON on standard output are wall and CPU seconds without the reading of the
tables, the peak memory of the process, and of the walk its constructions one by one.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import portfolio.rebalance
from benchmarks.books import Aims, account, market_of, weekly
from portfolio.sessions import Market, Signals
from portfolio.walk import walk


def main() -> None:
    """Measure and print one JSON object; or do one part, told by a parent process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of tables")
    parser.add_argument("--oof", type=Path, help="out-of-fold predictions to trade; none: the reversal of a month")
    parser.add_argument("--first", default="2010-01-04", help="first session that is traded")
    parser.add_argument("--last", default="2016-12-30", help="last one")
    parser.add_argument("--part", choices=sorted(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(part(arguments)))
        return
    result: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()},
    }
    with tempfile.TemporaryDirectory(prefix="backtest-") as scratch:
        for name in PARTS:
            if name != "bt" or importlib.util.find_spec("bt"):
                words = [*sys.argv[1:], "--part", name, "--scratch", scratch]
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.backtest", *words], stdout=subprocess.PIPE, text=True, check=True
                )
                result[name] = json.loads(done.stdout)
    print(json.dumps(result, indent=1))


def part(arguments: argparse.Namespace) -> dict[str, Any]:
    """One part: what it took, and what it found."""
    market, signals, start = market_of(arguments.bundle, arguments.first, arguments.last, arguments.oof)
    wall, cpu = time.perf_counter(), time.process_time()
    found = PARTS[arguments.part](market, signals, start, arguments.scratch / "weights.npz")
    return {
        "wall_s": round(time.perf_counter() - wall, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **found,
    }


def walked(market: Market, signals: Signals, start: int, weights: Path) -> dict[str, Any]:
    """Decide and account, and leave the weights for the others."""
    spent: list[tuple[float, float, int]] = []
    construct = portfolio.rebalance.construct

    @functools.wraps(construct)
    def timed(prospects: Any, rule: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        found = construct(prospects, rule)
        spent.append((time.perf_counter() - wall, time.process_time() - cpu, len(prospects.symbols)))
        return found

    portfolio.rebalance.construct = timed
    found = walk(market, signals, weekly(), start=start)
    aims = Aims.of(found)
    np.savez(weights, **vars(aims))
    walls, cpus, symbols = (np.array(column) for column in zip(*spent, strict=True))
    return {
        "symbols": len(market.symbols),
        "sessions": len(found.daily),
        "rebalances": int(aims.asked.sum()),
        "equity": float(found.daily["equity"].iloc[-1]),
        "names": round(float(found.daily["names"].mean()), 1),
        "construction": {
            "symbols": [int(symbols.min()), int(symbols.max())],
            "all_cpu_s": round(float(cpus.sum()), 2),
            "median_cpu_s": round(float(np.median(cpus)), 3),
            "slowest_cpu_s": round(float(cpus.max()), 3),
            "median_wall_s": round(float(np.median(walls)), 3),
        },
    }


def accounted(market: Market, signals: Signals, start: int, weights: Path) -> dict[str, Any]:
    """The accounting of the weights alone."""
    aims = Aims(**np.load(weights))
    return {"equity": float(account(market, signals, aims, weekly(), start).equity[-1])}


def by_bt(market: Market, signals: Signals, start: int, weights: Path) -> dict[str, Any]:
    """bt's accounting of them, with its costs in proportion."""
    from benchmarks.peer import Charges, aimed_at, prices_of, run, splits_of

    prices, costs = prices_of(market, start), weekly().construction.costs.model_copy(update={"impact": 0.0})
    done = run(
        prices,
        splits_of(market, prices),
        Charges(costs, prices, prices),
        weights=aimed_at(Aims(**np.load(weights)), prices),
    )
    return {"equity": float(done.equity[-1]), "run_cpu_s": round(done.cpu_s, 2)}


PARTS = {"walk": walked, "accounting": accounted, "bt": by_bt}


if __name__ == "__main__":
    main()
