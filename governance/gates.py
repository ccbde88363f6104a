"""Gates: the rules a version must pass before anyone may promote it.

A gate that cannot be measured fails. Lowering a threshold changes the policy's digest, which the
version and the ledger carry; the way to serve a version that fails is a waiver with a name, a
reason and an expiry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from core.bounds import NOT_MEASURED, Bound, measured
from core.files import canonical_json, digest_bytes
from core.params import Params

_LEAST_COMMON_DAYS = 60


class GateRule(Bound):
    """One rule: a bound on a metric, or a built-in check.

    Parameters
    ----------
    metric
        Dotted path into reports/metrics.json, for example `test.stack.rank_ic_t`.
    check
        Name of a built-in check instead of a metric; `min` is its threshold where it has one.
    severity
        `block` keeps a failing version from promotion unless waived; `warn` only tells.
    waivable
        False for rules that no one may waive, such as leakage.
    """

    metric: str | None = None
    check: Literal["invariances", "clean_tree", "lineage", "beats_champion"] | None = None
    severity: Literal["block", "warn"] = "block"
    waivable: bool = True

    @model_validator(mode="after")
    def _one_kind(self) -> GateRule:
        if (self.metric is None) == (self.check is None):
            raise ValueError(f"gate {self.name}: give exactly one of metric and check")
        if self.metric is not None and self.is_open:
            raise ValueError(f"gate {self.name}: a metric needs min, max or both")
        return self


class GovernanceRule(Params):
    """The policy of promotion.

    Parameters
    ----------
    model
        Name of the registered model.
    require_second_person
        Approvals and waivers must come from someone other than the author.
    require_signatures
        A decision counts only where it is signed with a key of keys.yaml. No part of the digest:
        how a decision is proven changes nothing in what was judged.
    longest_waiver
        Days a waiver may last.
    champion_column
        Column of reports/daily_ic.parquet that holds the stack's daily rank IC.
    """

    model: str = Field(default="layered-signals", pattern=r"^[A-Za-z0-9_-]+$")
    require_second_person: bool = True
    require_signatures: bool = False
    longest_waiver: int = Field(default=90, gt=0, le=366)
    champion_column: str = "stack"
    gates: list[GateRule] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> GovernanceRule:
        names = [gate.name for gate in self.gates]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"gate {twice[0]} is listed twice")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the policy."""
        return digest_bytes(canonical_json(self.model_dump(exclude={"require_signatures"})).encode())


@dataclass(frozen=True)
class Champion:
    """What the gates need to know of the version in production."""

    version: int
    bundle_digest: str
    daily_ic: pd.DataFrame


@dataclass(frozen=True)
class Evidence:
    """Everything the gates look at.

    Parameters
    ----------
    invariances
        Content of reports/invariances.json: ok, checked (count), failed (rows of feature, invariance), features
        (names), invariances (by name, whether all hold). Every feature of the lineage must be proven in every way.
    daily_ic
        One row a session: `date` and one column of daily rank IC a layer and the stack.
    horizon
        Sessions that an outcome spans, for the lags of the paired test.
    """

    metrics: Mapping[str, Any]
    invariances: Mapping[str, Any]
    lineage: Mapping[str, Any]
    bundle_digest: str
    daily_ic: pd.DataFrame
    champion: Champion | None = None
    horizon: int = 5


@dataclass(frozen=True)
class Verdict:
    """How a version stands to one gate."""

    gate: str
    severity: str
    passed: bool
    measured: float | None
    bound: str
    detail: str
    reason: str
    waivable: bool = True

    @property
    def blocks(self) -> bool:
        """Whether this verdict alone keeps the version from promotion."""
        return not self.passed and self.severity == "block"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Finding:
    passed: bool
    detail: str
    measured: float | None = None


_Check = Callable[[Evidence, GateRule, GovernanceRule], _Finding]


def evaluate_gates(policy: GovernanceRule, evidence: Evidence) -> list[Verdict]:
    """Judge the evidence by every gate of the policy, in the policy's order."""
    return [judge(rule, policy, evidence) for rule in policy.gates]


def judge(rule: GateRule, policy: GovernanceRule, evidence: Evidence) -> Verdict:
    """Judge the evidence by one gate."""
    finding = _measure(evidence, rule) if rule.metric else _CHECKS[str(rule.check)](evidence, rule, policy)
    return Verdict(
        gate=rule.name,
        severity=rule.severity,
        passed=finding.passed,
        measured=finding.measured,
        bound=rule.bound or "holds",
        detail=finding.detail,
        reason=rule.reason,
        waivable=rule.waivable,
    )


def _measure(evidence: Evidence, rule: GateRule) -> _Finding:
    value = measured(evidence.metrics, str(rule.metric))
    if value is None:
        return _Finding(False, f"{NOT_MEASURED}: {rule.metric} is not in reports/metrics.json or not a number")
    return _Finding(rule.holds(value), f"{rule.metric} = {value:.4g}, must be {rule.bound}", value)


