"""The out-of-sample verdict on a stack: what the gates read and what the report shows.

Nothing here is fitted. Test days whose outcomes reach into the final holdout are left out of the
test figures, so that the two parts share no day; stability, calibration and the backtest look at
every out-of-sample day.

References
----------
Bailey, D. H. and López de Prado, M. (2014). The deflated Sharpe ratio. Journal of Portfolio Management 40(5).
Hansen, P. R. (2005). A test for superior predictive ability. Journal of Business and Economic Statistics 23(4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from core.errors import DataError
from core.params import Params
from models import overfitting
from models.calibration import brier, ece, log_loss, reliability
from models.comparison import daily_record, stack_minus_layers
from models.scoring import MIN_NAMES, SESSIONS_PER_YEAR, decile_means, decile_spread, rank_ic, rank_ic_by, score
from models.stability import UNKNOWN_REGIME, VolatilityRule, market_regimes, size_terciles, stability

_PREFIX = "signal_"
CALIBRATION_BINS = 20
_TOP_FEATURES = 15
# Sectors known for a smaller share of the rows say nothing about the signal.
_LEAST_SECTORS_KNOWN = 0.5
# Bootstrap blocks must outlast the overlap, and leave enough of them in a year.
_OVERLAPS_OF_BLOCKS = 2
_LADDER = ["fold", "rung", "against", "difference", "t", "sessions", "chosen"]
_COMPARISON = ["rung", "level", "rank_ic", "t", "days", "against", "difference", "difference_t", "chosen"]
_PATHS = ["rung", "path", "rank_ic", "rank_ic_t", "sharpe"]
_WEIGHTS = ["fold", "layer", "weight", "sessions"]


class EvaluationRule(Params):
    """How the verdict is taken.

    Attributes
    ----------
    cost_bps
        One-way cost of the decile spreads, basis points.
    min_names, min_names_group
        Fewest names on a day for its rank IC to count: overall, and inside a sector or a third by size.
    coverage_sessions
        Window of the worst realised coverage.
    pbo_blocks
        Block counts over which the probability of overfitting is averaged.
    bootstrap_seed
        Of the draws of the holdout's test of superior predictive ability.
    regimes
        How the market's regimes are told apart.
    """

    cost_bps: float = Field(default=10.0, ge=0)
    min_names: int = Field(default=MIN_NAMES, ge=3)
    min_names_group: int = Field(default=5, ge=3)
    coverage_sessions: int = Field(default=250, ge=20)
    pbo_blocks: list[int] = Field(default=[8, 12, 16], min_length=1)
    bootstrap_seed: int = Field(default=7, ge=0)
    regimes: VolatilityRule = VolatilityRule()


@dataclass(frozen=True)
class Evaluation:
    """Figures and tables of one evaluation.

    Attributes
    ----------
    metrics
        Nested by `test`, `holdout` (per `stack` and layer), `paired` (stack minus layer), `overfitting`,
        `backtest`, `calibration` and `stability`; NaN where a figure cannot be told. Shares lie in [0, 1].
    tables
        `scores`, `daily_ic`, `daily` (what a later version is compared with), `paired`, `by_year`,
        `by_sector`, `by_size`, `by_regime`, `equity`, `calibration`, `coverage`, `deciles`, `trials`; as
        handed over, empty where they were not: `ladder`, `comparison`, `paths`, `weights`, `attribution`,
        `seeds`.
    """

    metrics: dict[str, Any]
    tables: dict[str, pd.DataFrame]


def evaluate(
    signals: pd.DataFrame,
    outcomes: pd.DataFrame,
    *,
    trials: Mapping[str, pd.DataFrame],
    equity: pd.DataFrame,
    backtest: Mapping[str, Any],
    market: pd.Series,
    horizon: int,
    level: float,
    rule: EvaluationRule | None = None,
    paths: pd.DataFrame | None = None,
    rung: str | None = None,
    ladder: pd.DataFrame | None = None,
    comparison: pd.DataFrame | None = None,
    weights: pd.DataFrame | None = None,
    importance: Mapping[str, Mapping[str, float]] | None = None,
    seeds: Mapping[str, Sequence[float]] | None = None,
) -> Evaluation:
    """Judge the out-of-fold predictions of a stack and of its layers.

    Parameters
    ----------
    signals
        Out-of-sample rows: `date, symbol, holdout, signal, expected_return, interval_low,
        interval_high, p_wrong` and one `signal_<layer>` a layer.
    outcomes
        `date, symbol, forward` (residual), `raw` (plain forward return), `sector`; one row a key; where
        it is known also `size`, any measure known at the date, of which only the order within a day counts.
    trials
        Per layer the daily returns of every trial ever run: `date` and one column a trial.
    equity, backtest
        Daily frame (`date`, `net`, ...) and summary of the stack's net backtest.
    market
        Equal-weight market return by date, from the start of the data.
    horizon, level
        Holding period in sessions; coverage that the intervals claim.
    paths
        Combinatorial out-of-sample paths: `rung, path, rank_ic, rank_ic_t, sharpe`.
    rung
        The rung of the stack that serves; where it is None, the one that `comparison` marks `chosen`.
    ladder, comparison, weights
        Evidence of the stack's rungs and the layers' weights, as `models.stack.StackResult` holds them.
    importance
        Per layer the share of the fit that each feature bears.
    seeds
        Per layer the rank IC, on its validation span, of each fit that differs by its seed alone.

    Raises
    ------
    DataError
        A column is missing, a key repeats, or no row has an outcome.
    """
    rule = rule or EvaluationRule()
    rows = _join(signals, outcomes)
    dates, session = np.unique(rows["date"].to_numpy("datetime64[D]"), return_inverse=True)
    columns = {"stack": "signal"} | {
        name.removeprefix(_PREFIX): name for name in sorted(rows.columns) if name.startswith(_PREFIX)
    }
    holdout = rows["holdout"].to_numpy(dtype=bool)
    first_holdout = session[holdout].min() if holdout.any() else len(dates)
    parts = {"test": session + horizon + 1 <= first_holdout, "holdout": holdout}
    metrics: dict[str, Any] = {
        part: {name: _score(rows, column, session, mask, horizon, rule) for name, column in columns.items()}
        for part, mask in parts.items()
    }
    daily = _daily_ic(rows, columns, session, dates, rule)
    regimes = market_regimes(market, rule.regimes)
    told = regimes.reindex(daily["date"]).fillna(UNKNOWN_REGIME)
    known = rows["sector"].notna()
    sector = rows["sector"].astype(object).where(known & (known.mean() >= _LEAST_SECTORS_KNOWN), None)
    inside = rank_ic_by(rows["signal"], rows["forward"], session, sector, rule.min_names_group)
    sizes = None
    if "size" in rows:
        thirds = size_terciles(rows["size"], session)
        sizes = rank_ic_by(rows["signal"], rows["forward"], session, thirds, rule.min_names_group)
    daily_stack = daily["stack"].set_axis(daily["date"])
    metrics["stability"], tables = stability(daily_stack, told.to_numpy(), inside, horizon, sizes)
    metrics["calibration"], coverage = _calibration(rows, session, dates, level, rule)
    figures, tables["trials"] = overfitting.judge_luck(trials, equity["net"], horizon, rule.pbo_blocks)
    tables |= _handed_over(paths, ladder, comparison, weights, importance, seeds)
    metrics["overfitting"] = {
        **figures,
        **_superior(rows, columns, session, holdout, horizon, rule),
        "paths_worst_ic": _worst_path(tables["paths"], rung or _chosen(tables["comparison"])),
    }
    record = daily_record(daily, equity, dates, first_holdout, horizon, regimes)
    held = overfitting.sharpe(record.loc[record["part"] == "holdout", "net"]) * np.sqrt(SESSIONS_PER_YEAR)
    metrics["backtest"] = {**backtest, "holdout_net_sharpe": held}
    tables["paired"] = stack_minus_layers(record, [name for name in columns if name != "stack"], horizon)
    against = tables["paired"][tables["paired"]["part"] == "test"].drop(columns="part")
    metrics["paired"] = {line.pop("layer"): line for line in against.to_dict("records")}
    forward, signal = rows["forward"].to_numpy(), rows["signal"].to_numpy()
    means = decile_means(signal, forward, session, min_names=rule.min_names)
    wrong = wrong_sign(rows["expected_return"], rows["forward"])
    tables |= {
        "scores": pd.DataFrame(
            [{"layer": name, "part": part, **metrics[part][name]} for name in columns for part in parts]
        ),
        "daily_ic": daily,
        "daily": record,
        "equity": equity.reset_index(drop=True),
        "calibration": reliability(rows["p_wrong"], wrong, equal_count=True),
        "coverage": coverage,
        "deciles": pd.DataFrame({"decile": np.arange(1, len(means) + 1), "forward": means}),
    }
    return Evaluation(metrics, tables)


def _join(signals: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Signals with their outcomes, sorted by date and symbol."""
    needed = {
        "signals": (
            signals,
            ["date", "symbol", "holdout", "signal", "expected_return", "interval_low", "interval_high", "p_wrong"],
        ),
        "outcomes": (outcomes, ["date", "symbol", "forward", "raw", "sector"]),
    }
    for name, (frame, columns) in needed.items():
        missing = [column for column in columns if column not in frame.columns]
        if missing:
            raise DataError(f"evaluation: {name} lack the column {missing[0]!r}: run the stage that writes them again")
        if frame.duplicated(["date", "symbol"]).any():
            repeated = frame[frame.duplicated(["date", "symbol"])].iloc[0]
            raise DataError(
                f"evaluation: {name} hold {repeated['symbol']} on {repeated['date']:%Y-%m-%d} twice: keep one row"
            )
    known = [*needed["outcomes"][1], *(["size"] if "size" in outcomes.columns else [])]
    rows = signals.merge(outcomes[known], on=["date", "symbol"], how="left")
    if not rows["forward"].notna().any():
        raise DataError("evaluation: no signal row has a known outcome: use data that reach past the first test block")
    return rows.sort_values(["date", "symbol"], ignore_index=True)


