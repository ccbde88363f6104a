"""`signals simulate`: a simulated market as a folder of tables to run on, with its truth beside them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from core.errors import ConfigError
from core.params import parse
from core.progress import progress_of
from core.text import require_path
from pipelines.console import Printer
from sources.schemas import TABLES
from sources.simulation.archive import CHOICE, MARKET_TRUTH, TRUTH, write_world
from sources.simulation.params import SimulationParams

_TABLES = tuple(f"{name}.parquet" for name, schema in sorted(TABLES.items()) if not schema.own)
_WRITTEN = {*_TABLES, TRUTH, MARKET_TRUTH, CHOICE}


def simulate(out: Path, choices: Mapping[str, Any], printer: Printer | None = None) -> None:
    """Write a market into a folder of its own, and say what to type next.

    Parameters
    ----------
    out
        Folder that is not there yet, is empty, or holds an earlier simulated market, which is replaced.
    choices
        Parameters of the market; those that are None keep their defaults, the strength of what is planted its preset's.

    Raises
    ------
    ConfigError
        A choice is unknown or impossible, or the folder holds something else.
    """
    chosen = {name: value for name, value in choices.items() if value is not None}
    params = parse(SimulationParams, {"planted_ic": None, **chosen}, "")
    # What a link names is to be replaced, not the link.
    folder = require_path(out.resolve())
    refuse_other_folders(folder, out)
    with progress_of("simulate") as tick:
        write_world(params, folder, tick)
    _show(params, folder, out, printer or Printer())


def refuse_other_folders(folder: Path, name: Path) -> None:
    """Refuse to replace anything but a simulated market, so that nothing of the user's is lost.

    Raises
    ------
    ConfigError
        The folder is a file, holds no simulated market, or holds more than one.
    """
    remedy = "name a folder that does not exist yet, or remove this one yourself"
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"--out {name} is a file: {remedy}")
    held = sorted(entry.name for entry in folder.iterdir())
    if held and CHOICE not in held:
        raise ConfigError(f"--out {name} exists and is no simulated market (it has no {CHOICE}): {remedy}")
    if others := [entry for entry in held if entry not in _WRITTEN]:
        raise ConfigError(f"--out {name} holds {others[0]} beside a simulated market, and would lose it: {remedy}")


def _show(params: SimulationParams, folder: Path, name: Path, printer: Printer) -> None:
    planted = {source: strength for source, strength in params.oracle_ic().items() if strength}
    together = sum(strength**2 for strength in planted.values()) ** 0.5
    told = ", ".join(f"{source} {strength:.3f}" for source, strength in planted.items())
    printer.line(
        f"wrote {name}: preset {params.preset}, {params.symbols:,} symbols, {params.start} to {params.end}, "
        f"seed {params.seed}"
    )
    printer.line(
        f"planted: oracle IC {together:.3f} ({told})" if planted else "planted: nothing, there is nothing to find"
    )
    there = [file for file in (*_TABLES, TRUTH, MARKET_TRUTH) if (folder / file).is_file()]
    rows = {file: pq.read_metadata(folder / file).num_rows for file in there}
    what = {TRUTH: "of each symbol and session; no stage reads it", MARKET_TRUTH: "of the market; no stage reads it"}
    printer.table("files", ("file", "rows", ""), [(file, f"{n:,}", what.get(file, "")) for file, n in rows.items()])
    printer.line("next:")
    printer.line(f"  make run DATA={shlex.quote(name.as_posix())}")
    printer.line("  signals truth    # what that run finds of what is planted")
