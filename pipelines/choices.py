"""Choices put into params.yaml for somebody: the data, a preset, what a retraining changes; comments stay."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.checkout import PARAMS
from core.errors import ConfigError
from core.files import atomic_file
from core.params import merge, read_yaml
from core.text import require_path
from pipelines.params import load_settings, parse_settings

SIMULATED = "simulated"
PRESETS = Path(__file__).parent / "presets"


def choose_data(root: Path, data: str) -> None:
    """Point params.yaml at a folder of tables, or back at the simulated market; comments stay.

    Raises
    ------
    ConfigError
        params.yaml cannot be read, or the folder does not exist or is not UTF-8; params.yaml is untouched.
    """
    if data == SIMULATED:
        edit_params(root, {"data": {"source": SIMULATED}})
        return
    require_path(Path(data))
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