def _score(
    rows: pd.DataFrame, column: str, session: NDArray[np.int64], mask: NDArray[np.bool_], horizon: int, rule: Any
) -> dict[str, Any]:
    part = rows[mask]
    return score(
        part[column],
        part["forward"],
        session[mask],
        horizon=horizon,
        raw=part["raw"],
        symbol=pd.factorize(part["symbol"], sort=True)[0],
        cost_bps=rule.cost_bps,
        min_names=rule.min_names,
    )


def _daily_ic(
    rows: pd.DataFrame, columns: Mapping[str, str], session: NDArray[np.int64], dates: NDArray, rule: EvaluationRule
) -> pd.DataFrame:
    series = {name: rank_ic(rows[c], rows["forward"], session, rule.min_names) for name, c in columns.items()}
    frame = pd.DataFrame(series).sort_index()
    held = rows.groupby(session)["holdout"].max()
    frame.insert(0, "holdout", held.reindex(frame.index).to_numpy(dtype=bool))
    frame.insert(0, "date", dates[frame.index.to_numpy(dtype=int)].astype("datetime64[ns]"))
    return frame.reset_index(drop=True)


def wrong_sign(expected_return: ArrayLike, outcome: ArrayLike) -> NDArray[np.float64]:
    """1 where the outcome had not the sign of the expected return; NaN where either has none."""
    expected, forward = np.asarray(expected_return, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    usable = np.isfinite(forward) & np.isfinite(expected) & (expected != 0)
    return np.where(usable, expected * forward <= 0, np.nan)


def _calibration(
    rows: pd.DataFrame, session: NDArray[np.int64], dates: NDArray, level: float, rule: EvaluationRule
) -> tuple[dict[str, Any], pd.DataFrame]:
    forward = rows["forward"].to_numpy()
    judged = np.isfinite(forward) & rows["p_wrong"].notna().to_numpy()
    inside = (forward >= rows["interval_low"].to_numpy()) & (forward <= rows["interval_high"].to_numpy())
    daily = pd.Series(inside[judged].astype(float)).groupby(session[judged]).mean()
    window = min(rule.coverage_sessions, max(len(daily), 1))
    rolling = daily.rolling(window).mean()
    wrong = wrong_sign(rows["expected_return"], rows["forward"])
    happened = wrong[np.isfinite(wrong) & judged]
    base = float(happened.mean()) if len(happened) else float("nan")
    figures = {
        "level": level,
        "coverage": float(inside[judged].mean()) if judged.any() else float("nan"),
        "worst_250d_coverage": float(rolling.min()),
        "brier": brier(rows["p_wrong"], wrong),
        "brier_of_base_rate": base * (1 - base),
        "log_loss": log_loss(rows["p_wrong"], wrong),
        "ece": ece(rows["p_wrong"], wrong, CALIBRATION_BINS),
        "share_wrong": base,
    }
    when = dates[daily.index.to_numpy(dtype=int)].astype("datetime64[ns]")
    return figures, pd.DataFrame({"date": when, "coverage": daily.to_numpy(), "rolling": rolling.to_numpy()})


def _superior(
    rows: pd.DataFrame,
    columns: Mapping[str, str],
    session: NDArray[np.int64],
    holdout: NDArray[np.bool_],
    horizon: int,
    rule: EvaluationRule,
) -> dict[str, float]:
    """Whether the best of the stack and its layers beats cash in the holdout, net (Hansen 2005)."""
    part, days = rows[holdout], session[holdout]
    symbol = pd.factorize(part["symbol"], sort=True)[0]
    books = {
        name: decile_spread(
            part[column],
            part["raw"],
            days,
            horizon=horizon,
            cost_bps=rule.cost_bps,
            symbol=symbol,
            min_names=rule.min_names,
        )
        for name, column in columns.items()
    }
    returns = pd.DataFrame(books).to_numpy(dtype=np.float64)
    low, consistent, high = overfitting.spa(returns, _OVERLAPS_OF_BLOCKS * horizon, rule.bootstrap_seed)
    return {"spa_p": consistent, "spa_p_lower": low, "spa_p_upper": high}


def _handed_over(
    paths: pd.DataFrame | None,
    ladder: pd.DataFrame | None,
    comparison: pd.DataFrame | None,
    weights: pd.DataFrame | None,
    importance: Mapping[str, Mapping[str, float]] | None,
    seeds: Mapping[str, Sequence[float]] | None,
) -> dict[str, pd.DataFrame]:
    """Tables made elsewhere, empty where there are none."""
    frames = {
        "paths": (paths, _PATHS),
        "ladder": (ladder, _LADDER),
        "comparison": (comparison, _COMPARISON),
        "weights": (weights, _WEIGHTS),
    }
    tables = {
        name: pd.DataFrame(columns=columns) if frame is None else frame.reset_index(drop=True)
        for name, (frame, columns) in frames.items()
    }
    shares = [
        (layer, feature, share)
        for layer, features in sorted((importance or {}).items())
        for feature, share in sorted(features.items(), key=lambda item: (-item[1], item[0]))[:_TOP_FEATURES]
    ]
    scores = [
        (name, seed, value) for name, values in sorted((seeds or {}).items()) for seed, value in enumerate(values)
    ]
    tables["attribution"] = pd.DataFrame(shares, columns=["layer", "feature", "share"])
    tables["seeds"] = pd.DataFrame(scores, columns=["layer", "seed", "rank_ic"])
    return tables


def _chosen(comparison: pd.DataFrame) -> str | None:
    if not {"chosen", "rung"} <= set(comparison.columns):
        return None
    rungs = comparison.loc[comparison["chosen"].fillna(False).astype(bool), "rung"]
    return str(rungs.iloc[0]) if len(rungs) else None


def _worst_path(paths: pd.DataFrame, rung: str | None) -> float:
    """Lowest rank IC of the served rung's paths; NaN where it has none."""
    if not {"rung", "rank_ic"} <= set(paths.columns):
        return float("nan")
    values = paths.loc[paths["rung"] == rung, "rank_ic"]
    return float(values.min()) if len(values) else float("nan")
