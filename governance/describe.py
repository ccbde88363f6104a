"""The text a reviewer reads on a version's page in MLflow."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from core.bounds import NOT_MEASURED, measured
from governance.chain import Record
from governance.people import UNVERIFIED
from governance.reports import COMPARED

_LONGEST = 5000
LONGEST_TAG = 100_000
"""Characters that MLflow takes as the value of a version's tag."""
_NOT_STORED = re.compile(r"[\x00\ud800-\udfff]")
_HEADLINES = (
    ("test rank IC", "test.stack.rank_ic"),
    ("test rank IC t-value", "test.stack.rank_ic_t"),
    ("holdout rank IC", "holdout.stack.rank_ic"),
    ("net Sharpe", "backtest.net_sharpe"),
    ("maximum drawdown", "backtest.max_drawdown"),
    ("deflated Sharpe probability, every trial counted", "overfitting.dsr_ever"),
    ("probability of backtest overfitting", "overfitting.pbo"),
)


def describe(
    registration: Record,
    metrics: Mapping[str, Any],
    experiment: str,
    champion: int | None = None,
    waivers: Sequence[Record] = (),
) -> str:
    """Markdown for a version: verdict, what to read, headline figures, gates, waivers.

    Parameters
    ----------
    experiment
        Identifier of the experiment that its source run is in, for the links.
    champion
        The version in production when this one was registered, which it is compared with.

    Returns
    -------
    str
        At most 5000 characters, MLflow's limit.
    """
    payload = registration.payload
    gates = payload["gates"]
    failed = [gate for gate in gates if not gate["passed"] and gate["severity"] == "block"]
    commit = (payload["git"]["commit"] or "none")[:12]
    head = [
        f"**Gates: {'FAIL, ' + str(len(failed)) + ' blocking' if failed else 'pass'}** · "
        f"bundle `{payload['bundle_digest'][:12]}` · commit `{commit}`"
        f"{'' if payload['git']['clean'] else ' (uncommitted changes)'} · author {payload['author']}",
        "",
    ]
    for waiver in waivers:
        note = waiver.payload
        head += [f"> **WAIVED** {note['gate']} by {waiver.actor} until {note['until']}: {note['reason']}", ""]
    head += [_links(payload, experiment, champion), ""]
    table = ["| figure | value |", "|---|---|"]
    table += [f"| {label} | {_figure(metrics, path)} |" for label, path in _HEADLINES]
    table += ["", "| gate | verdict | finding |", "|---|---|---|"]
    table += [f"| {gate['gate']} | {_word(gate)} | {gate['detail'].replace('|', '/')} |" for gate in gates]
    table += [""]
    table += [] if registration.signature else [f"_{UNVERIFIED}_"]
    return for_mlflow("\n".join(head + table), _LONGEST)


def for_mlflow(text: str, longest: int) -> str:
    """Text as MLflow and its databases take it: an earlier release recorded any, and the ledger is never rewritten."""
    stored = _NOT_STORED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return stored if len(stored) <= longest else f"{stored[: longest - 4]}\n..."


def _links(payload: Mapping[str, Any], experiment: str, champion: int | None) -> str:
    """Addresses of the source run's files, as MLflow's pages know them."""
    files = f"#/experiments/{experiment}/runs/{payload['run_id']}/artifacts"
    pages = {
        "report": "evaluation/report.html",
        "data quality": "data_quality/quality.html",
        "lineage": f"{payload['evidence_uri'].partition('/artifacts/')[2]}/lineage.json",
    }
    if champion is not None:
        pages[f"beside version {champion}"] = f"{COMPARED}/{payload['version']}-vs-{champion}/report.html"
    return "Read: " + " · ".join(f"[{name}]({files}/{path})" for name, path in pages.items())


def _word(gate: Mapping[str, Any]) -> str:
    if gate["passed"]:
        return "pass"
    return "**FAIL**" if gate["severity"] == "block" else "warn"


def _figure(metrics: Mapping[str, Any], path: str) -> str:
    value = measured(metrics, path)
    return NOT_MEASURED if value is None else f"{value:.4g}"
