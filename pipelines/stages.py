"""What the commands ask of DVC: run the stages, and tell which of them are out of date."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from core.checkout import PARAMS
from core.errors import SignalsError
from core.params import read_yaml
from governance.dvc_lock import DvcLock
from pipelines.layout import LOCK


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
        The stage has not run.
    """
    lock = DvcLock.of(read_yaml(root / LOCK)) if (root / LOCK).is_file() else DvcLock({})
    if stage not in lock.stages:
        raise StageError(f"the stage {stage} has not run here: run `signals run` first")
    found = lock.changes(root, read_yaml(root / "dvc.yaml"), read_yaml(root / PARAMS), upto=stage, outs=True)
    return {name: set(wrong) for name, wrong in found.items()}
