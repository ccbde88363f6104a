"""Rung 4: a softmax gate that shares out the weight among the layers by the state of the market.

w(z) = softmax(A [1, z]) and the signal is c sum_k w_k s_k with c > 0. Minimises
|y - c S w|^2 / n + lambda c^2 |A|^2 / K^2: near the equal weights (A = 0) |A| / K is how far the weights
have moved, so lambda counts as in rung 1. With the best c put in, that is to maximise m^2 / g, where
m = mean(y Sw) > 0 and g = mean((Sw)^2) + lambda |A|^2 / K^2. L-BFGS climbs m |m| / g from A = 0: smooth
where m changes sign, so that a trial step too far ends no search, while no ascent leads there.

References
----------
Jacobs, Jordan, Nowlan and Hinton (1991), Adaptive mixtures of local experts.
Byrd, Lu, Nocedal and Zhu (1995), A limited memory algorithm for bound constrained optimization.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from core.jit import njit
from models.rungs.base import RUNGS, Array, Moments, RungRule, affine, weighted


@RUNGS.register("gate")
@dataclass(frozen=True, eq=False)
class Gate:
    """Coefficients (K, 1 + J) of the logits, and the slope from signal to label."""

    level: ClassVar[int] = 4
    needs_states: ClassVar[bool] = True
    thinned: ClassVar[bool] = False

    coef: Array
    slope: float

    @classmethod
    def fit(cls, scores: Array, states: Array, label: NDArray[np.floating], rule: RungRule) -> Self | None:
        """Climb from equal weights; None where these have no positive slope: there is no signal to share out."""
        from scipy.optimize import minimize  # not where the daily job would import it: it fits nothing

        if not len(scores):
            return None
        moments = Moments.of(scores, states, label)
        if moments.equal_slope() <= 0:
            return None
        shape = (scores.shape[1], states.shape[1] + 1)
        # the tolerances are absolute, the gain is a squared correlation: count in units of that of equal weights
        unit = -loss(np.zeros(shape), moments, rule.gate_ridge)[0]

        def scaled(flat: Array) -> tuple[float, Array]:
            value, gradient = loss(flat.reshape(shape), moments, rule.gate_ridge)
            return value / unit, gradient / unit

        found = minimize(
            scaled,
            np.zeros(shape[0] * shape[1]),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 200, "gtol": 1e-7, "ftol": 1e-12},
        )
        coef = np.asarray(found.x, dtype=np.float64).reshape(shape)
        m, g = _fit_of(softmax(affine(moments.states, coef)), moments)
        return cls(coef, m / (g + rule.gate_ridge * float((coef**2).sum()) / len(coef) ** 2))

    def combine(self, scores: Array, states: Array) -> Array:
        """(n,) slope times the mean score under the weights of that state."""
        return self.slope * weighted(scores, self.weights(states))

    def weights(self, states: Array) -> Array:
        """(m, K) weights in each state, positive and summing to 1."""
        return softmax(affine(states, self.coef))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"coef": self.coef.tolist(), "slope": self.slope}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The rung that `to_dict` described."""
        return cls(np.asarray(values["coef"], dtype=np.float64), float(values["slope"]))


def loss(coef: Array, moments: Moments, ridge: float) -> tuple[float, Array]:
    """-m |m| / g (see the module's text) and its gradient, flat.

    Where m > 0 the least mean square error, penalty included, less that of no signal.
    """
    weights = softmax(affine(moments.states, coef))
    m, g = _fit_of(weights, moments)
    scale = ridge / len(coef) ** 2
    g = max(g + scale * float((coef**2).sum()), 1e-300)
    slope = m / g
    along = 2.0 * abs(slope) * (slope * np.einsum("tkl,tl->tk", moments.gram, weights) - moments.moment)
    logits = weights * (along - (weights * along).sum(axis=1, keepdims=True))
    design = np.column_stack([np.ones(len(moments.states)), moments.states])
    gradient = logits.T @ design + 2.0 * scale * slope * abs(slope) * coef
    return -m * abs(slope), gradient.ravel()


def _fit_of(weights: Array, moments: Moments) -> tuple[float, float]:
    """Mean of y times the signal, and of the signal's square."""
    m = float((weights * moments.moment).sum())
    return m, float(np.einsum("tk,tkl,tl->", weights, moments.gram, weights, optimize=True))


@njit()
def softmax(logits: Array) -> Array:
    """(m, K) shares of each row; a scalar exponential, since a vector one's bits may depend on the length."""
    out = np.empty_like(logits)
    for row in range(len(logits)):
        highest = logits[row, 0]
        for column in range(1, logits.shape[1]):
            highest = max(highest, logits[row, column])
        total = 0.0
        for column in range(logits.shape[1]):
            out[row, column] = math.exp(logits[row, column] - highest)
            total += out[row, column]
        for column in range(logits.shape[1]):
            out[row, column] /= total
    return out
