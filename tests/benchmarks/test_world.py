"""The benchmark of simulated markets as its user runs it; the figures themselves are not judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_one_command_gives_json(repository: Path):
    words = [sys.executable, "benchmarks/world.py", "--sizes", "3x1"]
    done = subprocess.run(words, cwd=repository, capture_output=True, text=True, check=True)
    (market,) = json.loads(done.stdout)["markets"]
    assert (market["symbols"], market["years"]) == (3, 1)
    assert min(market["wall_s"], market["cpu_s"], market["peak_gib"], market["written_mib"]) > 0
