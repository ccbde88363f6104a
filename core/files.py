"""Files that are either whole or absent: write to a temporary name, then rename.

Everything a stage writes goes through here, so a killed process, a full disk or a second
writer can never leave half a file under a final name. What a killed writer left under its
temporary name is removed by the next writer of the same file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import DataError, StorageError

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space and run again",
    errno.EDQUOT: "the disk quota is used up: free some space and run again",
    errno.EROFS: "the file system is read-only: mount it writable or choose another folder",
    errno.EACCES: "permission denied: make the folder writable for this user",
    errno.EPERM: "permission denied: make the folder writable for this user",
    errno.EEXIST: "something else is in the place of a folder: move it away",
    errno.ENOTDIR: "something else is in the place of a folder: move it away",
    errno.EISDIR: "a folder is in the place of a file: move it away",
    errno.ELOOP: "a link on the way to it points back at itself: remove the link",
}

_SUFFIX, _OLD = ".tmp", ".old.tmp"
_OPEN: set[str] = set()
"""Temporary names that this process writes under now."""


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into a `StorageError` that names the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        raise StorageError(
            f"cannot write {path}: {_REMEDIES[error.errno]}; what was there before is untouched"
        ) from error


@contextlib.contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds.

    Raises
    ------
    StorageError
        The disk is full, read-only or not writable. `path` keeps its previous content.
    """
    path = Path(path)
    with disk_errors(path), _temporary(path) as temporary:
        temporary.touch()
        yield temporary
        temporary.chmod(0o644)
        _sync(temporary)
        temporary.replace(path)


@contextlib.contextmanager
def atomic_directory(path: Path | str) -> Iterator[Path]:
    """Yield an empty temporary folder; put it in the place of `path` when the block succeeds.

    Raises
    ------
    StorageError
        The disk is full, read-only or not writable. `path` keeps its previous content.
    """
    path = Path(path)
    with disk_errors(path), _temporary(path) as temporary:
        temporary.mkdir()
        yield temporary
        temporary.chmod(0o755)
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                _sync(file)
        _swap(temporary, path)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A name beside `path` that tells who writes; on leaving nothing stands under it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_dead(path)
    temporary = path.with_name(f".{path.name}.{_writer()}.{secrets.token_hex(4)}{_SUFFIX}")
    _OPEN.add(temporary.name)
    try:
        yield temporary
    finally:
        _remove(temporary)
        _OPEN.discard(temporary.name)


def _swap(new: Path, path: Path) -> None:
    """Rename `new` over the folder `path`, keeping the old one until the new one stands."""
    if not path.exists():
        new.replace(path)
        return
    old = new.with_name(new.name.removesuffix(_SUFFIX) + _OLD)
    path.replace(old)
    try:
        new.replace(path)
    except OSError:
        old.replace(path)
        raise
    _remove(old)


def _clear_dead(path: Path) -> None:
    """Remove what a killed writer of `path` left; put back what it had moved aside."""
    prefix = f".{path.name}."
    for entry in sorted(path.parent.iterdir()):
        if not (entry.name.startswith(prefix) and entry.name.endswith(_SUFFIX)):
            continue
        host, _, process = entry.name.removeprefix(prefix).partition(".")[0].rpartition("-")
        if host != _host() or not process.isdecimal() or _is_open(entry.name, int(process)):
            continue
        if entry.name.endswith(_OLD) and not path.exists():
            with contextlib.suppress(FileNotFoundError):  # another writer was faster
                entry.replace(path)
        else:
            _remove(entry)


def _is_open(name: str, process: int) -> bool:
    """Whether a live process still writes under a temporary name; only this host's can be told."""
    if process == os.getpid():
        # A container that starts again gives its processes the numbers of the dead ones.
        return any(name.startswith(mine.removesuffix(_SUFFIX)) for mine in _OPEN)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _writer() -> str:
    return f"{_host()}-{os.getpid()}"


