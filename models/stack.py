"""Stack the layers through time: every block is served by what had been proved before it.

The meta-learner is a ladder (`models.rungs`): equal weights, a ridge towards them, weights that move
with the market's state, small trees, a softmax gate. Every rung is fitted on the out-of-fold rows whose
outcome was known when a block began, and predicts the block. The rung that serves the block is chosen on
earlier blocks alone, those of the search among them: from equal weights upwards, a higher rung takes
over where its daily rank IC was better by enough (Newey-West) of late. So the choice itself is out of sample, and
costs nothing there. The slope from signal to return, the intervals and the probability of a wrong sign
use, day by day, what was known that day.

References
----------
Wolpert (1992), Stacked generalization.
Newey and West (1987), A simple, positive semi-definite, heteroskedasticity and autocorrelation
consistent covariance matrix.
Vovk et al. (2017), Nonparametric predictive distributions based on conformal prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from core.errors import DataError
from models.conformal import Calibrator, conformal_walk
from models.dataset import Dataset
from models.folds import Fold, known_before
from models.inputs import session_bounds, zscores
from models.meta import Column, Meta, fill_scale, layer_column, rung_signal
from models.rungs.base import RUNGS, Rung, RungRule, climb_order, fit_rung
from models.rungs.equal import Equal
from models.scoring import default_lags, newey_west_t, rank_ic
from models.states import StateModel, StateRule, state_columns

LADDER = "ladder"
LOWEST = "equal"


class StackRule(RungRule, StateRule):
    """How the layers are combined and the result calibrated."""

    rung: Literal["ladder", "equal", "ridge", "interactions", "trees", "gate"] = Field(
        default="ladder", description="the rung to use; ladder: the highest that has proved itself"
    )
    climb_t: float = Field(default=2.0, description="t of the daily gain in rank IC that a higher rung needs")
    judged_sessions: int = Field(default=756, ge=2, description="latest known sessions that a rung is judged on")
    min_sessions: int = Field(default=252, ge=2, description="known sessions that a higher rung is judged on")
    level: float = Field(default=0.9, gt=0, lt=1, description="coverage that the intervals aim at")
    gamma: float = Field(default=0.02, ge=0, lt=1, description="step of the adaptive coverage; 0: fixed")
    window_sessions: int = Field(default=504, ge=20, description="sessions of residuals that calibrate a day")
    warmup_sessions: int = Field(default=60, ge=1, description="known sessions before the first expected return")


@dataclass(frozen=True, eq=False)
class StackResult:
    """The stack over its history.

    Attributes
    ----------
    frame
        One row a predicted (date, symbol): `date, symbol, fold, holdout, signal`, a `signal_<x>` for
        each layer, `expected_return, interval_low, interval_high` (fractions), `p_wrong`. The last
        four are NaN while too little is known.
    rungs
        The same rows: the signal by every rung, one column each.
    states
        The same rows: the market's state as it was told that day, standardised, one column each; 0
        where it was not told yet.
    rows
        The same rows of the dataset, with market-wide features only.
    weights
        `fold, layer, weight, sessions`: mean weights in each block and the known sessions behind them.
    ladder
        The choice for each block: `fold, rung, against, difference, t, sessions, chosen`. Difference is
        the mean daily rank IC of the rung less that of the one below which had held until then, over
        the latest `sessions` known sessions before the block, at most `StackRule.judged_sessions`.
    comparison
        Every rung on the days before the holdout on which it was fitted: `rung, level, rank_ic, t,
        days, against, difference, difference_t, chosen`; difference is to the rung next below on the
        days of both, `chosen` marks the rung for the days to come.
    meta
        Fitted on all that is known, for the days to come.
    """

    frame: pd.DataFrame
    rungs: pd.DataFrame
    states: pd.DataFrame
    rows: Dataset
    weights: pd.DataFrame
    ladder: pd.DataFrame
    comparison: pd.DataFrame
    meta: Meta


def stack(
    oof: Mapping[str, Column],
    dataset: Dataset,
    folds: Sequence[Fold],
    rule: StackRule,
    *,
    horizon: int,
    scale: NDArray[np.floating],
) -> StackResult:
    """Combine the layers' out-of-fold predictions, block after block.

    Parameters
    ----------
    oof
        Each layer's (R,) out-of-fold predictions, NaN outside the blocks of `folds`.
    dataset
        Its market-wide features and its market returns tell the states.
    folds
        In time; those before the first test block (`Fold.judged`) only teach: weights, the choice of the rung,
        expected returns and intervals of the first test block rest on them.
    scale : (R,)
        Volatility of a row's outcome, known at its session; where it is NaN the session's median serves.

    Raises
    ------
    DataError
        There is no layer, none of the rows has a prediction of every layer, or the rule names a rung
        that needs states and there are none.
    """
    layers = tuple(sorted(oof))
    if not layers:
        raise DataError("stack: no layer to combine: switch at least one on in params.yaml: layers.names")
    predicted = np.logical_and.reduce([np.isfinite(oof[name]) for name in layers])
    if not predicted.any():
        raise DataError("stack: no row has a prediction of every layer: train the layers on the same folds")
    slim = dataset.with_columns(state_columns(dataset.features, rule.states))
    rows = slim.take(predicted)
    scores = np.column_stack([zscores(oof[name][predicted], rows.session) for name in layers])

    blocks = [_Block.fit(scores, rows, slim, fold, rule, horizon) for fold in folds if _holds(rows, fold)]
    last = _Fitted.fit(scores, rows, slim, len(dataset.dates) + horizon, rule, horizon)
    names = _available(blocks, last, rule)
    signals, fold_of, holdout = _signals(names, blocks, rows)
    daily = {name: rank_ic(signals[name], rows.forward, rows.session) for name in names}
    _only_fitted(daily, blocks)

    signal, history, ladder = np.full(len(rows), np.nan), [], []
    for block in blocks:
        fold = block.fold
        chosen, evidence = climb(daily, fold.test[0], rule, horizon)
        signal[block.rows] = signals[chosen][block.rows]
        if not fold.judged:
            continue
        ladder += [{"fold": fold.index, **step} for step in evidence]
        sessions = len(known_sessions(rows, fold.test[0], horizon))
        for name, weight in zip(layers, block.weights[chosen].tolist(), strict=True):
            history.append({"fold": fold.index, "layer": name, "weight": weight, "sessions": sessions})

    width = fill_scale(scale[predicted], rows.session)
    expected, slope = _expected(signal, rows, horizon, rule.warmup_sessions)
    walk = conformal_walk(
        expected,
        rows.forward,
        width,
        rows.session,
        horizon=horizon,
        level=rule.level,
        window_sessions=rule.window_sessions,
        gamma=rule.gamma,
    )
    frame = rows.keys().assign(fold=fold_of, holdout=holdout, signal=signal)
    for column, name in enumerate(layers):
        frame[layer_column(name)] = scores[:, column]
    frame = frame.assign(expected_return=expected, interval_low=walk.low, interval_high=walk.high, p_wrong=walk.p_wrong)

    chosen, _ = climb(daily, len(dataset.dates) + horizon, rule, horizon)
    chosen = chosen if chosen in last.rungs else LOWEST
    fitted = last.rungs[chosen]
    meta = Meta(
        layers,
        chosen,
        fitted,
        last.states if RUNGS[chosen].needs_states else None,
        fitted.weights(last.states.states(rows)).mean(axis=0),
        slope,
        *_calibrate(expected, rows, width, rule, walk.final_alpha),
    )
    judged = fold_of >= 0
    return StackResult(
        frame=frame[judged].reset_index(drop=True),
        rungs=pd.DataFrame(signals)[judged].reset_index(drop=True),
        states=_states(blocks, rows)[judged].reset_index(drop=True),
        rows=rows.take(judged),
        weights=pd.DataFrame(history),
        ladder=pd.DataFrame(ladder),
        comparison=_compare(daily, np.unique(rows.session[judged & ~holdout]), chosen, horizon),
        meta=meta,
    )


def climb(daily: Mapping[str, pd.Series], at: int, rule: StackRule, horizon: int) -> tuple[str, list[dict[str, Any]]]:
    """The rung that is to be used from session `at` on, and why.

    Parameters
    ----------
    daily
        Daily rank IC by session of each rung, smallest rung first, where it was fitted.

    Returns
    -------
    chosen
        The rung that the rule names, or that the climb ends on.
    evidence
        Of each rung `rung, against, difference, t, sessions, chosen` (see `StackResult.ladder`).
    """
    held, evidence = LOWEST, []
    for name, series in daily.items():
        if name == LOWEST:
            evidence.append({"rung": name, "against": "", "difference": np.nan, "t": np.nan, "sessions": 0})
            continue
        gain = (series - daily[held]).dropna()
        gain = gain[known_before(gain.index, at, horizon)].iloc[-rule.judged_sessions :]
        difference, t = _mean_and_t(gain, horizon)
        evidence.append({"rung": name, "against": held, "difference": difference, "t": t, "sessions": len(gain)})
        if len(gain) >= rule.min_sessions and t >= rule.climb_t:
            held = name
    chosen = held if rule.rung == LADDER else rule.rung
    return chosen, [{**step, "chosen": step["rung"] == chosen} for step in evidence]


@dataclass(frozen=True, eq=False)
class _Fitted:
    """What is fitted at one session: the states, and each rung that could be."""

    states: StateModel
    rungs: Mapping[str, Rung]

    @classmethod
    def fit(
        cls, scores: NDArray[np.float64], rows: Dataset, dataset: Dataset, at: int, rule: StackRule, horizon: int
    ) -> _Fitted:
        """Fit on the rows whose outcomes are known at session `at`, and tell states by the sessions before it."""
        states = StateModel.fit(dataset, at, rule)
        stop = int(np.searchsorted(rows.session, at))
        past = rows.take(slice(0, stop))
        usable = known_before(past.session, at, horizon) & past.known
        known, told = scores[:stop][usable], states.rows(past)[usable]
        rungs: dict[str, Rung] = {LOWEST: Equal(scores.shape[1])}
        for name in climb_order():
            if name != LOWEST and (states.names or not RUNGS[name].needs_states):
                fitted = fit_rung(name, known, told, past.label[usable], past.session[usable], rule)
                if fitted is not None:
                    rungs[name] = fitted
        return cls(states, rungs)


@dataclass(frozen=True, eq=False)
class _Block:
    """A test block predicted by every rung that could be fitted before it."""

    fold: Fold
    rows: slice
    told: NDArray[np.float64]
    fitted: _Fitted
    signals: Mapping[str, Column]
    weights: Mapping[str, Column]

    @classmethod
    def fit(
        cls, scores: NDArray[np.float64], rows: Dataset, dataset: Dataset, fold: Fold, rule: StackRule, horizon: int
    ) -> _Block:
        """Fit at the block's start, then predict it by every rung; one that could not be fitted is the lowest."""
        fitted = _Fitted.fit(scores, rows, dataset, fold.test[0], rule, horizon)
        where = rows.rows(*fold.test)
        today = rows.take(where)
        by_session = fitted.states.states(today)
        told = np.repeat(by_session, np.diff(session_bounds(today.session)), axis=0)
        signals, weights = {}, {}
        for name in climb_order():
            rung = fitted.rungs.get(name, fitted.rungs[LOWEST])
            signals[name] = rung_signal(rung, scores[where], told, today.session)
            weights[name] = rung.weights(by_session).mean(axis=0)
        return cls(fold, where, told, fitted, signals, weights)


