"""`signals truth` after a run: every source appears, the figures are the evaluation's, and no stage knew any of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from core.errors import DataError
from core.files import read_json
from models.truth import recover
from pipelines import truth as command
from pipelines.console import Printer
from pipelines.params import load_settings
from pipelines.truth import for_machines, load_truth, refuse_without_truth
from sources.simulation.archive import CHOICE, MARKET_TRUTH, TRUTH

SOURCES = ["drift", "reversal", "mood", "value"]


@pytest.fixture(scope="module")
def told(finished, tmp_path_factory: pytest.TempPathFactory):
    """A finished project in which `signals truth` was run, and what that printed."""
    project = finished.copy(tmp_path_factory.mktemp("truth") / "project")
    return project, project.signals("truth").stdout


@pytest.mark.slow
def test_every_source_and_layer_appears(told) -> None:
    project, out = told
    figures = read_json(project.root / "reports/truth.json")
    assert figures["planted"] == SOURCES
    models = {"stack", "linear", "boosting", "behaviour"}
    for part in ("test", "holdout"):
        lines = [line for line in figures["found"] if (line["part"], line["regime"]) == (part, "all")]
        assert {line["model"] for line in lines} == models
        by_source = [line for line in figures["by_source"] if (line["part"], line["regime"]) == (part, "all")]
        assert {(line["model"], line["source"]) for line in by_source} == {(m, s) for m in models for s in SOURCES}
    assert re.search(r"(?m)^part +model +drift +reversal +mood +value$", out)
    assert re.search(r"(?m)^test +all +stack +\d", out)
    assert {line["regime"] for line in figures["found"]} >= {"all", "calm", "stress"}


@pytest.mark.slow
def test_the_rank_ic_is_the_evaluation_s(told) -> None:
    project, _ = told
    figures, metrics = (read_json(project.root / "reports" / f"{name}.json") for name in ("truth", "metrics"))
    for line in figures["found"]:
        if line["regime"] == "all":
            judged = metrics[line["part"]][line["model"]]
            assert line["rank_ic"] == pytest.approx(judged["rank_ic"], abs=5.1e-5)
            assert line["rank_ic_t"] == pytest.approx(judged["rank_ic_t"], abs=5.1e-3)
            assert line["days"] == judged["days"]


@pytest.mark.slow
def test_the_stack_finds_much_of_what_is_planted(told) -> None:
    project, _ = told
    figures = read_json(project.root / "reports/truth.json")["found"]
    (stack,) = (x for x in figures if (x["part"], x["regime"], x["model"]) == ("test", "all", "stack"))
    assert stack["oracle_rank_ic"] > 0.08
    assert 0.3 < stack["share"] < 1.2
    assert stack["agreement"] > 0.3


@pytest.mark.slow
def test_a_second_time_writes_the_same_bytes_and_no_stage_is_stale(told) -> None:
    project, _ = told
    before = (project.root / "reports/truth.json").read_bytes()
    project.signals("truth")
    assert (project.root / "reports/truth.json").read_bytes() == before
    assert "up to date" in project.run("dvc", "status").stdout


@pytest.mark.slow
def test_a_run_of_another_market_is_refused(told, tmp_path: Path) -> None:
    project = told[0].copy(tmp_path / "project")
    project.set_params({"data": {"simulated": {"seed": 8}}})
    refused = project.signals("truth", check=False)
    assert refused.returncode == 3
    assert refused.stderr == (
        "error: params.yaml:data changed since the last run, whose signals may be of another market: "
        "`signals run` first\n"
    )


@pytest.mark.slow
def test_a_run_holds_nothing_of_the_truth(finished) -> None:
    """No file has its name, no table its columns, and no column its values."""
    truth = load_truth(load_settings(finished.root / "params.yaml"))
    planted = [name for name in truth.columns if name.startswith("part_")]
    secret = np.unique(truth[["expected", *planted]].to_numpy(np.float32))
    secret = secret[secret != 0.0]
    assert len(secret) > 10_000
    files = [
        path
        for folder in ("data", "artifacts", "reports")
        for path in (finished.root / folder).rglob("*")
        if path.is_file()
    ]
    assert len(files) > 50
    assert [path for path in files if path.name in (TRUTH, MARKET_TRUTH, CHOICE)] == []
    for path in (path for path in files if path.suffix == ".parquet"):
        table = pq.read_table(path, partitioning=None)
        assert not {*planted, "expected", "crowd"} & set(table.column_names), path
        for name, kind in zip(table.column_names, table.schema.types, strict=True):
            if str(kind) in ("float", "double"):
                values = table.column(name).to_numpy()
                values = values[np.isfinite(values) & (values != 0.0)].astype(np.float32)
                # Small numbers meet by chance.
                assert not len(values) or np.isin(values, secret).mean() < 0.2, (path, name)


def test_no_stage_declares_the_truth(repository: Path) -> None:
    text = (repository / "dvc.yaml").read_text()
    assert [name for name in (TRUTH, MARKET_TRUTH, CHOICE, "reports/truth.json") if name in text] == []
    for name, stage in yaml.safe_load(text)["stages"].items():
        stage = stage.get("do", stage)
        assert "truth" not in stage["cmd"], name
        assert not {"models", "models/truth.py", "pipelines", "pipelines/truth.py"} & set(stage["deps"]), name


def test_only_the_command_asks_for_the_truth(repository: Path) -> None:
    """Of all code that may run in a stage or a job, none calls for it or names its files."""
    asked = re.compile(r"\.truth\(|market_truth|symbol_truth|simulation\.archive|\btruth\.parquet")
    rooms = ("features", "market", "models", "portfolio", "reporting", "governance", "pipelines")
    found = {
        path.relative_to(repository).as_posix()
        for room in rooms
        for path in (repository / room).rglob("*.py")
        if asked.search(path.read_text())
    }
    assert found == {"pipelines/cli.py", "pipelines/simulate.py", "pipelines/truth.py"}


@pytest.fixture
def elsewhere(repository: Path, tmp_path: Path) -> Path:
    values = yaml.safe_load((repository / "params.yaml").read_text())
    values["data"].update(source="files", path="mine")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "mine").mkdir()
    return tmp_path


def test_data_without_a_truth_are_refused_with_the_remedy(elsewhere: Path) -> None:
    with pytest.raises(DataError, match=r"mine has no truth.parquet: .* `signals simulate --out FOLDER`"):
        refuse_without_truth(load_settings(elsewhere / "params.yaml"))
    (elsewhere / "mine" / TRUTH).touch()
    refuse_without_truth(load_settings(elsewhere / "params.yaml"))


def test_without_a_run_it_says_what_to_run(repository: Path, tmp_path: Path) -> None:
    values = yaml.safe_load((repository / "params.yaml").read_text())
    values["data"].update(source="simulated")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(DataError, match="dvc repro"):
        command.truth(tmp_path)


def test_what_makes_the_market_is_told_from_what_reads_it(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    settings = load_settings(elsewhere / "params.yaml")
    monkeypatch.setattr(
        command, "out_of_date", lambda root, stage: {"ingest": {"core", "sources/base.py"}, "stack": {"core"}}
    )
    command.warn_of_other_run(settings, Printer())
    assert "WARNING the run on disk is not of the parameters and code of now (ingest, stack)" in capsys.readouterr().out
    monkeypatch.setattr(command, "out_of_date", lambda root, stage: {"ingest": {"core", "mine"}})
    with pytest.raises(DataError, match="mine changed since the last run"):
        command.warn_of_other_run(settings, Printer())


def rows(strength: float) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    days, names = 80, 30
    day = np.repeat(np.arange(days), names)
    frame = pd.DataFrame(
        {
            "date": pd.bdate_range("2014-01-01", periods=days)[day],
            "symbol": np.tile([f"S{k:02d}" for k in range(names)], days),
            "holdout": day >= 60,
            "regime": "calm",
            "expected": 0.0,
            "forward": rng.normal(size=days * names),
            "signal": rng.normal(size=days * names),
        }
    )
    if strength:
        frame["expected"] = frame["part_drift"] = strength * rng.normal(size=len(frame))
        frame["forward"] += frame["expected"]
    return frame


def test_where_nothing_is_planted_it_says_so_and_gives_the_signals_t(capsys) -> None:
    result = recover(rows(0.0), {"stack": "signal"}, horizon=5)
    command._show(Printer(), result)
    out = capsys.readouterr().out
    assert out.startswith("nothing is planted in this market: there is nothing to find\n")
    assert re.search(r"(?m)^part +regime +model +days +rank IC +t$", out)
    assert re.search(r"(?m)^test +all +stack +55 +-?0\.\d{4} +-?\d\.\d$", out)
    assert "oracle" not in out
    figures = for_machines(result, 5)
    assert figures["planted"] == figures["by_source"] == []


def test_numbers_are_rounded(capsys) -> None:
    result = recover(rows(0.5), {"stack": "signal"}, horizon=5)
    command._show(Printer(), result)
    assert "there is nothing to find" not in capsys.readouterr().out
    figures = for_machines(result, 5)
    for line in (*figures["found"], *figures["by_source"]):
        for name, value in line.items():
            if isinstance(value, float):
                assert np.isnan(value) or value == round(value, 2 if name.endswith("_t") else 4)
