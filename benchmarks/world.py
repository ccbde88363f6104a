"""Simulated markets by size: `python benchmarks/world.py [--sizes 160x10 500x10 3000x20]`.

Each market is written to a folder by a process of its own; printed as JSON are its wall and CPU seconds, its peak
memory, and beside them the machine's limit: how long the same bytes take to be written and forced to the same disk.
"""

from __future__ import annotations

import argparse
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

CHECKOUT = Path(__file__).resolve().parents[1]
LAST_YEAR = 2017


def main() -> None:
    """Simulate every size and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["160x10", "500x10", "3000x20"], help="symbols x years")
    parser.add_argument("--child", nargs=2, metavar=("SIZE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(simulate(*arguments.child)))
        return
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()}
    print(json.dumps({"machine": machine, "markets": [measured(size) for size in arguments.sizes]}, indent=1))


def measured(size: str) -> dict[str, Any]:
    """One size, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="world-") as name:
        words = [sys.executable, str(Path(__file__)), "--child", size, name]
        env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
        written = [file for file in Path(name).rglob("*") if file.is_file()]
        data = b"".join(file.read_bytes() for file in written)
        started = time.perf_counter()
        with (Path(name) / "plain").open("wb") as plain:
            plain.write(data)
            plain.flush()
            os.fsync(plain.fileno())
        disk = time.perf_counter() - started
    return {**json.loads(done.stdout), "written_mib": round(len(data) / 2**20, 1), "disk_alone_s": round(disk, 2)}


def simulate(size: str, folder: str) -> dict[str, Any]:
    """Write one market."""
    import datetime

    from sources.simulation.archive import write_world
    from sources.simulation.params import SimulationParams

    symbols, years = (int(part) for part in size.split("x"))
    span = {"start": datetime.date(LAST_YEAR + 1 - years, 1, 2), "end": datetime.date(LAST_YEAR, 12, 29)}
    started = time.perf_counter()
    write_world(SimulationParams(symbols=symbols, planted_ic=None, **span), Path(folder) / "market")
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "symbols": symbols,
        "years": years,
        "wall_s": round(time.perf_counter() - started, 2),
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "peak_gib": round(used.ru_maxrss / 2**20, 2),
    }


if __name__ == "__main__":
    main()