def _holds(rows: Dataset, fold: Fold) -> bool:
    block = rows.rows(*fold.test)
    return block.stop > block.start


def _available(blocks: Sequence[_Block], last: _Fitted, rule: StackRule) -> list[str]:
    """Rungs of the ladder: all, or those that need no states where there are none."""
    told = any(fitted.states.names for fitted in (last, *(block.fitted for block in blocks)))
    names = [name for name in climb_order() if told or not RUNGS[name].needs_states]
    if rule.rung != LADDER and rule.rung not in names:
        raise DataError(
            f"stack.rung = {rule.rung} reads the market's state and none is known: name features in stack.states "
            "that the dataset holds, or choose equal or ridge"
        )
    return names


def _signals(
    names: Sequence[str], blocks: Sequence[_Block], rows: Dataset
) -> tuple[dict[str, Column], NDArray[np.int64], NDArray[np.bool_]]:
    """Every rung's signal over all rows; each row's fold, and whether that is of the holdout."""
    signals = {name: np.full(len(rows), np.nan) for name in names}
    fold_of, holdout = np.full(len(rows), -1), np.zeros(len(rows), dtype=bool)
    for block in blocks:
        for name in names:
            signals[name][block.rows] = block.signals[name]
        fold_of[block.rows], holdout[block.rows] = block.fold.index, block.fold.holdout
    return signals, fold_of, holdout


