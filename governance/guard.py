"""The guard: which bundle the daily job may serve, and why.

A version is served only while the ledger, the gates, the approval, the waivers, the database row
and every stored byte agree. The ledger is the truth; MLflow's alias is only its projection, so an
alias moved by hand changes nothing but a warning. Where the champion no longer holds, the last
good champion before it keeps serving. Imports no MLflow: the daily job starts in a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from core.errors import GovernanceError
from governance.ledger import Chain, Ledger, Record
from governance.people import same_person
from governance.places import LEDGER, resolve
from governance.registry import LEDGER_HEAD, Registry, read_registry
from governance.seal import broken
from governance.state import State

MODEL = "layered-signals"
_CLOCK_SLACK = timedelta(minutes=10)


@dataclass(frozen=True)
class Served:
    """A version that may be served.

    Parameters
    ----------
    bundle_path
        Folder of the verified bundle.
    digest
        Digest of the bundle, as in its manifest.
    promotion
        Ledger record that put the version into production.
    waivers
        Gates that the version fails and is served in spite of: who, why, until when.
    warnings
        Everything an operator should know; empty on a good day.
    hindsight
        Whether it stands in for a moment at which nothing had been in production yet.
    """

    version: int
    bundle_path: Path
    digest: str
    promotion: Record
    waivers: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]
    hindsight: bool = False


def serving(
    root: Path,
    model: str = MODEL,
    require_second_person: bool = True,
    now: datetime | None = None,
    at: datetime | None = None,
) -> Served:
    """The version to serve.

    Parameters
    ----------
    root
        Root of the checkout.
    now
        Moment to judge waivers by; the clock where not given.
    at
        A moment of the past, to serve what was in production then, under the waivers of then; before the first
        promotion the present champion stands in. What is stored must hold today all the same.

    Raises
    ------
    GovernanceError
        No version was ever promoted, none was in production at the moment, the ledger is broken, or neither the
        champion nor a champion before it still holds; the reason is named.
    StorageError
        The database stayed locked.
    """
    now = now or datetime.now(UTC)
    chain = Ledger(root / LEDGER).read()
    registry = read_registry(root, model)
    state = State(chain)
    warnings = [*ledger_doubts(root, chain, registry, now)]
    then = state if at is None else state.until(at)
    hindsight = not then.chain.of_kind("promoted")
    if hindsight:
        then = state
    if then.champion is None:
        raise GovernanceError(_how_to_promote(state) if then is state else _none_at(at))
    judged = now if at is None or hindsight else at
    refused: list[str] = []
    for record in _newest_first(then):
        version = int(record.payload["version"])
        problems = version_problems(root, registry, state, record, require_second_person, judged)
        if not problems:
            if refused:
                warnings.append(f"version {version}, the last good champion, keeps serving: {'; '.join(refused)}")
            warnings += alias_doubts(registry, state) if then is state else _taken_back(state, version, judged)
            registration = state.registration(version).payload
            used = [
                {**waiver.payload, "by": waiver.actor}
                for gate, waiver in state.waivers(version, judged.date()).items()
                if _fails(state, record, gate)
            ]
            return Served(
                version=version,
                bundle_path=resolve(registration["bundle_uri"], root),
                digest=registration["bundle_digest"],
                promotion=record,
                waivers=tuple(used),
                warnings=tuple(warnings),
                hindsight=hindsight,
            )
        refused.append(
            f"version {version} is refused: {problems[0]}"
            + (f" (and {len(problems) - 1} more)" if problems[1:] else "")
        )
    raise GovernanceError(
        f"no version may be served: {'; '.join(refused)}; run `signals status`, then promote or register again"
    )


def _none_at(moment: datetime | None) -> str:
    return (
        f"no version was in production at {moment:%Y-%m-%d %H:%M} UTC: the one before had been rolled back; "
        f"`signals history` tells why"
    )


def _taken_back(state: State, version: int, since: datetime) -> list[str]:
    """Warnings about a version of the past that was rolled back after the moment it is asked for."""
    found = [r for r in state.chain.of_kind("rolled_back") if r.payload["version"] == version and r.at > since]
    return [f"version {version} was rolled back at {r.at:%Y-%m-%d %H:%M} UTC: {r.payload['reason']}" for r in found]


def _newest_first(state: State) -> list[Record]:
    """Standing promotions, the champion first, one a version."""
    newest: dict[int, Record] = {}
    for record in reversed(state.line):
        newest.setdefault(int(record.payload["version"]), record)
    return list(newest.values())


def _how_to_promote(state: State) -> str:
    if not state.registrations:
        return "no champion: nothing is registered yet; run `signals register`, then review and promote"
    latest = max(state.registrations)
    return (
        f"no champion: version {latest} waits; run `signals status`, `signals review {latest} approve --by NAME "
        f"--comment TEXT`, then `signals promote {latest}`"
    )


def ledger_doubts(root: Path, chain: Chain, registry: Registry, now: datetime) -> list[str]:
    """Warnings about the ledger as a whole.

    Raises
    ------
    GovernanceError
        Records that the registry has seen are gone, or the clock runs behind the ledger.
    """
    head = registry.tags.get(LEDGER_HEAD, "")
    if head and not chain.contains(head):
        raise GovernanceError(
            f"{root / LEDGER} has lost records: the registry last saw {head[:24]}..., which is not in it: "
            "restore the ledger from a backup"
        )
    if chain.records and now < chain.records[-1].at - _CLOCK_SLACK:
        raise GovernanceError(
            f"the clock ({now:%Y-%m-%d %H:%M} UTC) is behind the ledger's last record "
            f"({chain.records[-1].at:%Y-%m-%d %H:%M} UTC): set the clock; expiries cannot be judged"
        )
    if chain.torn:
        return [
            f"the ledger ends in a torn line of {len(chain.torn)} bytes (a writer died): the next command sets it aside"
        ]
    return []


def alias_doubts(registry: Registry, state: State) -> list[str]:
    """Warnings where MLflow's aliases say something else than the ledger."""
    champion = state.champion
    told = registry.aliases.get("champion")
    wanted = int(champion.payload["version"]) if champion else None
    if told == wanted:
        return []
    said = f"version {told}" if told is not None else "no version"
    meant = f"version {wanted}" if wanted is not None else "no version"
    return [
        f"the alias champion points at {said}, the ledger says {meant}: the alias was moved without the ledger "
        "and is ignored; the next governance command sets it back"
    ]


