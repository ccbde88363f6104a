"""Bad input ends a stage with one clear line and a non-zero exit, and what was there before stays."""

from __future__ import annotations

import datetime
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.files import digest_tree

pytestmark = pytest.mark.slow


def make_prices(symbols: int = 12, days: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    dates = pd.bdate_range("2016-02-01", periods=days)
    frames = []
    for number in range(symbols):
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, days)))
        columns = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": 1e6}
        frames.append(pd.DataFrame({"symbol": f"S{number:02d}", "date": dates, **columns}))
    return pd.concat(frames, ignore_index=True)


def _column(name: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: frame.assign(**{name: value})


def _repeat_with_another_close(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame.tail(1).assign(close=1.0)], ignore_index=True)


def _tomorrow(frame: pd.DataFrame) -> pd.DataFrame:
    later = pd.Timestamp(datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=9))
    return pd.concat([frame, frame.tail(1).assign(date=later)], ignore_index=True)


CASES: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str, list[str]]] = {
    "missing column": (lambda frame: frame.drop(columns="close"), "ingest", ["prices", "'close'", "missing"]),
    "text for numbers": (_column("close", "high"), "ingest", ["prices", "'close'", "S00"]),
    "empty": (lambda frame: frame.head(0), "ingest", ["prices", "no rows"]),
    "in the future": (_tomorrow, "ingest", ["prices", "future", "S11"]),
    "conflicting keys": (_repeat_with_another_close, "ingest", ["prices", "S11"]),
    "one symbol": (lambda frame: frame[frame["symbol"] == "S00"], "clean", ["prices", "1 symbols", "at least 20"]),
}


@pytest.fixture(scope="module")
def small(finished, tmp_path_factory: pytest.TempPathFactory):
    """A finished project that reads a folder of files."""
    project = finished.copy(tmp_path_factory.mktemp("bad") / "project")
    project.set_params({"data": {"source": "files", "path": "data/files"}})
    return project


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_broken_table_is_refused(small, case: str) -> None:
    spoil, stage, words = CASES[case]
    file = small.root / "data/files/prices.parquet"
    spoil(make_prices()).to_parquet(file)
    raw, clean = digest_tree(small.root / "data/raw"), digest_tree(small.root / "data/clean")
    if stage == "clean":
        small.run("pipelines.ingest")
        raw = digest_tree(small.root / "data/raw")
    done = small.run(f"pipelines.{stage}", check=False)
    assert done.returncode == 3, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in errors[0]
    assert digest_tree(small.root / "data/raw") == raw
    assert digest_tree(small.root / "data/clean") == clean


def test_a_truncated_file_is_refused_by_dvc_too(small) -> None:
    file = small.root / "data/files/prices.parquet"
    make_prices().to_parquet(file)
    file.write_bytes(file.read_bytes()[:2000])
    before = digest_tree(small.root / "data/raw")
    done = small.repro("ingest", check=False)
    assert done.returncode != 0
    assert "prices.parquet" in done.stderr + done.stdout
    assert digest_tree(small.root / "data/raw") == before


def test_a_missing_folder_is_refused(small) -> None:
    small.set_params({"data": {"path": "nowhere"}})
    done = small.run("pipelines.ingest", check=False)
    small.set_params({"data": {"path": "data/files"}})
    assert done.returncode == 3
    assert "nowhere" in done.stderr
    unknown = small.signals("run", "--data", "nowhere", check=False)
    assert unknown.returncode == 2
    assert "nowhere" in unknown.stderr


def test_an_unknown_parameter_is_refused(small) -> None:
    text = (small.root / "params.yaml").read_text()
    small.set_params({"universe": {"min_prise": 2.0}})
    done = small.run("pipelines.ingest", check=False)
    (small.root / "params.yaml").write_text(text)
    assert done.returncode == 2
    assert "universe.min_prise" in done.stderr


def test_the_main_job_refuses_params_that_are_no_yaml(small) -> None:
    path = small.root / "params.yaml"
    text = path.read_text()
    for broken, words in (("seed: [1", "not valid YAML"), ("seed: 1\nseed: 2", "'seed' is written twice")):
        path.write_text(broken)
        done = small.signals("run", "--data", "simulated", check=False)
        left = path.read_text()
        path.write_text(text)
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
        assert left == broken


def _mount(folder: Path) -> bool:
    folder.mkdir()
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_full_disk_is_one_clear_line(finished, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    disk = tmp_path / "disk"
    if not _mount(disk):
        pytest.skip("mounting a small tmpfs needs root")
    try:
        clean = project.root / "data/clean"
        before = digest_tree(clean)
        parent = clean.parent
        # The stage's outputs go to the small disk; what was there before stays where it was.
        (parent / "features").rename(parent / "features_kept")
        (parent / "features").symlink_to(disk)
        done = project.run("pipelines.features", "market", check=False)
        assert done.returncode == 8, done.stderr
        assert "disk is full" in done.stderr
        assert "Traceback" not in done.stderr
        assert list(disk.iterdir()) == []
        assert digest_tree(clean) == before
    finally:
        subprocess.run(["umount", str(disk)], check=True)