def _only_fitted(daily: dict[str, pd.Series], blocks: Sequence[_Block]) -> None:
    """Drop the days on which a rung only stood in for itself with equal weights: they judge nothing."""
    for name, series in daily.items():
        for block in blocks:
            if name not in block.fitted.rungs:
                first, last = block.fold.test
                series = series[(series.index < first) | (series.index > last)]
        daily[name] = series


def _states(blocks: Sequence[_Block], rows: Dataset) -> pd.DataFrame:
    names = list(dict.fromkeys(name for block in blocks for name in block.fitted.states.names))
    out = pd.DataFrame(np.zeros((len(rows), len(names))), columns=names)
    for block in blocks:
        for column, name in enumerate(block.fitted.states.names):
            out.iloc[block.rows, names.index(name)] = block.told[:, column]
    return out


def known_sessions(rows: Dataset, at: int, horizon: int) -> NDArray[np.int32]:
    """Sessions of `rows` whose outcomes are known at session `at`."""
    return np.unique(rows.session[known_before(rows.session, at, horizon)])


def _expected(signal: Column, rows: Dataset, horizon: int, warmup: int) -> tuple[Column, float]:
    """Expected return of each row by the slope known at its session, and the slope known at the end.

    A negative slope counts as none: a signal that has not worked is not turned around.
    """
    forward = rows.forward.astype(np.float64)
    usable = np.isfinite(forward) & np.isfinite(signal)
    length = len(rows.dates)
    day = rows.session[usable]
    cross = np.cumsum(np.bincount(day, signal[usable] * forward[usable], length))
    square = np.cumsum(np.bincount(day, signal[usable] ** 2, length))
    days = np.cumsum(np.bincount(day, minlength=length) > 0)
    enough = (days >= warmup) & (square > 0)
    slope = np.where(enough, np.maximum(cross / np.where(enough, square, 1.0), 0.0), np.nan)
    known = np.concatenate([np.full(horizon + 1, np.nan), slope])[:length]
    return signal * known[rows.session], float(slope[-1])


