"""The benchmark as its user runs it, on a small table; the figures themselves are not judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    days, names = pd.bdate_range("2015-01-01", periods=150), ["AA", "B", "CCC"]
    close = 30 * np.exp(np.cumsum(0.01 * rng.normal(size=(len(days), len(names))), axis=0))
    frame = pd.DataFrame(
        {
            "date": np.repeat(days, len(names)),
            "symbol": np.tile(names, len(days)),
            "open": close.ravel() * 0.99,
            "high": close.ravel() * 1.02,
            "low": close.ravel() * 0.98,
            "close": close.ravel(),
            "volume": np.round(np.exp(rng.normal(12, 0.5, close.size))),
        }
    )
    file = tmp_path_factory.mktemp("prices") / "prices.parquet"
    frame.drop(frame.index[10]).to_parquet(file)
    return file


def test_one_command_gives_json(repository: Path, prices: Path):
    words = [sys.executable, "benchmarks/features.py", "--prices", str(prices), "--symbols", "5", "--repeat", "1"]
    done = subprocess.run([*words, "--stream", "20"], cwd=repository, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["prices"] == {"rows": 5 * 150 - 2, "symbols": 5, "sessions": 150}
    assert told["alpha158"]["values"]["features"] == 158
    assert told["read"]["values"]["rows"] == told["prices"]["rows"]
    assert told["read"]["values"]["columns"] == 160
    assert told["stream"]["values"]["values"] == 158 * 20 * 30 * 252
    for task in ("alpha158", "store", "read", "stream"):
        assert told[task]["wall_s"] > 0
        assert told[task]["peak_mib"] > 0
