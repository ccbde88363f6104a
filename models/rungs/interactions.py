"""Rung 2: the layers' weights move along a line with the state of the market.

The ridge of rung 1 on [s_k, s_k z_j] with z the J states: the weights a_k at the average state are at
least 0 and pulled towards the equal-weight solution, their slopes b_kj along the states towards 0.
With a high price on the slopes this is rung 1.

References
----------
Wolpert (1992), Stacked generalization.
Ferson and Schadt (1996), Measuring fund strategy and performance in changing economic conditions
(weights linear in public information).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.rungs.base import RUNGS, Array, Moments, RungRule, affine, normalised, weighted


@RUNGS.register("interactions")
@dataclass(frozen=True, eq=False)
class Interactions:
    """Coefficients (K, 1 + J): of each layer's score, and of its products with the states."""

    level: ClassVar[int] = 2
    needs_states: ClassVar[bool] = True
    thinned: ClassVar[bool] = False

    coef: Array

    @classmethod
    def fit(cls, scores: Array, states: Array, label: NDArray[np.floating], rule: RungRule) -> Self | None:
        """Solve the bounded normal equations of the known rows; None where no layer has proved anything."""
        from scipy.optimize import lsq_linear  # not where the daily job would import it: it fits nothing

        if not len(scores):
            return None
        moments = Moments.of(scores, states, label)
        gram, moment = moments.moving()
        layers, terms = scores.shape[1], 1 + states.shape[1]
        # a hair of ridge keeps layers that agree in every row apart
        penalty = np.full((layers, terms), max(rule.interaction_ridge, 1e-9))
        penalty[:, 0] = max(rule.ridge, 1e-9)
        target, lowest = np.zeros((layers, terms)), np.full((layers, terms), -np.inf)
        target[:, 0], lowest[:, 0] = moments.equal_slope() / layers, 0.0
        root = np.linalg.cholesky(gram + np.diag(penalty.ravel()))
        right = np.linalg.solve(root, moment + (penalty * target).ravel())
        coef = lsq_linear(root.T, right, (lowest.ravel(), np.inf), method="bvls", tol=1e-14).x.reshape(layers, terms)
        return cls(coef) if (coef[:, 0] > 0).any() else None

    def combine(self, scores: Array, states: Array) -> Array:
        """(n,) sum over the layers of score times weight in that state."""
        return weighted(scores, affine(states, self.coef))

    def weights(self, states: Array) -> Array:
        """(m, K) weights in each state; one may be negative far from the average state."""
        return normalised(affine(states, self.coef))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"coef": self.coef.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The rung that `to_dict` described."""
        return cls(np.asarray(values["coef"], dtype=np.float64))