def _calibrate(
    expected: Column, rows: Dataset, scale: Column, rule: StackRule, alpha: float
) -> tuple[Calibrator | None, float]:
    residual = rows.forward - expected
    usable = np.isfinite(residual) & np.isfinite(scale)
    if not usable.any():
        return None, np.nan
    recent = usable & (rows.session > rows.session[usable].max() - rule.window_sessions)
    return Calibrator.fit(residual[recent], scale[recent], alpha=alpha), float(np.median(scale[recent]))


def _mean_and_t(series: pd.Series, horizon: int) -> tuple[float, float]:
    if series.empty:
        return np.nan, np.nan
    return float(series.mean()), newey_west_t(series, default_lags(len(series), horizon))


def _compare(daily: Mapping[str, pd.Series], sessions: NDArray[np.int32], chosen: str, horizon: int) -> pd.DataFrame:
    """Every rung on the given sessions, each against the one next below."""
    table, below = [], ""
    for name, series in daily.items():
        judged = series[series.index.isin(sessions)]
        mean, t = _mean_and_t(judged, horizon)
        gain, gain_t = _mean_and_t((judged - daily[below]).dropna(), horizon) if below else (np.nan, np.nan)
        scored = {"rung": name, "level": RUNGS[name].level, "rank_ic": mean, "t": t, "days": len(judged)}
        against = {"against": below, "difference": gain, "difference_t": gain_t, "chosen": name == chosen}
        table.append(scored | against)
        below = name if len(judged) else below
    return pd.DataFrame(table)
