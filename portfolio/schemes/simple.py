"""Weights in closed form: equal, by inverse volatility, of least variance.

References
----------
DeMiguel, V., Garlappi, L. and Uppal, R. (2009). Optimal versus naive diversification. Review of
Financial Studies 22(5).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from portfolio.allocation import SCHEMES, correlation

Array = NDArray[np.float64]

# Beyond this the inverse of the correlations has no digits that an estimate could justify.
_CONDITION = 1e10


@SCHEMES.register("equal_weight")
def equal_weight(covariance: Array) -> Array:
    """1 / N each."""
    return np.full(len(covariance), 1.0 / len(covariance))


@SCHEMES.register("inverse_volatility")
def inverse_volatility(covariance: Array) -> Array:
    """Proportional to 1 / sigma."""
    inverse = 1.0 / np.sqrt(np.diag(covariance))
    return inverse / inverse.sum()


@SCHEMES.register("minimum_variance")
def minimum_variance(covariance: Array) -> Array:
    """Proportional to Sigma^-1 1, some of them short.

    Raises
    ------
    DataError
        The covariance is singular.
    """
    deviation = np.sqrt(np.diag(covariance))
    shared = correlation(covariance)
    if np.linalg.cond(shared) > _CONDITION:
        raise DataError("minimum variance: the covariance is singular: shrink it, or use a factor model")
    weights = np.linalg.solve(shared, 1.0 / deviation) / deviation
    return weights / weights.sum()
