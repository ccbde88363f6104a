"""What `signals monitor` does: read what was served, what became of it and what was promised; judge and report.

It moves no alias, trains nothing and writes nothing but reports/monitor.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.checkout import PARAMS
from core.errors import BundleError, DataError, GovernanceError, SignalsError
from core.files import differences, digest_file, read_json, write_json, write_text
from core.params import parse
from features.panel import Panel
from features.target import TargetRule, make_target
from features.universe import UniverseRule
from governance.evidence import stored
from governance.places import resolve
from governance.promotion import version_number
from governance.state import State
from governance.trust import state_now
from models.bundle import read_manifest
from models.meta import layer_column
from monitoring.drift import FEATURES, feature_drift
from monitoring.exposition import exposition
from monitoring.monitor import STACK, Monitor, Reference, monitor
from monitoring.realised import realise
from monitoring.rules import Finding, MonitoringRule
from pipelines.asof import read_as_of
from pipelines.console import Printer
from pipelines.day import read_day, resolve_session
from pipelines.history import read_history
from pipelines.layout import MONITOR, SHADOW, SIGNALS
from pipelines.params import Settings, load_settings, parse_inputs
from reporting.monitor import monitor_page
from sources.base import Source
from sources.calendar import sessions

_NOT_LAYERS = ("date", "holdout", "part", "regime", "net", "cost", "turnover")


@dataclass(frozen=True, eq=False)
class Promise:
    """A version's evidence: what it was judged by, how its outcomes are made, and where its bundle lies."""

    reference: Reference
    universe: UniverseRule
    target: TargetRule
    bundle: Path


def watch(root: Path, as_of: str | None = None, strict: bool = False, features: bool = True) -> Monitor:
    """Judge the served signals; write the page, the figures and the metrics; print the verdict.

    Parameters
    ----------
    as_of
        Session at whose close is judged, YYYY-MM-DD; None: the last one of the data.
    strict
        Whether the verdict `freeze` is an error.
    features
        Whether to compute the latest features and compare them with training.

    Raises
    ------
    DataError
        Nothing was served, or the data does not reach that far.
    GovernanceError
        A version that served is not in the ledger, or its evidence was changed; with `strict`, the verdict is freeze.
    """
    settings = load_settings(root / PARAMS)
    result, notes = observe(root, settings, as_of, features)
    write_reports(root, result, notes)
    _show(result, notes)
    if strict and result.judgement.verdict == "freeze":
        raise GovernanceError(f"the served signals should not be traded: {result.judgement.fired[0].sentence}")
    return result


def observe(
    root: Path, settings: Settings, as_of: str | None = None, features: bool = True
) -> tuple[Monitor, list[str]]:
    """Everything that is watched, and notes on what could not be; nothing is written (see `watch`)."""
    rule, source = settings.monitoring, settings.open_source()
    session = resolve_session(as_of or "latest", source)
    history = read_history(root / SIGNALS, session, rule.history_sessions)
    if history.rows.empty:
        raise DataError(f"{SIGNALS}/: no session was served whole, first: {history.days['problem'].iloc[0]}")
    state = state_now(root, settings.governance)
    versions = sorted({int(version) for version in history.rows["version"]})
    promises = {version: promise(root, state, version) for version in versions}
    serving = promises[int(history.rows["version"].iloc[-1])]
    panels = _Outcomes(source, history.rows["date"].min(), session)
    parts: list[pd.DataFrame] = [
        panels.realise(history.rows[history.rows["version"] == version], one) for version, one in promises.items()
    ]
    rows = pd.concat(parts, ignore_index=True).sort_values(["date", "symbol"], ignore_index=True)
    shadow, notes = _shadows(root, settings, session, serving, panels)
    notes += history.notes
    drift = pd.DataFrame(columns=FEATURES)
    if features:
        try:
            drift = _drift(serving.bundle, source, session, rule)
        except SignalsError as error:
            notes.append(f"features were not computed: {' '.join(str(error).split())}")
    result = monitor(
        rows,
        history.days,
        {version: one.reference for version, one in promises.items()},
        as_of=session,
        priced=panels.priced(serving),
        drift=drift,
        shadow=shadow,
        rule=rule,
        seed=settings.seed,
    )
    return result, notes


