"""What `signals retrain` does: propose the next training, and the command that starts it. It trains nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.checkout import PARAMS
from core.errors import DataError
from core.files import read_json, write_json
from governance.evidence import stored
from governance.places import resolve
from governance.trust import state_now
from pipelines.choices import edit_params
from pipelines.console import Printer
from pipelines.layout import MONITOR
from pipelines.params import load_settings
from sources.calendar import sessions

COMMAND = "signals run"
AFTER = "signals compare candidate champion"
_WHERE = MONITOR / "retrain.json"


def propose(root: Path, write: bool = False) -> dict[str, Any]:
    """Print and write what the next training would be.

    Parameters
    ----------
    write
        Whether to put the proposed changes into params.yaml.

    Returns
    -------
    dict
        `version` and `as_of` that the last monitoring was of, its `verdict` and `fired` rules; `params`: dates and seed
        of the next training; `changes` to params.yaml that it needs; `differs`: what params.yaml says otherwise than
        the version was trained with; `new_sessions` since its last outcome; `command`.

    Raises
    ------
    DataError
        `signals monitor` has not judged anything yet.
    GovernanceError
        The version's stored evidence was changed.
    """
    if not (root / MONITOR / "monitor.json").is_file():
        raise DataError(f"{MONITOR / 'monitor.json'} is missing: run `signals monitor` first")
    told = read_json(root / MONITOR / "monitor.json")
    settings = load_settings(root / PARAMS)
    state = state_now(root, settings.governance)
    found = stored(root, state, int(told["version"]))
    bundle = resolve(state.registration(found.version).payload["bundle_uri"], root)
    until = read_json(bundle / "profile.json").get("trained_until")
    end = settings.data.end
    short = end is not None and np.datetime64(end) < np.datetime64(told["as_of"])
    changes: dict[str, Any] = {"data": {"end": None}} if short else {}
    known = [name for name in found.params if name not in ("data", "governance", "monitoring")]
    proposal = {
        "version": found.version,
        "as_of": told["as_of"],
        "verdict": told["verdict"],
        "fired": told["fired"],
        "params": {
            "data": {
                "start": str(settings.data.start) if settings.data.start else None,
                "end": str(end) if end and not short else None,
            },
            "seed": settings.seed,
        },
        "changes": changes,
        "differs": sorted(_differences(dict(found.params), settings.resolved(known))),
        "trained_until": until,
        "new_sessions": None if until is None else max(0, len(sessions(until, told["as_of"])) - 1),
        "command": COMMAND,
        "after": AFTER,
    }
    write_json(root / _WHERE, proposal)
    if write and changes:
        edit_params(root, changes)
    _show(proposal, write)
    return proposal


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names at which two nested mappings say something else."""
    for key in old.keys() | new.keys():
        name, before, after = f"{prefix}{key}", old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _differences(before, after, f"{name}.")
        elif before != after and key in new:
            yield name


def _show(proposal: Mapping[str, Any], written: bool) -> None:
    printer, params = Printer(), proposal["params"]
    printer.line(f"version {proposal['version']} at the close of {proposal['as_of']}: {proposal['verdict']}", "bold")
    for rule in proposal["fired"]:
        printer.line(f"  fired: {rule}")
    end = params["data"]["end"] or "all there is"
    printer.line(
        f"dates    {params['data']['start'] or 'the first there is'} to {end}; seed {params['seed']} as before"
    )
    if proposal["trained_until"]:
        printer.line(
            f"new      {proposal['new_sessions']} sessions since its last outcome, {proposal['trained_until']}"
        )
    if proposal["differs"]:
        printer.line(f"differs  params.yaml has changed since: {', '.join(proposal['differs'])}")
    if proposal["changes"]:
        done = "written to params.yaml" if written else "write it: signals retrain --write"
        printer.line(f"change   data.end: null ({done})")
    printer.line("Another seed would be another draw of luck, and every training counts in the deflated Sharpe ratio.")
    printer.line(f"next: {proposal['command']}, then {proposal['after']}")
    printer.line(f"written: {_WHERE.as_posix()}")
