"""Rung 0: the mean of the layers' z-scores. Nothing is fitted, and it is hard to beat.

References
----------
Timmermann (2006), Forecast combinations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.rungs.base import RUNGS, Array, RungRule, weighted


@RUNGS.register("equal")
@dataclass(frozen=True)
class Equal:
    """Equal weights of `width` layers."""

    level: ClassVar[int] = 0
    needs_states: ClassVar[bool] = False
    thinned: ClassVar[bool] = False

    width: int

    @classmethod
    def fit(cls, scores: Array, states: Array, label: NDArray[np.floating], rule: RungRule) -> Self | None:
        """Count the layers."""
        return cls(scores.shape[1])

    def combine(self, scores: Array, states: Array) -> Array:
        """(n,) mean score."""
        return weighted(scores, self.weights(states))

    def weights(self, states: Array) -> Array:
        """(m, K) equal weights."""
        return np.full((len(states), self.width), 1.0 / self.width)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"width": self.width}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The rung that `to_dict` described."""
        return cls(int(values["width"]))
