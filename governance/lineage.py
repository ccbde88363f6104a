"""Lineage: what a bundle was made from, precisely enough to make it again."""

from __future__ import annotations

import getpass
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from core import numerics
from core.checkout import PARAMS
from core.code import reachable
from core.errors import ConfigError
from core.files import canonical_json, digest_bytes, digest_file, digest_tree
from core.params import lookup
from core.text import shown
from governance.dvc_lock import DvcLock, problems
from governance.git import ask, changed_paths
from governance.people import LONGEST_NAME
from sources.providers.files import table_files

_DISTRIBUTION = "layered-signals"
_DEVELOPS = re.compile(r"""extra\s*==\s*["']dev["']""")
_SERVING = ("pipelines/infer.py", "pipelines/day.py", "pipelines/asof.py", "pipelines/inputs.py", "pipelines/panels.py")
_DECIDING = ("core", "features", "market", "models", "portfolio", "sources")
_BY_NAME = ("features/families", "models/layers", "models/rungs", "models/networks", "sources/providers")
"""Folders whose modules are imported by a name of params.yaml or of the bundle."""
_DATE_COLUMNS = ("date", "session")


def collect_lineage(
    root: Path,
    bundle: Path,
    features: Sequence[Mapping[str, Any]],
    tables: Path | None = None,
    trials: Mapping[str, int] | None = None,
    holdout_openings: int = 0,
    reports: Sequence[Path] = (),
) -> dict[str, Any]:
    """Gather the lineage of a bundle.

    Parameters
    ----------
    root
        Checkout with params.yaml, dvc.yaml and dvc.lock.
    bundle
        Folder of the bundle. It, and every other file that a stage wrote, is compared with what dvc.lock says it is.
    features
        Declaration of each feature, with at least `name`, `family` and `lookback`.
    tables
        Folder of cleaned tables, for their rows and date ranges.
    trials
        Trials spent per layer.
    holdout_openings
        Times that a final holdout was opened before.
    reports
        Files that the version is judged by, which stages must have written.

    Returns
    -------
    dict
        JSON-able; `problems` lists what keeps the bundle from being made again.
    """
    lock_text = _read(root / "dvc.lock")
    lock = DvcLock.of(_yaml(lock_text, root / "dvc.lock"))
    params_text = _read(root / PARAMS)
    params = _yaml(params_text, root / PARAMS)
    pipeline = _yaml(_read(root / "dvc.yaml"), root / "dvc.yaml")
    live = lock.live(pipeline, params)
    lineage: dict[str, Any] = {
        "git": _git_state(root, tuple(lock.outs)),
        "author": author(root),
        "bundle": bundle.relative_to(root).as_posix(),
        "dvc_lock": {"sha256": digest_bytes(lock_text.encode()), "content": lock_text} if lock_text else None,
        "params": {"sha256": digest_bytes(params_text.encode()), "content": params},
        "seeds": dict(_seeds(params)),
        "data": _data(root, lock, live, params),
        "sources": source_tables(root, params),
        "tables": _table_ranges(tables) if tables is not None and tables.is_dir() else {},
        "code": _code(root, lock, live, params),
        "serving": serving_code(root),
        "features": _features(root, features, lock, params),
        "trials": {"total": sum((trials or {}).values()), "by_layer": dict(trials or {})},
        "holdout_openings": holdout_openings,
        "libraries": libraries(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numerics": numerics.describe(),
    }
    lineage["problems"] = _missing(lineage)
    if lock_text:
        names = [path.relative_to(root).as_posix() for path in (bundle, *reports)]
        unwritten = [name for name in names if not lock.wrote(name, live)]
        lineage["problems"] += [f"{name} is written by no stage of dvc.lock" for name in unwritten]
        lineage["problems"] += problems(lock.changes(root, pipeline, params, outs=True))
    return lineage


def serving_code(root: Path) -> dict[str, str]:
    """SHA-256 of each file of the checkout whose code decides a day's signals."""
    chosen = [p.relative_to(root).as_posix() for folder in _BY_NAME for p in sorted((root / folder).glob("*.py"))]
    files = reachable(root, (*_SERVING, *chosen), _DECIDING)
    return {name: digest_file(root / name) for name in files}


def author(root: Path) -> str:
    """`Name <email>` as git knows it; the login name where git knows none, the user's number where there is none."""
    name, email = ask(root, "config", "user.name"), ask(root, "config", "user.email")
    known = f"{name} <{email}>" if name and email else name or email or _login()
    return " ".join(shown(known).split())[:LONGEST_NAME]


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no entry in the list of users
        return f"uid-{os.getuid()}"


def _missing(lineage: Mapping[str, Any]) -> list[str]:
    missing = []
    if not lineage["git"]["commit"]:
        missing.append("no git commit")
    for key in ("dvc_lock", "data", "features", "libraries", "seeds"):
        if not lineage[key]:
            missing.append(f"no {key.replace('_', '.')}")
    unknown = [feature["name"] for feature in lineage["features"] if not feature["code"]]
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if unknown[1:] else ""
        missing.append(f"no digest of the code of feature {unknown[0]}{more}")
    if not lineage["trials"]["total"]:
        missing.append("no tuning trials counted")
    return missing


def _git_state(root: Path, recorded: Sequence[str]) -> dict[str, Any]:
    """Commit and uncommitted paths, less the files whose content the lineage records itself."""
    commit = ask(root, "rev-parse", "HEAD")
    paths = changed_paths(root)
    if commit is None or paths is None:
        return {"commit": None, "clean": False, "changed": []}
    known = (PARAMS.name, "dvc.lock", *recorded)
    changed = [p for p in paths if not any(p == name or p.startswith(f"{name}/") for name in known)]
    return {"commit": commit, "clean": not changed, "changed": changed}


def _seeds(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    """Every seed among nested parameters, by dotted name."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _seeds(value, f"{prefix}{key}.")
        elif key == "seed":
            yield f"{prefix}{key}", value


def _data(root: Path, lock: DvcLock, live: Sequence[str], params: Mapping[str, Any]) -> dict[str, Any]:
    """Digest of every data folder that a stage wrote, and of the folder that the tables come from."""
    found = [out for stage in live for out in lock.stages[stage].get("outs", ()) if out["path"].startswith("data/")]
    if reads_files(params):
        found += [dep for stage in live for dep in lock.given(stage) if _is_source(root, dep["path"], params)]
    rows = {_short(e["path"]): {k: e[k] for k in ("md5", "size", "nfiles") if k in e} for e in found if "md5" in e}
    return dict(sorted(rows.items()))


def _is_source(root: Path, path: str, params: Mapping[str, Any]) -> bool:
    """Whether a dependency is the folder of raw tables; dvc.lock may spell it otherwise than params.yaml."""
    named = lookup(params, "data.path")
    return named is not None and (root / path).resolve() == (root / named).resolve()


def reads_files(params: Mapping[str, Any]) -> bool:
    """Whether parameters take the tables from a folder, rather than simulate or fetch them."""
    return lookup(params, "data.source") == "files"


def source_tables(root: Path, params: Mapping[str, Any]) -> dict[str, Any]:
    """File, size and SHA-256 of each table in the folder that `data.path` names; empty where none is read.

    Raises
    ------
    DataError
        A table is there twice.
    """
    if not reads_files(params):
        return {}
    files = table_files(root / lookup(params, "data.path"))
    return {table: {"file": file.name, "sha256": _digest(file), "size": _size(file)} for table, file in files.items()}


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and digests of a folder's files."""
    return digest_bytes(canonical_json(digest_tree(path)).encode()) if path.is_dir() else digest_file(path)


def _size(path: Path) -> int:
    """Bytes of a file or of a folder's files."""
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


def _code(root: Path, lock: DvcLock, stages: Sequence[str], params: Mapping[str, Any]) -> dict[str, str]:
    """MD5, as DVC has it, of every file and folder of code that stages depend on."""
    deps = [dep for stage in stages for dep in lock.given(stage) if not _is_source(root, dep["path"], params)]
    return dict(sorted((dep["path"], dep["md5"]) for dep in deps))


def _features(
    root: Path, declared: Sequence[Mapping[str, Any]], lock: DvcLock, params: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Name, family and lookback of each feature, and a SHA-256 of all the code that its family is computed by."""
    digests: dict[str, str | None] = {}
    for family in {feature["family"] for feature in declared}:
        stage = f"features@{family}"
        code = _code(root, lock, [stage], params) if stage in lock.stages else {}
        digests[family] = digest_bytes(canonical_json(code).encode()) if code else None
    return [
        {**{key: feature[key] for key in ("name", "family", "lookback")}, "code": digests[feature["family"]]}
        for feature in declared
    ]


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


def libraries() -> dict[str, str]:
    """Versions of the direct dependencies that are installed, less those that only develop the project.

    Raises
    ------
    ConfigError
        The project is not installed in this environment.
    """
    try:
        needs = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError as error:
        raise ConfigError(
            f"{_DISTRIBUTION} is not installed in this environment: run `make run` or `pip install -e .`"
        ) from error
    wanted = [re.split(r"[\s<>=!~;\[]", need, maxsplit=1)[0] for need in needs if not _DEVELOPS.search(need)]
    found = {}
    for name in sorted(wanted, key=str.lower):
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
