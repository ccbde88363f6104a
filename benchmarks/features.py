"""Features against Qlib: `python benchmarks/features.py --prices FILE.parquet [--threads N] [--qlib PYTHON]`.

The prices are a long table (`date, symbol, open, high, low, close, volume`); to reach more symbols than it has, it is
repeated under new names. Every figure is of a process of its own: wall and CPU seconds, peak memory of the process
and its children, printed as JSON on standard output. Qlib stands beside in the same run where it is installed in this
environment, or in the one whose interpreter `--qlib` names; it reads its own binary files, whose making is not timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
FIELDS = ("open", "high", "low", "close", "volume")


def main() -> None:
    """Run what is asked for and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prices", type=Path, required=True, help="Parquet file of daily prices")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads, and Qlib's processes")
    parser.add_argument("--symbols", type=int, default=800, help="symbols of the comparison")
    parser.add_argument("--qlib", default=None, help="interpreter of an environment with pyqlib")
    parser.add_argument("--bundle", type=Path, help="folder of all tables: every family, whole and for one day")
    parser.add_argument("--scaling", action="store_true", help="time and memory by symbols and years")
    parser.add_argument("--stream", type=int, default=0, help="symbols times 30 years to stream through in blocks")
    parser.add_argument("--repeat", type=int, default=3, help="runs of which the median counts")
    arguments = parser.parse_args()
    qlib = arguments.qlib or (sys.executable if importlib.util.find_spec("qlib") else None)
    with tempfile.TemporaryDirectory(prefix="features-") as folder:
        scratch = Path(folder)
        prices = repeat_symbols(pd.read_parquet(arguments.prices), arguments.symbols)
        table = scratch / "prices.parquet"
        prices.to_parquet(table, index=False)
        result: dict[str, Any] = {
            "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()},
            "prices": {
                "rows": len(prices),
                "symbols": int(prices["symbol"].nunique()),
                "sessions": int(prices["date"].nunique()),
            },
            "threads": arguments.threads,
        }
        work = {"prices": str(table), "threads": arguments.threads, "scratch": folder}
        result["alpha158"] = measure("alpha158", work, arguments.repeat)
        result["again"] = measure("again", work, arguments.repeat)
        result["store"] = measure("store", work, arguments.repeat)
        result["read"] = measure("read", work, arguments.repeat)
        if qlib:
            write_qlib(prices, scratch / "qlib")
            result["qlib"] = measure("qlib", work, 1, python=qlib)
            result["ratios"] = ratios(result)
            result["agreement"] = measure("agreement", work, 1)["values"]
        if arguments.scaling:
            result["scaling"] = [
                {
                    "symbols": symbols,
                    "years": years,
                    **measure("sized", {**work, "symbols": symbols, "years": years}, 1),
                }
                for symbols, years in [(100, 13), (300, 13), (800, 13), (3000, 13), (800, 5), (800, 30)]
            ]
        if arguments.stream:
            result["stream"] = measure("stream", {**work, "symbols": arguments.stream, "years": 30}, 1)
        if arguments.bundle:
            result["families"] = measure("families", {**work, "bundle": str(arguments.bundle)}, 1)
            result["day"] = measure("day", {**work, "bundle": str(arguments.bundle), "symbols": arguments.symbols}, 1)
        print(json.dumps(result, indent=2))


def ratios(result: dict[str, Any]) -> dict[str, float]:
    """How many times Qlib's figure is ours."""
    ours, store, qlib = result["alpha158"], result["store"], result["qlib"]
    return {
        "whole_process": round(qlib["wall_s"] / ours["wall_s"], 1),
        "memory": round(qlib["peak_mib"] / ours["peak_mib"], 2),
        "computing": round(qlib["values"]["load_s"] / result["again"]["values"]["compute_s"], 1),
        "written_to_store": round(qlib["wall_s"] / store["wall_s"], 1),
    }


def repeat_symbols(prices: pd.DataFrame, wanted: int) -> pd.DataFrame:
    """The first `wanted` symbols; a table with fewer is repeated under new names."""
    names = sorted(prices["symbol"].unique())
    prices = prices[["date", "symbol", *FIELDS]].assign(date=pd.to_datetime(prices["date"]))
    parts = []
    for copy in range(-(-wanted // len(names))):
        chosen = names[: wanted - copy * len(names)]
        part = prices[prices["symbol"].isin(chosen)]
        parts.append(part.assign(symbol=part["symbol"] + (f"_{copy}" if copy else "")))
    return pd.concat(parts, ignore_index=True).sort_values(["date", "symbol"], ignore_index=True)


# --- one process -----------------------------------------------------------------------------------------------


def measure(task: str, work: dict[str, Any], times: int, python: str = sys.executable) -> dict[str, Any]:
    """Run a task in `times` fresh processes; medians of wall and CPU seconds, largest peak of memory."""
    runs = []
    for _ in range(times):
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "NUMBA_NUM_THREADS": str(work["threads"])}
        started = time.perf_counter()
        work = {**work, "started": time.time()}
        done = subprocess.run(
            # -P: this folder stays off the path, where this file would hide the package of the same name.
            [python, "-P", str(HERE / "tasks.py"), task, json.dumps(work)],
            env=environment, stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        wall = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(f"the task {task!r} failed with code {done.returncode}; its messages are above")
        told = json.loads(done.stdout.splitlines()[-1])
        runs.append({"wall_s": wall, **told})
    middle = sorted(runs, key=lambda run: run["wall_s"])[len(runs) // 2]
    return {
        "wall_s": round(middle["wall_s"], 2),
        "cpu_s": round(float(np.median([run["cpu_s"] for run in runs])), 2),
        "peak_mib": round(max(run["peak_mib"] for run in runs)),
        "values": middle["values"],
    }


# --- Qlib's files ----------------------------------------------------------------------------------------------


def write_qlib(prices: pd.DataFrame, folder: Path) -> None:
    """Qlib's store: a calendar, the symbols' spans, and a float32 file a symbol and field that begins with its row."""
    days = np.sort(prices["date"].unique())
    (folder / "calendars").mkdir(parents=True)
    (folder / "instruments").mkdir()
    (folder / "calendars" / "day.txt").write_text("\n".join(f"{pd.Timestamp(day):%Y-%m-%d}" for day in days) + "\n")
    lines = []
    for symbol, rows in prices.groupby("symbol", sort=True):
        at = np.searchsorted(days, rows["date"].to_numpy())
        first, last = at.min(), at.max()
        lines.append(f"{symbol}\t{pd.Timestamp(days[first]):%Y-%m-%d}\t{pd.Timestamp(days[last]):%Y-%m-%d}")
        target = folder / "features" / str(symbol).lower()
        target.mkdir(parents=True)
        for name in FIELDS:
            values = np.full(last - first + 1, np.nan, dtype="<f4")
            values[at - first] = rows[name].to_numpy(dtype="<f4")
            np.concatenate([np.array([first], dtype="<f4"), values]).tofile(target / f"{name}.day.bin")
    (folder / "instruments" / "all.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
