"""Which records count: those that nobody signed falsely and, where signatures are required, signed decisions.

A record that does not count is left out of the state, and said so wherever the state is shown. A
stop counts whoever calls it: to stop is always safe, only to go on needs a key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from governance.chain import Chain, Record
from governance.gates import GovernanceRule
from governance.keys import KeyRing, read_ring, verifies
from governance.ledger import Ledger
from governance.people import same_person
from governance.places import KEYS, LEDGER
from governance.state import State

DECISIONS = ("reviewed", "waived", "promoted", "rolled_back", "unfrozen")
"""Kinds that change what may serve. The others are made by a training or a recovery; a decision's signature,
which covers the hash of all above it, vouches for those that it rests on."""
_ALWAYS = ("frozen",)
_FIXED = ("bundle_digest", "author", "model_uri", "bundle_uri", "model_files")
"""What no later registration of a version may change: it may only add evidence."""
_FIELDS = {
    "registered": (
        *("version", "run_id", "bundle_digest", "author", "model_uri", "bundle_uri", "model_files"),
        *("evidence_uri", "evidence_files", "evidence", "git", "gates"),
    ),
    "reviewed": ("version", "status", "comment", "evidence"),
    "waived": ("version", "gate", "reason", "until"),
    "promoted": (
        "version",
        "bundle_digest",
        "registration",
        "approval",
        "approved_by",
        "failed",
        "previous",
        "comment",
    ),
    "rolled_back": ("version", "to", "reason"),
    "unfrozen": ("reason",),
}


def read_state(root: Path, chain: Chain, required: bool) -> State:
    """The state that the records which count tell, and what is to be said of the others.

    Parameters
    ----------
    required
        Whether a decision counts only where it is signed (`governance.require_signatures`).
    """
    found = doubts_of(chain, read_ring(root), required)
    kept = [record for record in chain.records if record.seq not in found or record.kind in _ALWAYS]
    since = signed_since(chain, found)
    doubts = [f"{doubt}: it does not count" for seq, doubt in found.items() if not is_past(chain.records[seq], since)]
    if not required:
        doubts += _fallen_back(kept)
    return State(Chain(tuple(kept), chain.torn), tuple(doubts))


def state_now(root: Path, policy: GovernanceRule) -> State:
    """The state that the ledger tells now."""
    return read_state(root, Ledger(root / LEDGER).read(), policy.require_signatures)


def doubts_of(chain: Chain, ring: KeyRing, required: bool) -> dict[int, str]:
    """Why records do not count, by their number."""
    doubts = {record.seq: doubt_of(record, ring, required) for record in chain.records}
    doubts = {seq: doubt for seq, doubt in doubts.items() if doubt}
    return doubts | _registered_as_another([r for r in chain.of_kind("registered") if r.seq not in doubts])


def _registered_as_another(registrations: Iterable[Record]) -> dict[int, str]:
    """Registrations that give a version other files or another author than its first one."""
    first: dict[int, Record] = {}
    doubts = {}
    for record in registrations:
        original = first.setdefault(record.payload["version"], record)
        other = [name for name in _FIXED if record.payload[name] != original.payload[name]]
        if other:
            doubts[record.seq] = (
                f"ledger record {record.seq} (registered by {record.actor}) gives version {record.payload['version']} "
                f"another {', '.join(other)} than record {original.seq}"
            )
    return doubts


def signed_since(chain: Chain, doubts: Collection[int]) -> int:
    """Number of the first signed decision that counts; 0 where there is none."""
    return next((r.seq for r in chain.of_kind(*DECISIONS) if r.signature and r.seq not in doubts), 0)


def is_past(record: Record, since: int) -> bool:
    """Whether a decision is unsigned because signatures came later: it does not count, and nothing is wrong with it."""
    return record.kind in DECISIONS and not record.signature and record.seq < since


def doubt_of(record: Record, ring: KeyRing, required: bool) -> str:
    """Why a record does not count; empty where it does."""
    what = f"ledger record {record.seq} ({record.kind} by {record.actor})"
    lacking = [name for name in _FIELDS.get(record.kind, ()) if name not in record.payload]
    if lacking or type(record.payload.get("version", 0)) is not int:
        return f"{what} lacks {', '.join(lacking) or 'a version number'}"
    if not record.key and not record.signature:
        return f"{what} is not signed" if required and record.kind in DECISIONS else ""
    if not verifies(record):
        return f"{what} has a forged signature"
    key = ring.find(record.key)
    if key is None:
        return f"{what} is signed with the key {record.key[:12]}, which is not in {KEYS}"
    if key.revoked is not None and record.seq >= key.revoked:
        return f"{what} is signed with a key of {key.person} that is revoked from record {key.revoked} on"
    if record.kind in DECISIONS and not same_person(record.actor, key.person):
        return f"{what} is signed with the key of somebody else, {key.person}"
    return ""


def _fallen_back(records: list[Record]) -> list[str]:
    """Unsigned decisions after signed ones, where no signature is required."""
    decisions = [record for record in records if record.kind in DECISIONS]
    signed = next((i for i, record in enumerate(decisions) if record.signature), len(decisions))
    return [
        f"ledger record {record.seq} ({record.kind} by {record.actor}) is not signed though earlier decisions are: "
        "ask that person; governance.require_signatures refuses such records"
        for record in decisions[signed:]
        if not record.signature
    ]
