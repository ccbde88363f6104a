"""The benchmarks of a book as their user runs them, on small markets; the figures of time are not judged."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sources.simulation.archive import write_world
from sources.simulation.params import SimulationParams


def _told(repository: Path, *words: str) -> dict:
    done = subprocess.run([sys.executable, "-m", *words], cwd=repository, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_backtest_is_timed(repository: Path, tmp_path: Path):
    write_world(SimulationParams(planted_ic=None, symbols=12, start=datetime.date(2015, 1, 2)), tmp_path / "market")
    told = _told(
        repository, "benchmarks.backtest", "--bundle", str(tmp_path / "market"), "--first", "2017-01-03",
        "--last", "2017-03-31",
    )  # fmt: skip
    assert told["walk"]["sessions"] == 62
    assert 12 <= told["walk"]["rebalances"] <= 14
    assert told["walk"]["names"] > 5
    # The weights alone, accounted for again in another process, end where the walk did.
    assert told["accounting"]["equity"] == told["walk"]["equity"]
    for part in ("walk", "accounting"):
        assert min(told[part][name] for name in ("wall_s", "cpu_s", "peak_mib")) > 0


def test_the_accounts_agree_with_bt(repository: Path):
    pytest.importorskip("bt")
    told = _told(repository, "benchmarks.cross_check", "--symbols", "12", "--years", "1")["simulated"]
    assert told["walk_again"] == 0
    for row in told["against_bt"]:
        exact = row["bt_is_given"] == "orders" or (row["costs"] == "none" and row["bt_is_given"] == "held")
        assert row["largest_daily_return"] < (1e-12 if exact else 1e-3)
