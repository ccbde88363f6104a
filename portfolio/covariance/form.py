"""Covariance of returns as loadings and specific variances: Sigma = B B' + diag(v).

The form costs an optimiser K quadratic terms instead of N, and cannot lose its sign: it is positive
semidefinite whatever the numbers are. A plain matrix becomes it by its eigenvectors, with v = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import DataError

Array = NDArray[np.float64]

# Eigenvalues below this part of the largest are rounding, of either sign.
_RANK_TOLERANCE = 1e-10


@dataclass(frozen=True, eq=False)
class Covariance:
    """Sigma = B B' + diag(v).

    Attributes
    ----------
    loadings
        `(N, K)` B, of factors with unit variance and no correlation.
    specific
        `(N,)` v, variances of what the factors leave, >= 0.

    Raises
    ------
    DataError
        Shapes do not belong together, an entry is not finite, or a specific variance is negative.
    """

    loadings: Array
    specific: Array

    def __post_init__(self) -> None:
        if self.loadings.ndim != 2 or self.specific.shape != self.loadings.shape[:1]:
            raise DataError(
                f"covariance: loadings {self.loadings.shape} and specific variances {self.specific.shape} do not "
                "belong together: give (N, K) and (N,)"
            )
        broken = ~(np.isfinite(self.loadings).all(axis=1) & np.isfinite(self.specific) & (self.specific >= 0))
        if broken.any():
            raise DataError(
                f"covariance: symbol {int(np.flatnonzero(broken)[0])} has a loading or specific variance that is not "
                "finite, or a negative variance: leave the symbol out or estimate over a longer history"
            )

    @classmethod
    def of(cls, matrix: ArrayLike) -> Covariance:
        """The form of a `(N, N)` symmetric positive semidefinite matrix, singular or not.

        Raises
        ------
        DataError
            The matrix is not square, finite, symmetric or positive semidefinite.
        """
        values = np.asarray(matrix, dtype=np.float64)
        if values.ndim != 2 or values.shape[0] != values.shape[1] or not len(values):
            raise DataError(f"covariance: shape {values.shape}: give a square matrix")
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise DataError(f"covariance: row {row} is not finite: leave the symbol out")
        if not np.allclose(values, values.T, rtol=1e-8, atol=1e-12 * np.abs(values).max()):
            raise DataError(
                "covariance: the matrix is not symmetric: average it with its transpose if that is rounding"
            )
        eigenvalues, vectors = np.linalg.eigh(0.5 * (values + values.T))
        rounding = _RANK_TOLERANCE * max(float(eigenvalues[-1]), 0.0)
        if eigenvalues[0] < -rounding - 1e-300:
            raise DataError(
                f"covariance: eigenvalue {eigenvalues[0]:.3g} is negative: shrink the matrix, or estimate it on "
                "sessions that all symbols share"
            )
        kept = eigenvalues > rounding
        return cls(vectors[:, kept] * np.sqrt(eigenvalues[kept]), np.zeros(len(values)))

    @classmethod
    def factor_model(cls, exposures: ArrayLike, factors: ArrayLike, specific: ArrayLike) -> Covariance:
        """X F X' + diag(v) of `(N, K)` exposures X, the factors' `(K, K)` covariance F and `(N,)` variances v."""
        root = cls.of(factors).loadings
        return cls(np.asarray(exposures, dtype=np.float64) @ root, np.asarray(specific, dtype=np.float64))

    def __len__(self) -> int:
        return len(self.specific)

    def variance(self, weights: Array) -> float:
        """w' Sigma w."""
        return float(((self.loadings.T @ weights) ** 2).sum() + self.specific @ weights**2)

    def matrix(self) -> Array:
        """`(N, N)` Sigma."""
        return self.loadings @ self.loadings.T + np.diag(self.specific)

    def volatility(self) -> Array:
        """`(N,)` standard deviations."""
        return np.sqrt((self.loadings**2).sum(axis=1) + self.specific)

    def correlation(self) -> Array:
        """`(N, N)` correlations, 0 beside a symbol that never moves, 1 on the diagonal."""
        deviation = self.volatility()
        scaled = np.divide(
            self.loadings, deviation[:, None], out=np.zeros_like(self.loadings), where=deviation[:, None] > 0
        )
        out = np.clip(scaled @ scaled.T, -1.0, 1.0)
        np.fill_diagonal(out, 1.0)
        return out
