"""`signals risk` and `signals tearsheet` as a user types them, on a small market written by hand."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from core.files import read_parquet, write_json, write_parquet
from governance.outputs import write_manifest
from pipelines import tearsheet as sheet
from pipelines.backtest import main as backtest
from pipelines.books import book_inputs
from pipelines.cli import app
from pipelines.layout import CLEAN
from pipelines.panels import load_panel
from pipelines.params import load_settings
from pipelines.tables import write_tables
from portfolio.walk import walk
from sources.calendar import sessions
from sources.cleaning import clean

SYMBOLS = [f"S{k:02d}" for k in range(24)]
DAYS = sessions(pd.Timestamp("2012-01-03").date(), pd.Timestamp("2015-12-31").date())
LAST = str(DAYS[-1])
SERVED = 12
OWN = """
scenarios:
  mine:
    title: What I fear
    market: -0.25
    source: a guess
"""


def prices() -> pd.DataFrame:
    rng = np.random.default_rng(12)
    moves = rng.normal(0, 0.008, (len(DAYS), 1)) + rng.normal(0, 0.012, (len(DAYS), len(SYMBOLS)))
    close = 50 * np.exp(np.cumsum(moves, axis=0)).ravel()
    frame = pd.DataFrame(
        {"date": np.repeat(DAYS, len(SYMBOLS)).astype("datetime64[ns]"), "symbol": SYMBOLS * len(DAYS)}
    )
    for name in ("open", "high", "low", "close"):
        frame[name] = close
    frame["high"], frame["low"] = 1.01 * close, 0.99 * close
    return frame.assign(volume=1e6)


def signals(count: int) -> pd.DataFrame:
    """Out-of-fold rows of the last sessions, with what a served day has beside."""
    days = DAYS[-count:]
    values = np.random.default_rng(1).normal(size=count * len(SYMBOLS))
    dates = np.repeat(days, len(SYMBOLS)).astype("datetime64[ns]")
    return pd.DataFrame(
        {
            "date": dates,
            "symbol": SYMBOLS * count,
            "fold": (np.arange(len(values)) >= len(values) // 2).astype(int),
            "signal": values,
            "signal_a": -values,
            "expected_return": 0.003 * values,
            "p_wrong": np.clip(0.5 - 0.05 * np.abs(values), 0.3, 0.5),
            "stress_hmm": 0.1,
        }
    )


def write_day(folder: Path, rows: pd.DataFrame) -> None:
    folder = folder / f"date={rows['date'].iloc[0]:%Y-%m-%d}"
    write_parquet(folder / "signals.parquet", rows)
    write_manifest(folder, {"date": folder.name.removeprefix("date="), "version": 1, "bundle": "b" * 64})


@pytest.fixture(scope="module")
def made(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with data, signals of the last sessions, and what a run leaves behind."""
    root = tmp_path_factory.mktemp("risk") / "project"
    root.mkdir()
    shutil.copy2(repository / "dvc.yaml", root / "dvc.yaml")
    values = yaml.safe_load((repository / "params.yaml").read_text())
    values["data"].update(source="files", path="mine", start=None, end=None)
    values["universe"].update(min_dollar_volume=0.0, coverage_sessions=63, break_sessions=63, dollar_volume_sessions=21)
    values["features"]["families"] = ["market"]
    values["portfolio"]["compare"].update(sessions=40, rebalance_sessions=[20], schemes=["equal_weight"])
    values["portfolio"]["pods"].update(least_sessions=60)
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    table = prices()
    sectors = pd.DataFrame(
        {
            "symbol": SYMBOLS,
            "name": SYMBOLS,
            "sector": ["Energy", "Financials", "Materials"] * 8,
            "industry": "",
            "exchange": "",
        }
    )
    write_parquet(root / "mine/prices.parquet", table)
    write_parquet(root / "mine/securities.parquet", sectors)
    oof = signals(520)
    write_parquet(root / "artifacts/stack/oof.parquet", oof)
    write_json(root / "artifacts/stack/meta.json", {"columns": {"boosting": "signal_a"}})
    settings = load_settings(root / "params.yaml")
    source = settings.open_source()
    tables = {name: source.read(name) for name in ("prices", "securities")}
    cleaned = clean(tables, DAYS[0].astype(object), DAYS[-1].astype(object)).tables
    write_tables(root / CLEAN, cleaned)
    with contextlib.chdir(root):
        backtest(settings)
    write_json(root / "artifacts/bundle/manifest.json", {"digest": "b" * 64})
    write_json(root / "reports/metrics.json", {"overfitting": {"trials": 12, "trial_sharpe_variance": 0.002}})
    states = pd.DataFrame({"date": oof["date"].unique(), "part": "test", "regime": "calm"})
    write_parquet(root / "reports/evaluation/daily.parquet", states)
    for _, rows in oof[oof["date"] >= pd.Timestamp(DAYS[-SERVED])].groupby("date"):
        write_day(root / "signals", rows)
    write_day(root / "preview", oof[oof["date"] == pd.Timestamp(DAYS[-1])])
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "project"
    shutil.copytree(made, copy)
    monkeypatch.setenv("SIGNALS_ROOT", str(copy))
    monkeypatch.setattr(sheet, "out_of_date", lambda root, stage: {})
    return copy


