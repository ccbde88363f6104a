"""The guard: which bundle the daily job may serve, and why.

A version is served only while the ledger, its signatures, the gates, the approval, the waivers, the
database row and every stored byte agree, and nobody has called a stop. The ledger is the truth;
MLflow's alias is only its projection, so an alias moved by hand changes nothing but a warning. Where
the champion no longer holds, the last good champion before it keeps serving. Imports no MLflow: the
daily job starts in a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.errors import DataError, GovernanceError
from core.files import read_json
from governance.chain import Record
from governance.outputs import MANIFEST, manifest_digest
from governance.places import resolve
from governance.registry import Registry
from governance.seal import broken, read_sealed
from governance.snapshot import alias_doubts, ledger_doubts, snapshot
from governance.state import State, model_digest

MODEL = "layered-signals"


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
    code
        SHA-256 by file of the code that decided signals when it was registered; None in a registration of a release
        that did not record it.
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
    code: Mapping[str, str] | None = None


def serving(
    root: Path,
    model: str = MODEL,
    require_second_person: bool = True,
    now: datetime | None = None,
    at: datetime | None = None,
    require_signatures: bool = False,
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
        promotion the present champion stands in. What is stored must hold today all the same, and a stop that is
        in force today stops the past too.
    require_signatures
        Whether a decision counts only where it is signed.

    Raises
    ------
    GovernanceError
        A stop is in force, no version was ever promoted, none was in production at the moment, the ledger is
        broken, or neither the champion nor one before it still holds; the reason is named.
    StorageError
        The database stayed locked.
    """
    now = now or datetime.now(UTC)
    chain, state, registry = snapshot(root, model, require_signatures, refuse_stopped)
    warnings = [*ledger_doubts(root, chain, registry, now), *state.doubts]
    then = state if at is None else state.until(at)
    hindsight = not then.chain.of_kind("promoted")
    if hindsight:
        then = state
    if then.champion is None:
        raise GovernanceError("; ".join([_how_to_promote(state) if then is state else _none_at(at), *state.doubts]))
    judged = now if at is None or hindsight else at
    refused: list[str] = []
    for record in _newest_first(then):
        version = int(record.payload["version"])
        problems = version_problems(root, registry, then, record, require_second_person, judged)
        found = then.promoted_registration(record)
        if found is not None and not problems:
            if refused:
                warnings.append(f"version {version}, the last good champion, keeps serving: {'; '.join(refused)}")
            warnings += alias_doubts(registry, state) if then is state else _taken_back(state, version, judged)
            registration = found.payload
            used = [
                {**waiver.payload, "by": waiver.actor}
                for gate, waiver in then.waivers(version, judged.date()).items()
                if _fails(then, record, gate)
            ]
            return Served(
                version=version,
                bundle_path=resolve(registration["bundle_uri"], root),
                digest=registration["bundle_digest"],
                promotion=record,
                waivers=tuple(used),
                warnings=tuple(warnings),
                hindsight=hindsight,
                code=serving_code_of(root, registration),
            )
        refused.append(
            f"version {version} is refused: {problems[0]}"
            + (f" (and {len(problems) - 1} more)" if problems[1:] else "")
        )
    raise GovernanceError(
        f"no version may be served: {'; '.join(refused)}; run `signals status`, then promote or register again"
    )


def refuse_stopped(state: State) -> None:
    """Refuse to go on while an emergency stop is in force.

    Raises
    ------
    GovernanceError
        Says who called it, when and why.
    """
    if state.stop is not None:
        raise GovernanceError(f"{state.stop}; nothing is served or promoted until `signals unfreeze --reason TEXT`")


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
    found = state.promoted_registration(promotion)
    if found is None:
        return ["the ledger has no registration of it"]
    registration = found.payload
    problems = []
    if promotion.payload["bundle_digest"] != registration["bundle_digest"]:
        problems.append("it was promoted with another bundle than it is registered with")
    problems += approval_problems(state, promotion, found, require_second_person)
    problems += [
        f"gate {gate['gate']} fails and its waiver is missing or has expired ({gate['detail']})"
        for gate in promotion.payload["failed"]
        if gate["gate"] not in state.waivers(version, now.date())
    ]
    problems += row_problems(registry, version, registration)
    altered = file_problems(root, registration)
    return [*problems, *(altered or gate_problems(root, promotion, registration))]


