"""The daily job as a fresh process: `python benchmarks/infer.py [--root FOLDER] [--preview] [--as-of D] [--runs 5]`.

Runs `signals infer --force` (or `signals preview`, which needs no champion) in a checkout that has been trained, and
prints JSON: wall and CPU seconds and peak memory of each run, their medians, and where the time of one more run goes.
The first run, which may compile kernels and read from a cold disk, is not counted.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHECKOUT = Path(__file__).resolve().parents[1]
STEPS = (
    ("pipelines.infer", "_import_trees", "import LightGBM"),
    ("pipelines.infer", "load_serving", "params.yaml and the source"),
    ("governance.guard", "serving", "the guard"),
    ("models.bundle", "Bundle.load", "the bundle without its layers"),
    ("pipelines.day", "parse_inputs", "declarations of the features"),
    ("pipelines.asof", "sessions_until", "sessions"),
    ("sources.providers.files", "Files.read", "read tables"),
    ("sources.providers.simulated", "Simulated.read", "read tables"),
    ("pipelines.asof", "clean", "clean"),
    ("pipelines.asof", "assemble", "panel and universe"),
    ("pipelines.day", "last_rows", "features"),
    ("pipelines.day", "digest_tables", "digest of the tables"),
    ("models.bundle", "_Awaited.__getitem__", "wait for the layers"),
    ("models.bundle", "_Awaited.__iter__", "wait for the layers"),
    ("models.bundle", "Bundle.predict", "predict and explain"),
    ("pipelines.infer", "publish", "write"),
)
"""What is timed: module, function, and the step that it belongs to; a step within another counts for itself alone."""


def main() -> None:
    """Run the job and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="a checkout that has been trained")
    parser.add_argument("--preview", action="store_true", help="time `signals preview`")
    parser.add_argument("--as-of", default="latest", help="session, YYYY-MM-DD")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    words = [*(["preview"] if arguments.preview else ["infer", "--force"]), "--as-of", arguments.as_of]
    if arguments.steps:
        print(json.dumps(steps(words)), file=sys.stderr)
        return
    os.environ |= {"SIGNALS_ROOT": str(arguments.root.resolve()), "PYTHONPATH": str(CHECKOUT)}
    runs = [measured([sys.executable, "-m", "pipelines.cli", *words])[0] for _ in range(arguments.runs + 1)][1:]
    _, told = measured([sys.executable, "-m", "benchmarks.infer", *sys.argv[1:], "--steps"])
    report = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]},
        "command": " ".join(["signals", *words]),
        "median": {name: statistics.median(run[name] for run in runs) for name in runs[0]},
        "runs": runs,
        "steps": json.loads(told.splitlines()[-1]),
    }
    print(json.dumps(report, indent=1))


def measured(command: list[str]) -> tuple[dict[str, float], str]:
    """Wall and CPU seconds and peak memory (GiB) of a process, and what it said on standard error."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        said.seek(0)
        text = said.read()
    if status:
        sys.exit(text)
    spent = {"wall_s": wall, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_gib": usage.ru_maxrss / 2**20}
    return {name: round(value, 2) for name, value in spent.items()}, text


def steps(words: list[str]) -> dict[str, dict[str, float]]:
    """Run the job in this process: seconds of each step by the clock, and of CPU in all threads meanwhile."""
    spent: dict[str, NDArray[np.float64]] = {}
    within: list[NDArray[np.float64]] = []

    def clock() -> NDArray[np.float64]:
        return np.array([time.perf_counter(), time.process_time()])

    def timed(function: Callable[..., Any], step: str) -> Callable[..., Any]:
        """Count a call's time towards a step, less that of timed calls within it; other threads are not told."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return function(*args, **kwargs)
            before = clock()
            within.append(np.zeros(2))
            try:
                return function(*args, **kwargs)
            finally:
                taken = clock() - before
                spent[step] = spent.get(step, np.zeros(2)) + taken - within.pop()
                if within:
                    within[-1] += taken

        return call

    timed(importlib.import_module, "import pandas, pyarrow, numba and the rest")("pipelines.infer")
    for module, name, step in STEPS:
        *path, last = name.split(".")
        owner = functools.reduce(getattr, path, importlib.import_module(module))
        found = vars(owner)[last]
        bound = isinstance(found, classmethod)
        setattr(owner, last, classmethod(timed(found.__func__, step)) if bound else timed(found, step))
    timed(importlib.import_module("pipelines.cli").app, "all that is left")(words, standalone_mode=False)
    return {step: {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2)} for step, (wall, cpu) in spent.items()}


if __name__ == "__main__":
    main()
