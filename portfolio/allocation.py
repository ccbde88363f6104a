"""Weights from a covariance alone: schemes to hold an optimised book against, by name.

A scheme is a function of the `(N, N)` covariance that returns `(N,)` weights; `portfolio.schemes` has one file an
idea, and a new file there is a new scheme.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import DataError
from core.registry import Registry

Array = NDArray[np.float64]
Scheme = Callable[[Array], Array]

SCHEMES: Registry[Scheme] = Registry("allocation scheme", "portfolio.schemes")


def allocate(scheme: str, covariance: ArrayLike) -> Array:
    """`(N,)` weights of a scheme, with sum 1.

    Parameters
    ----------
    covariance
        `(N, N)` symmetric, finite, with positive variances.

    Raises
    ------
    ConfigError
        No such scheme.
    DataError
        The covariance is not as asked, or singular where the scheme inverts it.
    """
    sigma = np.asarray(covariance, dtype=np.float64)
    if sigma.ndim != 2 or sigma.shape[0] != sigma.shape[1] or not len(sigma):
        raise DataError(f"allocation: covariance of shape {sigma.shape}: give (N, N)")
    broken = ~np.isfinite(sigma).all(axis=1) | ~(np.diag(sigma) > 0)
    if broken.any():
        at = int(np.flatnonzero(broken)[0])
        raise DataError(f"allocation: symbol {at} has a covariance that is not finite, or no variance: leave it out")
    if not np.allclose(sigma, sigma.T, rtol=1e-8, atol=0.0):
        raise DataError(
            "allocation: the covariance is not symmetric: average it with its transpose if that is rounding"
        )
    return SCHEMES[scheme](sigma)


def correlation(covariance: Array) -> Array:
    """Correlations, within -1 and 1 and exactly 1 on the diagonal."""
    deviation = np.sqrt(np.diag(covariance))
    out = np.clip(covariance / np.outer(deviation, deviation), -1.0, 1.0)
    np.fill_diagonal(out, 1.0)
    return out
