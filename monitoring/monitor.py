"""Everything that is watched, measured for the version that serves, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from core.errors import DataError
from models.comparison import paired
from monitoring.cusum import cusum
from monitoring.drift import family_drift
from monitoring.realised import daily_rank_ic
from monitoring.rules import Judgement, MonitoringRule, judge
from monitoring.skill import Chart, make_chart, measure_skill
from monitoring.trust import daily_trust, measure_trust
from monitoring.upkeep import daily_universe, measure_data, measure_universe

STACK = "stack"


@dataclass(frozen=True, eq=False)
class Reference:
    """What a version promised when it was judged.

    Attributes
    ----------
    daily
        Out-of-fold daily rank IC: `stack` and a column a layer.
    columns
        Column of the served signals by the same names.
    calibration
        Out-of-fold `brier` and `ece`, as far as told.
    level
        Coverage that the intervals claim.
    horizon
        Sessions that an outcome spans.
    """

    version: int
    daily: pd.DataFrame
    columns: Mapping[str, str]
    calibration: Mapping[str, Any]
    level: float
    horizon: int


@dataclass(frozen=True, eq=False)
class Monitor:
    """What was measured.

    Attributes
    ----------
    version
        The version that the verdict is about: the one that served last.
    metrics
        Nested: `skill` by layer, `calibration`, `drift`, `universe`, `data`, `shadow`; NaN where not told.
    tables
        `daily` (date, version, layers, rolling, cusum, coverage, brier, symbols, changed), `days`, `reliability`,
        `drift`, `families`, `shadow`.
    """

    version: int
    as_of: np.datetime64
    judgement: Judgement
    metrics: dict[str, Any]
    tables: dict[str, pd.DataFrame]


def monitor(
    rows: pd.DataFrame,
    days: pd.DataFrame,
    references: Mapping[int, Reference],
    *,
    as_of: np.datetime64,
    priced: ArrayLike,
    drift: pd.DataFrame,
    shadow: Mapping[int, pd.DataFrame],
    rule: MonitoringRule,
    seed: int,
) -> Monitor:
    """Measure and judge.

    Parameters
    ----------
    rows
        Served rows with their outcomes, as `monitoring.realised.realise` gives them, and `version`, `in_sample`;
        rows in sample are shown to exist and judged by nothing.
    days, priced
        As `monitoring.upkeep.measure_data` takes them; `days` with `version` too.
    references
        By version, each that served.
    drift
        Features of the serving version, as `monitoring.drift.feature_drift` gives them.
    shadow
        Rows of each version in shadow, as `rows`.

    Raises
    ------
    DataError
        No session was served, or a version that served has no reference.
    """
    if rows.empty:
        raise DataError("monitoring: no session was served whole: run `signals infer`, then monitor")
    served = sorted({int(version) for version in rows["version"]})
    unknown = [version for version in served if version not in references]
    if unknown:
        raise DataError(f"monitoring: version {unknown[0]} served but nothing is known of what it promised")
    version = int(rows["version"].iloc[int(rows["date"].argmax())])
    reference = references[version]
    fair = rows[~rows["in_sample"]]
    current = fair[fair["version"] == version]
    ranks = {v: daily_rank_ic(fair[fair["version"] == v], references[v].columns, rule.min_names) for v in served}
    # Of a version that has gone, the page shows the stack alone.
    charts = {v: _charts(references[v], reference.columns if v == version else (STACK,), rule, seed) for v in served}
    mine = ranks[version]
    trust, reliability = measure_trust(current, reference.level, reference.calibration, rule)
    families, universe = family_drift(drift), daily_universe(rows)
    beside, paired_days = _shadow(shadow, fair, reference, rule)
    metrics: dict[str, Any] = {
        "skill": {
            name: measure_skill(mine[name], _promised(reference, name), reference.horizon, rule, charts[version][name])
            for name in reference.columns
        },
        "calibration": trust,
        "drift": _drift(drift, families),
        "universe": measure_universe(universe, rule),
        "data": measure_data(days, rows, priced, rule),
        "shadow": beside,
    }
    tables = {
        "daily": _daily(ranks, charts, references, rule).merge(_trust(fair), "outer").merge(universe, "outer"),
        "days": days,
        "reliability": reliability,
        "drift": drift,
        "families": families,
        "shadow": paired_days,
    }
    return Monitor(version, as_of, judge(rule.rules, metrics), metrics, tables)


def _charts(reference: Reference, names: Iterable[str], rule: MonitoringRule, seed: int) -> dict[str, Chart | None]:
    return {name: make_chart(_promised(reference, name), reference.horizon, rule, seed) for name in names}


def _promised(reference: Reference, name: str) -> NDArray[np.float64]:
    return reference.daily[name].to_numpy(dtype=np.float64)


def _daily(
    ranks: Mapping[int, pd.DataFrame],
    charts: Mapping[int, Mapping[str, Chart | None]],
    references: Mapping[int, Reference],
    rule: MonitoringRule,
) -> pd.DataFrame:
    """Rank ICs of every version's own days, with rolling mean, expectation and CUSUM of the stack.

    The sums begin anew with each version: a new one does not answer for the losses of the one before.
    """
    parts = []
    for version, frame in ranks.items():
        chart, series = charts[version][STACK], frame[STACK]
        known = series.dropna()
        rolling = known.rolling(rule.window_sessions, rule.least_sessions).mean().reindex(series.index)
        total = cusum(series, chart.mean, chart.slack) / chart.limit if chart and chart.limit > 0 else np.nan
        parts.append(
            frame.assign(
                version=version,
                rolling=rolling,
                expected=float(np.nanmean(_promised(references[version], STACK))),
                cusum=total,
            )
        )
    return pd.concat(parts, ignore_index=True).sort_values("date", ignore_index=True)


def _trust(fair: pd.DataFrame) -> pd.DataFrame:
    trust = daily_trust(fair)
    return trust.assign(date=trust["date"].astype("datetime64[ns]"))


def _drift(drift: pd.DataFrame, families: pd.DataFrame) -> dict[str, Any]:
    """The family that moved most, and each of them."""
    by_family = {str(row.pop("family")): row for row in families.drop(columns="most_moved").to_dict("records")}
    worst = {name: float(families[name].max()) for name in ("psi", "ks", "outside", "coverage_lost")}
    return {**worst, "features": float(len(drift)), "families": by_family}


def _shadow(
    shadow: Mapping[int, pd.DataFrame], fair: pd.DataFrame, reference: Reference, rule: MonitoringRule
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Each version in shadow against what served, on the judged days of both."""
    ours = daily_rank_ic(fair, {STACK: reference.columns[STACK]}, rule.min_names)
    lines = []
    for version, rows in sorted(shadow.items()):
        theirs = daily_rank_ic(rows[~rows["in_sample"]], {STACK: reference.columns[STACK]}, rule.min_names)
        both = theirs.merge(ours, on="date", suffixes=("_shadow", "_served"))
        difference, t, days = paired(both[f"{STACK}_shadow"], both[f"{STACK}_served"], reference.horizon)
        told = days >= rule.least_sessions
        means = (both[f"{STACK}_{who}"].mean() if told else np.nan for who in ("shadow", "served"))
        lines.append((version, days, *means, *((difference, t) if told else (np.nan, np.nan))))
    frame = pd.DataFrame(lines, columns=["version", "days", "shadow", "served", "difference", "t"])
    by_version = {f"version_{row.pop('version'):.0f}": row for row in frame.to_dict("records")}
    return {"versions": float(len(frame)), "best_t": float(frame["t"].max()), **by_version}, frame
