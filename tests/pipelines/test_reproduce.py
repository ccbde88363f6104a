"""`signals reproduce` on a repository of two trivial stages, registered without MLflow; once on a whole project."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from safetensors.numpy import save_file
from typer.testing import CliRunner

from core.files import read_json, write_json
from governance.dvc_lock import DvcLock
from governance.ledger import Ledger
from governance.lineage import collect_lineage
from governance.reproduction import largest_difference, rebuilt_params
from governance.seal import seal
from pipelines import cli
from pipelines.scratch import scratch_folder

DECLARED = [{"name": "momentum", "family": "market", "lookback": 21}]
GATES = [{"name": "lineage", "check": "lineage", "reason": "it can be made again"}]
PIPELINE = """
stages:
  features:
    foreach: [market]
    do:
      cmd: python -m stages.features
      params: [seed]
      deps: ["${data.path}", stages/features.py]
      outs:
        - data/features:
            persist: true
  stack:
    cmd: python -m stages.stack
    params: [data]
    deps: [data/features, stages/stack.py]
    outs:
      - artifacts/bundle:
          persist: true
"""
FEATURES = """
from pathlib import Path
import yaml
from stages import KNOWN

params = yaml.safe_load(Path("params.yaml").read_text())
source = Path(params["data"]["path"])
tables = sorted(source.glob("*.csv")) if params["data"]["source"] == "files" else []
Path("data/features").mkdir(parents=True, exist_ok=True)
Path("data/features/x.txt").write_text(f"{params['seed']} {KNOWN} {[t.read_text() for t in tables]}")
"""
STACK = """
from pathlib import Path

bundle = Path("artifacts/bundle")
(bundle / "layers").mkdir(parents=True, exist_ok=True)
(bundle / "layers/weights.txt").write_text(Path("data/features/x.txt").read_text())
(bundle / "fixed.txt").write_text("always the same")
"""
SLEEPY = """
import os, time
from pathlib import Path

