"""Equal contributions to the variance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from portfolio.allocation import SCHEMES
from portfolio.budgets import risk_budgets

Array = NDArray[np.float64]


@SCHEMES.register("risk_parity")
def risk_parity(covariance: Array) -> Array:
    """Every asset contributes the same part of the variance."""
    return risk_budgets(covariance, np.ones(len(covariance)))
