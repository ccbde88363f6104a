"""Forecasts from scores and a declared skill, where calibrated ones are not to be relied on.

A score z of unit variance that is correlated by IC with a return of volatility sigma forecasts

    E[r | z] = IC sigma z,     P(sign wrong | z) = Phi(-IC |z|),

the second for normal returns and a small IC.

References
----------
Grinold, R. C. (1994). Alpha is volatility times IC times score. Journal of Portfolio Management 20(4).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import ndtr

from core.params import Params
from features.kernels import rolling_std

Array = NDArray[np.float64]

WINDOW = 63
"""Sessions of the volatility."""


class ForecastRule(Params):
    """Where expected returns come from.

    Attributes
    ----------
    source
        calibrated: the stack's own, which are nothing where the past gave no evidence. score: its score, at a skill.
    skill
        The information coefficient that scores are believed to have.
    """

    source: Literal["calibrated", "score"] = "calibrated"
    skill: float = Field(default=0.03, gt=0, lt=1)


def forecasts(score: Array, returns: Array, horizon: int, skill: float) -> tuple[Array, Array]:
    """Expected returns over a horizon and the probabilities of a wrong sign, `(T, N)` each.

    Parameters
    ----------
    score
        `(T, N)` of unit variance across the symbols, NaN where there is none.
    returns
        `(T, N)` daily, NaN where there is none.
    """
    volatility = rolling_std(returns, WINDOW, WINDOW // 2) * np.sqrt(horizon)
    return skill * volatility * score, ndtr(-skill * np.abs(score))
