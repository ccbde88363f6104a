"""A source may have nothing but prices: what depends on the rest is skipped, and said so in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.panel import Events, Panel
from features.registry import Feature
from pipelines.day import _reach
from pipelines.evaluate import label_sectors
from pipelines.features import split_available
from pipelines.tables import read_tables


def test_symbols_without_a_sector_are_unknown() -> None:
    symbols = pd.Series(["A", "B", "C"])
    assert label_sectors(symbols, {}).tolist() == ["Unknown"] * 3
    assert label_sectors(symbols, {"A": "Energy", "B": np.nan}).tolist() == ["Energy", "Unknown", "Unknown"]


def feature(name: str, lookback: int, *inputs: str) -> Feature:
    return Feature(name, "x", lookback, inputs, "1", 0, "", "", lambda panel: panel["close"])


def test_a_missing_column_is_named_with_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    dates, one = np.arange(3).astype("datetime64[D]"), np.ones((3, 1))
    events = {"filings": Events(np.zeros(1, np.int64), np.zeros(1, np.int64), {"gross_profit": np.array([np.nan])})}
    panel = Panel(dates, np.array(["A"]), {"close": one}, one > 0, np.zeros(1, np.int64), events)
    plain, margin = feature("plain", 1, "filings"), feature("margin", 9, "filings.gross_profit")
    fear = feature("fear", 1, "VIX")
    assert split_available([plain, margin, fear], panel) == ([plain], [margin, fear])
    assert capsys.readouterr().err == "skipped for want of VIX, filings.gross_profit: margin, fear\n"
    # The column is read from its table for as long as the feature looks back.
    assert _reach([plain, margin, fear], "fundamentals", 100, 1) == 9
    assert _reach([plain, margin, fear], "fundamentals", 100, 20) == 9 + 19


@pytest.mark.slow
def test_prices_alone_are_enough(finished, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    prices = read_tables(project.root / "data/raw")["prices"].drop(columns="close_unadjusted")
    folder = tmp_path / "mine"
    folder.mkdir()
    prices[prices["date"] >= "2013-01-01"].to_csv(folder / "prices.csv", index=False)
    layers = {"names": ["linear", "boosting", "sequence", "behaviour"]}
    less = {"tuning": {"trials": 1}, "portfolio": {"compare": {"sessions": 0}}}
    project.set_params({"data": {"source": "files", "path": str(folder)}, "layers": layers, **less})
    told = project.repro()
    assert re.search(r"fundamental: 0 of [1-9]\d* features", told.stdout)
    assert "skipped for want of earnings, filings: earnings_yield" in told.stderr
    assert "Warning" not in told.stderr
    metrics = json.loads((project.root / "reports/metrics.json").read_text())
    assert list(metrics["stability"]["sectors"]) == ["Unknown"]
    manifest = json.loads((project.root / "artifacts/bundle/manifest.json").read_text())
    assert (manifest["layers"], manifest["lookback"]) == (sorted(layers["names"]), 10)
    seeds = pd.read_parquet(project.root / "reports/evaluation/seeds.parquet")
    assert seeds["layer"].tolist() == ["sequence"]
    assert "version 1 registered" in project.signals("register").stdout
    assert "PREVIEW" in project.signals("preview").stdout
    (day,) = (project.root / "preview").glob("date=*/signals.parquet")
    signals = pd.read_parquet(day)
    assert signals[["signal_a", "signal_b", "signal_c"]].std().min() > 0
    # The day and the training name the same universe.
    shown = pd.read_parquet(project.root / "artifacts/stack/oof.parquet")
    assert signals["symbol"].tolist() == shown.loc[shown["date"] == signals["date"].iloc[0], "symbol"].tolist()
