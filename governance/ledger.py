"""The ledger: an append-only, hash-chained record of every decision about a version.

One JSON object a line. Each record carries the hash of the record before it, so a changed,
removed or reordered record breaks the chain from there on. The chain shows *that* the past was
edited; it is not signed, so it cannot show that a whole file was forged from the beginning.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from core.errors import GovernanceError, StorageError
from core.files import canonical_json, digest_bytes, disk_errors

KINDS = ("registered", "reviewed", "waived", "promoted", "rolled_back", "holdout_opened", "recovered")
GENESIS = "0" * 64
_WAIT = 30.0


@dataclass(frozen=True)
class Record:
    """One line of the ledger.

    Parameters
    ----------
    seq
        Position, counted from 0.
    time
        UTC, ISO 8601 with microseconds.
    prev
        Hash of the record before this one (`GENESIS` for the first).
    """

    seq: int
    time: str
    kind: str
    actor: str
    payload: Mapping[str, Any]
    prev: str
    hash: str

    @property
    def at(self) -> datetime:
        """Time of the record, with time zone UTC."""
        return datetime.fromisoformat(self.time)


@dataclass(frozen=True)
class Chain:
    """The whole verified ledger and, where a writer died mid-line, the torn bytes after it."""

    records: tuple[Record, ...]
    torn: bytes = b""

    @property
    def head(self) -> str:
        """`seq:hash` of the last record; empty where there is none."""
        return f"{self.records[-1].seq}:{self.records[-1].hash}" if self.records else ""

    def of_kind(self, *kinds: str) -> tuple[Record, ...]:
        """Records of the given kinds, oldest first."""
        return tuple(record for record in self.records if record.kind in kinds)

    def contains(self, head: str) -> bool:
        """Whether a head seen earlier is still part of this chain."""
        seq, _, digest = head.partition(":")
        return seq.isdecimal() and int(seq) < len(self.records) and self.records[int(seq)].hash == digest


class Ledger:
    """The ledger file; safe against two writers and a crash in the middle of a line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Chain:
        """Read and verify the chain.

        A last line that a dying writer left unfinished is returned as `torn`, never dropped: the
        next `append` moves it aside and records that it did. A complete last record that only
        lacks its line end counts as a record.

        Raises
        ------
        GovernanceError
            A record is not readable or does not fit the chain; the line is named.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return Chain(())
        lines = data.split(b"\n")
        tail = lines.pop()
        records: list[Record] = []
        for number, line in enumerate(lines, start=1):
            records.append(self._parse(line, number, records))
        if not tail:
            return Chain(tuple(records))
        try:
            last = self._parse(tail, len(lines) + 1, records)
        except GovernanceError:
            if _is_whole(tail):
                raise
            return Chain(tuple(records), tail)
        return Chain((*records, last))

    verify = read

    def append(self, kind: str, actor: str, payload: Mapping[str, Any]) -> Record:
        """Add one record and make it durable before returning.

        Raises
        ------
        GovernanceError
            The chain is broken: nothing is added to a ledger that cannot be trusted.
        StorageError
            The disk refused, or another writer held the ledger for 30 s. Nothing was added.
        """
        if kind not in KINDS:
            raise GovernanceError(f"unknown ledger record kind {kind!r}: use one of {', '.join(KINDS)}")
        with disk_errors(self.path), self._locked():
            chain = self.read()
            if chain.torn:
                chain = self._recover(chain)
            return self._write(chain.records, kind, actor, payload)

    def _write(self, records: Sequence[Record], kind: str, actor: str, payload: Mapping[str, Any]) -> Record:
        body = {
            "seq": len(records),
            "time": datetime.now(UTC).isoformat(timespec="microseconds"),
            "kind": kind,
            "actor": actor,
            "payload": json.loads(canonical_json(payload)),
            "prev": records[-1].hash if records else GENESIS,
        }
        body["hash"] = _hash(body)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as handle:
            start = handle.seek(0, os.SEEK_END)
            text = canonical_json(body).encode() + b"\n"
            if start and not _ends_with_newline(self.path):
                text = b"\n" + text
            try:
                handle.write(text)
                handle.flush()
                os.fsync(handle.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(handle.fileno(), start)
                raise
        _sync_folder(self.path.parent)
        return Record(**body)

    def _recover(self, chain: Chain) -> Chain:
        """Move a torn last line into a file of its own and say so in the ledger."""
        aside = self.path.with_name(f"{self.path.stem}.torn-{len(chain.records)}-{digest_bytes(chain.torn)[:12]}")
        aside.write_bytes(chain.torn)
        with self.path.open("r+b") as handle:
            handle.truncate(self.path.stat().st_size - len(chain.torn))
            os.fsync(handle.fileno())
        note = {"bytes": len(chain.torn), "sha256": digest_bytes(chain.torn), "kept_as": aside.name}
        return Chain((*chain.records, self._write(chain.records, "recovered", "ledger", note)))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=_WAIT)
        try:
            with lock:
                yield
        except Timeout as error:
            raise StorageError(
                f"{self.path} has been locked by another process for {_WAIT:.0f} s: wait for it or end it"
            ) from error

    def _parse(self, line: bytes, number: int, before: Sequence[Record]) -> Record:
        where = f"{self.path} line {number}"
        remedy = "restore the file from a backup; nothing is promoted or served until it verifies"
        try:
            body = json.loads(line)
            record = Record(**body)
        except (ValueError, TypeError):
            raise GovernanceError(f"{where} is not a ledger record: {remedy}") from None
        if _hash({key: value for key, value in body.items() if key != "hash"}) != record.hash:
            raise GovernanceError(f"{where} was changed after it was written (its hash does not match): {remedy}")
        expected = before[-1].hash if before else GENESIS
        if record.prev != expected or record.seq != len(before):
            raise GovernanceError(
                f"{where} does not follow the line before it (removed or reordered records): {remedy}"
            )
        return record


def _hash(body: Mapping[str, Any]) -> str:
    return digest_bytes(canonical_json(body).encode())


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as handle:
        handle.seek(-1, os.SEEK_END)
        return handle.read(1) == b"\n"


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
