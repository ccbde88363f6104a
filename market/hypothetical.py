"""Stress that is supposed: grids of moves, one correlation for all, and the likeliest move that loses too much.

All of them treat a book as the scenarios of the past do: linear in its weights, see `market.scenarios`.

References
----------
Breuer, T., Jandacka, M., Rheinberger, K. and Summer, M. (2009). How to find plausible, severe, and useful stress
scenarios. International Journal of Central Banking 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, DataError
from market.scenarios import MARKET, Book, floor

Array = NDArray[np.float64]


class StressGrid(NamedTuple):
    """Gain or loss `(M, V)` at each market move and volatility, and the book's standard deviation `(V,)`."""

    gains: Array
    volatility: Array


def stress_grid(
    book: Book, covariance: ArrayLike, markets: ArrayLike, multipliers: ArrayLike, *, crowd: float = 1.0
) -> StressGrid:
    """Hypothetical scenarios: the market moves and every volatility is multiplied, correlations as they are.

    The volatility counts twice: in the book's standard deviation, and in what the exit of the crowd costs, which is
    a number of standard deviations.

    Parameters
    ----------
    covariance
        `(N, N)` of the symbols' returns.
    markets
        `(M,)` returns of the market.
    multipliers
        `(V,)` of every standard deviation, at least 0.
    crowd
        Times that the exit of the crowd counts.

    Raises
    ------
    ConfigError
        A move is below -1, a multiplier negative, or a number not finite.
    DataError
        The covariance is none of the book's symbols.
    """
    moves, times = np.asarray(markets, dtype=np.float64), np.asarray(multipliers, dtype=np.float64)
    if moves.ndim != 1 or times.ndim != 1 or not np.isfinite([*moves, *times, crowd]).all():
        raise ConfigError("grid: need lists of finite market moves and multipliers, and a finite crowd")
    if (moves < -1).any() or (times < 0).any():
        raise ConfigError(f"grid: market moves {moves}, multipliers {times}: need moves >= -1 and multipliers >= 0")
    returns = moves[:, None, None] * book.beta + crowd * times[:, None] * book.crowd
    return StressGrid((returns + floor(returns)) @ book.weights, times * correlation_stress(book, covariance).before)


class CorrelationStress(NamedTuple):
    """Standard deviation of the book as it is, and with every pairwise correlation the same."""

    before: float
    after: float


def correlation_stress(
    book: Book, covariance: ArrayLike, correlation: float = 0.7, *, multiplier: float = 1.0
) -> CorrelationStress:
    """The book's standard deviation where all correlations become one number, as they nearly do in a crisis.

    With D the standard deviations, D ((1 - rho) I + rho 11') D is positive semi-definite for any rho from 0 to 1, and
    the book's variance is (1 - rho) sum (w s)^2 + rho (sum w s)^2. A book whose longs and shorts offset becomes safer
    by it: for such a book the scenarios' gains and losses are the stress, not this.

    Parameters
    ----------
    covariance
        `(N, N)` of the symbols' returns.
    correlation
        Of every pair; the default is that of US large companies in the spring of 2020.
    multiplier
        Of every standard deviation after the stress, as `Scenario.volatility_ratio`.

    Raises
    ------
    ConfigError
        The correlation is not within 0 and 1, or the multiplier is negative.
    DataError
        The covariance is none of the book's symbols.
    """
    if not 0 <= correlation <= 1 or not 0 <= multiplier < np.inf:
        raise ConfigError(
            f"correlation stress: correlation {correlation}, multiplier {multiplier}: need 0 to 1, and at least 0"
        )
    matrix = _covariance(covariance, book.symbols)
    risk = book.weights * np.sqrt(np.diag(matrix))
    variance = (1 - correlation) * (risk @ risk) + correlation * risk.sum() ** 2
    return CorrelationStress(
        # Rounding may leave a perfect hedge a variance just below zero.
        float(np.sqrt(max(float(book.weights @ matrix @ book.weights), 0.0))),
        float(multiplier * np.sqrt(variance)),
    )


class ReverseStress(NamedTuple):
    """Shock `(1 + K,)` of the market and the factors, and its Mahalanobis distance in standard deviations."""

    shock: Array
    distance: float


def reverse_stress(book: Book, covariance: ArrayLike, loss: float) -> ReverseStress:
    """The likeliest move of market and factors that loses a given amount.

    With b the book's loadings and Omega the covariance of the factors, the shock of the least Mahalanobis distance
    sqrt(f' Omega^-1 f) among those with b'f = -L is f = -L Omega b / (b' Omega b), at L / sqrt(b' Omega b). Breuer et
    al. (2009) ask the same the other way round, for the greatest loss at a given distance. Omega needs no inverse. If
    the factors are Gaussian, a loss of at least L has the probability Phi(-distance).

    Parameters
    ----------
    covariance
        `(1 + K, 1 + K)` of the returns of the market and the book's factors, over the horizon of the shock.
    loss
        L, a positive fraction of equity, that market and factors alone lose, without the floor of a symbol's return.

    Raises
    ------
    ConfigError
        The loss is not positive.
    DataError
        The covariance is none of market and factors, or no move of them can lose anything.
    """
    if not 0 < loss < np.inf:
        raise ConfigError(f"reverse stress: loss {loss}: give a positive fraction of equity, 0.1 for 10 %")
    matrix = _covariance(covariance, (MARKET, *book.factors))
    b = book.loadings()
    direction = matrix @ b
    variance = float(b @ direction)
    # What is left of a hedge by rounding would lose the amount in a move of no meaning.
    gross = np.append(np.abs(book.weights) @ np.abs(book.beta), np.abs(book.weights) @ np.abs(book.exposures))
    if not variance > 1e-14 * float(gross @ np.abs(matrix) @ gross):
        raise DataError("reverse stress: the book is hedged against market and factors: no move of them loses anything")
    return ReverseStress(-loss * direction / variance, loss / float(np.sqrt(variance)))


def _covariance(values: ArrayLike, names: Sequence[str]) -> Array:
    """A covariance of these names.

    Raises
    ------
    DataError
        It has another shape, holds no finite number, is not symmetric or not positive semi-definite.
    """
    matrix, n = np.asarray(values, dtype=np.float64), len(names)
    if matrix.shape != (n, n):
        raise DataError(f"covariance {matrix.shape}: need {(n, n)}, a row and a column for each of {n} names")
    holes = (~np.isfinite(matrix)).sum(axis=1)
    if holes.any():
        # A name without a number leaves a hole in the row of every other one, but only its own is all holes.
        raise DataError(f"covariance: of {names[holes.argmax()]} not finite: give a longer history or leave it out")
    scale = float(np.max(np.abs(matrix), initial=0.0))
    if (np.abs(matrix - matrix.T) > 1e-8 * scale).any():
        raise DataError("covariance: not symmetric: average it with its transpose")
    if (np.diag(matrix) < 0).any() or (np.linalg.eigvalsh(matrix) < -1e-8 * n * scale).any():
        raise DataError("covariance: a portfolio would have a negative variance: clip its eigenvalues at zero")
    return matrix
