"""Rung 3: few, small boosted trees of the scores and the states (LightGBM), rising in every score.

All rows of a session share one state, so a leaf must hold many sessions' rows or it learns the luck of
a few days: hence a floor on its share of the rows beside the floor on their number.

References
----------
Ke et al. (2017), LightGBM: a highly efficient gradient boosting decision tree.
Potharst and Feelders (2002), Classification trees for problems with monotonicity constraints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.rungs.base import RUNGS, Array, RungRule, normalised

if TYPE_CHECKING:
    import lightgbm

# fixed, because the model's text records it; so small a job gains little from more, and on busy cores loses much
_THREADS = 1


@RUNGS.register("trees")
@dataclass(frozen=True, eq=False)
class Trees:
    """Boosted trees of K scores and J states, kept as LightGBM text."""

    level: ClassVar[int] = 3
    needs_states: ClassVar[bool] = True
    thinned: ClassVar[bool] = True

    width: int
    booster: lightgbm.Booster

    @classmethod
    def fit(cls, scores: Array, states: Array, label: NDArray[np.floating], rule: RungRule) -> Self | None:
        """Grow the trees; None where the rows are too few for a single split."""
        import lightgbm

        leaf = max(rule.tree_leaf_rows, int(np.ceil(rule.tree_leaf_share * len(scores))))
        if len(scores) < 2 * leaf:
            return None
        settings: dict[str, Any] = {
            "objective": "regression",
            "num_leaves": rule.tree_leaves,
            "learning_rate": rule.tree_rate,
            "min_data_in_leaf": leaf,
            "lambda_l2": 10.0,
            "max_bin": 63,
            "monotone_constraints": [1] * scores.shape[1] + [0] * states.shape[1],
            "deterministic": True,
            "force_row_wise": True,
            "feature_pre_filter": False,
            "num_threads": _THREADS,
            "seed": 0,
            "verbosity": -1,
        }
        inputs = np.column_stack([scores, states])
        names = [f"s{layer}" for layer in range(scores.shape[1])] + [f"z{state}" for state in range(states.shape[1])]
        table = lightgbm.Dataset(inputs, label, feature_name=names, params=settings)
        grown = lightgbm.train(settings, table, rule.trees)
        if not grown.feature_importance("split")[: scores.shape[1]].any():
            return None
        # read back from its own text: what is judged is bit for bit what is stored
        return cls(scores.shape[1], lightgbm.Booster(model_str=grown.model_to_string()))

    def combine(self, scores: Array, states: Array) -> Array:
        """(n,) prediction of the label."""
        if not len(scores):
            return np.empty(0)
        return np.asarray(self.booster.predict(np.column_stack([scores, states]), num_threads=_THREADS), np.float64)

    def weights(self, states: Array) -> Array:
        """(m, K) how much each score moves the prediction in each state, from -1 to +1 with the others at 0."""
        moves = []
        for layer in range(self.width):
            ends = np.zeros((2, len(states), self.width))
            ends[0, :, layer], ends[1, :, layer] = -1.0, 1.0
            moves.append(self.combine(ends[1], states) - self.combine(ends[0], states))
        return normalised(np.column_stack(moves))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"width": self.width, "trees": self.booster.model_to_string()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The rung that `to_dict` described."""
        import lightgbm

        return cls(int(values["width"]), lightgbm.Booster(model_str=values["trees"]))