def ask(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout if code == 0 else done.stderr


def test_the_book_is_the_backtests(root: Path) -> None:
    (root / "own.yaml").write_text(OWN)
    out = ask("risk", "--as-of", LAST, "--scenarios", str(root / "own.yaml"))
    told = json.loads((root / f"risk/date={LAST}/risk.json").read_text())
    settings = load_settings(root / "params.yaml")
    panel = load_panel(root / CLEAN, settings.universe)
    start = len(DAYS) - SERVED
    rows = signals(520)
    served, horizon = rows[rows["date"] >= pd.Timestamp(DAYS[start])], settings.target.horizon
    calm = np.full(len(DAYS), 0.1)
    market, known = book_inputs(panel, served, calm, {}, rule=settings.portfolio, horizon=horizon)
    expected = walk(market, known, settings.portfolio.book_for(horizon), start=start).targets[-1]
    weights = {line["symbol"]: line["weight"] for line in told["contributions"]}
    wanted = {name: weight for name, weight in zip(SYMBOLS, expected, strict=True) if weight}
    assert weights == pytest.approx(wanted, abs=1e-6)
    assert len(wanted) > 10
    assert {line["scenario"] for line in told["stress"]} > {"mine", "covid_2020"}
    assert told["drawdown"]["worst"] > 0
    assert [text for text in told["warnings"] if "begins in cash 12 session(s) ago" not in text] == []
    assert {line["factor"] for line in told["exposures"]} == {
        "market",
        "size",
        "momentum",
        "low_volatility",
        "reversal",
    }
    for text in (
        "Loss of the next session",
        "filtered_ewma",
        "Exposure by sector",
        "Energy",
        "Stress, by part",
        "mine",
    ):
        assert text in out
    page = (root / f"risk/date={LAST}/risk.html").read_text()
    assert "What I fear" in page
    assert str(root) not in page + json.dumps(told)
    ask("risk", "--scenarios", str(root / "own.yaml"))
    assert (root / f"risk/date={LAST}/risk.html").read_text() == page


def test_a_preview_of_one_session_is_marked_and_kept_apart(root: Path) -> None:
    out = ask("risk", "--preview")
    assert "PREVIEW" in out
    assert "begins in cash 1 session(s) ago" in out
    told = json.loads((root / f"risk/preview/date={LAST}/risk.json").read_text())
    assert told["preview"] is True
    assert 0.1 < told["figures"]["gross"] <= 1.0
    assert not (root / f"risk/date={LAST}").exists()


def test_what_is_refused(root: Path) -> None:
    assert "not a valid date" in ask("risk", "--as-of", "yesterday", code=4)
    assert f"the newest are of {LAST}" in ask("risk", "--as-of", "2015-01-05", code=4)
    assert "is no file" in ask("risk", "--scenarios", "nowhere.yaml", code=2)
    shutil.rmtree(root / "preview")
    assert "`signals preview`" in ask("risk", "--preview", code=4)
    rows = signals(1).assign(date=pd.Timestamp("2016-03-01"))
    write_day(root / "signals", rows)
    assert f"the last before it is {LAST}" in ask("risk", code=4)
    (root / f"signals/date={LAST}/signals.parquet").write_bytes(b"")
    assert "not as it was written" in ask("risk", "--as-of", LAST, code=3)
    assert not (root / "risk/date=2016-03-01").exists()


def test_signals_of_other_data_are_refused(root: Path) -> None:
    day = root / "preview" / f"date={LAST}"
    write_day(root / "preview", read_parquet(day / "signals.parquet").replace({"symbol": {"S03": "OTHER"}}))
    told = ask("risk", "--preview", code=3)
    assert "is of other data: 1 of its 24 symbols, such as OTHER" in told


def test_an_empty_book_says_why(root: Path) -> None:
    shutil.rmtree(root / "signals")
    write_day(root / "signals", signals(1).assign(p_wrong=0.5))
    assert "Its mode is active (stress is unlikely)" in ask("risk")
    told = json.loads((root / f"risk/date={LAST}/risk.json").read_text())
    assert told["figures"]["gross"] == told["figures"]["names"] == 0
    assert "The book is in cash" in (root / f"risk/date={LAST}/risk.html").read_text()


def test_a_bundle_without_regimes_is_told(root: Path) -> None:
    shutil.rmtree(root / "signals")
    write_day(root / "signals", signals(1).assign(stress_hmm=np.nan))
    assert "the bundle tells no regimes" in ask("risk")


def test_the_tear_sheet_of_the_run(root: Path) -> None:
    out = ask("tearsheet")
    assert "written: reports/tearsheet/index.html" in out
    assert "value at risk at 95% by filtered_ewma: " in out
    page = (root / "reports/tearsheet/index.html").read_text()
    for text in (
        "By regime.",
        "By part.",
        "What would a crisis do?",
        "12 trials",
        "peaks_over_threshold",
        "Which limits held it back?",
        "equal_weight, every 5",
        "At the last review.",
        ">impact<",
    ):
        assert text in page
    figures = json.loads((root / "reports/tearsheet/figures.json").read_text())
    assert figures["luck"]["trials"] == 12
    assert figures["book"]["date"] == LAST
    made_of = json.loads((root / "reports/tearsheet/made_of.json").read_text())
    assert {"artifacts/backtest/daily.parquet", "artifacts/backtest/positions.parquet"} <= set(made_of)
    held = read_parquet(root / "artifacts/backtest/positions.parquet")
    asked = held[held["date"] == pd.Timestamp(LAST)].set_index("symbol")["target"]
    weights = {line["symbol"]: line["weight"] for line in figures["book"]["contributions"]}
    assert weights == pytest.approx(asked[asked != 0].to_dict(), rel=1e-6)
    assert "artifacts/bundle/manifest.json" in made_of
    ask("tearsheet")
    assert (root / "reports/tearsheet/index.html").read_text() == page


def test_a_run_in_pieces_is_refused_and_changed_code_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "out_of_date", lambda root, stage: {"backtest": {"artifacts/stack"}})
    assert "artifacts/stack is not of the run that backtest belongs to" in ask("tearsheet", code=3)
    assert not (root / "reports/tearsheet").exists()
    monkeypatch.setattr(sheet, "out_of_date", lambda root, stage: {"ingest": {"data/files"}, "stack": {"core"}})
    words = sheet.require_one_run(root)
    assert words == ["the run on disk is not of the parameters, code and data of now (ingest, stack)"]


def test_without_a_run_it_says_what_to_run(root: Path) -> None:
    shutil.rmtree(root / "artifacts")
    assert "dvc repro" in ask("tearsheet", code=3)
