"""The verdict on an evaluation in plain words: never better than its weakest piece of evidence.

References
----------
Hansen, P. R. (2005). A test for superior predictive ability. Journal of Business and Economic Statistics 23(4).
Harvey, C. R., Liu, Y. and Zhu, H. (2016). ... and the cross-section of expected returns. Review of
Financial Studies 29(1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reporting.page import Verdict

# With so many signals tried in the field, t > 3 is the bar for a new one (Harvey, Liu and Zhu 2016).
SIGNIFICANT_T = 3.0
LUCK_RULED_OUT = 0.95
# One planned look, as the holdout is or the stack against its best layer: two standard errors.
TOLD_APART = 2.0
SUPERIOR_P = 0.05

# Realised coverage may differ this much from the level claimed.
_COVERAGE_TOLERANCE = 0.03

_Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    """One sentence of the verdict and whether the evidence supports the product."""

    holds: bool
    text: str


def number(block: _Metrics | None, key: str) -> float:
    """A figure of a block, NaN where it is missing or null."""
    value = (block or {}).get(key)
    return float("nan") if value is None else float(value)


def told_p(p: float) -> str:
    """A p-value of a bootstrap, which cannot tell zero."""
    return f"p = {p:.3f}" if p >= 0.001 else "p below 0.001"


def claims_of(metrics: _Metrics) -> list[Claim]:
    """What the evidence says, one question at a time; an unknown figure supports nothing."""
    test, holdout = metrics["test"]["stack"], metrics["holdout"].get("stack", {})
    money, luck, sure = metrics["backtest"], metrics["overfitting"], metrics["calibration"]
    skill, t = number(test, "rank_ic"), number(test, "rank_ic_t")
    claims = []
    if skill > 0 and t >= SIGNIFICANT_T:
        text = f"It ranks stocks better than chance: rank IC {skill:.4f}, t = {t:.1f} over {test['days']:,} days."
    elif t > 0:
        text = f"No proof of skill: rank IC {skill:.4f}, t = {t:.1f}; {SIGNIFICANT_T:.0f} is the bar."
    elif t <= 0:
        text = f"No skill seen out of sample: rank IC {skill:.4f}, t = {t:.1f}."
    else:
        text = "No proof of skill: its rank IC or its t-value is not known."
    claims.append(Claim(skill > 0 and t >= SIGNIFICANT_T, text))

    held, held_t, held_days = number(holdout, "rank_ic"), number(holdout, "rank_ic_t"), int(holdout.get("days", 0))
    if not held_days:
        claims.append(Claim(False, "There is no final holdout: nothing was kept away from every choice made."))
    elif held > 0:
        share = held / skill if skill > 0 else float("nan")
        kept = f", {share:.0%} of the earlier figure" if np.isfinite(share) else ""
        text = f"The final holdout agrees in sign: rank IC {held:.4f}{kept}, t = {held_t:.1f} over {held_days:,} days."
        proven = held_t >= TOLD_APART
        if not proven:
            text += f" Alone it proves nothing: t is below {TOLD_APART:.0f}."
        claims.append(Claim(proven, text))
    else:
        text = f"The final holdout does not confirm it: rank IC {held:.4f}, t = {held_t:.1f} over {held_days:,} days."
        claims.append(Claim(False, text))

    net, gross, earned = (number(money, key) for key in ("net_sharpe", "gross_sharpe", "net_return"))
    if net > 0:
        text = f"The book earned {earned:.1%} a year after costs, Sharpe {net:.2f} (before costs {gross:.2f})."
    else:
        text = f"The book lost money after costs: {earned:.1%} a year, Sharpe {net:.2f} (before costs {gross:.2f})."
    claims.append(Claim(net > 0, text))

    deflated, trials = number(luck, "dsr"), int(luck.get("trials", 0))
    if deflated >= LUCK_RULED_OUT:
        text = f"Luck is an unlikely explanation, {trials} trials counted: deflated Sharpe {deflated:.2f}."
    else:
        text = f"Luck is not ruled out, {trials} trials counted: deflated Sharpe {deflated:.2f}, the bar is 0.95."
    claims.append(Claim(deflated >= LUCK_RULED_OUT, text))

    claims.append(_superior(luck))
    claims.extend(_above_layers(metrics))

    covered, level, worst = (number(sure, key) for key in ("coverage", "level", "worst_250d_coverage"))
    honest = abs(covered - level) <= _COVERAGE_TOLERANCE
    text = f"Its {level:.0%} intervals held {covered:.1%} of outcomes, {worst:.1%} in the worst year."
    claims.append(Claim(honest, text if honest else f"Its certainty is misstated. {text}"))
    return claims


def _superior(luck: _Metrics) -> Claim:
    """Whether the best of the stack and its layers earned something in the holdout that luck does not explain."""
    p = number(luck, "spa_p")
    best = "the best of the stack and its layers"
    if not np.isfinite(p):
        return Claim(False, f"Whether {best} beats cash in the holdout cannot be told: there are too few days.")
    if p < SUPERIOR_P:
        return Claim(True, f"In the holdout {best} beats cash after costs: {told_p(p)}, all of them counted.")
    return Claim(False, f"In the holdout {best} does not provably beat cash after costs: {told_p(p)}, not below 0.05.")


def _above_layers(metrics: _Metrics) -> list[Claim]:
    """Whether stacking pays: the stack against the layer that did best. Nothing to say of a single layer."""
    scores = {name: number(score, "rank_ic") for name, score in metrics["test"].items() if name != "stack"}
    if len(scores) < 2:
        return []
    best = max(scores, key=lambda name: (np.nan_to_num(scores[name], nan=-np.inf), name))
    lead = (metrics.get("paired") or {}).get(best)
    gap, t = number(lead, "difference"), number(lead, "difference_t")
    told = f"rank IC {gap:+.4f} day by day, t = {t:.1f}"
    if not np.isfinite(t):
        return [Claim(False, f"Whether the stack is better than its best layer ({best}) cannot be told.")]
    if t >= TOLD_APART:
        return [Claim(True, f"The stack ranks stocks better than its best layer, {best}: {told}.")]
    if t <= -TOLD_APART:
        return [Claim(False, f"The stack ranks stocks worse than its best layer, {best}: {told}.")]
    return [Claim(False, f"The stack is not significantly better than its best layer, {best}: {told}.")]


def headline(claims: Sequence[Claim], gates: Sequence[Mapping[str, Any]]) -> tuple[str, Verdict]:
    """One sentence that is never better than the weakest piece of evidence."""
    skilled, _, profitable, *_ = (claim.holds for claim in claims)
    missing = sum(not claim.holds for claim in claims)
    failed = [str(gate["gate"]) for gate in gates if not gate["passed"]]
    blocking = [str(g["gate"]) for g in gates if not g["passed"] and g.get("severity", "block") == "block"]
    tail = f" Failed gates: {', '.join(failed)}." if failed else ""
    if not skilled:
        return f"Not proven: the signal shows no reliable skill out of sample.{tail}", "bad"
    if not profitable:
        return f"Skill without profit: it ranks stocks better than chance, but costs take all of it.{tail}", "bad"
    if blocking:
        return f"Not to be promoted as it is.{tail}", "bad"
    if missing or failed:
        questions = f" {missing} of {len(claims)} questions below are answered with no." if missing else ""
        return f"Promising, with reservations.{questions}{tail}", "warn"
    return "Every question below is answered with yes on data the model had not seen.", "good"
