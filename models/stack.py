"""The meta-learner: weighs the layers by what they had proved before each block, and says how sure it is.

Layers' out-of-fold predictions become z-scores within a session. Two rungs, smallest first:

- ``equal``: the mean of the z-scores;
- ``ridge``: w = argmin_{w >= 0} |y - Sw|^2 / n + lambda |w - c w0|^2, with w0 the equal weights and c the
  least-squares slope of y on them. Without the bound this is (S'S + l I)^-1 (S'y + l c w0), l = lambda n.

The weights of a block come from out-of-fold rows whose outcome was known when the block began; the slope
from signal to return, the intervals and the probability of a wrong sign use, day by day, what was known
that day.

References
----------
Wolpert (1992), Stacked generalization.
Breiman (1996), Stacked regressions (non-negative weights).
Vovk et al. (2017), Nonparametric predictive distributions based on conformal prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import nnls

from core.errors import DataError
from core.params import Params
from models.conformal import Calibrator, conformal_walk
from models.dataset import Dataset
from models.folds import Fold, known_before
from models.inputs import session_bounds, zscores
from models.layers.base import LAYERS
from models.scoring import rank_ic

Column = NDArray[np.float64]


class StackRule(Params):
    """How the layers are combined and the result calibrated."""

    rung: Literal["equal", "ridge"] = Field(default="ridge", description="equal weights, or ridge towards them")
    ridge: float = Field(default=1.0, ge=0, description="penalty per row for leaving the equal weights")
    level: float = Field(default=0.9, gt=0, lt=1, description="coverage that the intervals aim at")
    gamma: float = Field(default=0.02, ge=0, lt=1, description="step of the adaptive coverage; 0: fixed")
    window_sessions: int = Field(default=504, ge=20, description="sessions of residuals that calibrate a day")
    warmup_sessions: int = Field(default=60, ge=1, description="known sessions before the first expected return")


@dataclass(frozen=True, eq=False)
class Meta:
    """All that turns the layers' predictions of a day into signals.

    Attributes
    ----------
    layers
        Names of the layers, sorted.
    weights : (K,) float64
        Weight of each layer's z-score; they sum to 1.
    slope
        Expected residual return of one unit of signal, a fraction; NaN if too little was known.
    calibrator
        Residuals known when the stack was made; None if too little was known.
    scale
        Median scale of those residuals, for a row whose own is not known; NaN if none was.
    """

    layers: tuple[str, ...]
    weights: Column
    slope: float
    calibrator: Calibrator | None
    scale: float = np.nan

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "weights": dict(zip(self.layers, self.weights.tolist(), strict=True)),
            "slope": self.slope,
            "calibrator": None if self.calibrator is None else self.calibrator.to_dict(),
            "scale": self.scale,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Meta:
        """The meta-learner that `to_dict` described."""
        layers = tuple(sorted(values["weights"]))
        stored = values["calibrator"]
        return cls(
            layers=layers,
            weights=np.array([values["weights"][name] for name in layers], dtype=np.float64),
            slope=np.nan if values["slope"] is None else float(values["slope"]),
            calibrator=None if stored is None else Calibrator.from_dict(stored),
            scale=np.nan if values["scale"] is None else float(values["scale"]),
        )


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


def layer_column(name: str) -> str:
    """Column of a layer's signal: by its letter (`signal_a`) where it has one, else by its name."""
    return f"signal_{LAYERS[name].letter or name}"


def combine(
    predictions: Mapping[str, Column], session: NDArray[np.int32], weights: Mapping[str, float]
) -> tuple[Column, dict[str, Column]]:
    """Signal and layer signals of rows, all z-scores within their session.

    Returns
    -------
    signal : (R,) float64
        NaN where a layer's prediction is.
    layers : dict of (R,) float64
    """
    scores = {name: zscores(predictions[name], session) for name in sorted(predictions)}
    total = np.zeros(len(session))
    for name, score in scores.items():
        total += weights[name] * score
    return zscores(total, session), scores


def fit_weights(scores: NDArray[np.float64], label: NDArray[np.floating], ridge: float) -> Column:
    """Non-negative ridge weights towards equal ones, scaled to sum to 1 (see the module's text).

    Parameters
    ----------
    scores : (n, K)
        Layers' z-scores of known rows.
    label : (n,)
        Their labels.
    ridge
        Penalty per row.

    Returns
    -------
    (K,) float64
        Equal weights where no layer has proved anything.
    """
    rows, width = scores.shape
    equal = np.full(width, 1.0 / width)
    gram, moment = scores.T @ scores / rows, scores.T @ label / rows
    slope = float(equal @ moment) / max(float(equal @ gram @ equal), 1e-12)
    # layers that agree in every row leave the plain system singular: a hair of ridge decides for equal weights
    penalty = max(ridge, 1e-9)
    root = np.linalg.cholesky(gram + penalty * np.eye(width))
    weights, _ = nnls(root.T, np.linalg.solve(root, moment + penalty * max(slope, 0.0) * equal))
    total = weights.sum()
    return np.asarray(weights / total) if total > 0 else equal


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


def fill_scale(scale: NDArray[np.floating], session: NDArray[np.int32]) -> Column:
    """The scale, with the session's median in the place of what is not a positive number."""
    out = np.where(np.asarray(scale) > 0, scale, np.nan).astype(np.float64)
    bounds = session_bounds(session)
    for first, last in pairwise(bounds):
        day = out[first:last]
        unknown = np.isnan(day)
        if unknown.any() and not unknown.all():
            day[unknown] = np.median(day[~unknown])
    return out


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
