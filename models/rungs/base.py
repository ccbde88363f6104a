"""What a rung is: one way to make a signal of the layers' z-scores, given the state of the market.

A rung is one module of this package that decorates a class with `@RUNGS.register("name")`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.jit import njit
from core.params import Params
from core.registry import Registry

Array = NDArray[np.float64]


class RungRule(Params):
    """How the rungs are fitted. A penalty is per row; scores and states have unit variance."""

    ridge: float = Field(default=1.0, ge=0, description="penalty for leaving the equal weights")
    interaction_ridge: float = Field(default=1.0, ge=0, description="`interactions`: penalty on score x state")
    gate_ridge: float = Field(
        default=1.0, ge=0, description="`gate`: penalty for moving the weights, as `ridge` counts"
    )
    trees: int = Field(default=100, ge=1, le=1000)
    tree_every: int = Field(default=5, ge=1, description="learn from every k-th session: neighbours' outcomes overlap")
    tree_rate: float = Field(default=0.05, gt=0, le=1)
    tree_leaves: int = Field(default=7, ge=2, le=15)
    tree_leaf_rows: int = Field(default=1000, ge=1, description="fewest rows of a leaf")
    tree_leaf_share: float = Field(
        default=0.02, ge=0, lt=0.5, description="fewest rows of a leaf as a share: all rows of a session share a state"
    )


class Rung(Protocol):
    """A fitted way to combine K layers in J market states.

    Attributes
    ----------
    level
        Place on the ladder; a higher one has more freedom.
    needs_states
        Whether it reads the states; it is left out where there are none.
    thinned
        Whether it is fitted on every `RungRule.tree_every`-th session only, to save time.

    Notes
    -----
    The bits of a row of `combine` and `weights` depend on that row alone, not on how many rows are
    given: a daily job that holds one session gets what the full history got.
    """

    level: ClassVar[int]
    needs_states: ClassVar[bool]
    thinned: ClassVar[bool]

    @classmethod
    def fit(cls, scores: Array, states: Array, label: NDArray[np.floating], rule: RungRule) -> Self | None:
        """Learn from known rows; None where they are too few to tell anything.

        Parameters
        ----------
        scores : (n, K)
            Layers' z-scores within their session.
        states : (n, J)
            State of the market in each row's session, standardised.
        label : (n,)
            What the layers learn, mean zero within a session.
        """
        ...

    def combine(self, scores: Array, states: Array) -> Array:
        """(n,) raw signal, to be made a z-score within its session; NaN where a score is, trees excepted."""
        ...

    def weights(self, states: Array) -> Array:
        """(m, K) weight of each layer in each of m states; their absolute values sum to 1."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        ...

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The rung that `to_dict` described."""
        ...


RUNGS: Registry[type[Rung]] = Registry("rung", "models.rungs")


def climb_order() -> tuple[str, ...]:
    """Names of all rungs, smallest first."""
    return tuple(sorted(RUNGS, key=lambda name: RUNGS[name].level))


def fit_rung(
    name: str, scores: Array, states: Array, label: NDArray[np.floating], session: NDArray[np.integer], rule: RungRule
) -> Rung | None:
    """A rung fitted on known rows; None where they are too few (see `Rung.fit`).

    Parameters
    ----------
    session : (n,)
        Session index of each row; of a thinned rung the multiples count, so that the choice stays as data grows.
    """
    kind = RUNGS[name]
    if kind.thinned and rule.tree_every > 1:
        kept = session % rule.tree_every == 0
        scores, states, label = scores[kept], states[kept], label[kept]
    return kind.fit(scores, states, label, rule) if len(scores) else None


@njit()
def weighted(scores: Array, weights: Array) -> Array:
    """(n,) sum over the layers of score times weight, both (n, K).

    Row by row in one fixed order: a library product's bits depend on how many rows it is given.
    """
    out = np.zeros(len(scores))
    for row in range(len(scores)):
        total = 0.0
        for column in range(scores.shape[1]):
            total += weights[row, column] * scores[row, column]
        out[row] = total
    return out


@njit()
def affine(states: Array, coef: Array) -> Array:
    """(m, K) of [1, states] times coef' (K, 1 + J), row by row in one fixed order."""
    out = np.zeros((len(states), len(coef)))
    for row in range(len(states)):
        for layer in range(len(coef)):
            total = coef[layer, 0]
            for column in range(states.shape[1]):
                total += coef[layer, column + 1] * states[row, column]
            out[row, layer] = total
    return out


def normalised(weights: Array) -> Array:
    """Rows scaled until their absolute values sum to 1; equal weights for a row of zeros."""
    size = np.zeros(len(weights))
    for column in range(weights.shape[1]):
        size += np.abs(weights[:, column])
    out = np.full(weights.shape, 1.0 / weights.shape[1])
    return np.divide(weights, size[:, None], out=out, where=size[:, None] > 0)


@dataclass(frozen=True, eq=False)
class Moments:
    """What a rung that is linear in the scores needs to know of its rows, one entry a state.

    Rows next to each other in the same state are pooled, so a session counts as one entry.

    Attributes
    ----------
    states : (m, J)
    gram : (m, K, K)
        Sum of s s' over the state's rows, over the number of all rows.
    moment : (m, K)
        Sum of s y, likewise.
    """

    states: Array
    gram: Array
    moment: Array

    @classmethod
    def of(cls, scores: Array, states: Array, label: NDArray[np.floating]) -> Moments:
        """Pool n rows (at least one)."""
        changes = np.flatnonzero((states[1:] != states[:-1]).any(axis=1)) + 1
        bounds = np.concatenate([[0], changes, [len(states)]])
        gram, moment = _moments(scores, label.astype(np.float64), bounds)
        return cls(states[bounds[:-1]], gram / len(scores), moment / len(scores))

    def moving(self) -> tuple[Array, Array]:
        """Normal equations of weights that move along a line with the states.

        Returns
        -------
        gram : (K (1 + J), K (1 + J))
        moment : (K (1 + J),)
            The unknowns are (K, 1 + J), flattened: each score's weight at states of 0, then its slope on each state.
        """
        design = np.column_stack([np.ones(len(self.states)), self.states])
        size = self.moment.shape[1] * design.shape[1]
        gram = np.einsum("ti,tj,tkl->kilj", design, design, self.gram, optimize=True).reshape(size, size)
        return gram, np.einsum("ti,tk->ki", design, self.moment).ravel()

    def equal_slope(self) -> float:
        """Least-squares slope of the label on the mean of the scores; at least 0."""
        equal = np.full(self.moment.shape[1], 1.0 / self.moment.shape[1])
        spread = float(equal @ self.gram.sum(axis=0) @ equal)
        return max(float(equal @ self.moment.sum(axis=0)), 0.0) / max(spread, 1e-12)


@njit()
def _moments(scores: Array, label: Array, bounds: NDArray[np.int64]) -> tuple[Array, Array]:
    groups, width = len(bounds) - 1, scores.shape[1]
    gram, moment = np.zeros((groups, width, width)), np.zeros((groups, width))
    for group in range(groups):
        for row in range(bounds[group], bounds[group + 1]):
            for one in range(width):
                moment[group, one] += scores[row, one] * label[row]
                for other in range(width):
                    gram[group, one, other] += scores[row, one] * scores[row, other]
    return gram, moment
