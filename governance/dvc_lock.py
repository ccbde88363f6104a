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

from core.params import lookup

PARAMS = "params.yaml"
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

    def given(self, stage: str) -> Iterator[Mapping[str, Any]]:
        """Dependencies of a stage that no stage writes: code, and data from outside."""
        return (dep for dep in self.stages[stage].get("deps", ()) if not self.made(dep["path"]))

    def live(self, pipeline: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
        """Locked stages that a dvc.yaml still has; DVC keeps the entries of those that were switched off.

        Parameters
        ----------
        pipeline, params
            Parsed dvc.yaml and params.yaml.
        """
        found = []
        for name in self.stages:
            base, _, item = name.partition("@")
            stage = (pipeline.get("stages") or {}).get(base)
            items = None if stage is None else _items(stage.get("foreach"), params)
            if stage is not None and (not item or items is None or item in items):
                found.append(name)
        return found

    def stale(self, root: Path, stages: Sequence[str], params: Mapping[str, Any]) -> list[str]:
        """What has changed in the checkout since the stages ran: a sentence each, with the first stage that read it.

        Parameters
        ----------
        stages
            The stages to look at (see `live`).
        params
            Parsed params.yaml of now.
        """
        ignored = _ignored(root)
        known: dict[str, str | None] = {}
        problems: dict[str, str] = {}
        for name in stages:
            for dep in self.stages[name].get("deps", ()):
                path = dep["path"]
                if path not in known:
                    known[path] = self._now(root, path, ignored)
                if known[path] is None:
                    problems.setdefault(path, f"{path}, which {name} read, is gone: restore it, or {_REMAKE}")
                elif known[path] != dep.get("md5"):
                    problems.setdefault(path, f"{path} is not what {name} read: {_REMAKE}")
            for key, value in (self.stages[name].get("params") or {}).get(PARAMS, {}).items():
                if lookup(params, key) != value:
                    problems.setdefault(f"{PARAMS}:{key}", f"{PARAMS}: {key} is not what {name} ran with: {_REMAKE}")
        return sorted(problems.values())

    def _now(self, root: Path, path: str, ignored: Sequence[str]) -> str | None:
        """MD5 of a dependency now: as locked where a stage writes it, else of what is on disk."""
        if "md5" in self.outs.get(path, {}):
            return self.outs[path]["md5"]
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


def _items(foreach: Any, params: Mapping[str, Any]) -> set[str] | None:
    """Names of a templated stage's items; None where they cannot be told."""
    if isinstance(foreach, str) and (placeholder := _PLACEHOLDER.fullmatch(foreach)):
        foreach = lookup(params, placeholder[1])
    return {str(item) for item in foreach} if isinstance(foreach, (list, dict)) else None


def _ignored(root: Path) -> list[str]:
    """The lines of .dvcignore: names, for this project ignores no paths."""
    path = root / ".dvcignore"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [line.strip().rstrip("/") for line in lines if line.strip() and not line.startswith("#")]
