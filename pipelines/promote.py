"""What `signals review`, `waive`, `promote`, `rollback`, `freeze`, `history` and `status` do and print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.dates import date_option, parse_moment
from core.errors import ConfigError, GovernanceError
from governance import promotion
from governance.chain import Record
from governance.gates import GovernanceRule
from governance.guard import serving
from governance.ledger import Ledger
from governance.lineage import author
from governance.people import UNVERIFIED
from governance.places import DATABASE, KEYS, LEDGER
from governance.policy import load_policy
from governance.registry import Registry
from governance.snapshot import alias_doubts, ledger_doubts, snapshot
from governance.state import State, Stop
from governance.store import in_file, tracking_uri
from governance.trust import read_state
from pipelines import remote
from pipelines.console import Printer, utc

_STATUS = {"approve": "approved", "reject": "rejected"}


def review(root: Path, version: str, decision: str, by: str | None, comment: str) -> None:
    """Approve or reject a version."""
    if decision not in _STATUS:
        raise ConfigError(f"a review says approve or reject, not {decision!r}")
    policy = load_policy(root)
    status: Any = _STATUS[decision]
    if server := remote.team_server():
        remote.review(server, policy.model, version, status, by, comment)
        return
    number = promotion.version_number(root, policy, version)
    done = promotion.review(root, policy, number, status, by or author(root), comment)
    seen = f"record {done.record.payload['registration']}, files {done.record.payload['model_digest'][:12]}"
    _confirm(done, f"version {number} {_STATUS[decision]} by {done.record.actor} ({seen})")
    if status == "approved":
        Printer().line(f"next: signals promote {number}")


def waive(root: Path, version: str, gate: str, by: str | None, reason: str, until: str) -> None:
    """Let a version fail one gate until a day."""
    remote.require_ledger("waive")
    policy = load_policy(root)
    number = promotion.version_number(root, policy, version)
    done = promotion.waive(
        root, policy, number, gate, by or author(root), reason, date_option("--until", until, ConfigError)
    )
    _confirm(done, f"gate {gate} of version {number} waived by {done.record.actor} until {until}")


def promote(root: Path, version: str, by: str | None, comment: str) -> None:
    """Put a version into production."""
    policy = load_policy(root)
    if server := remote.team_server():
        remote.promote(server, policy.model, version, by, comment)
        return
    number = promotion.version_number(root, policy, version)
    done = promotion.promote(root, policy, number, by or author(root), comment)
    payload = done.record.payload
    before = f", in the place of version {payload['previous']}" if payload["previous"] is not None else ""
    _confirm(done, f"version {number} is the champion{before}; approved by {payload['approved_by']}")
    if not policy.require_second_person:
        Printer().warning("governance.require_second_person is off: nobody but the author need have looked")
    for gate in payload["failed"]:
        Printer().warning(f"served under a WAIVER: {gate['gate']} ({gate['detail']})")
    Printer().line("next: signals infer")


def rollback(root: Path, by: str | None, reason: str) -> None:
    """Restore the champion before this one."""
    remote.require_ledger("rollback")
    done = promotion.rollback(root, load_policy(root), by or author(root), reason)
    payload = done.record.payload
    now = f"version {payload['to']} is the champion again" if payload["to"] is not None else "there is no champion now"
    _confirm(done, f"version {payload['version']} taken out of production: {now}")


def freeze(root: Path, by: str | None, reason: str) -> None:
    """Call an emergency stop."""
    remote.require_ledger("freeze")
    done = promotion.freeze(root, load_policy(root), by or author(root), reason)
    _confirm(done, f"frozen by {done.record.actor}: nothing is served or promoted until `signals unfreeze`")


def unfreeze(root: Path, by: str | None, reason: str) -> None:
    """Lift the emergency stop."""
    remote.require_ledger("unfreeze")
    done = promotion.unfreeze(root, load_policy(root), by or author(root), reason)
    _confirm(done, f"the stop is lifted by {done.record.actor}")


def history(root: Path, at: str | None) -> None:
    """Which version was in production when, and why; and when a stop was in force."""
    printer = Printer()
    policy = load_policy(root)
    chain = Ledger(root / LEDGER).read()
    state = read_state(root, chain, policy.require_signatures)
    for doubt in state.doubts:
        printer.warning(doubt)
    if at is not None:
        try:
            moment = parse_moment(at)
        except ValueError as problem:
            raise ConfigError(f"--at {at!r} is not a valid date: {problem}") from None
        stop = state.stop_at(moment)
        if stop is not None:
            printer.warning(f"nothing was served then: {stop}")
        reign = state.reign_at(moment)
        if reign is None:
            printer.line(f"no version was in production at {utc(moment)}")
            return
        printer.line(f"version {reign.version} was in production at {utc(moment)}, since {utc(reign.since)}")
        printer.line(f"why: {_why(reign.record)}")
        return
    rows = [
        (
            str(reign.version),
            utc(reign.since),
            utc(reign.until) if reign.until else "now",
            _why(reign.record),
        )
        for reign in state.reigns
    ]
    if rows:
        printer.table("In production", ("version", "from", "until", "why"), rows)
    else:
        printer.line("no version has been in production yet")
    if state.stops:
        stops = [
            (utc(stop.record.at), utc(stop.ended_by.at) if stop.ended_by else "now", _stopped(stop))
            for stop in state.stops
        ]
        printer.table("Stopped", ("from", "until", "why"), stops)
    if chain.records:
        printer.line(f"ledger verified: {len(chain.records)} records")
        printer.line(f"note: {_proof(policy)}", "yellow")


def status(root: Path) -> None:
    """Champion, candidate, gates, the ledger, and what to type next."""
    printer = Printer()
    policy = load_policy(root)
    if server := remote.team_server():
        remote.status(server, policy.model)
        return
    in_no_file = in_file(tracking_uri(root)) and not (root / DATABASE).is_file()
    if not Ledger(root / LEDGER).read().records and in_no_file:
        printer.line("nothing is registered yet; next: signals register")
        return
    chain, state, registry = snapshot(root, policy.model, policy.require_signatures)
    now = datetime.now(UTC)
    printer.line(f"ledger    verified, {len(chain.records)} records")
    doubts = [*ledger_doubts(root, chain, registry, now), *state.doubts, *alias_doubts(registry, state)]
    for doubt in doubts:
        printer.warning(doubt)
    _show_champion(root, policy, state, printer, doubts)
    _show_candidate(registry, state, now, printer)
    printer.line(f"note      {_proof(policy)}", "yellow")


def _show_champion(root: Path, policy: GovernanceRule, state: State, printer: Printer, told: Sequence[str]) -> None:
    champion = state.champion
    if champion is None:
        printer.line("champion  none")
        return
    printer.line(f"champion  version {champion.payload['version']} since {utc(champion.at)}, {_why(champion)}")
    try:
        served = serving(root, policy.model, policy.require_second_person, require_signatures=policy.require_signatures)
    except GovernanceError as error:
        printer.warning(str(error))
        return
    printer.line(f"serves    version {served.version}, bundle {served.digest[:12]}, every check holds")
    for waiver in served.waivers:
        printer.warning(f"WAIVED {waiver['gate']} until {waiver['until']}: {waiver['reason']}")
    for warning in served.warnings:
        if warning not in told:
            printer.warning(warning)


def _show_candidate(registry: Registry, state: State, now: datetime, printer: Printer) -> None:
    version = registry.aliases.get("candidate")
    if version is None or version not in state.registrations:
        printer.line("candidate none; next: signals register")
        return
    registration = state.registration(version)
    reviewed = state.review(version)
    said = f" by {reviewed.actor}: {reviewed.payload['comment']}" if reviewed else ""
    printer.line(
        f"candidate version {version}, registered {utc(registration.at)} by {registration.payload['author']}, "
        f"review {state.review_status(version)}{said}"
    )
    valid = state.waivers(version, now.date())
    rows = gate_rows(registration.payload["gates"], valid)
    printer.table(f"Gates of version {version}", ("gate", "verdict", "finding"), rows)
    if state.champion is not None and state.champion.payload["version"] == version:
        printer.line("the candidate is the champion; next: signals infer")
        return
    failed = [gate["gate"] for gate in state.failures(version) if gate["gate"] not in valid]
    printer.line("next:")
    for command in next_commands(version, failed, state.review_status(version)):
        printer.line(f"  {command}")


def gate_rows(gates: Sequence[Mapping[str, Any]], waivers: Mapping[str, Record]) -> list[tuple[str, str, str]]:
    """Rows of gate, verdict and finding."""
    rows = []
    for gate in gates:
        word, detail = ("pass" if gate["passed"] else "FAIL" if gate["severity"] == "block" else "warn"), gate["detail"]
        if word == "FAIL" and gate["gate"] in waivers:
            waiver = waivers[gate["gate"]]
            word, detail = (
                "WAIVED",
                f"{detail}; {waiver.actor} until {waiver.payload['until']}: {waiver.payload['reason']}",
            )
        rows.append((str(gate["gate"]), word, str(detail)))
    return rows


def next_commands(version: int, failed: Sequence[str], review_status: str) -> list[str]:
    """What to type to bring a version into production."""
    commands = ["signals ui"] if review_status == "pending" else []
    commands += [
        f"signals waive {version} {gate} --by NAME --reason TEXT --until YYYY-MM-DD   (or train a better one)"
        for gate in failed
    ]
    if review_status != "approved":
        commands.append(f"signals review {version} approve --by NAME --comment TEXT")
    return [*commands, f"signals promote {version}"]


def _confirm(done: promotion.Decision, text: str) -> None:
    printer = Printer()
    for note in done.notes:
        printer.warning(note)
    printer.line(f"{text} ({utc(done.record.at)}, ledger record {done.record.seq})")
    if done.record.signature:
        printer.line(f"signed with the key {done.record.key[:16]}", "green")
    else:
        printer.line(f"note: {UNVERIFIED}", "yellow")


def _proof(policy: GovernanceRule) -> str:
    """What stands behind the names."""
    return f"decisions count only where signed with a key of {KEYS}" if policy.require_signatures else UNVERIFIED


def _stopped(stop: Stop) -> str:
    lifted = stop.ended_by
    return f"{stop}" + (f"; lifted by {lifted.actor}: {lifted.payload['reason']}" if lifted else "")


def _why(record: Record) -> str:
    payload = record.payload
    if record.kind == "rolled_back":
        return f"rolled back by {record.actor} from version {payload['version']}: {payload['reason']}"
    waived = "".join(f"; WAIVED {gate['gate']}" for gate in payload["failed"])
    said = f": {payload['comment']}" if payload["comment"] else ""
    return f"promoted by {record.actor}, approved by {payload['approved_by']}{said}{waived}"
