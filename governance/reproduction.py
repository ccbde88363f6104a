"""Making a version again: what its registration names, whether it may be tried, and what came out different.

A version is tied to a commit only by a registration from a clean tree without a problem in its
lineage. Whichever registration of the version did that is the one to go by: a later one of the same
bundle, from an edited tree, takes nothing away.
"""

from __future__ import annotations

import copy
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from core import numerics
from core.errors import DataError, GovernanceError
from core.files import read_json
from core.params import lookup
from governance.dvc_lock import DvcLock
from governance.ledger import Record
from governance.lineage import libraries, reads_files, source_tables
from governance.places import resolve
from governance.seal import read_sealed
from governance.state import State

_LINEAGE = "lineage.json"
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?(?![\w.])")
_SMALLEST = 1e-6
"""Numbers below it are compared in absolute terms."""
_FOLDERS = ("data.path", "data.embeddings.model")
"""Parameters that name a folder; relative to the checkout, which a copy of it is not."""


@dataclass(frozen=True)
class Origin:
    """What a version was made from, and what it consists of.

    Parameters
    ----------
    commit
        The whole identifier of the commit that holds its code.
    bundle
        Where the stages write the bundle, relative to the checkout.
    kept
        Folder of the bundle as registered.
    files
        SHA-256 of each of the bundle's files as registered, by relative path.
    lock
        dvc.lock of the training.
    lineage
        All that was kept (see `governance.lineage`).
    """

    version: int
    commit: str
    bundle: str
    kept: Path
    files: Mapping[str, str]
    lock: DvcLock
    lineage: Mapping[str, Any]

    @property
    def params(self) -> dict[str, Any]:
        """Content of the params.yaml that it was made with."""
        return self.lineage["params"]["content"]

    @property
    def stage(self) -> str:
        """The stage that writes the bundle.

        Raises
        ------
        GovernanceError
            dvc.lock names none.
        """
        name = self.lock.writer(self.bundle)
        if name is None:
            raise GovernanceError(f"version {self.version}: its dvc.lock names no stage that writes {self.bundle}")
        return name


def origin(root: Path, state: State, version: int) -> Origin:
    """Read what a version was made from, checked against the ledger.

    Raises
    ------
    GovernanceError
        The ledger knows no such version, no registration of it names all that it was made from, or what
        was kept is missing or was changed.
    """
    latest = state.registration(version)
    refusals = []
    for record in reversed(state.chain.of_kind("registered")):
        if record.payload["version"] != version:
            continue
        lineage = _kept_lineage(root, record)
        refusal = _refusal(lineage)
        if refusal is None:
            return _origin(root, version, latest, lineage)
        refusals.append(refusal)
    raise GovernanceError(f"version {version} cannot be made again: {refusals[0]}")


def _kept_lineage(root: Path, record: Record) -> dict[str, Any]:
    payload = record.payload
    folder = resolve(payload["evidence_uri"], root)
    found, problems = read_sealed(folder, payload["evidence_files"], _LINEAGE)
    if problems:
        raise GovernanceError(
            f"version {payload['version']}: {problems[0]} since it was registered: restore mlruns/ from a backup"
        )
    return read_json(found / _LINEAGE)


def _refusal(lineage: Mapping[str, Any]) -> str | None:
    """Why a lineage does not tell how to make the bundle; None where it does."""
    git = lineage["git"]
    if not git["commit"]:
        return "it was registered outside git: commit, run `signals register`, and try again"
    if not git["clean"]:
        changed = git["changed"]
        more = f" and {len(changed) - 1} more" if changed[1:] else ""
        return (
            f"it was registered with uncommitted changes ({changed[0]}{more}), so commit {git['commit'][:12]} is not "
            "its code: commit them, train and register again"
        )
    if lineage["problems"]:
        return f"its lineage is incomplete ({lineage['problems'][0]})"
    if "bundle" not in lineage:
        return "its lineage was written by an older release: run `signals register` again from its checkout"
    return None


def _origin(root: Path, version: int, registration: Record, lineage: Mapping[str, Any]) -> Origin:
    payload = registration.payload
    inside = payload["bundle_uri"].removeprefix(payload["model_uri"]).strip("/") + "/"
    files = {n.removeprefix(inside): d for n, d in payload["model_files"].items() if n.startswith(inside)}
    lock = DvcLock.of(yaml.safe_load(lineage["dvc_lock"]["content"]))
    kept = resolve(payload["bundle_uri"], root)
    return Origin(version, lineage["git"]["commit"], lineage["bundle"], kept, files, lock, lineage)


def other_libraries(made: Origin) -> list[str]:
    """Where this environment is not the one that the version was made in, a short phrase each."""
    here = {"python": platform.python_version(), **libraries()}
    then = {"python": made.lineage["python"], **made.lineage["libraries"]}
    return [
        f"{name} {here.get(name, 'is not installed')}, was {version}"
        for name, version in then.items()
        if here.get(name) != version
    ]


