"""Stack the layers through time: every block's weights come from what had been proved before it.

Two rungs, smallest first: ``equal`` takes the mean of the layers' z-scores, ``ridge`` the weights of
`models.meta.fit_weights` on the out-of-fold rows whose outcome was known when the block began. The slope
from signal to return, the intervals and the probability of a wrong sign use, day by day, what was known
that day.

References
----------
Wolpert (1992), Stacked generalization.
Vovk et al. (2017), Nonparametric predictive distributions based on conformal prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from core.errors import DataError
from core.params import Params
from models.conformal import Calibrator, conformal_walk
from models.dataset import Dataset
from models.folds import Fold, known_before
from models.inputs import zscores
from models.meta import Column, Meta, combine, fill_scale, fit_weights, layer_column
from models.scoring import rank_ic


class StackRule(Params):
    """How the layers are combined and the result calibrated."""

    rung: Literal["equal", "ridge"] = Field(default="ridge", description="equal weights, or ridge towards them")
    ridge: float = Field(default=1.0, ge=0, description="penalty per row for leaving the equal weights")
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
    weights
        `fold, layer, weight, sessions`: each block's weights and the known sessions behind them.
    comparison
        `rung, rank_ic, days`: every rung on the blocks before the holdout.
    meta
        Fitted on all that is known, for the days to come.
    """

    frame: pd.DataFrame
    weights: pd.DataFrame
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
        Each layer's (R,) out-of-fold predictions, NaN outside the test blocks.
    scale : (R,)
        Volatility of a row's outcome, known at its session; where it is NaN the session's median serves.

    Raises
    ------
    DataError
        There is no layer, or none of the rows has a prediction of every layer.
    """
    layers = tuple(sorted(oof))
    if not layers:
        raise DataError("stack: no layer to combine: switch at least one on in params.yaml: layers.names")
    predicted = np.logical_and.reduce([np.isfinite(oof[name]) for name in layers])
    if not predicted.any():
        raise DataError("stack: no row has a prediction of every layer: train the layers on the same folds")
    rows = dataset.with_columns(()).take(predicted)
    predictions = {name: oof[name][predicted] for name in layers}
    scores = np.column_stack([zscores(predictions[name], rows.session) for name in layers])

    fold_of, holdout = np.full(len(rows), -1), np.zeros(len(rows), dtype=bool)
    signal, even = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    equal = np.full(len(layers), 1.0 / len(layers))
    history = []
    for fold in folds:
        weights, sessions = equal, known_sessions(rows, fold.test[0], horizon)
        if rule.rung == "ridge" and len(sessions):
            weights = _fit_known(scores, rows, fold.test[0], horizon, rule.ridge)
        block = rows.rows(*fold.test)
        part = {name: values[block] for name, values in predictions.items()}
        for out, chosen in ((signal, weights), (even, equal)):
            out[block], _ = combine(part, rows.session[block], dict(zip(layers, chosen.tolist(), strict=True)))
        fold_of[block], holdout[block] = fold.index, fold.holdout
        for name, weight in zip(layers, weights.tolist(), strict=True):
            history.append({"fold": fold.index, "layer": name, "weight": weight, "sessions": len(sessions)})

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

    weights = equal
    if rule.rung == "ridge" and rows.known.any():
        weights = _fit_known(scores, rows, len(dataset.dates) + horizon, horizon, rule.ridge)
    meta = Meta(layers, weights, slope, *_calibrate(expected, rows, width, rule, walk.final_alpha))
    return StackResult(frame, pd.DataFrame(history), _compare({"equal": even, rule.rung: signal}, rows, ~holdout), meta)


def known_sessions(rows: Dataset, at: int, horizon: int) -> NDArray[np.int32]:
    """Sessions of `rows` whose outcomes are known at session `at`."""
    return np.unique(rows.session[known_before(rows.session, at, horizon)])


def _fit_known(scores: NDArray[np.float64], rows: Dataset, at: int, horizon: int, ridge: float) -> Column:
    usable = known_before(rows.session, at, horizon) & rows.known
    if not usable.any():
        return np.full(scores.shape[1], 1.0 / scores.shape[1])
    return fit_weights(scores[usable], rows.label[usable], ridge)


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


def _compare(rungs: Mapping[str, Column], rows: Dataset, where: NDArray[np.bool_]) -> pd.DataFrame:
    daily = {rung: rank_ic(signal[where], rows.forward[where], rows.session[where]) for rung, signal in rungs.items()}
    table = [{"rung": rung, "rank_ic": float(series.mean()), "days": len(series)} for rung, series in daily.items()]
    return pd.DataFrame(table)
