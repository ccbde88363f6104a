"""A source may have nothing but prices, and they may tell nothing: what cannot be had is skipped, and said so."""

from __future__ import annotations

import datetime
import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml

from features.panel import Events, Panel
from features.registry import Feature
from pipelines.day import _reach
from pipelines.features import split_available
from pipelines.params import load_settings
from sources.base import open_source

GRACE = "Grace <grace@example.org>"
LAYERS = ["linear", "boosting", "sequence", "behaviour"]


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
    assert _reach([plain, margin, fear], "fundamentals", 1) == 9
    assert _reach([plain, margin, fear], "fundamentals", 20) == 9 + 19


@pytest.fixture(scope="module")
def poor(finished, tmp_path_factory: pytest.TempPathFactory):
    """A project on a delivery of prices and nothing else, in a market without a signal; and what DVC said."""
    folder = tmp_path_factory.mktemp("delivered")
    project = finished.copy(tmp_path_factory.mktemp("poor") / "project")
    settings = load_settings(project.root / "params.yaml")
    market = open_source("simulated", None, {**settings.provider, "planted_ic": 0.0})
    prices = market.read("prices").drop(columns="close_unadjusted")
    prices[prices["date"] >= "2013-01-01"].to_csv(folder / "prices.csv", index=False)
    gates = yaml.safe_load((project.root / "params.yaml").read_text())["governance"]["gates"]
    project.set_params(
        {
            "data": {"source": "files", "path": str(folder)},
            "layers": {"names": LAYERS},
            "tuning": {"trials": 1},
            "portfolio": {"compare": {"sessions": 0}},
            "governance": {"gates": [gate for gate in gates if gate["name"] in ("no_leakage", "rank_ic_t")]},
        }
    )
    return project, project.repro()


@pytest.mark.slow
def test_prices_alone_are_enough(poor) -> None:
    project, told = poor
    assert re.search(r"fundamental: 0 of [1-9]\d* features", told.stdout)
    assert "skipped for want of earnings, filings: earnings_yield" in told.stderr
    assert "Warning" not in told.stderr
    metrics = json.loads((project.root / "reports/metrics.json").read_text())
    assert (metrics["stability"]["sectors"], metrics["stability"]["positive_sectors"]) == ({}, None)
    manifest = json.loads((project.root / "artifacts/bundle/manifest.json").read_text())
    assert (manifest["layers"], manifest["lookback"]) == (sorted(LAYERS), 10)
    seeds = pd.read_parquet(project.root / "reports/evaluation/seeds.parquet")
    assert seeds["layer"].tolist() == ["sequence"]
    assert "PREVIEW" in project.signals("preview").stdout


@pytest.mark.slow
def test_without_a_signal_it_is_refused_and_a_waiver_shows(poor) -> None:
    project, _ = poor
    assert "1 gate(s) block promotion: rank_ic_t" in project.signals("register").stdout
    project.signals("review", "candidate", "approve", "--comment", "blind trust", "--by", GRACE)
    refused = project.signals("promote", "candidate", "--by", GRACE, check=False)
    assert refused.returncode == 7
    assert "rank_ic_t" in refused.stderr

    until = str(datetime.date.today() + datetime.timedelta(days=9))
    reason = ("--reason", "to see what happens", "--until", until)
    project.signals("waive", "candidate", "rank_ic_t", *reason, "--by", GRACE)
    project.signals("promote", "candidate", "--by", GRACE)
    told = project.signals("infer", "--as-of", "latest").stderr
    assert f"WAIVER of rank_ic_t by {GRACE} until {until}: to see what happens" in told
    (day,) = (project.root / "signals").glob("date=*")
    assert any("WAIVER" in warning for warning in json.loads((day / "manifest.json").read_text())["warnings"])
    signals = pd.read_parquet(day / "signals.parquet")
    assert signals[["signal_a", "signal_b", "signal_c"]].std().min() > 0
    # The day and the training name the same universe.
    shown = pd.read_parquet(project.root / "artifacts/stack/oof.parquet")
    assert signals["symbol"].tolist() == shown.loc[shown["date"] == signals["date"].iloc[0], "symbol"].tolist()
