"""Compiled kernels where nothing can be written: read-only code, no home."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import pytest

from core.jit import njit, private_folder


def twice(x: float) -> float:
    return 2.0 * x


@pytest.fixture
def nothing_writable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process in which numba finds no folder of its own; the system's temporary folder is the result."""
    # Two locators fewer: what is left is the folder that NUMBA_CACHE_DIR names, and here it names none.
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "UserProvidedCacheLocator")
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_kernels_go_to_a_private_folder(nothing_writable: Path) -> None:
    assert njit(nogil=True)(twice)(2.0) == 4.0
    (folder,) = nothing_writable.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.name.endswith(f"-{os.geteuid()}")
    assert list(folder.rglob("*.nbi")), "nothing is kept for the next process"
    assert os.environ["NUMBA_CACHE_DIR"] == str(folder)


def test_the_users_own_choice_wins(nothing_writable: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "own"
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(own))
    assert njit()(twice)(2.0) == 4.0
    assert list(own.rglob("*.nbi"))
    assert list(nothing_writable.iterdir()) == [own]


@pytest.mark.parametrize("squatter", ["missing", "open", "link", "file"])
def test_without_a_private_folder_nothing_is_kept(nothing_writable: Path, squatter: str, tmp_path: Path) -> None:
    place = nothing_writable / f"layered-signals-kernels-{os.geteuid()}"
    if squatter == "missing":
        tempfile.tempdir = str(nothing_writable / "missing")
    elif squatter == "open":
        place.mkdir()
        place.chmod(0o777)
    elif squatter == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.touch()
    assert private_folder() is None
    assert njit()(twice)(2.0) == 4.0
    assert not list(nothing_writable.rglob("*.nbi"))


def test_a_user_without_a_home_or_a_name(tmp_path: Path) -> None:
    """MLflow starts, no folder called `~` is made, and whoever acts has a name."""
    code = """
import pwd
def unknown(uid): raise KeyError(uid)
pwd.getpwuid = unknown
import core, os
from pathlib import Path
from governance.keys import pen_for
from governance.lineage import author
from governance.store import quiet_mlflow
quiet_mlflow()
import mlflow.tracking
assert author(Path("/")) == f"uid-{os.getuid()}", author(Path("/"))
assert pen_for(Path("/"), author(Path("/")), decides=True, required=False) is None
"""
    known = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment = {**known, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