def version_problems(
    root: Path,
    registry: Registry,
    state: State,
    promotion: Record,
    require_second_person: bool,
    now: datetime,
) -> list[str]:
    """Why a promoted version may not be served; empty when it may."""
    version = int(promotion.payload["version"])
    if version not in state.registrations:
        return ["the ledger has no registration of it"]
    registration = state.registration(version).payload
    problems = []
    if promotion.payload["bundle_digest"] != registration["bundle_digest"]:
        problems.append("it was promoted with another bundle than it is registered with")
    problems += approval_problems(state, promotion, require_second_person)
    problems += [
        f"gate {gate['gate']} fails and its waiver is missing or has expired ({gate['detail']})"
        for gate in promotion.payload["failed"]
        if gate["gate"] not in state.waivers(version, now.date())
    ]
    problems += row_problems(registry, version, registration)
    problems += file_problems(root, registration)
    return problems


def approval_problems(state: State, promotion: Record, require_second_person: bool) -> list[str]:
    """Whether the promotion names an approval that is in the ledger, by someone other than the author."""
    seq = promotion.payload["approval"]
    reviews = {record.seq: record for record in state.chain.of_kind("reviewed")}
    review = reviews.get(seq)
    if review is None or review.seq > promotion.seq:
        return ["its approval is not in the ledger"]
    if review.payload["version"] != promotion.payload["version"] or review.payload["status"] != "approved":
        return ["the approval it names is not one of this version"]
    author = state.registration(int(promotion.payload["version"])).payload["author"]
    if require_second_person and same_person(review.actor, author):
        return [f"it was approved by its own author, {author}"]
    return []


def row_problems(registry: Registry, version: int, registration: Mapping[str, Any]) -> list[str]:
    """Whether the database still holds the version that was registered."""
    row = registry.versions.get(version)
    if row is None:
        return ["its row is gone from the MLflow database"]
    problems = []
    if row.tags.get("bundle.digest") != registration["bundle_digest"]:
        problems.append("the tag bundle.digest in the MLflow database is not the registered one")
    if row.location.rstrip("/") != registration["model_uri"].rstrip("/"):
        problems.append(
            f"the MLflow database points at {row.location or 'nothing'} instead of {registration['model_uri']}"
        )
    return problems


def file_problems(root: Path, registration: Mapping[str, Any]) -> list[str]:
    """Whether every stored byte of the version is still the registered one."""
    problems = broken(resolve(registration["model_uri"], root), registration["model_files"])
    problems += broken(resolve(registration["evidence_uri"], root), registration["evidence_files"])
    return [f"stored artifact {problem}" for problem in problems]


def _fails(state: State, promotion: Record, gate: str) -> bool:
    return gate in {failure["gate"] for failure in promotion.payload["failed"]}
