"""The meta-learner itself: from the layers' predictions of a day to one signal.

Layers' predictions become z-scores within a session, are weighted, and become a z-score again. The weights
are w = argmin_{w >= 0} |y - Sw|^2 / n + lambda |w - c w0|^2, with w0 the equal weights and c the
least-squares slope of y on them. Without the bound this is (S'S + l I)^-1 (S'y + l c w0), l = lambda n.

References
----------
Wolpert (1992), Stacked generalization.
Breiman (1996), Stacked regressions (non-negative weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from models.conformal import Calibrator
from models.inputs import session_bounds, zscores
from models.layers.base import LAYERS

Column = NDArray[np.float64]


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
