"""A small project: a copy of this checkout with a small simulated market, run through every stage."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from core.params import merge

SHARED = Path(__file__).resolve().parents[1] / "on_path"

SMALL: dict[str, Any] = {
    "data": {
        # The checkout under test may have been pointed at other data.
        "source": "simulated",
        "path": "data/files",
        "simulated": {"symbols": 40, "start": "2012-01-03", "end": "2016-12-30", "planted_ic": 0.2},
    },
    "universe": {"min_dollar_volume": 0.0},
    "folds": {"train_sessions": 630, "test_sessions": 189, "holdout_sessions": 126, "valid_sessions": 20},
    "tuning": {"trials": 2},
    # The comparison with other ways to run the book is most of the time of a backtest.
    "portfolio": {"compare": {"sessions": 63}},
    # One thread: two processes that train at once slow each other down many times over.
    "layers": {
        # `sequence` has a run of its own (test_missing_tables): every process that holds it waits for torch.
        "names": ["linear", "boosting", "behaviour"],
        "boosting": {"n_estimators": 50, "num_leaves": 7, "min_data_in_leaf": 100, "num_threads": 1, "seeds": 1},
        "sequence": {"network": "dlinear", "lookback": 10, "every": 2, "epochs": 1, "seeds": 1, "num_threads": 1},
    },
}


class Project:
    """A checkout of its own, and ways to run things in it as a user would."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SIGNALS_")},
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(root), str(SHARED)]),
            # Two processes of the suite share a small machine's cores.
            "NUMBA_NUM_THREADS": "1",
            # Compiling is half of a first run.
            "NUMBA_CACHE_LOCATOR_CLASSES": "shared_kernels.SharedKernels,InTreeCacheLocator",
            "DVC_NO_ANALYTICS": "1",
            "GIT_AUTHOR_NAME": "Ada Researcher",
            "GIT_AUTHOR_EMAIL": "ada@example.org",
            "GIT_COMMITTER_NAME": "Ada Researcher",
            "GIT_COMMITTER_EMAIL": "ada@example.org",
        }

    @classmethod
    def create(cls, repository: Path, root: Path, changes: dict[str, Any] = SMALL) -> Project:
        """Copy what git would commit from the checkout under test, with other parameters."""
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=repository, check=True, capture_output=True
        ).stdout.decode()
        for name in filter(None, listed.split("\0")):
            if (repository / name).is_file() and name != "dvc.lock":
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(repository / name, root / name)
        project = cls(root)
        project.set_params(changes)
        project.git("init", "-q", "-b", "main")
        project.git("config", "user.name", "Ada Researcher")
        project.git("config", "user.email", "ada@example.org")
        project.git("add", "-A")
        project.git("commit", "-qm", "start")
        return project

    def copy(self, root: Path) -> Project:
        """A second checkout with everything in it, outputs and stores included."""
        shutil.copytree(self.root, root, symlinks=True)
        return Project(root)

    def set_params(self, changes: dict[str, Any]) -> None:
        """Change params.yaml."""
        path = self.root / "params.yaml"
        values = yaml.safe_load(path.read_text())
        merge(values, changes)
        path.write_text(yaml.safe_dump(values, sort_keys=False))

    def git(self, *words: str) -> str:
        """Run git."""
        done = subprocess.run(["git", *words], cwd=self.root, env=self.env, check=True, capture_output=True, text=True)
        return done.stdout

    def run(self, *words: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `python -m WORDS` in the project."""
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=self.root, env=self.env, capture_output=True, text=True, **options
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def signals(self, *words: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the command line as a user would."""
        return self.run("pipelines.cli", *words, check=check, **options)

    def repro(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `dvc repro`."""
        return self.run("dvc", "repro", *words, check=check)

    def outputs(self, folders: Sequence[str] = ("data", "artifacts", "reports")) -> dict[str, bytes]:
        """Bytes of every file that the stages wrote."""
        files = (file for folder in folders for file in (self.root / folder).rglob("*") if file.is_file())
        return {file.relative_to(self.root).as_posix(): file.read_bytes() for file in files}


@pytest.fixture(scope="session")
def finished(repository: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Project:
    """A project after one `dvc repro`; shared by every process of the suite, so only read it or copy it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "finished"
    with FileLock(f"{shared}.lock"):
        if not (shared / "done").is_file():
            shutil.rmtree(shared, ignore_errors=True)
            Project.create(repository, shared / "project").repro()
            (shared / "done").touch()
    return Project(shared / "project")


@pytest.fixture
def fresh(repository: Path, tmp_path: Path) -> Callable[..., Project]:
    """Make a project that has not run yet."""
    return lambda changes=SMALL: Project.create(repository, tmp_path / "project", changes)
