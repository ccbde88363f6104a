"""What the commands ask of DVC: run the stages, and tell which of them are out of date."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from core.errors import SignalsError


class StageError(SignalsError):
    """A stage of the pipeline ended with an error of its own, which it has printed."""

    exit_code = 9


def reproduce(root: Path) -> None:
    """Run every stage whose inputs changed.

    Raises
    ------
    StageError
        A stage failed; it has said why, and the outputs of the last good run are untouched.
    """
    command = [sys.executable, "-m", "dvc", "repro"]
    done = subprocess.run(command, cwd=root, env={**os.environ, "PATH": search_path()}, check=False)
    if done.returncode:
        raise StageError("the pipeline stopped (see the stage's message above): mend that and run again")


def search_path() -> str:
    """PATH for the stages: they say `python`, which must be this one, also where no environment is activated."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def out_of_date(root: Path, stage: str) -> dict[str, set[str]]:
    """What changed since they ran, by stage, of a stage and those that it rests on; others are left out.

    Raises
    ------
    StageError
        DVC cannot tell.
    """
    command = [sys.executable, "-m", "dvc", "status", "--json", "--with-deps", stage]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise StageError(f"dvc cannot tell whether the run on disk is up to date ({said}): run `signals run` first")
    return {name: set().union(*map(_changed, reasons)) for name, reasons in json.loads(done.stdout).items()}


def _changed(reason: Any) -> set[str]:
    """Files in one of DVC's reasons, such as {"changed deps": {"core": "modified"}}."""
    return {file for files in reason.values() for file in files} if isinstance(reason, dict) else set()
