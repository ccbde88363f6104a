"""Factor models of covariance: what symbols share, and what is their own.

    Sigma = B F B' + diag(d)

with exposures B, covariance F of the factors and specific variances d. Positive semi-definite by construction.

References
----------
Connor, G. and Korajczyk, R. A. (1988). Risk and return in an equilibrium APT: application of a new test methodology.
Journal of Financial Economics 21(2).
Fan, J., Liao, Y. and Mincheva, M. (2013). Large covariance estimation by thresholding principal orthogonal
complements. Journal of the Royal Statistical Society B 75(4) (here with every correlation of the rest set to 0).
Fama, E. F. and MacBeth, J. D. (1973). Risk, return, and equilibrium: empirical tests. Journal of Political Economy
81(3) (factor returns as cross-sectional regressions).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh

from core.errors import ConfigError, DataError
from portfolio.covariance.base import ESTIMATORS, MINIMUM, Array, correlations
from portfolio.covariance.observed import sample


@dataclass(frozen=True)
class FactorModel:
    """A covariance in its parts.

    Attributes
    ----------
    exposures
        `(N, K)` exposures B.
    factors
        `(K, K)` covariance F of the factors' returns.
    specific
        `(N,)` variances d of what the factors do not explain.

    Raises
    ------
    DataError
        The shapes do not fit, a number is not finite, or a variance is negative.
    """

    exposures: Array
    factors: Array
    specific: Array

    def __post_init__(self) -> None:
        for name in ("exposures", "factors", "specific"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float64))
        if self.exposures.ndim != 2 or (self.factors.shape, self.specific.shape) != (
            self.exposures.shape[1:] * 2,
            self.exposures.shape[:1],
        ):
            raise DataError(
                f"covariance: exposures {self.exposures.shape}, factors {self.factors.shape} and specific variances "
                f"{self.specific.shape} do not belong together: need (N, K), (K, K), (N,)"
            )
        if not all(np.isfinite(v).all() for v in (self.exposures, self.factors, self.specific)):
            raise DataError("covariance: a factor model has a number that is not finite: fit it again")
        least = np.linalg.eigvalsh(self.factors).min(initial=0.0)
        if (self.specific < 0).any() or least < -1e-12 * np.abs(self.factors).max(initial=0.0):
            raise DataError("covariance: a variance of a factor model is negative: fit it again")

    def covariance(self) -> Array:
        """`(N, N)` covariance matrix."""
        return np.asarray(self.exposures @ self.factors @ self.exposures.T + np.diag(self.specific))


@ESTIMATORS.register("principal")
def principal(returns: Array, *, factors: int = 5) -> Array:
    """Covariance of `principal_factors`. Missing returns: pairwise."""
    return principal_factors(returns, factors).covariance()


def principal_factors(returns: Array, factors: int) -> FactorModel:
    """The first principal components of the sample correlations as factors; variances as in the sample.

    Parameters
    ----------
    returns
        `(T, N)` past returns, NaN where missing (pairwise).
    factors
        Number K of components, at least 1 and below N.

    Returns
    -------
    FactorModel
        Its factors are uncorrelated and have variance 1.
    """
    count = returns.shape[1]
    try:
        wanted = operator.index(factors)
    except TypeError:
        raise ConfigError(f"covariance: {factors!r} factors: choose a whole number") from None
    if not 1 <= wanted < count:
        raise ConfigError(f"covariance: {wanted} factors of {count} symbols: choose at least 1 and fewer than symbols")
    spread, correlation = correlations(sample(returns))
    values, vectors = eigh(correlation, subset_by_index=[count - wanted, count - 1], check_finite=False)
    loadings = vectors * np.sqrt(np.maximum(values, 0.0))
    # Pairwise correlations need not belong together, and factors of such could explain more than there is.
    loadings /= np.sqrt(np.maximum((loadings**2).sum(axis=1, keepdims=True), 1.0))
    exposures = spread[:, None] * loadings
    return FactorModel(exposures, np.eye(wanted), np.maximum(spread**2 - (exposures**2).sum(axis=1), 0.0))


def exposure_factors(returns: ArrayLike, exposures: ArrayLike, current: ArrayLike | None = None) -> FactorModel:
    """Factor model of given exposures; the factors' returns are each session's cross-sectional regression.

    Parameters
    ----------
    returns
        `(T, N)` past returns; a NaN leaves its symbol out of that session's regression.
    exposures
        `(N, K)`, or `(T, N, K)` with row t known before return t; finite where the return is.
    current
        `(N, K)` exposures of the model; by default the last ones given.

    Raises
    ------
    DataError
        The shapes differ, a symbol has fewer than 20 returns, or in some session the exposures of the symbols
        present do not tell the factors apart.
    """
    values, given = np.asarray(returns, dtype=np.float64), np.asarray(exposures, dtype=np.float64)
    if values.ndim != 2 or given.ndim not in (2, 3) or given.shape[:-1] != values.shape[-(given.ndim - 1) :]:
        raise DataError(
            f"covariance: returns {values.shape} and exposures {given.shape}: give (T, N) and (N, K) or (T, N, K)"
        )
    known = np.isfinite(values)
    few = np.flatnonzero(known.sum(axis=0) < MINIMUM)
    if len(few):
        raise DataError(
            f"covariance: symbol {few[0]} has fewer than {MINIMUM} returns: leave it out or give a longer window"
        )
    steps = np.broadcast_to(given, (*values.shape, given.shape[-1]))
    earned = np.empty((len(values), given.shape[-1]))
    rest = np.full(values.shape, np.nan)
    for t, present in enumerate(known):
        design = steps[t, present]
        if not np.isfinite(design).all():
            raise DataError(f"covariance: row {t} has a return without exposures: give both or neither")
        earned[t], _, rank, _ = np.linalg.lstsq(design, values[t, present])
        if rank < design.shape[1]:
            raise DataError(
                f"covariance: {len(design)} symbols at row {t} do not tell {design.shape[1]} factors apart: drop a "
                "factor that others add up to, or leave the session out"
            )
        rest[t, present] = values[t, present] - design @ earned[t]
    return FactorModel(
        np.asarray(steps[-1] if current is None else current, dtype=np.float64),
        np.atleast_2d(np.cov(earned, rowvar=False)),
        np.nanvar(rest, axis=0, ddof=1),
    )