def approval_problems(state: State, promotion: Record, registration: Record, require_second_person: bool) -> list[str]:
    """Whether the promotion names an approval that is in the ledger, of what was promoted, by someone else."""
    reviews = {record.seq: record for record in state.chain.of_kind("reviewed")}
    review = reviews.get(promotion.payload["approval"])
    if review is None or review.seq > promotion.seq:
        return ["its approval is not in the ledger, or does not count"]
    if review.payload["version"] != promotion.payload["version"] or review.payload["status"] != "approved":
        return ["the approval it names is not one of this version"]
    if review.payload["evidence"] != registration.payload["evidence"]:
        return ["the approval it names is one of other evidence"]
    # A promotion from before decisions named files could rest on the approval of an earlier registration of them.
    if "model_digest" in promotion.payload or "registration" in review.payload:
        if promotion.payload.get("model_digest") != model_digest(registration):
            return ["it was promoted with other files than it is registered with"]
        if not state.is_review_of(review, registration):
            return ["the approval it names is one of another registration or of other files"]
    policy = registration.payload.get("policy")
    if promotion.payload.get("policy", policy) != policy:
        return ["it was promoted under other gates than it was registered under"]
    author = registration.payload["author"]
    if require_second_person and state.is_by_author(review.actor, review.key, int(registration.payload["version"])):
        return [f"it was approved by its own author, {author}"]
    return []


def gate_problems(root: Path, promotion: Record, registration: Mapping[str, Any]) -> list[str]:
    """Gates that failed when the version was registered and that its promotion does not admit.

    The comparison with the champion is left to the promotion, which makes it again.
    """
    folder = resolve(registration["evidence_uri"], root)
    found, altered = read_sealed(folder, registration["evidence_files"], "gates.json")
    if altered:
        return [f"stored artifact {altered[0]}"]
    policy = read_json(found / "gates.json")["policy"]
    again = {rule["name"] for rule in policy["gates"] if rule["check"] == "beats_champion"}
    admitted = again | {gate["gate"] for gate in promotion.payload["failed"]}
    failed = [gate for gate in registration["gates"] if not gate["passed"] and gate["severity"] == "block"]
    return [
        f"gate {gate['gate']} failed ({gate['detail']}) and its promotion is silent about it"
        for gate in failed
        if gate["gate"] not in admitted
    ]


def serving_code_of(root: Path, registration: Mapping[str, Any]) -> Mapping[str, str] | None:
    """The code that decided signals when a version was registered, by file, from its sealed lineage.

    Raises
    ------
    GovernanceError
        The lineage was changed.
    """
    folder = resolve(registration["evidence_uri"], root)
    found, altered = read_sealed(folder, registration["evidence_files"], "lineage.json")
    if altered:
        raise GovernanceError(f"version {registration['version']}: stored artifact {altered[0]}")
    code: Mapping[str, str] | None = read_json(found / "lineage.json").get("serving")
    return code


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
    """Whether every stored byte of the version is still the registered one, and its bundle the one that is named."""
    problems = broken(resolve(registration["model_uri"], root), registration["model_files"])
    problems += broken(resolve(registration["evidence_uri"], root), registration["evidence_files"])
    return [f"stored artifact {problem}" for problem in problems] or _bundle_problems(root, registration)


def _bundle_problems(root: Path, registration: Mapping[str, Any]) -> list[str]:
    """Whether the registered files are the bundle that the registration names, and not others under its digest."""
    folder = resolve(registration["bundle_uri"], root)
    try:
        manifest = read_json(folder / MANIFEST)
        promised = dict(manifest["files"])
    except (DataError, KeyError, TypeError, ValueError):
        return [f"{folder / MANIFEST} is not the manifest of a bundle"]
    inside = registration["bundle_uri"].removeprefix(registration["model_uri"]).strip("/") + "/"
    files = {n.removeprefix(inside): d for n, d in registration["model_files"].items() if n.startswith(inside)}
    files.pop(MANIFEST, None)
    if manifest_digest(manifest) != registration["bundle_digest"] or files != promised:
        return ["the registered files are not those of the registered bundle"]
    return []


def _fails(state: State, promotion: Record, gate: str) -> bool:
    return gate in {failure["gate"] for failure in promotion.payload["failed"]}