Path(os.environ["STARTED"]).write_text(str(os.getpid()))
time.sleep(120)
"""


class Tiny:
    """A git checkout with two stages, and a registration of what they wrote."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in {
            ".gitignore": "/artifacts/\n/data/*\n!/data/files/\n/mlruns/\n__pycache__/\n/var/\n",
            ".dvcignore": "__pycache__\n",
            ".dvc/config": "[core]\n    analytics = false\n    check_update = false\n",
            ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
            "dvc.yaml": PIPELINE,
            "stages/__init__.py": "KNOWN = 1\n",
            "stages/features.py": FEATURES,
            "stages/stack.py": STACK,
            "data/files/README.md": "tables of one's own\n",
        }.items():
            self.write(name, text)
        self.params(seed=3, data={"source": "simulated", "path": "data/files"})
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "Ann")
        self.git("config", "user.email", "ann@example.org")
        self.commit()

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def params(self, **values: Any) -> None:
        self.write("params.yaml", yaml.safe_dump({**values, "governance": {"gates": GATES}}))

    def git(self, *words: str) -> str:
        return subprocess.run(["git", *words], cwd=self.root, check=True, capture_output=True, text=True).stdout

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", "state")

    def train(self) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        env = {**os.environ, "PATH": path, "PYTHONPATH": ""}
        subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=self.root, env=env, check=True)

    def register(self, version: int = 1, **changed: Any) -> dict[str, Any]:
        """Write what a registration leaves behind: stored files, their seals, the ledger's line."""
        bundle = self.root / "artifacts/bundle"
        lineage = {**collect_lineage(self.root, bundle, DECLARED, trials={"linear": 2}), **changed}
        stored = self.root / "mlruns/artifacts"
        evidence = f"evidence-{len(list(stored.glob('evidence-*')))}"
        write_json(stored / evidence / "lineage.json", lineage)
        shutil.copytree(bundle, stored / f"model-{version}/artifacts/bundle", dirs_exist_ok=True)
        payload = {
            "version": version,
            "run_id": "r",
            "bundle_digest": "d" * 64,
            "author": lineage["author"],
            "model_uri": f"signals:/model-{version}",
            "bundle_uri": f"signals:/model-{version}/artifacts/bundle",
            "model_files": seal(stored / f"model-{version}"),
            "evidence_uri": f"signals:/{evidence}",
            "evidence_files": seal(stored / evidence),
            "evidence": "e" * 64,
            "git": {key: lineage["git"][key] for key in ("commit", "clean")},
            "gates": [],
        }
        Ledger(self.root / "mlruns/ledger.jsonl").append("registered", "Ann", payload)
        return lineage

    def state(self) -> dict[str, str]:
        """Digest of every file of the checkout, git's own too."""
        files = (p for p in self.root.rglob("*") if p.is_file() and "__pycache__" not in p.parts and p.name != "lock")
        # DVC's own scratch files, and the lock file that reading the ledger needs, are no records.
        kept = (p for p in files if ".dvc/tmp" not in p.as_posix() and not p.name.endswith(".lock"))
        return {p.relative_to(self.root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in kept}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Trained and registered from a clean commit; shared, so only copies are changed."""
    project = Tiny(tmp_path_factory.mktemp("tiny") / "project")
    project.train()
    assert project.register()["problems"] == []
    return project


@pytest.fixture
def tiny(trained: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tiny]:
    """A copy to change; nothing may be left in the temporary folder that it works in."""
    shutil.copytree(trained.root, tmp_path / "project")
    copy = object.__new__(Tiny)
    copy.root = tmp_path / "project"
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("SIGNALS_ROOT", str(copy.root))
    yield copy
    assert list((tmp_path / "tmp").iterdir()) == []
    assert len(copy.git("worktree", "list").splitlines()) == 1


def reproduce(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.app, ["reproduce", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def refused(answer: tuple[int, str, str], code: int, pattern: str) -> None:
    assert answer[0] == code, answer
    assert answer[2].count("\n") == 1
    assert re.search(pattern, answer[2]), answer[2]


def test_the_same_bytes_and_nothing_recorded(tiny: Tiny) -> None:
    # What git and DVC keep beside the commit must not matter: edits, other parameters, other outs.
    tiny.write("stages/stack.py", "raise SystemExit(9)\n")
    tiny.params(seed=4, data={"source": "simulated", "path": "gone"})
    shutil.rmtree(tiny.root / "artifacts")
    before = tiny.state()
    code, out, err = reproduce("1")
    assert (code, err) == (0, "")
    assert "version 1 is reproduced: 2 files, every byte the same" in out
    assert tiny.state() == before


def test_different_bytes_are_named(tiny: Tiny) -> None:
    """A stage that reads what its dependencies do not name, here the name of the folder that it runs in."""
    tiny.write("stages/features.py", FEATURES.replace("{params['seed']}", "{Path.cwd().name}"))
    tiny.commit()
    tiny.train()
    tiny.register(2)
    answer = reproduce("2")
    refused(answer, 7, r"version 2 is NOT reproduced: 1 of 2 files differ .the first: layers/weights.txt was changed")
    assert "the first stage that wrote something else: features@market" in answer[1]
    assert "fixed.txt" not in answer[1]


@pytest.mark.parametrize(("step", "agrees"), [("1e-6", True), ("0.1", False)])
def test_numbers_are_compared_where_bytes_are_not_promised(tiny: Tiny, step: str, agrees: bool) -> None:
    tiny.write("stages/features.py", FEATURES.replace("{params['seed']}", f"{{1 + {step} * len(Path.cwd().name)}}"))
    tiny.commit()
    tiny.train()
    made = tiny.register(2)["numerics"]
    tiny.register(2, numerics={**made, "mode": "native", "promised": False, "processor": "another"})
    answer = reproduce("2")
    assert "its bytes are not promised on this machine" in answer[1]
    assert "another machine or setting: it was made with `numerics: native`" in answer[1]
    assert re.search(r"another machine or setting: processor .*, was another", answer[1])
    if agrees:
        assert answer[0] == 0, answer
        assert "version 2 agrees within tolerance: numbers differ by 1.0e-06 at most" in answer[1]
    else:
        refused(answer, 7, "version 2 is NOT reproduced")


def test_the_difference_of_two_files_is_that_of_their_numbers(tmp_path: Path) -> None:
    def difference(one: str, other: str, suffix: str = ".json") -> float:
        files = [tmp_path / f"{name}{suffix}" for name in ("one", "other")]
        for file, text in zip(files, (one, other), strict=True):
            file.write_text(text)
        return largest_difference(*files)

    assert difference('{"a": [1.0, -2e3]}', '{"a": [1.0, -2.002e3]}') == pytest.approx(0.001 / 1.001)
    assert difference(f'{{"sha256": "{"a" * 64}"}}', f'{{"sha256": "{"b" * 64}"}}') == 0
    assert difference("tree_sizes=91 92\nleaf_value=0.5 1", "tree_sizes=90 95\nleaf_value=0.5 1", ".txt") == 0
    assert difference('{"name": "f1"}', '{"name": "f2"}') == np.inf
    assert difference("[1, 2]", "[1, 2, 3]") == np.inf
    save_file({"w": np.array([1e-9, 2.0])}, tmp_path / "one.safetensors")
    save_file({"w": np.array([2e-9, 2.002])}, tmp_path / "other.safetensors")
    assert largest_difference(tmp_path / "one.safetensors", tmp_path / "other.safetensors") == pytest.approx(0.001)
    save_file({"v": np.array([1e-9, 2.0])}, tmp_path / "other.safetensors")
    assert largest_difference(tmp_path / "one.safetensors", tmp_path / "other.safetensors") == np.inf


def test_a_file_of_its_own_is_found_missing(tiny: Tiny) -> None:
    (tiny.root / "artifacts/bundle/extra.txt").write_text("by hand")
    tiny.register(2, problems=[])
    refused(reproduce("2"), 7, "extra.txt is missing")


def test_a_dirty_tree_cannot_be_reproduced_unless_it_was_clean_once(tiny: Tiny) -> None:
    tiny.write("stages/notes.py", "")
    tiny.register(2)
    refused(reproduce("2"), 7, r"version 2 cannot be made again: .*uncommitted changes \(stages/notes.py\)")
    # A later registration of the same bundle from an edited tree takes nothing away.
    tiny.register(1)
    assert reproduce("1")[0] == 0


@pytest.mark.parametrize(
    ("changed", "pattern"),
    [
        ({"git": {"commit": None, "clean": False, "changed": []}}, "outside git"),
        ({"problems": ["no data"]}, r"lineage is incomplete \(no data\)"),
        ({"git": {"commit": "1" * 40, "clean": True, "changed": []}}, "commit 111111111111 is not in this repository"),
    ],
)
def test_a_lineage_that_cannot_be_followed(tiny: Tiny, changed: dict, pattern: str) -> None:
    tiny.register(2, **changed)
    refused(reproduce("2"), 7, pattern)


def test_what_was_kept_must_be_what_was_registered(tiny: Tiny) -> None:
    path = tiny.root / "mlruns/artifacts/evidence-0/lineage.json"
    write_json(path, {**read_json(path), "libraries": {}})
    refused(reproduce("1"), 7, "lineage.json was changed since it was registered")
    path.unlink()
    refused(reproduce("1"), 7, "lineage.json is missing")
    refused(reproduce("8"), 7, "version 8 is not in the ledger")
    refused(reproduce("champion"), 7, "no version is in production")


def test_other_libraries_are_refused_unless_asked_for(tiny: Tiny) -> None:
    lineage = tiny.register(2)
    tiny.register(2, libraries={**lineage["libraries"], "numpy": "1.0", "gone": "2"}, python="3.10.0")
    refused(reproduce("2"), 7, r"other libraries: python .*, was 3.10.0 \(and 2 more\).*requirements.lock.*--anyway")
    code, out, _ = reproduce("2", "--anyway")
    assert code == 0
    assert re.search(r"WARNING .*numpy [\d.]+, was 1.0", out)
    assert re.search(r"WARNING .*gone is not installed, was 2", out)


def test_tables_of_a_folder_must_be_the_same(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "feed"
    folder.mkdir()
    (folder / "prices.csv").write_text("one")
    (folder / "notes.txt").write_text("no table")
    tiny.params(seed=3, data={"source": "files", "path": "../feed"})
    tiny.train()
    tiny.register(2)
    (folder / "notes.txt").write_text("changed")
    assert reproduce("2")[0] == 0
    (folder / "prices.csv").write_text("two")
    refused(reproduce("2"), 3, r"table 'prices' \(prices.csv\) has changed since version 2 was made")
    (folder / "prices.csv").unlink()
    refused(reproduce("2"), 3, r"table 'prices' \(prices.csv\) is missing")
    (folder / "prices.csv").write_text("one")
    (folder / "macro.csv").write_text("")
    refused(reproduce("2"), 3, r"table 'macro' \(macro.csv\) was added")


def test_a_stage_that_fails_there_is_told(tiny: Tiny) -> None:
    tiny.write("stages/stack.py", STACK + "raise SystemExit(int(Path.cwd().name == 'checkout'))\n")
    tiny.commit()
    tiny.train()
    tiny.register(2)
    refused(reproduce("2"), 9, "could not be made again: a stage stopped in the clean checkout")


def test_keep_leaves_the_checkout(tiny: Tiny) -> None:
    code, out, _ = reproduce("1", "--keep")
    assert code == 0
    checkout = Path(re.search(r"kept: (.*)", out)[1])
    assert (checkout / "artifacts/bundle/fixed.txt").is_file()
    with scratch_folder("reproduce"):
        pass
    assert checkout.is_dir()
    shutil.rmtree(checkout.parent)


def test_the_cache_saves_work_and_is_only_read(tiny: Tiny) -> None:
    cache = tiny.root / ".dvc/cache"
    before = {path: path.stat() for path in cache.rglob("*")}
    assert before
    code, out, _ = reproduce("1", "--cache", "--keep")
    assert code == 0
    checkout = Path(re.search(r"kept: (.*)", out)[1])
    lock = DvcLock.of(yaml.safe_load((checkout / "dvc.lock").read_text()))
    assert set(lock.stages) == {"features@market", "stack"}
    assert not (checkout / ".dvc/cache").exists()
    shutil.rmtree(checkout.parent)
    after = {path: path.stat() for path in cache.rglob("*")}
    assert {p: (s.st_mtime_ns, s.st_mode, s.st_nlink) for p, s in after.items()} == {
        p: (s.st_mtime_ns, s.st_mode, s.st_nlink) for p, s in before.items()
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ended_half_way_nothing_is_left(tiny: Tiny, tmp_path: Path, number: signal.Signals) -> None:
    """A signal clears up at once, the stage's process included; after a SIGKILL the next run does."""
    started = tmp_path / "started"
    tiny.write("stages/stack.py", SLEEPY.replace("time.sleep", "if Path.cwd().name == 'checkout': time.sleep") + STACK)
    tiny.commit()
    os.environ["STARTED"] = str(started)
    try:
        tiny.train()
        started.unlink()
        tiny.register(2)
        env = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(Path(__file__).parents[2])}
        process = subprocess.Popen([sys.executable, "-m", "pipelines.cli", "reproduce", "2"], cwd=tiny.root, env=env)
        deadline = time.monotonic() + 120
        while not (started.is_file() and started.read_text()) and time.monotonic() < deadline:
            time.sleep(0.1)
        stage = psutil.Process(int(started.read_text()))
        group = [p for p in (*stage.parents(), stage) if os.getpgid(p.pid) == os.getpgid(stage.pid)]
        process.send_signal(number)
        assert process.wait(60) != 0
    finally:
        del os.environ["STARTED"]
    assert len(tiny.git("worktree", "list").splitlines()) == 1
    assert tiny.git("status", "--porcelain", "--", "stages") == ""
    if number == signal.SIGKILL:
        # DVC outlives a killed command, and writes to the checkout until its stage has ended.
        os.killpg(os.getpgid(stage.pid), signal.SIGKILL)
        ended(group)
        assert list((tmp_path / "tmp").iterdir())
        with scratch_folder("reproduce"):
            pass
    else:
        ended(group)


