"""The rules that turn measurements into a verdict: fine, watch, retrain or freeze.

A rule that cannot be measured yet does not fire, and is told as such: a young version is not judged by silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from core.bounds import Bound, measured
from core.params import Params
from models.scoring import SESSIONS_PER_YEAR

Word = Literal["fine", "watch", "retrain", "freeze"]

WORDS: tuple[Word, ...] = ("fine", "watch", "retrain", "freeze")
"""Verdicts, mildest first."""


class AlarmRule(Bound):
    """A bound on one measurement, and what follows where it does not hold.

    Attributes
    ----------
    metric
        Dotted path into reports/monitor/monitor.json: metrics, for example `skill.stack.z`.
    verdict
        `watch`: look at it; `retrain`: the model no longer fits; `freeze`: do not trade on it.
    """

    metric: str = Field(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)+$")
    verdict: Literal["watch", "retrain", "freeze"]

    @model_validator(mode="after")
    def _bounded(self) -> AlarmRule:
        if self.is_open:
            raise ValueError(f"rule {self.name}: give min, max or both")
        return self


class MonitoringRule(Params):
    """How served signals are watched.

    Attributes
    ----------
    history_sessions
        Sessions before the judged one whose signals are read.
    window_sessions
        Latest judged sessions that skill and calibration are told of.
    least_sessions
        Judged sessions below which they are not told.
    drift_sessions
        Latest sessions whose features are compared with training.
    false_alarm_sessions
        Average sessions between false alarms of the CUSUM, where the signal keeps its skill.
    cusum_slack
        Slack k as a share of the expected rank IC; one half detects a complete loss fastest (Moustakides 1986).
    simulations
        Paths over which run lengths are measured.
    min_names
        Fewest names with an outcome for a session to count.
    shadow
        Versions, by number or alias, that `signals shadow` lets predict beside the champion.
    rules
        What makes the verdict.
    """

    history_sessions: int = Field(default=2 * SESSIONS_PER_YEAR, ge=20)
    window_sessions: int = Field(default=63, ge=5)
    least_sessions: int = Field(default=20, ge=5)
    drift_sessions: int = Field(default=63, ge=1)
    false_alarm_sessions: int = Field(default=5 * SESSIONS_PER_YEAR, ge=20)
    cusum_slack: float = Field(default=0.5, gt=0, lt=1)
    simulations: int = Field(default=500, ge=50)
    min_names: int = Field(default=20, ge=3)
    shadow: list[str | int] = Field(default=[])
    rules: list[AlarmRule] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> MonitoringRule:
        if self.least_sessions > self.window_sessions:
            raise ValueError(
                f"least_sessions {self.least_sessions} is above window_sessions {self.window_sessions}: nothing would "
                "ever be told"
            )
        if self.window_sessions > self.history_sessions:
            raise ValueError(
                f"window_sessions {self.window_sessions} is above history_sessions {self.history_sessions}: read more"
            )
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"rule {twice[0]} is listed twice")
        return self


@dataclass(frozen=True)
class Finding:
    """How a measurement stands to one rule; `measured` is None where it could not be told."""

    rule: str
    metric: str
    measured: float | None
    bound: str
    fired: bool
    verdict: Word
    reason: str

    @property
    def sentence(self) -> str:
        """One line for people."""
        if self.measured is None:
            return f"{self.rule}: {self.metric} is not measured yet"
        holds = "must be" if self.fired else "is within"
        return f"{self.rule}: {self.metric} = {self.measured:.4g}, {holds} {self.bound} ({self.reason})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Judgement:
    """The verdict and every rule behind it, in the order of params.yaml."""

    verdict: Word
    findings: tuple[Finding, ...]

    @property
    def fired(self) -> tuple[Finding, ...]:
        """Rules that do not hold, the gravest first."""
        broken = [finding for finding in self.findings if finding.fired]
        return tuple(sorted(broken, key=lambda finding: -WORDS.index(finding.verdict)))

    @property
    def unmeasured(self) -> tuple[Finding, ...]:
        """Rules whose measurement could not be told."""
        return tuple(finding for finding in self.findings if finding.measured is None)

    @property
    def sentence(self) -> str:
        """The verdict in plain words."""
        measured = len(self.findings) - len(self.unmeasured)
        told = f"{measured} of {len(self.findings)} rules could be measured"
        if not self.fired:
            return f"fine: no rule fired; {told}"
        return f"{self.verdict}: {self.fired[0].sentence}; {len(self.fired)} fired, {told}"


def judge(rules: Sequence[AlarmRule], metrics: Mapping[str, Any]) -> Judgement:
    """Hold measurements against rules; the verdict is the gravest of those that fire.

    Parameters
    ----------
    metrics
        Nested mappings of numbers; NaN, None and absent ones are not measured, infinite ones hold no rule.
    """
    findings = tuple(_hold(rule, metrics) for rule in rules)
    worst = max((WORDS.index(finding.verdict) for finding in findings if finding.fired), default=0)
    return Judgement(WORDS[worst], findings)


def _hold(rule: AlarmRule, metrics: Mapping[str, Any]) -> Finding:
    value = measured(metrics, rule.metric)
    return Finding(
        rule=rule.name,
        metric=rule.metric,
        measured=value,
        bound=rule.bound,
        fired=value is not None and not rule.holds(value),
        verdict=rule.verdict,
        reason=rule.reason,
    )
