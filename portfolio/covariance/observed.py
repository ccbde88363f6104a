"""Covariance as it was observed, each session alike or the newer ones more."""

from __future__ import annotations

import numpy as np

from core.errors import ConfigError
from portfolio.covariance.base import ESTIMATORS, Array, pairwise


@ESTIMATORS.register("sample")
def sample(returns: Array) -> Array:
    """Sample covariance about each symbol's own mean, one degree of freedom lost. Missing returns: pairwise."""
    products, common = pairwise(returns, np.ones(len(returns)), centred=True)
    return products * common / (common - 1.0)


@ESTIMATORS.register("ewma")
def ewma(returns: Array, *, half_life: float = 63.0) -> Array:
    """Mean products, a session's weight halved every `half_life` sessions, about zero. Missing returns: pairwise.

    References
    ----------
    J. P. Morgan and Reuters (1996). RiskMetrics Technical Document, 4th edition, section 5.2.
    """
    if not 0 < half_life < np.inf:
        raise ConfigError(f"covariance: half-life {half_life}: choose a finite one > 0, in sessions")
    weights = 0.5 ** (np.arange(len(returns))[::-1] / half_life)
    return pairwise(returns, weights, centred=False)[0]
