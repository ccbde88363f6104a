"""What the ledger says: registrations, approvals, waivers, and who was champion when.

Pure functions of the verified chain. The MLflow registry is a projection of this state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property
from typing import Any

from core.errors import GovernanceError
from governance.chain import Chain, Record
from governance.people import same_person
from governance.seal import digest_of

PENDING = "pending"


@dataclass(frozen=True)
class Reign:
    """One stretch of time in which a version was champion; `until` is None for the present one."""

    version: int
    since: datetime
    until: datetime | None
    record: Record
    ended_by: Record | None


@dataclass(frozen=True)
class Stop:
    """One emergency stop: who called it, when and why; `ended_by` is None while it is in force."""

    record: Record
    ended_by: Record | None = None

    def __str__(self) -> str:
        called = self.record
        return f"frozen by {called.actor} at {called.at:%Y-%m-%d %H:%M:%S} UTC: {called.payload.get('reason')}"


@dataclass(frozen=True)
class State:
    """The registry as the ledger tells it.

    Parameters
    ----------
    chain
        The records that count (see `governance.trust`), under the numbers that they have in the ledger.
    doubts
        What is to be said of records that do not count, or hardly.
    """

    chain: Chain
    doubts: tuple[str, ...] = ()

    @cached_property
    def registrations(self) -> Mapping[int, Record]:
        """Latest registration of each version."""
        return {int(record.payload["version"]): record for record in self.chain.of_kind("registered")}

    def registration(self, version: int) -> Record:
        """Latest registration of a version.

        Raises
        ------
        GovernanceError
            The ledger knows no such version.
        """
        try:
            return self.registrations[version]
        except KeyError:
            known = ", ".join(map(str, sorted(self.registrations))) or "none"
            raise GovernanceError(
                f"version {version} is not in the ledger (registered: {known}): run `signals register`"
            ) from None

    def promoted_registration(self, promotion: Record) -> Record | None:
        """The registration that a promotion was decided on; a later one of the same version changes nothing."""
        found = [r for r in self.chain.of_kind("registered") if r.seq == promotion.payload["registration"]]
        same = [r for r in found if r.seq < promotion.seq and r.payload["version"] == promotion.payload["version"]]
        return same[0] if same else None

    def of_bundle(self, digest: str) -> Record | None:
        """Latest registration of a bundle, by its digest."""
        found = [r for r in self.registrations.values() if r.payload["bundle_digest"] == digest]
        return max(found, key=lambda record: record.seq, default=None)

    def review(self, version: int) -> Record | None:
        """Latest review of what is registered now; a review of an earlier registration does not count."""
        registration = self.registration(version)
        found = [r for r in self.chain.of_kind("reviewed") if self.is_review_of(r, registration)]
        return found[-1] if found else None

    def is_review_of(self, review: Record, registration: Record) -> bool:
        """Whether a review is of this registration, of its evidence and of its very files.

        A review from before reviews named a registration is of the one that it could see: the latest of the
        version above it in the ledger.
        """
        said, what = review.payload, registration.payload
        if any(said.get(name) != what[name] for name in ("version", "evidence")):
            return False
        if said.get("bundle_digest", what["bundle_digest"]) != what["bundle_digest"]:
            return False
        if "registration" in said:
            return said["registration"] == registration.seq and said.get("model_digest") == model_digest(registration)
        seen = [r.seq for r in self.registrations_of(what["version"]) if r.seq < review.seq]
        return bool(seen) and seen[-1] == registration.seq

    def registrations_of(self, version: int) -> list[Record]:
        """Every registration of a version, oldest first."""
        return [r for r in self.chain.of_kind("registered") if r.payload["version"] == version]

    def is_by_author(self, actor: str, key: str, version: int) -> bool:
        """Whether a person or a key registered a version, at any time: by name, or by key."""
        registrations = self.registrations_of(version)
        keys = {record.key for record in registrations if record.key}
        return key in keys or any(same_person(actor, record.payload["author"]) for record in registrations)

    def review_status(self, version: int) -> str:
        """`approved`, `rejected` or `pending`."""
        review = self.review(version)
        return str(review.payload["status"]) if review else PENDING

    def waivers(self, version: int, on: date | None = None) -> Mapping[str, Record]:
        """Latest waiver of each gate; only those still valid `on` a day, where one is given."""
        latest = {r.payload["gate"]: r for r in self.chain.of_kind("waived") if r.payload["version"] == version}
        if on is None:
            return latest
        return {gate: r for gate, r in latest.items() if date.fromisoformat(r.payload["until"]) >= on}

    def failures(self, version: int) -> list[dict[str, Any]]:
        """Blocking gates that the version failed at its latest registration."""
        gates = self.registration(version).payload["gates"]
        return [gate for gate in gates if not gate["passed"] and gate["severity"] == "block"]

    @cached_property
    def line(self) -> tuple[Record, ...]:
        """Promotions still standing, oldest first: the last is the champion, the ones before its fallbacks."""
        standing: list[Record] = []
        for record in self.chain.of_kind("promoted", "rolled_back"):
            if record.kind == "promoted":
                standing.append(record)
            else:
                standing = [r for r in standing if r.payload["version"] != record.payload["version"]]
        return tuple(standing)

    @property
    def champion(self) -> Record | None:
        """Promotion record of the champion."""
        return self.line[-1] if self.line else None

    @property
    def previous(self) -> Record | None:
        """Promotion record of the version that a rollback would restore."""
        if not self.line:
            return None
        others = [r for r in self.line if r.payload["version"] != self.line[-1].payload["version"]]
        return others[-1] if others else None

    @cached_property
    def stops(self) -> tuple[Stop, ...]:
        """Every emergency stop, oldest first."""
        found: list[Stop] = []
        for record in self.chain.of_kind("frozen", "unfrozen"):
            standing = bool(found) and found[-1].ended_by is None
            if record.kind == "frozen" and not standing:
                found.append(Stop(record))
            elif record.kind == "unfrozen" and standing:
                found[-1] = Stop(found[-1].record, record)
        return tuple(found)

    def stop_at(self, moment: datetime) -> Stop | None:
        """The emergency stop in force at a moment."""
        found = [s for s in self.stops if s.record.at <= moment and (s.ended_by is None or moment < s.ended_by.at)]
        return found[-1] if found else None

    @property
    def stop(self) -> Stop | None:
        """The emergency stop in force."""
        return self.stops[-1] if self.stops and self.stops[-1].ended_by is None else None

    @cached_property
    def reigns(self) -> tuple[Reign, ...]:
        """Every stretch in production, oldest first."""
        changes = self.chain.of_kind("promoted", "rolled_back")
        ends: tuple[Record | None, ...] = (*changes[1:], None)[: len(changes)]
        found = []
        for change, end in zip(changes, ends, strict=True):
            version = change.payload["version"] if change.kind == "promoted" else change.payload["to"]
            if version is not None:
                found.append(Reign(int(version), change.at, end.at if end else None, change, end))
        return tuple(found)

    def until(self, moment: datetime) -> State:
        """The registry as the ledger told it at a moment: all records down to the last one of that time.

        What stands above a record counts with it, even where a clock that was set back dates it later.
        """
        count = max((n for n, record in enumerate(self.chain.records, 1) if record.at <= moment), default=0)
        return replace(self, chain=Chain(self.chain.records[:count]))

    def reign_at(self, moment: datetime) -> Reign | None:
        """The version in production at a moment."""
        found = [r for r in self.reigns if r.since <= moment and (r.until is None or moment < r.until)]
        return found[-1] if found else None

    def rival(self, registration: Record) -> int | None:
        """The version in production when another one was registered, which that one was compared with."""
        reign = self.reign_at(registration.at)
        return None if reign is None or reign.version == registration.payload["version"] else reign.version


def model_digest(registration: Record) -> str:
    """One digest of all model files of a registration: what a decision about it is bound to."""
    return digest_of(registration.payload["model_files"])
