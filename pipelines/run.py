"""The main job: `dvc repro`, the tear sheet, register both, show the gates and a preview of the day's signals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import ConfigError, SignalsError
from core.files import atomic_file
from core.params import merge, read_yaml
from pipelines.layout import PARAMS, find_root
from pipelines.params import load_settings, parse_settings

SIMULATED = "simulated"
PRESETS = Path(__file__).parent / "presets"


class StageError(SignalsError):
    """A stage of the pipeline ended with an error of its own, which it has printed."""

    exit_code = 9


def choose_data(root: Path, data: str) -> None:
    """Point params.yaml at a folder of tables, or back at the simulated market; comments stay.

    Raises
    ------
    ConfigError
        params.yaml cannot be read, or the folder does not exist; params.yaml is untouched.
    """
    if data == SIMULATED:
        edit_params(root, {"data": {"source": SIMULATED}})
        return
    folder = Path(data) if Path(data).is_absolute() else Path(os.path.relpath(Path.cwd() / data, root))
    if not (root / folder).is_dir():
        raise ConfigError(f"data folder {data} does not exist: name one that holds prices.parquet or prices.csv")
    edit_params(root, {"data": {"source": "files", "path": folder.as_posix()}})


def choose_preset(root: Path, preset: str) -> None:
    """Write a preset's choices into params.yaml; comments stay.

    Raises
    ------
    ConfigError
        There is no such preset, or params.yaml cannot be read; params.yaml is untouched.
    """
    files = {path.stem: path for path in PRESETS.glob("*.yaml")}
    if preset not in files:
        raise ConfigError(f"unknown preset {preset!r}: choose one of {', '.join(sorted(files))}")
    edit_params(root, read_yaml(files[preset]))


def edit_params(root: Path, changes: Mapping[str, Any]) -> None:
    """Put nested changes into params.yaml, checked before they are written; comments stay.

    Raises
    ------
    ConfigError
        params.yaml cannot be read, or a change is refused; params.yaml is untouched.
    """
    path = root / PARAMS
    # Read safely and checked first: what follows keeps the comments, and sees only plain values.
    load_settings(path)
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 200
    yaml.indent(mapping=2, sequence=4, offset=2)
    null = "tag:yaml.org,2002:null"
    yaml.representer.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(null, "null"))
    values: Any = yaml.load(path.read_text(encoding="utf-8"))
    merge(values, changes)
    parse_settings(values)
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        yaml.dump(values, handle)


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


def run(data: str | None = None, preset: str | None = None) -> None:
    """Reproduce, write the tear sheet, register both, show the gates and a preview, and say what to type next.

    Parameters
    ----------
    data
        Folder of tables, or "simulated"; None keeps what params.yaml says.
    preset
        Name of a preset, `fast` or `full`; None keeps what params.yaml says.
    """
    root = find_root()
    if preset is not None:
        choose_preset(root, preset)
    if data is not None:
        choose_data(root, data)
    settings = load_settings(root / PARAMS)
    where = settings.data.path if settings.data.source == "files" else "generated"
    print(f"data: {settings.data.source} ({where})", flush=True)
    reproduce(root)

    from pipelines.infer import preview
    from pipelines.register import register
    from pipelines.tearsheet import tearsheet

    # Before the registration, which puts it beside the version.
    tearsheet(root)
    register(root)
    preview()
