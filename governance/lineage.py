"""Lineage: what a bundle was made from, precisely enough to make it again."""

from __future__ import annotations

import getpass
import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from core.errors import ConfigError
from core.files import digest_bytes

_DISTRIBUTION = "layered-signals"
_DATE_COLUMNS = ("date", "session")


def collect_lineage(
    root: Path,
    bundle: Path,
    features: Sequence[str],
    tables: Path | None = None,
    trials: Mapping[str, int] | None = None,
    holdout_openings: int = 0,
) -> dict[str, Any]:
    """Gather the lineage of a bundle.

    Parameters
    ----------
    root
        Checkout with params.yaml and dvc.lock.
    bundle
        Folder of the bundle, to be compared with what dvc.lock says it is.
    tables
        Folder of cleaned tables, for their rows and date ranges.
    trials
        Trials spent per layer.

    Returns
    -------
    dict
        JSON-able; `problems` lists what keeps the bundle from being made again.
    """
    lock_text = _read(root / "dvc.lock")
    lock = _yaml(lock_text, root / "dvc.lock")
    params_text = _read(root / "params.yaml")
    outs = _outs(lock)
    lineage: dict[str, Any] = {
        "git": _git_state(root, tuple(outs)),
        "author": author(root),
        "dvc_lock": {"sha256": digest_bytes(lock_text.encode()), "content": lock_text} if lock_text else None,
        "params": {"sha256": digest_bytes(params_text.encode()), "content": _yaml(params_text, root / "params.yaml")},
        "data": _data(lock, outs),
        "tables": _table_ranges(tables) if tables is not None and tables.is_dir() else {},
        "features": list(features),
        "trials": {"total": sum((trials or {}).values()), "by_layer": dict(trials or {})},
        "holdout_openings": holdout_openings,
        "libraries": _libraries(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    lineage["problems"] = _problems(lineage, root, bundle, outs)
    return lineage


def author(root: Path) -> str:
    """`Name <email>` as git knows it; the login name where git knows none."""
    name, email = _git(root, "config", "user.name"), _git(root, "config", "user.email")
    if name and email:
        return f"{name} <{email}>"
    return name or email or getpass.getuser()


def _problems(lineage: Mapping[str, Any], root: Path, bundle: Path, outs: Mapping[str, Any]) -> list[str]:
    problems = []
    if not lineage["git"]["commit"]:
        problems.append("no git commit")
    for key in ("dvc_lock", "data", "features", "libraries"):
        if not lineage[key]:
            problems.append(f"no {key.replace('_', '.')}")
    if not lineage["trials"]["total"]:
        problems.append("no tuning trials counted")
    if lineage["dvc_lock"]:
        recorded = next((out for path, out in outs.items() if (root / path).resolve() == bundle.resolve()), None)
        if recorded is None:
            problems.append("dvc.lock does not name the bundle")
        elif recorded["md5"] != dvc_folder_md5(bundle):
            problems.append("the bundle on disk is not the one dvc.lock records: run `dvc repro`")
    return problems


def dvc_folder_md5(folder: Path) -> str:
    """DVC's identity of a folder: the MD5 of its sorted listing of file MD5s, with `.dir` added."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    listing = []
    for name in names:
        with (folder / name).open("rb") as handle:
            listing.append({"md5": hashlib.file_digest(handle, "md5").hexdigest(), "relpath": name})
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip("\n") if done.returncode == 0 else None


def _git_state(root: Path, recorded: Sequence[str]) -> dict[str, Any]:
    """Commit and uncommitted paths, less the files whose content the lineage records itself."""
    commit = _git(root, "rev-parse", "HEAD")
    listing = _git(root, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--", ".")
    prefix = _git(root, "rev-parse", "--show-prefix") or ""
    if commit is None or listing is None:
        return {"commit": None, "clean": False, "changed": []}
    known = ("params.yaml", "dvc.lock", *recorded)
    paths = [entry[3:].removeprefix(prefix) for entry in listing.split("\0") if entry]
    changed = sorted(p for p in paths if not any(p == name or p.startswith(f"{name}/") for name in known))
    return {"commit": commit, "clean": not changed, "changed": changed}


def _outs(lock: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    stages = (lock.get("stages") or {}).values()
    return {out["path"]: out for stage in stages for out in stage.get("outs", ())}


def _data(lock: Mapping[str, Any], outs: Mapping[str, Any]) -> dict[str, Any]:
    """Digest of every data folder a stage wrote or took from outside."""
    stages = (lock.get("stages") or {}).values()
    deps = [dep for stage in stages for dep in stage.get("deps", ())]
    outside = [dep for dep in deps if dep["path"] not in outs and Path(dep["path"]).suffix not in (".py", ".yaml")]
    found = [*(out for path, out in outs.items() if path.startswith("data/")), *outside]
    rows = {_short(e["path"]): {k: e[k] for k in ("md5", "size", "nfiles") if k in e} for e in found if "md5" in e}
    return dict(sorted(rows.items()))


def _short(path: str) -> str:
    """The name of an outside path without the machine's folders above it."""
    return f"outside:{Path(path).name}" if Path(path).is_absolute() or path.startswith("..") else path


def _table_ranges(folder: Path) -> dict[str, Any]:
    """Rows, first and last date of each cleaned table, from Parquet statistics."""
    ranges = {}
    for entry in sorted(folder.iterdir()):
        files = sorted(entry.rglob("*.parquet")) if entry.is_dir() else [entry] if entry.suffix == ".parquet" else []
        if files:
            ranges[entry.stem] = _range(files)
    return ranges


def _range(files: Sequence[Path]) -> dict[str, Any]:
    rows, bounds = 0, []
    for file in files:
        meta = pq.read_metadata(file)
        rows += meta.num_rows
        column = next((i for i, n in enumerate(meta.schema.names) if n in _DATE_COLUMNS), None)
        if column is None:
            continue
        for group in range(meta.num_row_groups):
            statistics = meta.row_group(group).column(column).statistics
            if statistics is not None and statistics.has_min_max:
                bounds += [statistics.min, statistics.max]
    span = {"first": str(min(bounds))[:10], "last": str(max(bounds))[:10]} if bounds else {}
    return {"rows": rows, **span}


def _libraries() -> dict[str, str]:
    """Versions of the project's direct dependencies, and of itself."""
    try:
        wanted = [re.split(r"[\s<>=!~;\[]", need, maxsplit=1)[0] for need in metadata.requires(_DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError as error:
        raise ConfigError(
            f"{_DISTRIBUTION} is not installed in this environment: run `make run` or `pip install -e .`"
        ) from error
    found = {}
    for name in sorted({*wanted, _DISTRIBUTION}, key=str.lower):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _yaml(text: str, path: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML ({str(error).splitlines()[0]}): restore it from git") from error
