"""`dvc repro` as a user runs it: nothing twice, the same bytes, and no fear of a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

STAGES = (
    "ingest", "clean", "features@market", "features@fundamental", "features@text", "invariances", "dataset",
    "tune@linear", "tune@boosting", "train@linear", "train@boosting", "stack", "backtest", "evaluate",
)  # fmt: skip

pytestmark = pytest.mark.slow


def planned(project) -> set[str]:
    """Stages that `dvc repro` would run now."""
    out = project.repro("--dry").stdout
    return {line.split("'")[1] for line in out.splitlines() if line.startswith("Running stage")}


def test_a_second_run_does_nothing(finished) -> None:
    before = (finished.root / "dvc.lock").read_bytes()
    out = finished.repro().stdout
    assert "Data and pipelines are up to date" in out
    assert "Running stage" not in out
    assert (finished.root / "dvc.lock").read_bytes() == before


def test_every_stage_ran(finished) -> None:
    lock = (finished.root / "dvc.lock").read_text()
    assert [stage for stage in STAGES if f"\n  {stage}:" not in lock] == []


def test_outs_hold_no_path_of_this_machine(finished) -> None:
    needles = (str(finished.root).encode(), str(Path.home()).encode() + b"/")
    found = [name for name, data in finished.outputs().items() if any(needle in data for needle in needles)]
    assert found == []


@pytest.mark.parametrize(
    ("change", "reruns", "keeps"),
    [
        (
            {"layers": {"boosting": {"num_leaves": 5}}},
            {"tune@boosting"},
            {"ingest", "clean", "features@market", "tune@linear", "train@linear"},
        ),
        ({"portfolio": {"rank": {"gross": 0.5}}}, {"backtest"}, {"stack", "train@boosting"}),
        (
            {"features": {"text": {"windows": [1, 4]}}},
            {"features@text"},
            {"features@market", "features@fundamental", "clean"},
        ),
    ],
)
def test_a_change_reruns_what_depends_on_it(finished, tmp_path: Path, change, reruns, keeps) -> None:
    project = finished.copy(tmp_path / "project")
    project.set_params(change)
    stages = planned(project)
    assert reruns <= stages
    assert not keeps & stages


def test_a_family_and_a_layer_switched_off_are_not_computed(finished, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    project.set_params({"features": {"families": ["market"]}, "layers": {"names": ["boosting"]}})
    stages = planned(project)
    assert not {"features@text", "features@fundamental", "tune@linear", "train@linear"} & stages
    assert "dataset" in stages


def _kill_when(project, stage: str, wait: float) -> bool:
    """Start `dvc repro`, SIGKILL everything `wait` seconds after the stage's process appears."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "dvc", "repro"],
        cwd=project.root,
        env=project.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"> python -m {stage}"):
            time.sleep(wait)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
    process.wait()
    return False


def test_killed_at_many_points_the_next_run_gives_the_same_bytes(finished, fresh: Callable) -> None:
    project = fresh()
    kills = [
        ("pipelines.ingest", 1.5),
        ("pipelines.features market", 1.6),
        ("pipelines.tune boosting", 2.5),
        ("pipelines.stack", 2.5),
        ("pipelines.evaluate", 3.0),
    ]
    killed = [_kill_when(project, stage, wait) for stage, wait in kills]
    assert all(killed)
    project.repro()
    expected, got = finished.outputs(), project.outputs()
    assert sorted(got) == sorted(expected)
    assert [name for name in expected if got[name] != expected[name]] == []
    assert (project.root / "dvc.lock").read_bytes() == (finished.root / "dvc.lock").read_bytes()
