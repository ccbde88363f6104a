"""Seals: the digests of a version's files at registration, and whether they still hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from core.files import FilesInMemory, canonical_json, differences, digest_bytes, digest_file

# An MLflow that loads a model where it is stored leaves this at the top of it: two lines of YAML, which nothing reads.
_LEFT_BEHIND = "registered_model_meta"


def seal(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder, keyed by relative POSIX path, sorted.

    Compiled code counts, for Python would run it instead of the source beside it. Links to folders, links to nothing
    and special files count with an empty digest, which no registered file has.
    """
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if _counts(path)}
    found.pop(_LEFT_BEHIND, None)
    return {name: digest_file(found[name]) if found[name].is_file() else "" for name in sorted(found)}


def digest_of(files: Mapping[str, str]) -> str:
    """One SHA-256 for a whole seal."""
    return digest_bytes(canonical_json(dict(files)).encode())


def broken(folder: Path, files: Mapping[str, str], exact: bool = True) -> list[str]:
    """Where a folder differs from its seal, one short sentence each; empty when it holds.

    Parameters
    ----------
    exact
        Whether a file that the seal does not name is a difference too.
    """
    if not folder.is_dir():
        return [f"{folder.name}/ is missing"]
    return differences(files, seal(folder), exact)


def read_sealed(folder: Path, files: Mapping[str, str], *names: str) -> tuple[FilesInMemory, list[str]]:
    """Named files of a sealed folder, read once, and how those very bytes differ from the seal."""
    found = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    memory = FilesInMemory(folder, found)
    return memory, differences({name: files.get(name, "") for name in names}, memory.digests(), exact=False)


def _counts(path: Path) -> bool:
    return path.is_symlink() or not path.is_dir()