def _invariances(evidence: Evidence, rule: GateRule, policy: GovernanceRule) -> _Finding:
    # Imported here: it brings the features, which no other gate needs.
    from features.invariance import INVARIANCES

    report = evidence.invariances if isinstance(evidence.invariances, Mapping) else {}
    checked, failed = report.get("checked"), report.get("failed")
    if not isinstance(checked, int) or not checked or not isinstance(failed, list):
        return _Finding(False, f"{NOT_MEASURED}: reports/invariances.json holds no check")
    if failed or report.get("ok") is not True:
        first = failed[0] if failed else {}
        detail = f"{len(failed)} of {checked} broken, first {first.get('feature')}: {first.get('invariance')}"
        return _Finding(False, detail, float(len(failed)))
    used = {feature["name"] for feature in evidence.lineage.get("features") or ()}
    proven, kinds = set(report.get("features") or ()), report.get("invariances") or {}
    lacking = [f"feature {name}" for name in sorted(used - proven)]
    lacking += [f"invariance {kind}" for kind in INVARIANCES if kinds.get(kind) is not True]
    if lacking:
        more = f" (and {len(lacking) - 1} more)" if lacking[1:] else ""
        return _Finding(False, f"{NOT_MEASURED}: reports/invariances.json says nothing of {lacking[0]}{more}")
    if checked < len(used) * len(INVARIANCES):
        detail = f"{checked} checks, {len(used)} features need {len(INVARIANCES)} each"
        return _Finding(False, f"{NOT_MEASURED}: {detail}")
    return _Finding(True, f"all {checked} checks hold", 0.0)


def _clean_tree(evidence: Evidence, rule: GateRule, policy: GovernanceRule) -> _Finding:
    git = evidence.lineage.get("git") or {}
    if not git.get("commit"):
        return _Finding(False, f"{NOT_MEASURED}: the project is not a git checkout with a commit")
    if not git.get("clean"):
        changed = git.get("changed") or ["?"]
        return _Finding(False, f"{len(changed)} uncommitted path(s), first {changed[0]}: commit, then register again")
    return _Finding(True, f"commit {git['commit'][:12]}")


def _lineage(evidence: Evidence, rule: GateRule, policy: GovernanceRule) -> _Finding:
    problems = evidence.lineage.get("problems")
    if problems is None:
        return _Finding(False, f"{NOT_MEASURED}: the lineage says nothing about its completeness")
    if problems:
        return _Finding(False, "; ".join(problems), float(len(problems)))
    return _Finding(True, "commit, lock, params, data and libraries recorded; all files are those of dvc.lock", 0.0)


def _beats_champion(evidence: Evidence, rule: GateRule, policy: GovernanceRule) -> _Finding:
    champion = evidence.champion
    if champion is None:
        return _Finding(True, "no champion to beat")
    if champion.bundle_digest == evidence.bundle_digest:
        return _Finding(True, f"is the champion (version {champion.version})")
    column = policy.champion_column
    if column not in evidence.daily_ic or column not in champion.daily_ic:
        return _Finding(False, f"{NOT_MEASURED}: daily_ic.parquet has no column {column!r}")
    pair = evidence.daily_ic[["date", column]].merge(
        champion.daily_ic[["date", column]], on="date", suffixes=("_new", "_champion")
    )
    gap = (pair[f"{column}_new"] - pair[f"{column}_champion"]).dropna().to_numpy(dtype=np.float64)
    if gap.size < _LEAST_COMMON_DAYS:
        return _Finding(False, f"{NOT_MEASURED}: {gap.size} days in common with version {champion.version}")
    # Imported here: the scoring module compiles kernels that no other gate needs.
    from models.scoring import default_lags, newey_west_t

    t = newey_west_t(gap, default_lags(gap.size, evidence.horizon)) if gap.any() else 0.0
    threshold = 0.0 if rule.min is None else rule.min
    detail = (
        f"daily rank IC {gap.mean():+.4f} against version {champion.version} on {gap.size} common days, "
        f"t = {t:.2f}, must be {rule.bound}"
    )
    return _Finding(t >= threshold, detail, t)


_CHECKS: dict[str, _Check] = {
    "invariances": _invariances,
    "clean_tree": _clean_tree,
    "lineage": _lineage,
    "beats_champion": _beats_champion,
}


@dataclass(frozen=True)
class Summary:
    """The verdicts in one word and three lists."""

    verdicts: Sequence[Verdict]
    blocking: tuple[str, ...] = field(init=False)
    warning: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocking", tuple(v.gate for v in self.verdicts if v.blocks))
        object.__setattr__(self, "warning", tuple(v.gate for v in self.verdicts if not v.passed and not v.blocks))

    @property
    def word(self) -> str:
        """`pass` or `fail`."""
        return "fail" if self.blocking else "pass"