def promise(root: Path, state: State, version: int) -> Promise:
    """What a registered version promised, from its stored evidence, checked against the ledger.

    Raises
    ------
    GovernanceError
        The ledger knows no such version, or a stored file is missing or was changed.
    DataError
        It was registered without a daily record.
    """
    found = stored(root, state, version)
    payload = state.registration(version).payload
    metrics = read_json(resolve(payload["evidence_uri"], root) / "metrics.json")
    layers = [str(name) for name in found.daily.columns if name not in (*_NOT_LAYERS, STACK)]
    return Promise(
        reference=Reference(
            version=version,
            daily=found.daily,
            columns={STACK: "signal", **{name: layer_column(name) for name in layers}},
            calibration=metrics.get("calibration", {}),
            level=float(found.params["stack"]["level"]),
            horizon=found.horizon,
        ),
        universe=parse(UniverseRule, found.params.get("universe") or {}, "universe"),
        target=parse(TargetRule, found.params["target"], "target"),
        bundle=resolve(payload["bundle_uri"], root),
    )


class _Outcomes:
    """Outcomes by the rules of each version, from prices that reach no further than the judged session."""

    def __init__(self, source: Source, first: pd.Timestamp, session: np.datetime64) -> None:
        self._source, self._first, self._session = source, first, session
        self._panels: dict[str, tuple[Panel, NDArray[np.float64]]] = {}

    def realise(self, rows: pd.DataFrame, promised: Promise) -> pd.DataFrame:
        """Rows, none before the first session, with their outcomes as the version's target defines them."""
        panel, residual = self._panel(promised)
        kept = rows[rows["date"] >= self._first]
        return realise(kept, panel.dates, panel.symbols, residual, self._session, promised.target.horizon)

    def priced(self, promised: Promise) -> NDArray[np.int64]:
        """Symbols with a price, a session, from the first to the judged one."""
        panel, _ = self._panel(promised)
        return np.isfinite(panel["close"][panel.dates >= self._first.to_datetime64()]).sum(axis=1)

    def _panel(self, promised: Promise) -> tuple[Panel, NDArray[np.float64]]:
        key = f"{promised.universe.model_dump_json()} {promised.target.model_dump_json()}"
        if key not in self._panels:
            first = self._first.date()
            panel = read_prices(self._source, promised.universe, promised.target, first, self._session)
            self._panels[key] = panel, make_target(panel, promised.target).residual
        return self._panels[key]


def read_prices(
    source: Source, universe: UniverseRule, target: TargetRule, first: datetime.date, session: np.datetime64
) -> Panel:
    """The panel of prices and sectors that outcomes from `first` on need, up to `session`.

    Reaches back what betas, universe and cleaning look back on, so that outcomes are those of the training path.
    """
    # The return of a beta's first session needs the close before it, and its market return the universe before that.
    reach = len(sessions(first, session)) + target.beta_window + 2
    return read_as_of(source, session, reach, universe, {"prices": None, "securities": None}).panel


def _drift(bundle: Path, source: Source, session: np.datetime64, rule: MonitoringRule) -> pd.DataFrame:
    """The latest sessions' features against the bundle's profile."""
    manifest = read_manifest(bundle)
    read = ("profile.json", "params.json", "features.json")
    expected = {part: manifest["files"].get(part, "") for part in read}
    found = {part: digest_file(bundle / part) for part in read if (bundle / part).is_file()}
    if problems := differences(expected, found):
        raise BundleError(f"{bundle}: {problems[0]}: restore mlruns/ from a backup")
    families = {item["name"]: item["family"] for item in read_json(bundle / "features.json")}
    inputs = parse_inputs(read_json(bundle / "params.json"))
    rows = read_day(source, inputs, manifest["features"], session, rule.drift_sessions).rows
    return feature_drift(rows.X, rows.session, rows.features, families, read_json(bundle / "profile.json"))


