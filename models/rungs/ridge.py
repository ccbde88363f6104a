"""Rung 1: one weight a layer, by a non-negative ridge that pulls towards equal weights.

w = argmin_{w >= 0} |y - Sw|^2 / n + lambda |w - c w0|^2, with w0 the equal weights and c the
least-squares slope of y on them. Without the bound this is (S'S + l I)^-1 (S'y + l c w0), l = lambda n.

References
----------
Wolpert (1992), Stacked generalization.
Breiman (1996), Stacked regressions (non-negative weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.rungs.base import RUNGS, Array, RungRule, weighted


@RUNGS.register("ridge")
@dataclass(frozen=True, eq=False)
class Ridge:
    """Fixed weights of the layers, (K,), summing to 1."""

    level: ClassVar[int] = 1
    needs_states: ClassVar[bool] = False
    thinned: ClassVar[bool] = False

    fixed: Array

    @classmethod
    def fit(cls, scores: Array, states: Array, label: NDArray[np.floating], rule: RungRule) -> Self | None:
        """Weights of the known rows."""
        return cls(fit_weights(scores, label, rule.ridge)) if len(scores) else None

    def combine(self, scores: Array, states: Array) -> Array:
        """(n,) weighted mean score."""
        return weighted(scores, self.weights(states))

    def weights(self, states: Array) -> Array:
        """(m, K) the same weights in every state."""
        return np.tile(self.fixed, (len(states), 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"weights": self.fixed.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The rung that `to_dict` described."""
        return cls(np.asarray(values["weights"], dtype=np.float64))


def fit_weights(scores: Array, label: NDArray[np.floating], ridge: float) -> Array:
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
    from scipy.optimize import nnls  # not where the daily job would import it: it fits nothing

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