def _host() -> str:
    return digest_bytes(platform.node().encode())[:8]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [_plain(item) for item in value]
        return sorted(items) if isinstance(value, (set, frozenset)) else items
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Path):
        return value.as_posix()
    return value


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, non-finite numbers as null."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), default=str)


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically: sorted keys, two-space indent, non-finite numbers as null."""
    write_text(path, json.dumps(_plain(value), sort_keys=True, indent=2, default=str) + "\n")


class Readable(Protocol):
    """A file or a folder that can be read: a `pathlib.Path`, or files in memory (see `FilesInMemory`)."""

    def __truediv__(self, name: str) -> Readable: ...

    def read_bytes(self) -> bytes:
        """Content of the file."""
        ...

    def read_text(self, encoding: str) -> str:
        """Text of the file."""
        ...


@dataclass(frozen=True)
class FilesInMemory:
    """The files of a folder as they were read once: what was checked is what is parsed, whatever happens on the disk.

    Parameters
    ----------
    place : pathlib.Path
        Where they were read, for messages.
    files : Mapping[str, bytes]
        Content by POSIX path relative to the folder.
    name : str
        The file or folder in question, relative to the folder.
    """

    place: Path
    files: Mapping[str, bytes]
    name: str = ""

    @classmethod
    def read(cls, folder: Path) -> FilesInMemory:
        """Read every file below a folder."""
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        return cls(folder, files)

    def __truediv__(self, name: str) -> FilesInMemory:
        return replace(self, name=f"{self.name}/{name}".strip("/"))

    def __str__(self) -> str:
        return str(self.place / self.name)

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file, by path."""
        return {name: digest_bytes(data) for name, data in self.files.items()}

    def read_bytes(self) -> bytes:
        """Content of the file that this names.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        """
        if self.name not in self.files:
            raise FileNotFoundError(f"{self} is missing")
        return self.files[self.name]

    def read_text(self, encoding: str = "utf-8") -> str:
        """Text of the file that this names, with the line ends of text files."""
        return io.TextIOWrapper(io.BytesIO(self.read_bytes()), encoding=encoding).read()


def read_json(path: Path | str | Readable) -> Any:
    """Read JSON.

    Raises
    ------
    DataError
        The file is missing, cannot be read or is not JSON.
    """
    path = Path(path) if isinstance(path, str) else path
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run the stage that writes it (`dvc repro`)") from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): restore it or remake it with `dvc repro`"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}): restore it or remake it with `dvc repro`") from error


def write_parquet(path: Path | str, frame: pd.DataFrame) -> None:
    """Write a frame as one zstd Parquet file, atomically; the same frame gives the same bytes."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=3)


def read_parquet(
    path: Path | str | FilesInMemory, columns: list[str] | None = None, filters: Any = None
) -> pd.DataFrame:
    """Read one Parquet file or a folder partitioned by year, without the partition column.

    Raises
    ------
    DataError
        The file is missing or truncated.
    """
    path = Path(path) if isinstance(path, str) else path
    if isinstance(path, Path) and not path.exists():
        raise DataError(f"{path} is missing: run the stage that writes it (`dvc repro`)")
    try:
        files: list[Any]
        if isinstance(path, FilesInMemory):
            files = [pa.BufferReader(path.read_bytes())]
        else:
            files = sorted(path.glob("year=*/*.parquet")) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path} holds no Parquet file: run the stage that writes it (`dvc repro`)")
        tables = [pq.read_table(file, columns=columns, filters=filters, partitioning=None) for file in files]
        return pa.concat_tables(tables).to_pandas()
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is not readable Parquet ({str(error).splitlines()[0]}): restore the file") from error


def write_by_year(folder: Path | str, frame: pd.DataFrame, date: str = "date") -> None:
    """Write a frame as `folder/year=YYYY/part.parquet`, replacing the folder atomically."""
    with atomic_directory(folder) as temporary:
        for year, part in frame.groupby(frame[date].dt.year, sort=True):
            write_parquet(temporary / f"year={year}" / "part.parquet", part.reset_index(drop=True))


def digest_bytes(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path | str) -> str:
    """SHA-256 of a file's bytes."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest_tree(folder: Path | str, skip: tuple[str, ...] = ()) -> dict[str, str]:
    """SHA-256 of every file below a folder, keyed by its relative POSIX path, sorted."""
    folder = Path(folder)
    files = (p for p in folder.rglob("*") if p.is_file())
    named = {p.relative_to(folder).as_posix(): p for p in files}
    return {name: digest_file(named[name]) for name in sorted(named) if name not in skip}


def differences(expected: Mapping[str, str], found: Mapping[str, str], exact: bool = True) -> list[str]:
    """Where digests of files differ, one short sentence per file, by name; empty where they agree.

    Parameters
    ----------
    expected, found : Mapping[str, str]
        Digest by file.
    exact : bool, default True
        Whether a file that is not expected is a difference too.
    """
    out = []
    for name in sorted({*expected, *found} if exact else expected):
        if name not in found:
            out.append(f"{name} is missing")
        elif name not in expected:
            out.append(f"{name} was added")
        elif found[name] != expected[name]:
            out.append(f"{name} was changed")
    return out
