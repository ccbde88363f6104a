"""A source may have nothing but prices: what depends on the rest is skipped, and said so in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.evaluate import label_sectors
from pipelines.tables import read_tables


def test_symbols_without_a_sector_are_unknown() -> None:
    symbols = pd.Series(["A", "B", "C"])
    assert label_sectors(symbols, {}).tolist() == ["Unknown"] * 3
    assert label_sectors(symbols, {"A": "Energy", "B": np.nan}).tolist() == ["Energy", "Unknown", "Unknown"]


@pytest.mark.slow
def test_prices_alone_are_enough(finished, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    prices = read_tables(project.root / "data/raw")["prices"].drop(columns="close_unadjusted")
    folder = tmp_path / "mine"
    folder.mkdir()
    prices[prices["date"] >= "2013-01-01"].to_csv(folder / "prices.csv", index=False)
    project.set_params({"data": {"source": "files", "path": str(folder)}, "tuning": {"trials": 1}})
    told = project.repro()
    assert "fundamental: 0 of 19 features" in told.stdout
    assert "skipped for want of earnings, filings: earnings_yield" in told.stderr
    assert "Warning" not in told.stderr
    metrics = json.loads((project.root / "reports/metrics.json").read_text())
    assert list(metrics["stability"]["sectors"]) == ["Unknown"]
    assert "PREVIEW" in project.signals("preview").stdout
