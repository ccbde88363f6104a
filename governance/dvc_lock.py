"""dvc.lock: which stage wrote what from what, and whether the checkout still holds it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

from core.checkout import PARAMS
from core.params import lookup

_REMAKE = "run `dvc repro`"
_PLACEHOLDER = re.compile(r"\$\{([\w.]+)\}")


@dataclass(frozen=True)
class DvcLock:
    """The content of a dvc.lock.

    Parameters
    ----------
    stages
        By name: the dependencies, parameters and outs of a stage when it last ran.
    """

    stages: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> DvcLock:
        """The lock that a parsed dvc.lock holds."""
        return cls(content.get("stages") or {})

    @cached_property
    def outs(self) -> dict[str, Mapping[str, Any]]:
        """Every out, by path."""
        return {out["path"]: out for stage in self.stages.values() for out in stage.get("outs", ())}

    def writer(self, path: str) -> str | None:
        """Name of the stage that writes an out."""
        return next((n for n, s in self.stages.items() if any(o["path"] == path for o in s.get("outs", ()))), None)

    def made(self, path: str) -> bool:
        """Whether stages write a path, or something below it."""
        return any(out == path or out.startswith(f"{path}/") for out in self.outs)

    def wrote(self, path: str, stages: Sequence[str]) -> bool:
        """Whether one of the stages writes a path, or a folder that it is in."""
        outs = (out["path"] for stage in stages for out in self.stages[stage].get("outs", ()))
        return any(f"{path}/".startswith(f"{out.rstrip('/')}/") for out in outs)

    def given(self, stage: str) -> Iterator[Mapping[str, Any]]:
        """Dependencies of a stage that no stage writes: code, and data from outside."""
        return (dep for dep in self.stages[stage].get("deps", ()) if not self.made(dep["path"]))

    def changes(
        self,
        root: Path,
        pipeline: Mapping[str, Any],
        params: Mapping[str, Any],
        upto: str | None = None,
        outs: bool = False,
    ) -> dict[str, dict[str, str]]:
        """What has changed in a checkout since its stages ran: by stage, what is wrong with each path.

        DVC's own `dvc status` takes three seconds to start and believes what it remembers of a file whose size and
        time of change are the same; here every byte is read. A test holds the two against each other.

        Parameters
        ----------
        root : Path
            The checkout.
        pipeline, params : Mapping
            Its parsed dvc.yaml and params.yaml.
        upto : str, optional
            Only this stage and those that it rests on; by default all of dvc.yaml. DVC keeps the entries of stages that
            were switched off: they do not count.
        outs : bool, default False
            Whether the outs on disk are looked at; else they are taken to be what dvc.lock says of them.
        """
        declared = declared_stages(pipeline, params)
        ignored = _ignored(root)
        known: dict[str, str | None] = {}

        def now(path: str) -> str | None:
            if path not in known:
                known[path] = _md5(root, path, ignored)
            return known[path]

        found: dict[str, dict[str, str]] = {}
        for name in declared if upto is None else _upstream(root, declared, upto):
            wrong = found.setdefault(name, {})
            if name not in self.stages:
                wrong["dvc.lock"] = f"{name} has not run"
                continue
            locked = self.stages[name]
            if (declared[name].get("cmd"), _names(root, declared[name])) != (locked.get("cmd"), _names(root, locked)):
                wrong["dvc.yaml"] = f"dvc.yaml: {name} is not declared as it ran"
            for dep in locked.get("deps", ()):
                path = dep["path"]
                written = None if outs else self.outs.get(path, {}).get("md5")
                there = written or now(path)
                if there is None:
                    wrong[path] = f"{path}, which {name} read, is gone: restore it"
                elif there != dep.get("md5"):
                    wrong[path] = f"{path} is not what {name} read"
            for key, value in (locked.get("params") or {}).get(PARAMS.name, {}).items():
                if lookup(params, key) != value:
                    wrong[f"{PARAMS}:{key}"] = f"{PARAMS}: {key} is not what {name} ran with"
            for out in locked.get("outs", ()) if outs else ():
                if now(out["path"]) != out.get("md5", ""):
                    wrong.setdefault(out["path"], f"{out['path']} is not what {name} wrote")
        return {name: wrong for name, wrong in found.items() if wrong}

    def live(self, pipeline: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
        """Locked stages that a parsed dvc.yaml still has; DVC keeps the entries of those that were switched off."""
        declared = declared_stages(pipeline, params)
        return [name for name in self.stages if name in declared]


def problems(changes: Mapping[str, Mapping[str, str]]) -> list[str]:
    """One sentence for each path that changed, of the first stage that it concerns, with the remedy."""
    first: dict[str, str] = {}
    for wrong in changes.values():
        for path, sentence in wrong.items():
            separator = ", or " if sentence.endswith("restore it") else ": "
            first.setdefault(path, f"{sentence}{separator}{_REMAKE}")
    return sorted(first.values())


def declared_stages(pipeline: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every stage of a parsed dvc.yaml by the name that dvc.lock gives it, templates filled in from params.yaml."""
    found = {}
    for name, stage in (pipeline.get("stages") or {}).items():
        if "foreach" not in stage:
            found[name] = _filled(stage, params)
            continue
        items = _filled(stage["foreach"], params)
        for item in items if isinstance(items, (list, dict)) else ():
            found[f"{name}@{item}"] = _filled(stage["do"], {**params, "item": item})
    return found


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    """A part of dvc.yaml with each ${key} replaced by its value."""
    if isinstance(value, dict):
        return {_filled(key, values): _filled(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    if not isinstance(value, str):
        return value
    if whole := _PLACEHOLDER.fullmatch(value):
        return lookup(values, whole[1])
    return _PLACEHOLDER.sub(lambda found: str(lookup(values, found[1])), value)


def _names(root: Path, stage: Mapping[str, Any]) -> dict[str, list[str]]:
    """Dependencies, outs and parameters of a stage of dvc.yaml or dvc.lock, whose spellings of a path may differ."""

    def path(entry: Any) -> str:
        name = entry.get("path") or next(iter(entry)) if isinstance(entry, Mapping) else entry
        return (root / str(name)).resolve().as_posix()

    params = stage.get("params") or ()
    keys = params[PARAMS.name] if isinstance(params, Mapping) else params
    # dvc.yaml declares metrics and plots apart; dvc.lock names them among the outs.
    outs = [entry for part in ("outs", "metrics", "plots") for entry in stage.get(part) or ()]
    deps = stage.get("deps") or ()
    return {"deps": sorted(map(path, deps)), "outs": sorted(map(path, outs)), "params": sorted(keys)}


def _upstream(root: Path, declared: Mapping[str, Mapping[str, Any]], last: str) -> list[str]:
    """A stage and those whose outs it reads, however far back, in the order of dvc.yaml."""
    names = {name: _names(root, stage) for name, stage in declared.items()}

    def reads(one: str, other: str) -> bool:
        pairs = ((f"{dep}/", f"{out}/") for dep in names[one]["deps"] for out in names[other]["outs"])
        return any(dep.startswith(out) or out.startswith(dep) for dep, out in pairs)

    wanted, todo = {last}, [last]
    while todo:
        reader = todo.pop()
        before = [name for name in declared if name not in wanted and reads(reader, name)]
        wanted.update(before)
        todo += before
    return [name for name in declared if name in wanted]


def _md5(root: Path, path: str, ignored: Sequence[str]) -> str | None:
    """DVC's digest of what is under a path now; None where nothing is."""
    place = root / path
    if place.is_dir():
        return folder_md5(place, ignored if place.resolve().is_relative_to(root.resolve()) else ())
    return file_md5(place) if place.is_file() else None


def folder_md5(folder: Path, ignored: Sequence[str] = ()) -> str:
    """DVC's identity of a folder: the MD5 of its sorted listing of file MD5s, with `.dir` added.

    Parameters
    ----------
    ignored
        Patterns of names; a file under such a name, or below a folder of one, does not count.
    """
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    counted = [p for p in files if not any(fnmatch(part, pattern) for part in p.parts for pattern in ignored)]
    listing = [{"md5": file_md5(files[path]), "relpath": path.as_posix()} for path in counted]
    listing.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def file_md5(path: Path) -> str:
    """MD5 of a file, the digest that DVC keeps of it."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "md5").hexdigest()


def _ignored(root: Path) -> list[str]:
    """The lines of .dvcignore: names, for this project ignores no paths."""
    path = root / ".dvcignore"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [line.strip().rstrip("/") for line in lines if line.strip() and not line.startswith("#")]
