"""The chain of records: each carries the hash of the one before, so that an edit breaks all that follows.

The chain shows *that* the past was edited. Who wrote a record is shown by its signature, where it
has one; what it covers includes the hash of the record before, so a signed record vouches for
everything that stands above it and is worth nothing in any other place. Whose signature counts is
for `governance.trust` to say. One JSON object a line, written one way only: canonical JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from core.files import canonical_json, digest_bytes

KINDS = (
    "registered",
    "reviewed",
    "waived",
    "promoted",
    "rolled_back",
    "frozen",
    "unfrozen",
    "holdout_opened",
    "recovered",
)
GENESIS = "0" * 64
CLOCK_SLACK = timedelta(minutes=10)
"""How far two clocks may differ, or one be set back, before it is taken for a fault."""
_SIGNED = b"layered-signals ledger record\n"


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
    hash
        SHA-256 of the canonical JSON of everything else, the signature included.
    key, signature
        Public key and Ed25519 signature of everything but `hash` and `signature`, in hexadecimal;
        empty where the record is not signed.
    """

    seq: int
    time: str
    kind: str
    actor: str
    payload: Mapping[str, Any]
    prev: str
    hash: str
    key: str = ""
    signature: str = ""

    @property
    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return signed_bytes(_body(self))

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
        return (
            seq.isdecimal() and len(seq) < 19 and int(seq) < len(self.records) and self.records[int(seq)].hash == digest
        )


def check_line(line: bytes, before: Record | None, number: int) -> tuple[Record | None, str]:
    """The record of a line where it is one, and what is wrong with it; nothing where all is well."""
    record = _parse(line)
    if record is None:
        return None, "is not a ledger record"
    body = _body(record)
    if hash_of(body) != record.hash or canonical_json({**body, "hash": record.hash}).encode() != line:
        return record, "was changed after it was written (its hash does not match)"
    seq, prev = (before.seq + 1, before.hash) if before else (0, GENESIS)
    if (before or number == 1) and (record.prev != prev or record.seq != seq):
        return record, "does not follow the line before it (removed, reordered or repeated records)"
    if before and before.at - record.at > CLOCK_SLACK:
        return record, f"is dated {record.at:%Y-%m-%d %H:%M} UTC, before the line above it ({before.at:%Y-%m-%d %H:%M})"
    return record, ""


def _parse(line: bytes) -> Record | None:
    """The record that a line holds; None where it holds none."""
    try:
        record = Record(**json.loads(line))
        texts = (record.time, record.kind, record.actor, record.prev, record.hash, record.key, record.signature)
        whole = all(isinstance(text, str) for text in texts) and isinstance(record.payload, dict)
        return record if whole and type(record.seq) is int and record.at.tzinfo is not None else None
    except (ValueError, TypeError, RecursionError):
        return None


def _body(record: Record) -> dict[str, Any]:
    """Everything but the hash, as it is written: an unsigned record has no word of a key."""
    unsigned = not record.key and not record.signature
    left_out = {"hash", "key", "signature"} if unsigned else {"hash"}
    return {key: value for key, value in vars(record).items() if key not in left_out}


def signed_bytes(body: Mapping[str, Any]) -> bytes:
    """What the signature of a record covers, given the record without its hash."""
    return _SIGNED + canonical_json({key: value for key, value in body.items() if key != "signature"}).encode()


def hash_of(body: Mapping[str, Any]) -> str:
    """Hash of a record, given everything else of it."""
    return digest_bytes(canonical_json(body).encode())
