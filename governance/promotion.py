"""Decisions about versions: review, waive, promote, roll back; and the emergency stop."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from core.errors import GovernanceError, SignalsError
from core.files import read_json, read_parquet
from core.text import require_text
from governance.desk import Decision, Desk, open_desk
from governance.evidence import champion_of, kept
from governance.gates import Evidence, GovernanceRule, judge
from governance.guard import file_problems, refuse_stopped, row_problems
from governance.keys import pen_for
from governance.ledger import Ledger
from governance.people import LONGEST_COMMENT, require_name, same_person
from governance.places import LEDGER
from governance.registry import read_registry
from governance.state import model_digest
from governance.store import client as open_client
from governance.store import governing
from governance.sync import sync, told
from governance.trust import read_state

_LEAST_REASON = 10


def version_number(root: Path, policy: GovernanceRule, version: str) -> int:
    """A version from what a person types: a number, or an alias such as `candidate`.

    Raises
    ------
    GovernanceError
        No such alias.
    """
    if version.isdecimal():
        return int(version)
    aliases = read_registry(root, policy.model).aliases
    if version not in aliases:
        known = ", ".join(sorted(aliases)) or "none yet"
        raise GovernanceError(f"{version!r} is no version number and no alias (aliases: {known}): see `signals status`")
    return aliases[version]


def review(
    root: Path,
    policy: GovernanceRule,
    version: int,
    status: Literal["approved", "rejected"],
    by: str,
    comment: str,
) -> Decision:
    """Approve or reject what is registered under a version.

    Raises
    ------
    ConfigError
        Name or comment is not text that can be recorded.
    GovernanceError
        The reviewer is the author, the comment is empty, or the version serves (roll back instead).
    """
    by, comment = require_name(by, "a review"), _words(comment, "the comment of a review")
    with open_desk(root, policy) as desk:
        seen = desk.state.registration(version)
        registration = seen.payload
        _require_other(policy, by, registration["author"], "review")
        if not comment:
            raise GovernanceError("a review needs a comment: say what you looked at with --comment TEXT")
        champion = desk.state.champion
        if status == "rejected" and champion is not None and champion.payload["version"] == version:
            raise GovernanceError(
                f"version {version} is the champion: take it out with `signals rollback --reason TEXT`"
            )
        payload = {
            "version": version,
            "status": status,
            "comment": comment,
            "registration": seen.seq,
            "bundle_digest": registration["bundle_digest"],
            "model_digest": model_digest(seen),
            "evidence": registration["evidence"],
        }
        return desk.write("reviewed", by, payload)


def waive(
    root: Path,
    policy: GovernanceRule,
    version: int,
    gate: str,
    by: str,
    reason: str,
    until: date,
    now: datetime | None = None,
) -> Decision:
    """Let a version fail one blocking gate until a day.

    Raises
    ------
    GovernanceError
        The gate does not block this version or may not be waived, the reason is too short, the
        expiry is past or too far, or the person is the author.
    """
    today = (now or datetime.now(UTC)).date()
    by, reason = require_name(by, "a waiver"), _words(reason, "the reason of a waiver")
    with open_desk(root, policy) as desk:
        registration = desk.state.registration(version).payload
        failed = {failure["gate"]: failure for failure in _failed_today(desk, version)}
        if gate not in failed:
            blocking = ", ".join(failed) or "none"
            raise GovernanceError(f"gate {gate!r} does not block version {version} (blocking: {blocking})")
        if not failed[gate]["waivable"]:
            raise GovernanceError(f"gate {gate} may not be waived ({failed[gate]['reason']}): fix what it found")
        _require_other(policy, by, registration["author"], "waiver")
        if len(reason) < _LEAST_REASON:
            raise GovernanceError(f"a waiver needs a reason of at least {_LEAST_REASON} characters: give --reason TEXT")
        if not today <= until <= today + timedelta(days=policy.longest_waiver):
            last = today + timedelta(days=policy.longest_waiver)
            raise GovernanceError(f"a waiver until {until} is not possible: choose a day from {today} to {last}")
        payload = {
            "version": version,
            "gate": gate,
            "reason": reason,
            "until": until.isoformat(),
            "bundle_digest": registration["bundle_digest"],
        }
        return desk.write("waived", by, payload)


def promote(
    root: Path, policy: GovernanceRule, version: int, by: str, comment: str = "", now: datetime | None = None
) -> Decision:
    """Put a version into production.

    Raises
    ------
    GovernanceError
        A stop is in force, a blocking gate fails without a valid waiver, the approval is missing,
        rejected or by the author, or a stored byte is not the registered one. Everything that is
        wrong is named.
    """
    now = now or datetime.now(UTC)
    by, comment = require_name(by, "a promotion"), _words(comment, "the comment of a promotion")
    with open_desk(root, policy) as desk:
        refuse_stopped(desk.state)
        seen = desk.state.registration(version)
        registration = seen.payload
        champion = desk.state.champion
        if champion is not None and champion.payload["version"] == version:
            raise GovernanceError(f"version {version} is the champion already: nothing to do")
        altered = file_problems(root, registration)
        failed = [] if altered else _failed_today(desk, version)
        waivers = desk.state.waivers(version, now.date())
        problems = [f"gate {gate['gate']} fails ({gate['detail']})" for gate in failed if gate["gate"] not in waivers]
        problems += _approval_missing(desk, version)
        if registration.get("policy") != policy.digest:
            problems.append(
                "the gates of now (params.yaml: governance) are not those that it was registered under: put them back, "
                "or `signals register` again and have it reviewed"
            )
        problems += [*row_problems(desk.registry, version, registration), *altered]
        if problems:
            raise GovernanceError(f"version {version} may not be promoted: {'; '.join(problems)}")
        approval = desk.state.review(version)
        payload = {
            "version": version,
            "bundle_digest": registration["bundle_digest"],
            "model_digest": model_digest(seen),
            "registration": seen.seq,
            "policy": policy.digest,
            "approval": approval.seq if approval else None,
            "approved_by": approval.actor if approval else None,
            "failed": failed,
            "waivers": [waivers[gate["gate"]].seq for gate in failed],
            "previous": champion.payload["version"] if champion else None,
            "comment": comment,
        }
        return desk.write("promoted", by, payload)


def rollback(root: Path, policy: GovernanceRule, by: str, reason: str) -> Decision:
    """Take the champion out of production and restore the one before it.

    Raises
    ------
    GovernanceError
        There is no champion, or no reason is given.
    """
    by, reason = require_name(by, "a rollback"), _require_reason(reason, "a rollback")
    with open_desk(root, policy) as desk:
        champion, previous = desk.state.champion, desk.state.previous
        if champion is None:
            raise GovernanceError("there is no champion to roll back: see `signals status`")
        payload = {
            "version": champion.payload["version"],
            "to": previous.payload["version"] if previous else None,
            "reason": reason,
        }
        return desk.write("rolled_back", by, payload)


def freeze(root: Path, policy: GovernanceRule, by: str, reason: str) -> Decision:
    """Call an emergency stop: nothing is served or promoted until it is lifted.

    The stop is in force before MLflow is told, and whether or not MLflow can be told. Anyone may
    call it, with a key or without.

    Raises
    ------
    GovernanceError
        No reason is given, a stop is in force already, or the ledger is broken (then nothing is served anyway).
    """
    by, reason = require_name(by, "a stop"), _require_reason(reason, "a stop")
    ledger = Ledger(root / LEDGER)
    state = read_state(root, ledger.read(), policy.require_signatures)
    if state.stop is not None:
        raise GovernanceError(f"already {state.stop}")
    notes = []
    try:
        pen = pen_for(root, by, decides=False, required=False)
    except SignalsError as error:
        pen, notes = None, [f"the stop is not signed: {error}"]
    record = ledger.append("frozen", by, {"reason": reason}, pen)

    def project() -> list[str]:
        read_registry(root, policy.model)
        with governing(root):
            return sync(root, policy, open_client(root))

    return Decision(record, (*notes, *told(root, "the stop", project)))


def unfreeze(root: Path, policy: GovernanceRule, by: str, reason: str) -> Decision:
    """Lift the emergency stop.

    Raises
    ------
    GovernanceError
        No stop is in force, or no reason is given.
    """
    by, reason = require_name(by, "lifting a stop"), _require_reason(reason, "lifting a stop")
    with open_desk(root, policy) as desk:
        if desk.state.stop is None:
            raise GovernanceError("no stop is in force: nothing to lift")
        return desk.write("unfrozen", by, {"reason": reason})


def _require_reason(reason: str, what: str) -> str:
    words = _words(reason, f"the reason for {what}")
    if not words:
        raise GovernanceError(f"{what} needs a reason: give --reason TEXT")
    return words


def _words(text: str, what: str) -> str:
    return require_text(text, what, LONGEST_COMMENT)


def _require_other(policy: GovernanceRule, by: str, author: str, what: str) -> None:
    if policy.require_second_person and same_person(by, author):
        raise GovernanceError(f"{by} is the author of this version ({author}): the {what} must come from someone else")


def _approval_missing(desk: Desk, version: int) -> list[str]:
    state = desk.state
    review = state.review(version)
    ask = f"`signals review {version} approve --by NAME --comment TEXT`"
    if review is None:
        earlier = [r for r in state.chain.of_kind("reviewed") if r.payload["version"] == version]
        again = f" since it was registered again (record {state.registration(version).seq})" if earlier else " yet"
        return [f"nobody has approved it{again}: {ask}"]
    if review.payload["status"] != "approved":
        return [f"{review.actor} rejected it ({review.payload['comment']}): a later approval is needed, {ask}"]
    if desk.policy.require_second_person and state.is_by_author(review.actor, review.key, version):
        author = state.registration(version).payload["author"]
        return [f"it was approved by its own author ({author}): {ask} by someone else"]
    return []


def _failed_today(desk: Desk, version: int) -> list[dict[str, Any]]:
    """Blocking failures, with the comparison against the champion made again: it may have changed since."""
    registration = desk.state.registration(version).payload
    folder = kept(desk.root, registration, "metrics.json", "daily_ic.parquet")
    again = {}
    for rule in (rule for rule in desk.policy.gates if rule.check == "beats_champion"):
        evidence = Evidence(
            metrics=read_json(folder / "metrics.json"),
            invariances={},
            lineage={},
            bundle_digest=registration["bundle_digest"],
            daily_ic=read_parquet(folder / "daily_ic.parquet"),
            champion=champion_of(desk.root, desk.state),
        )
        again[rule.name] = judge(rule, desk.policy, evidence).to_dict()
    gates = [again.pop(gate["gate"], gate) for gate in registration["gates"]]
    return [gate for gate in [*gates, *again.values()] if not gate["passed"] and gate["severity"] == "block"]