def other_machine(made: Origin) -> list[str]:
    """Where processor or numerics here are not those that the version was made with, a short phrase each.

    A processor of another make is listed although the bytes are promised on it: it is where to look when they differ.
    """
    then, here = made.lineage.get("numerics"), numerics.describe()
    if then is None:
        return [f"it was made on {made.lineage['platform']}, before the instruction set was fixed"]
    differ = [
        f"{key.replace('_', ' ')} {here[key]}, was {then[key]}"
        for key in ("processor", "instruction_set")
        if here[key] != then[key]
    ]
    if then["mode"] == "native":
        return [*differ, "it was made with `numerics: native`"]
    return differ + [
        f"{library} uses {here['dispatch'].get(library)}, used {used}"
        for library, used in then["dispatch"].items()
        if here["mode"] == then["mode"] and here["dispatch"].get(library) != used
    ]


def promises_bytes(made: Origin) -> bool:
    """Whether a version's bytes are promised here: made in portable mode, there and here on Linux and x86-64-v3."""
    then = made.lineage.get("numerics")
    return then is not None and then["promised"] and numerics.is_promised()


def largest_difference(then: Path, now: Path) -> float:
    """Largest relative difference between the numbers of two files of a bundle.

    Parameters
    ----------
    then, now : pathlib.Path
        The same file of two bundles: text (JSON, LightGBM) or safetensors.

    Returns
    -------
    float
        Infinity where the files differ in anything but numbers. Digests of other files and the lengths of a forest's
        trees in characters do not count; a tensor's numbers are compared with the largest of it.
    """
    if then.suffix == ".safetensors":
        # Not at the top: most bundles hold none, and no other command needs it.
        from safetensors.numpy import load_file

        tensors, others = load_file(then), load_file(now)
        if {name: value.shape for name, value in tensors.items()} != {n: v.shape for n, v in others.items()}:
            return np.inf
        return max((_apart(value, others[name], np.abs(value).max()) for name, value in tensors.items()), default=0.0)
    words, numbers = _split(then)
    other_words, other_numbers = _split(now)
    if words != other_words:
        return np.inf
    return _apart(numbers, other_numbers, np.maximum(np.abs(numbers), np.abs(other_numbers)))


def _split(file: Path) -> tuple[list[str], NDArray[np.float64]]:
    """The words and the numbers of a text file."""
    text = re.sub(r"\b[0-9a-f]{64}\b|^tree_sizes=.*$", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return _NUMBER.split(text), np.array([float(number) for number in _NUMBER.findall(text)])


def _apart(one: NDArray[Any], other: NDArray[Any], scale: Any) -> float:
    apart = np.abs(one - other) / np.maximum(scale, _SMALLEST)
    return float(apart.max(initial=0.0))


def require_same_tables(made: Origin, root: Path) -> None:
    """Refuse a folder of raw tables that is not what the version was made from.

    Parameters
    ----------
    root
        The checkout that a relative `data.path` starts from.

    Raises
    ------
    DataError
        A table is missing, was added, or has other bytes; it is named.
    """
    then, now = made.lineage["sources"], source_tables(root, made.params)
    folder = lookup(made.params, "data.path")
    for table in (*then, *(name for name in now if name not in then)):
        if then.get(table) == now.get(table):
            continue
        what = "is missing" if table not in now else "was added" if table not in then else "has changed"
        file = (now.get(table) or then[table])["file"]
        raise DataError(
            f"{folder}: table {table!r} ({file}) {what} since version {made.version} was made: "
            "put back the folder as it was, and try again"
        )


def rebuilt_params(made: Origin, root: Path, nothing: Path) -> dict[str, Any]:
    """The version's parameters for a checkout elsewhere: the folders that they name made absolute.

    Parameters
    ----------
    root
        The checkout that relative folders start from.
    nothing
        An empty folder, for a source that reads none: the one it names need not exist any more.
    """
    values = copy.deepcopy(made.params)
    for key in _FOLDERS:
        block, _, name = key.rpartition(".")
        if (folder := lookup(values, key)) is not None:
            lookup(values, block)[name] = (root / folder).resolve().as_posix()
    if lookup(values, "data.path") is not None and not reads_files(values):
        values["data"]["path"] = nothing.as_posix()
    return values


def first_to_differ(made: Origin, rebuilt: DvcLock) -> str | None:
    """The earliest stage that wrote something else than then; None where all wrote the same.

    Parameters
    ----------
    rebuilt
        The new dvc.lock, in the order in which the stages ran.
    """

    def wrote(lock: DvcLock, stage: str) -> dict[str, str | None]:
        return {out["path"]: out.get("md5") for out in lock.stages[stage].get("outs", ())}

    both = (stage for stage in rebuilt.stages if stage in made.lock.stages)
    return next((stage for stage in both if wrote(rebuilt, stage) != wrote(made.lock, stage)), None)
