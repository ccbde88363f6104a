"""What a construction maximises, and what its solver answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from portfolio.covariance.form import Covariance

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Objective:
    """What is maximised: alpha'w - gamma/2 w'Sigma w - c'|d| - k'|d|^(3/2) - b sum max(-w, 0), with d = w - held.

    Attributes
    ----------
    alpha
        `(N,)` expected return, 0 where there is no forecast.
    covariance, risk_aversion
        Sigma and gamma.
    linear, impact
        `(N,)` c and k.
    borrow
        b, cost of a short weight until the next rebalance.
    """

    alpha: Array
    covariance: Covariance
    risk_aversion: float
    linear: Array
    impact: Array
    borrow: float

    def value(self, weights: Array, held: Array) -> float:
        """The objective at given weights, a fraction of the capital."""
        risk = 0.5 * self.risk_aversion * self.covariance.variance(weights)
        return float(self.alpha @ weights) - risk - float(sum(self.costs(weights, held)))

    def costs(self, weights: Array, held: Array) -> tuple[float, float, float]:
        """Commission with spread, impact, and borrowing."""
        moved = np.abs(weights - held)
        return (
            float(self.linear @ moved),
            float(self.impact @ moved**1.5),
            self.borrow * float(-weights[weights < 0].sum()),
        )


@dataclass(frozen=True, eq=False)
class Solution:
    """Weights of all symbols, the solver's status, and the price of each limit's rows.

    Attributes
    ----------
    prices
        Per limit, `(M,)` gain of the objective for one unit more of the row's bound (low or high, whichever binds).
    """

    weights: Array
    status: str
    prices: tuple[Array, ...]
