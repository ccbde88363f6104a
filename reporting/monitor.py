"""How the served signals do, as a page for the operator: the verdict first, then what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reporting.figures import reliability as reliability_figure
from reporting.page import Card, Page, Verdict, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GREY = "#8a8f98"
_BANNERS: dict[str, Verdict] = {"fine": "good", "watch": "warn", "retrain": "warn", "freeze": "bad"}
_SKILL = [
    "layer", "days", "rank_ic", "expected", "difference", "z", "t", "hit_rate", "cusum_ratio",
]  # fmt: skip
_SKILL_FORMATS = {
    "days": ".0f", "rank_ic": ".4f", "expected": ".4f", "difference": "+.4f", "z": "+.1f", "t": "+.1f",
    "hit_rate": ".0%", "cusum_ratio": ".2f",
}  # fmt: skip
_FAMILY_FORMATS = {"psi": ".3f", "ks": ".3f", "outside": ".1%", "coverage_lost": ".1%"}
_FEATURE_FORMATS = {"coverage": ".1%", "trained_coverage": ".1%", "psi": ".3f", "ks": ".3f", "outside": ".1%"}
_SHADOW_FORMATS = {"shadow": ".4f", "served": ".4f", "difference": "+.4f", "t": "+.1f"}
_SHOWN_FEATURES = 15


def monitor_page(
    subtitle: str,
    verdict: str,
    sentence: str,
    findings: pd.DataFrame,
    metrics: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    notes: Sequence[str] = (),
) -> str:
    """Self-contained HTML of what `signals monitor` measured.

    Parameters
    ----------
    verdict, sentence
        `fine`, `watch`, `retrain` or `freeze`, and the same in plain words.
    findings
        `rule, metric, measured, bound, state, verdict, reason` of every rule.
    metrics, tables
        As `monitoring.monitor.Monitor` holds them.
    notes
        What could not be read or measured, and why.
    """
    page = Page("Served signals", subtitle)
    page.banner(sentence[:1].upper() + sentence[1:] + ".", _BANNERS[verdict])
    for note in notes:
        page.banner(note[:1].upper() + note[1:] + ".", "warn")
    page.section("In short").cards(_cards(metrics))
    page.table(findings, "Every rule of params.yaml: monitoring.", verdicts={"state": _state})
    _skill(page, metrics, tables)
    _calibration(page, metrics["calibration"], tables)
    _drift(page, tables)
    _upkeep(page, tables)
    page.section(
        "Versions in shadow",
        "Versions that predict beside the champion and are never served, on the judged days of both; t allows for "
        "overlapping outcomes (Newey-West).",
    )
    page.table(tables["shadow"], formats=_SHADOW_FORMATS, empty="None runs: params.yaml: monitoring.shadow names them.")
    return page.render()


def _cards(metrics: Mapping[str, Any]) -> list[Card]:
    skill, trust = metrics["skill"]["stack"], metrics["calibration"]
    data, universe = metrics["data"], metrics["universe"]
    return [
        Card("Rank IC, window", skill["rank_ic"], f"expected {skill['expected']:.4f}", None, ".4f"),
        Card("Deviations from expectation", skill["z"], f"{skill['days']:.0f} judged sessions", None, "+.1f"),
        Card("CUSUM over its limit", skill["cusum_ratio"], "alarm above 1", None, ".2f"),
        Card("Coverage of intervals", trust["coverage"], f"claimed {trust['level']:.0%}", None, ".1%"),
        Card("Largest family index (PSI)", metrics["drift"]["psi"], "0.25 is a major shift", None, ".3f"),
        Card("Symbols served last", universe["symbols"], f"usual {universe['usual']:.0f}", None, ".0f"),
        Card("Sessions without signals", data["missing"] + data["broken"], f"of {data['sessions']:.0f}", None, ".0f"),
    ]


def _skill(page: Page, metrics: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> None:
    page.section(
        "Does it still rank stocks?",
        "Daily rank IC of what was served, once outcomes are known, against the out-of-fold record of its version. "
        "z measures the difference, t the rank IC itself, both by the noise of that record.",
    )
    lines = pd.DataFrame([{"layer": name, **line} for name, line in metrics["skill"].items()])[_SKILL]
    page.table(lines, "The latest window; CUSUM over all judged sessions.", formats=_SKILL_FORMATS)
    page.figure(rolling_skill(tables["daily"]), "Rolling mean daily rank IC of the stack, and what was expected.")
    page.figure(control_chart(tables["daily"]), "CUSUM of the stack over its limit; it begins anew with each version.")
    stack = metrics["skill"]["stack"]
    if not np.isnan(stack["run_length"]):
        page.paragraph(
            f"Measured on the resampled out-of-fold record: {stack['run_length']:,.0f} sessions on average between "
            f"false alarms, {stack['run_length_lost']:,.0f} to an alarm where all skill is gone."
        )


def _calibration(page: Page, trust: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> None:
    page.section(
        "Do its probabilities come true?",
        "Share of outcomes inside the interval, session by session, and the stated probability of a wrong sign "
        "against how often it was wrong.",
    )
    page.table(pd.DataFrame([trust]), formats={name: ".4f" for name in trust if name != "days"} | {"days": ".0f"})
    page.figure(daily_coverage(tables["daily"], trust["level"]), "Coverage a session.")
    if len(tables["reliability"]):
        page.figure(reliability_figure(tables["reliability"]), "Stated against realised, latest window.")


def _drift(page: Page, tables: Mapping[str, pd.DataFrame]) -> None:
    page.section(
        "Do the features look as they did in training?",
        "PSI and the Kolmogorov-Smirnov distance against the quantiles of training; outside is the share beyond the "
        "first and the last percent. A value that all symbols share has no index. Most layers read ranks, which a "
        "move of all values leaves alone: a reason to look, not to stop.",
    )
    page.table(tables["families"], "Medians by family.", formats=_FAMILY_FORMATS, empty="Features were not computed.")
    moved = tables["drift"].sort_values(["psi", "feature"], ascending=[False, True]).head(_SHOWN_FEATURES)
    page.table(moved, "The features that moved most.", formats=_FEATURE_FORMATS, empty="")


def _upkeep(page: Page, tables: Mapping[str, pd.DataFrame]) -> None:
    page.section("Was it served every session, and for whom?")
    page.figure(universe_size(tables["daily"]), "Symbols served each session.")
    faults = tables["days"][tables["days"]["state"] != "served"].drop(columns=["in_sample", "warnings"])
    page.table(faults.tail(_SHOWN_FEATURES), "Latest sessions without usable signals.", empty="None is missing.")


def _state(value: Any) -> Verdict | None:
    words: dict[str, Verdict] = {"holds": "good", "fired": "bad", "not measured": "warn"}
    return words.get(str(value))


def rolling_skill(daily: pd.DataFrame) -> Figure:
    """Rolling rank IC of each version, and its expectation."""
    figure, axes = new_figure()
    for version, rows in daily.dropna(subset="version").groupby("version"):
        line = axes.plot(rows["date"], rows["rolling"], label=f"version {version:.0f}")[0]
        axes.plot(rows["date"], rows["expected"], color=line.get_color(), linewidth=1, linestyle="--")
    axes.axhline(0.0, color=_GREY, linewidth=1)
    if len(axes.get_lines()) > 1:
        axes.legend(loc="upper left")
    axes.set_ylabel("rank IC, rolling")
    return figure


def control_chart(daily: pd.DataFrame) -> Figure:
    """CUSUM over its limit."""
    figure, axes = new_figure(height=2.2)
    for _, rows in daily.dropna(subset="version").groupby("version"):
        axes.plot(rows["date"], rows["cusum"])
    axes.axhline(1.0, color="#c7566f", linewidth=1, linestyle="--")
    axes.set_ylabel("CUSUM / limit")
    return figure


def daily_coverage(daily: pd.DataFrame, level: float) -> Figure:
    """Share of outcomes inside their interval, a session."""
    figure, axes = new_figure(height=2.2)
    axes.plot(daily["date"], daily["coverage"].astype(float) * 100, marker="o", markersize=2, linestyle="none")
    axes.axhline(level * 100, color=_GREY, linewidth=1, linestyle="--")
    axes.set_ylabel("coverage, %")
    return figure


def universe_size(daily: pd.DataFrame) -> Figure:
    """Symbols served."""
    figure, axes = new_figure(height=2.0)
    axes.plot(daily["date"], daily["symbols"])
    axes.set_ylim(bottom=0)
    axes.set_ylabel("symbols")
    return figure