def _shadows(
    root: Path, settings: Settings, session: np.datetime64, serving: Promise, panels: _Outcomes
) -> tuple[dict[int, pd.DataFrame], list[str]]:
    """Rows of every version in shadow, judged by the serving version's target; and why some are left out."""
    found: dict[int, pd.DataFrame] = {}
    notes: list[str] = []
    for name in settings.monitoring.shadow:
        try:
            version = version_number(root, settings.governance, str(name))
            history = read_history(root / SHADOW / f"version={version}", session, settings.monitoring.history_sessions)
            broken = history.days[history.days["state"] == "broken"]
            if len(broken):
                notes.append(f"shadow version {version}: {len(broken)} broken days, first {broken['problem'].iloc[0]}")
            if len(history.rows):
                found[version] = panels.realise(history.rows, serving)
        except SignalsError as error:
            notes.append(f"shadow {name!r} is left out: {' '.join(str(error).split())}")
    return found, notes


def write_reports(root: Path, result: Monitor, notes: list[str]) -> None:
    """Page, figures and metrics, each whole or not at all.

    File by file and not the folder at once: a collector watches the folder, which must never be gone.
    """
    judgement, folder = result.judgement, root / MONITOR
    faults = [f"{one.metric} is not measured, so {one.rule} cannot fire" for one in judgement.unmeasured]
    page = monitor_page(
        f"Version {result.version}, judged at the close of {result.as_of}",
        judgement.verdict,
        judgement.sentence,
        pd.DataFrame([_line(one) for one in judgement.findings]),
        result.metrics,
        result.tables,
        notes,
    )
    write_text(folder / "index.html", page)
    write_json(
        folder / "monitor.json",
        {
            "as_of": str(result.as_of),
            "version": result.version,
            "verdict": judgement.verdict,
            "sentence": judgement.sentence,
            "fired": [one.rule for one in judgement.fired],
            "findings": [one.to_dict() for one in judgement.findings],
            "metrics": result.metrics,
            "notes": [*notes, *faults],
            "tables": {name: _plain(table) for name, table in sorted(result.tables.items())},
        },
    )
    write_text(folder / "metrics.prom", exposition(result))


def _line(finding: Finding) -> dict[str, Any]:
    state = "fired" if finding.fired else "not measured" if finding.measured is None else "holds"
    return {
        "rule": finding.rule,
        "metric": finding.metric,
        "measured": finding.measured,
        "bound": finding.bound,
        "state": state,
        "verdict": finding.verdict,
        "reason": finding.reason,
    }


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    shown = table.copy()
    for name in shown.columns:
        if pd.api.types.is_datetime64_any_dtype(shown[name]):
            shown[name] = shown[name].dt.strftime("%Y-%m-%d")
    return [{str(key): value for key, value in row.items()} for row in shown.to_dict("records")]


def _show(result: Monitor, notes: list[str]) -> None:
    printer, judgement = Printer(), result.judgement
    style = {"fine": "bold green", "freeze": "bold red"}.get(judgement.verdict, "bold yellow")
    printer.line(f"version {result.version} at the close of {result.as_of}")
    for note in notes:
        printer.warning(note)
    rows = [
        [line["rule"], line["state"], "" if line["measured"] is None else f"{line['measured']:.4g}", line["bound"]]
        for line in map(_line, judgement.findings)
    ]
    printer.table("Rules", ["rule", "state", "measured", "must be"], rows)
    printer.line(judgement.sentence, style)
    nexts: Mapping[str, str] = {
        "retrain": "next: signals retrain",
        "freeze": "next: do not trade these signals; signals rollback --reason TEXT restores the champion before",
    }
    if judgement.verdict in nexts:
        printer.line(nexts[judgement.verdict])
    printer.line(f"report: {(MONITOR / 'index.html').as_posix()}")
