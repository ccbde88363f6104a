"""What each position adds to the risk of a book, and where the book is exposed.

Volatility and expected shortfall are homogeneous of degree one in the weights, so that by Euler's theorem the
components w_i dR/dw_i add up to the risk R of the book:

    volatility           dR/dw_i = (Sigma w)_i / sigma
    expected shortfall   dR/dw_i = -E[r_i | the book loses its VaR or more]

References
----------
Litterman, R. (1996). Hot spots and hedges. Journal of Portfolio Management 23 (special issue).
Tasche, D. (1999). Risk contributions and performance measurement. Working paper, TU München.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import DataError
from portfolio.covariance.factors import FactorModel
from portfolio.value_at_risk.base import checked_level
from portfolio.value_at_risk.historical import tail_weights

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Contributions:
    """Risk of a book in parts.

    Attributes
    ----------
    total
        Risk of the book, fraction of the capital a session.
    marginal
        `(N,)` change of the total for a unit more of each weight.
    component
        `(N,)` weight times marginal; they add up to the total. Negative for a hedge.
    """

    total: float
    marginal: Array
    component: Array

    @property
    def share(self) -> Array:
        """`(N,)` components as shares of the total, which add up to 1; NaN for a book without risk."""
        return self.component / self.total if self.total else np.full(len(self.component), np.nan)


class SectorExposure(NamedTuple):
    """Exposure by sector: `(S,)` codes in rising order, net (long less short) and gross (long plus short) weights."""

    sectors: NDArray[np.int64]
    net: Array
    gross: Array


def volatility_contributions(weights: ArrayLike, covariance: ArrayLike) -> Contributions:
    """Parts of a book's volatility. A book without volatility has parts of 0.

    Parameters
    ----------
    weights
        `(N,)` fractions of the capital, short negative.
    covariance
        `(N, N)` positive semi-definite.

    Raises
    ------
    DataError
        The shapes differ, a number is not finite, or the variance of the book is negative.

    References
    ----------
    Litterman (1996).
    """
    w = _weights(weights)
    sigma = _table("covariance", covariance, len(w), len(w))
    pull = sigma @ w
    variance = float(w @ pull)
    # A hedged book of a singular matrix has variance 0 but for rounding.
    noise = 1e-14 * float(np.abs(w) @ np.abs(sigma) @ np.abs(w))
    if variance < -noise:
        raise DataError("contributions: the covariance gives the book a negative variance: give a semi-definite one")
    if variance <= noise:
        return Contributions(0.0, np.zeros(len(w)), np.zeros(len(w)))
    total = float(np.sqrt(variance))
    return Contributions(total, pull / total, w * pull / total)


def shortfall_contributions(weights: ArrayLike, scenarios: ArrayLike, level: float) -> Contributions:
    """Parts of a book's expected shortfall over equally likely scenarios.

    Parameters
    ----------
    weights
        `(N,)` fractions of the capital.
    scenarios
        `(S, N)` returns of the symbols: past sessions, filtered ones, or simulated.
    level
        Confidence, at least 0.5 and below 1; S must be 1 / (1 - level) or more.

    Returns
    -------
    Contributions
        Its total is the shortfall of `historical` on the book's returns.

    Raises
    ------
    ConfigError
        The level is none.
    DataError
        The shapes differ, a number is not finite, or the scenarios are too few.

    References
    ----------
    Tasche (1999), section 5.
    """
    w = _weights(weights)
    returns = _table("scenarios", scenarios, None, len(w))
    marginal = -tail_weights(-(returns @ w), checked_level(level)) @ returns
    return Contributions(float(w @ marginal), marginal, w * marginal)


def factor_contributions(weights: ArrayLike, model: FactorModel) -> Contributions:
    """Parts of a book's volatility by factor, the specific risk last.

    Returns
    -------
    Contributions
        `(K + 1,)`. Of a factor, marginal to the book's exposure to it; of the specific risk, which has no exposure,
        marginal and component are the same.
    """
    w = _weights(weights)
    exposure = factor_exposures(w, model.exposures)
    pull = model.factors @ exposure
    own = float(w**2 @ model.specific)
    variance = float(exposure @ pull) + own
    if variance <= 0:
        return Contributions(0.0, np.zeros(len(pull) + 1), np.zeros(len(pull) + 1))
    total = float(np.sqrt(variance))
    return Contributions(total, np.append(pull, own) / total, np.append(exposure * pull, own) / total)


def effective_number(weights: ArrayLike) -> float:
    """Number of equal positions that are as concentrated: 1 / sum w^2 of absolute weights scaled to sum to 1.

    0 for an empty book.

    References
    ----------
    Hirschman, A. O. (1945). National Power and the Structure of Foreign Trade (the index it is the inverse of).
    """
    size = np.abs(_weights(weights))
    gross = float(size.sum())
    return 1.0 / float(((size / gross) ** 2).sum()) if gross > 0 else 0.0


def factor_exposures(weights: ArrayLike, exposures: ArrayLike) -> Array:
    """`(K,)` exposure of a book to each factor, B'w.

    Parameters
    ----------
    weights
        `(N,)` fractions of the capital.
    exposures
        `(N, K)`; finite where there is a weight, anything where there is none.
    """
    w = _weights(weights)
    held = w != 0
    given = np.asarray(exposures, dtype=np.float64)
    if given.ndim != 2 or len(given) != len(w):
        raise DataError(f"contributions: exposures {given.shape} for {len(w)} weights: give (N, K)")
    return np.asarray(w[held] @ _table("exposures", given[held], int(held.sum()), given.shape[1]))


def sector_exposures(weights: ArrayLike, sectors: ArrayLike) -> SectorExposure:
    """Net and gross weight of each sector.

    Parameters
    ----------
    weights
        `(N,)` fractions of the capital.
    sectors
        `(N,)` integer codes, one for symbols of no known sector too.
    """
    w, codes = _weights(weights), np.asarray(sectors)
    if codes.shape != w.shape or not np.issubdtype(codes.dtype, np.integer):
        raise DataError(
            f"contributions: sectors {codes.shape} of {codes.dtype} for {len(w)} weights: give integer codes"
        )
    names, place = np.unique(codes.astype(np.int64), return_inverse=True)
    net, gross = (np.bincount(place, weights=part).astype(np.float64) for part in (w, np.abs(w)))
    return SectorExposure(names, net, gross)


def _weights(weights: ArrayLike) -> Array:
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 1 or not np.isfinite(w).all():
        raise DataError(f"contributions: weights of shape {w.shape}: give one series of finite fractions, 0 for none")
    return w


def _table(name: str, values: ArrayLike, rows: int | None, columns: int) -> Array:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != columns or (rows is not None and len(table) != rows):
        raise DataError(f"contributions: {name} {table.shape} for {columns} columns: give one for each weight")
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise DataError(
            f"contributions: {name}[{row}, {column}] is {table[row, column]}: fill it with what the holder would have "
            "earned, or leave the position out"
        )
    return table
