"""The audit: everything that was ever decided, registered or served, checked against everything else.

Where the guard stops at the first thing that keeps a version from being served, the audit goes on
and names all that broke, and where.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from core.errors import SignalsError
from governance.chain import Chain, Record
from governance.gates import GovernanceRule
from governance.guard import file_problems, row_problems, version_problems
from governance.keys import KeyRing, read_ring
from governance.ledger import Ledger
from governance.outputs import output_problems
from governance.places import KEYS, LEDGER, resolve
from governance.policy import uncommitted_rules
from governance.registry import LEDGER_HEAD, Registry, read_registry
from governance.seal import broken
from governance.snapshot import agree, alias_doubts, ledger_doubts, settled
from governance.state import State
from governance.sync import is_reserved, version_tags
from governance.trust import DECISIONS, doubts_of, is_past, read_state, signed_since


@dataclass(frozen=True)
class Finding:
    """One thing that broke.

    Parameters
    ----------
    check
        Which check found it: ledger, signature, clock, database, alias, version, reports, champion, keys or output.
    where
        The record, version, alias or folder.
    """

    check: str
    where: str
    what: str


@dataclass(frozen=True)
class Audit:
    """What an audit looked at and found.

    Parameters
    ----------
    checked
        How many of each thing were looked at.
    notes
        What an auditor should know though nothing broke.
    head
        `seq:hash` of the last record: noted elsewhere, it proves later that nothing was cut off.
    """

    checked: Mapping[str, int]
    broken: tuple[Finding, ...]
    notes: tuple[str, ...]
    head: str


def audit(
    root: Path, policy: GovernanceRule, signals: Path, head: str | None = None, now: datetime | None = None
) -> Audit:
    """Check the ledger, its signatures and clock, every version, the aliases, and every served session.

    Parameters
    ----------
    signals
        Folder of the served signals, a folder `date=D` a session.
    head
        A head of the ledger noted elsewhere, which must still be part of it.
    """
    now = now or datetime.now(UTC)
    ledger = Ledger(root / LEDGER)

    def read() -> tuple[Chain, list[str], Registry, list[Finding]]:
        chain, faults = ledger.inspect()
        return chain, faults, *_registry(root, policy, chain, now)

    def whole(found: tuple[Chain, list[str], Registry, list[Finding]]) -> bool:
        return agree(ledger, found[0], found[2]) and not _unheard_of(found[2], found[0])

    chain, faults, registry, unread = settled(root, read, whole)
    broken = [Finding("ledger", str(LEDGER), fault) for fault in faults]
    broken += [Finding("ledger", str(LEDGER), f"{path.name} is told nowhere") for path in ledger.unrecorded(chain)]
    if chain.torn:
        broken.append(Finding("ledger", str(LEDGER), f"ends in a torn line of {len(chain.torn)} bytes"))
    if head and not chain.contains(head):
        broken.append(Finding("ledger", str(LEDGER), f"the head {head[:24]}... is not in it: records were cut off"))
    try:
        ring = read_ring(root)
        state = read_state(root, chain, policy.require_signatures)
    except SignalsError as error:
        broken.append(Finding("keys", KEYS.name, str(error)))
        return Audit({"records": len(chain.records)}, tuple(broken), (), chain.head)
    broken += _signatures(chain, ring, policy.require_signatures)
    broken += [
        Finding("database", f"version {version}", "is in the database but not in the ledger")
        for version in _unheard_of(registry, chain)
    ]
    broken += [*unread, *_versions(root, registry, state), *_champions(root, policy, registry, state, now)]
    outputs = sorted(signals.glob("date=*"))
    for folder in outputs:
        broken += [Finding("output", f"{signals.name}/{folder.name}", what) for what in output_problems(folder, chain)]
    checked = {
        "records": len(chain.records),
        "signed": sum(bool(record.signature) for record in chain.records),
        "keys": len(ring.keys),
        "versions": len(state.registrations),
        "sessions": len(outputs),
    }
    notes = [*_notes(policy, chain, registry, state), *uncommitted_rules(root)]
    return Audit(checked, tuple(broken), tuple(notes), chain.head)


def _signatures(chain: Chain, ring: KeyRing, required: bool) -> Iterator[Finding]:
    doubts = doubts_of(chain, ring, required)
    since = signed_since(chain, doubts)
    for seq, doubt in doubts.items():
        if not is_past(chain.records[seq], since):
            yield Finding("signature", f"record {seq}", doubt)


def _registry(root: Path, policy: GovernanceRule, chain: Chain, now: datetime) -> tuple[Registry, list[Finding]]:
    """The registry as far as it can be read, and what it or the clock says against the ledger."""
    try:
        registry = read_registry(root, policy.model)
    except SignalsError as error:
        return Registry(), [Finding("database", "mlflow.db", str(error))]
    try:
        ledger_doubts(root, chain, registry, now)
    except SignalsError as error:
        check = "clock" if str(error).startswith("the clock") else "ledger"
        return registry, [Finding(check, str(LEDGER), str(error))]
    return registry, []


def _unheard_of(registry: Registry, chain: Chain) -> list[int]:
    """Versions that the ledger does not know: made past it, or being registered."""
    known = {int(record.payload["version"]) for record in chain.of_kind("registered")}
    return sorted(registry.versions.keys() - known)


def _versions(root: Path, registry: Registry, state: State) -> Iterator[Finding]:
    """Rows, tags and stored bytes of every version."""
    acts = "the tag {} is one that MLflow acts on: the next governance command removes it".format
    yield from (Finding("database", "model", acts(key)) for key in sorted(filter(is_reserved, registry.tags)))
    for version, row in sorted(registry.versions.items()):
        for key in sorted(filter(is_reserved, row.tags)):
            yield Finding("database", f"version {version}", acts(key))
    for version, record in sorted(state.registrations.items()):
        where = f"version {version}"
        yield from (Finding("version", where, what) for what in file_problems(root, record.payload))
        yield from (Finding("reports", where, what) for what in _report_problems(root, registry, version, record))
        yield from (Finding("database", where, what) for what in row_problems(registry, version, record.payload))
        if version in registry.versions:
            tags = registry.versions[version].tags
            for key, value in version_tags(state, version).items():
                if tags.get(key) != value:
                    what = f"the tag {key} is {tags.get(key)!r}, the ledger says {value!r}"
                    yield Finding("database", where, what)


def _report_problems(root: Path, registry: Registry, version: int, record: Record) -> Iterator[str]:
    """Where the pages that a reviewer reads are not those that were registered, or the version leads to others."""
    payload = record.payload
    folder = resolve(payload["evidence_uri"], root).parent.parent
    # Earlier releases sealed no reports.
    yield from (f"report {what}" for what in broken(folder, payload.get("reports", {}), exact=False))
    row = registry.versions.get(version)
    if row is not None and row.run_id != payload["run_id"]:
        yield f"the database names the run {row.run_id or 'none'}, the ledger {payload['run_id']}"


def _champions(
    root: Path, policy: GovernanceRule, registry: Registry, state: State, now: datetime
) -> Iterator[Finding]:
    """Every promotion that still stands, and the aliases."""
    for record in state.line:
        where = f"record {record.seq}, version {record.payload['version']}"
        for what in version_problems(root, registry, state, record, policy.require_second_person, now):
            yield Finding("champion", where, what)
    yield from (Finding("alias", "champion", what) for what in alias_doubts(registry, state))
    previous = int(state.previous.payload["version"]) if state.previous else None
    if registry.aliases.get("previous_champion") != previous:
        told = registry.aliases.get("previous_champion")
        yield Finding("alias", "previous_champion", f"points at version {told}, the ledger says {previous}")
    for alias, version in sorted(registry.aliases.items()):
        if version not in state.registrations:
            yield Finding("alias", alias, f"points at version {version}, which the ledger does not know")


def _notes(policy: GovernanceRule, chain: Chain, registry: Registry, state: State) -> Iterator[str]:
    if state.stop is not None:
        yield str(state.stop)
    if state.champion is not None:
        promoted = state.champion.payload
        under = promoted.get("policy", "not recorded")[:12]
        if under != policy.digest[:12]:
            now = policy.digest[:12]
            yield f"version {promoted['version']} was promoted under the gates {under}; those of now are {now}"
    decisions = chain.of_kind(*DECISIONS)
    unsigned = sum(not record.signature for record in decisions)
    if unsigned and not policy.require_signatures:
        yield (
            f"{unsigned} of {len(decisions)} decisions are UNSIGNED and governance.require_signatures is off: "
            "anyone who can write to this folder can decide under any name"
        )
    elif unsigned:
        yield f"{unsigned} of {len(decisions)} decisions are not signed and do not count"
    seen = registry.tags.get(LEDGER_HEAD, "")
    if seen and seen != chain.head and chain.contains(seen):
        yield "MLflow has not been told of the last records: the next governance command tells it"
