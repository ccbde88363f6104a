"""Covariance drawn towards no correlation, by as much as its noise asks for.

References
----------
Ledoit, O. and Wolf, M. (2004). A well-conditioned estimator for large-dimensional covariance matrices. Journal of
Multivariate Analysis 88(2).
"""

from __future__ import annotations

import numpy as np
from sklearn.covariance import ledoit_wolf as shrink

from portfolio.covariance.base import ESTIMATORS, Array, complete_rows


@ESTIMATORS.register("ledoit_wolf")
def ledoit_wolf(returns: Array) -> Array:
    """Correlations shrunk to the identity, variances as in the sample. Missing returns: complete rows.

    Returns are shrunk in units of their own volatility: else the quiet symbols would get the variance of the wild.
    """
    kept = complete_rows(returns)
    spread = kept.std(axis=0, ddof=1)
    moving = np.flatnonzero(spread > 0)
    out = np.zeros((kept.shape[1], kept.shape[1]))
    if len(moving):
        scaled = (kept[:, moving] - kept[:, moving].mean(axis=0)) / kept[:, moving].std(axis=0)
        correlation, _ = shrink(scaled, assume_centered=True)
        out[np.ix_(moving, moving)] = correlation * np.outer(spread[moving], spread[moving])
    return out
