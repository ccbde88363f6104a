"""The checkout that a process works in. Imports no library: `core.numerics` asks before any may be imported."""

from __future__ import annotations

import os
from pathlib import Path

from core.errors import ConfigError
from core.text import require_path

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")


def checkout() -> Path | None:
    """The folder that `SIGNALS_ROOT` names, else the nearest parent of the current one, with dvc.yaml and params.yaml.

    Returns
    -------
    Path or None
        None where there is no such folder.
    """
    named = os.environ.get("SIGNALS_ROOT")
    folders = [Path(named)] if named else [Path.cwd(), *Path.cwd().parents]
    return next((one for one in folders if (one / PIPELINE).is_file() and (one / PARAMS).is_file()), None)


def find_root() -> Path:
    """Root of the checkout, resolved (see `checkout`).

    It never falls back to where the code is installed: of two checkouts that would silently be the wrong one.

    Raises
    ------
    ConfigError
        There is none, or its path is not UTF-8.
    """
    found = checkout()
    if found is None:
        named = os.environ.get("SIGNALS_ROOT")
        where = f"SIGNALS_ROOT={named}" if named else str(Path.cwd())
        raise ConfigError(f"{where} is no checkout with dvc.yaml and params.yaml: change to one or set SIGNALS_ROOT")
    return require_path(found.resolve())