def ended(processes: list[psutil.Process]) -> None:
    """Wait for processes that the system's first process may or may not clear away."""
    deadline = time.monotonic() + 20
    while running := [p for p in processes if _runs(p)]:
        assert time.monotonic() < deadline, running
        time.sleep(0.05)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_folder_in_use_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder("x") as first:
        with scratch_folder("x") as second:
            assert first.is_dir()
            assert second != first
        assert not second.exists()
        assert first.is_dir()
    assert not first.exists()


def test_folders_are_named_from_the_checkout(trained: Tiny) -> None:
    from types import SimpleNamespace

    def rebuilt(params: dict) -> dict:
        made: Any = SimpleNamespace(params=params)
        return rebuilt_params(made, Path("/home/me/project"), Path("/tmp/nothing"))

    files = {"seed": 1, "data": {"source": "files", "path": "../feed", "embeddings": {"model": "m", "digest": "d"}}}
    told = rebuilt(files)
    assert told["data"]["path"] == "/home/me/feed"
    assert told["data"]["embeddings"] == {"model": "/home/me/project/m", "digest": "d"}
    assert files["data"]["path"] == "../feed"
    simulated = {"data": {"source": "simulated", "path": "gone", "embeddings": None}}
    assert rebuilt(simulated)["data"] == {"source": "simulated", "path": "/tmp/nothing", "embeddings": None}
    assert rebuilt({"seed": 1}) == {"seed": 1}


@pytest.mark.slow
def test_the_real_pipeline_leaves_a_lineage_that_can_be_followed(finished, tmp_path: Path) -> None:
    """No stage of it is taken for stale, and the bundle is found again; from DVC's cache, for the time's sake."""
    project = finished.copy(tmp_path / "project")
    gates = [{"name": "lineage", "check": "lineage", "reason": "it can be made again"}]
    project.set_params({"governance": {"gates": gates}})
    assert "no gate blocks promotion" in project.signals("register").stdout
    out = project.signals("reproduce", "candidate", "--cache").stdout
    assert "Running stage 'clean'" not in out
    assert "version 1 is reproduced" in out
