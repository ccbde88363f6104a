"""The ledger: an append-only file of every decision about a version, one record of the chain a line.

Safe against two writers, a writer that dies in the middle of a line, and a disk that refuses.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from core.errors import GovernanceError, StorageError
from core.files import atomic_file, canonical_json, digest_bytes, disk_errors
from governance.chain import CLOCK_SLACK, GENESIS, KINDS, Chain, Record, check_line, hash_of, signed_bytes

_WAIT = 30.0


class Pen(Protocol):
    """What signs a record; it knows the private key and never shows it."""

    @property
    def public(self) -> str:
        """Public key in hexadecimal."""

    def sign(self, data: bytes) -> str:
        """Signature of some bytes, in hexadecimal."""


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
        chain, faults = self.inspect()
        if faults:
            raise GovernanceError(
                f"{self.path} {faults[0]}: restore the file from a backup; nothing is promoted or served until it "
                "verifies"
            )
        return chain

    verify = read

    def inspect(self) -> tuple[Chain, list[str]]:
        """The records before the first fault, and every fault of the file: its line and what is wrong."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return Chain(()), []
        lines = data.split(b"\n")
        tail = lines.pop()
        torn = b"" if _is_whole(tail) else tail
        if tail and not torn:
            lines.append(tail)
        sound: list[Record] = []
        faults: list[str] = []
        before: Record | None = None
        for number, line in enumerate(lines, start=1):
            before, fault = check_line(line, before, number)
            if fault:
                faults.append(f"line {number} {fault}")
            elif before is not None and not faults:
                sound.append(before)
        return Chain(tuple(sound), torn), faults

    def append(self, kind: str, actor: str, payload: Mapping[str, Any], pen: Pen | None = None) -> Record:
        """Add one record, signed where there is a pen, and make it durable before returning.

        Raises
        ------
        GovernanceError
            The chain is broken, or the clock runs behind it: nothing is added.
        StorageError
            The disk refused, or another writer held the ledger for 30 s. Nothing was added.
        """
        if kind not in KINDS:
            raise GovernanceError(f"unknown ledger record kind {kind!r}: use one of {', '.join(KINDS)}")
        with disk_errors(self.path), self._locked():
            chain = self._recover(self.read(), pen)
            return self._write(chain.records, kind, actor, payload, pen)

    def unrecorded(self, chain: Chain) -> list[Path]:
        """Torn lines set aside by a writer that died before it could say so in the ledger."""
        told = {record.payload.get("kept_as") for record in chain.of_kind("recovered")}
        return [path for path in sorted(self.path.parent.glob(f"{self.path.stem}.torn-*")) if path.name not in told]

    def _write(
        self, records: Sequence[Record], kind: str, actor: str, payload: Mapping[str, Any], pen: Pen | None
    ) -> Record:
        body = {
            "seq": len(records),
            "time": self._time(records).isoformat(timespec="microseconds"),
            "kind": kind,
            "actor": actor,
            "payload": json.loads(canonical_json(payload)),
            "prev": records[-1].hash if records else GENESIS,
        }
        if pen is not None:
            body["key"] = pen.public
            body["signature"] = pen.sign(signed_bytes(body))
        body["hash"] = hash_of(body)
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
                _sync_folder(self.path.parent)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(handle.fileno(), start)
                raise
        return Record(**body)

    def _time(self, records: Sequence[Record]) -> datetime:
        """Now; never before the last record, so that the order of the lines is the order of the times."""
        now = datetime.now(UTC)
        if not records:
            return now
        if records[-1].at - now > CLOCK_SLACK:
            raise GovernanceError(
                f"the clock ({now:%Y-%m-%d %H:%M} UTC) is behind the last record of {self.path} "
                f"({records[-1].at:%Y-%m-%d %H:%M} UTC): set the clock"
            )
        return max(now, records[-1].at)

    def _recover(self, chain: Chain, pen: Pen | None) -> Chain:
        """Move a torn last line into a file of its own and say so in the ledger, whatever interrupts it."""
        if chain.torn:
            name = f"{self.path.stem}.torn-{len(chain.records)}-{digest_bytes(chain.torn)[:12]}"
            with atomic_file(self.path.with_name(name)) as temporary:
                temporary.write_bytes(chain.torn)
            with self.path.open("r+b") as handle:
                handle.truncate(self.path.stat().st_size - len(chain.torn))
                os.fsync(handle.fileno())
        records = chain.records
        for aside in self.unrecorded(chain):
            data = aside.read_bytes()
            note = {"bytes": len(data), "sha256": digest_bytes(data), "kept_as": aside.name}
            records = (*records, self._write(records, "recovered", "ledger", note, pen))
        return Chain(records)

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


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
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
