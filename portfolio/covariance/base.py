"""What an estimator of covariance is: a function of past returns, whose result is made positive semi-definite.

An estimator is one function, registered in a module of this package; its keywords are its options:

    @ESTIMATORS.register("ewma")
    def ewma(returns: Array, *, half_life: float = 63.0) -> Array: ...

It is given `(T, N)` returns with NaN where a symbol was not traded, and says in its docstring which rows it uses then:
those that a pair of symbols has in common (pairwise), or those that all have (complete).

References
----------
Rousseeuw, P. J. and Molenberghs, G. (1993). Transformation of non positive semidefinite correlation matrices.
Communications in Statistics: Theory and Methods 22(4).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, DataError
from core.registry import Registry

Array = NDArray[np.float64]
Estimator = Callable[..., Array]

ESTIMATORS: Registry[Estimator] = Registry("covariance estimator", "portfolio.covariance")

MINIMUM = 20
"""Returns that every symbol needs, and every pair of symbols in common."""
WINDOW = 252
"""Sessions behind an estimate."""


def estimate(returns: ArrayLike, estimator: str, **options: float) -> Array:
    """Covariance matrix of the next session's returns.

    Parameters
    ----------
    returns
        `(T, N)` past returns, oldest first, fractions; NaN where a symbol was not traded.
    estimator
        Name of a registered estimator.
    **options
        Its own parameters.

    Returns
    -------
    array
        `(N, N)` symmetric and, to rounding, positive semi-definite, in squared fractions a session.

    Raises
    ------
    ConfigError
        The estimator or an option is unknown or impossible.
    DataError
        A return is infinite, or symbols have too few returns; they are named.
    """
    function = ESTIMATORS[estimator]
    known = tuple(inspect.signature(function).parameters)[1:]
    for name in options:
        if name not in known:
            raise ConfigError(
                f"covariance: {estimator} has no option {name!r}: choose from {', '.join(known) or 'none'}"
            )
    return nearest_psd(function(_checked(returns), **options))


def estimate_at(returns: ArrayLike, session: int, estimator: str, *, window: int = WINDOW, **options: float) -> Array:
    """Covariance known at the close of a session: from its own return and those of the `window - 1` before it.

    Parameters
    ----------
    returns
        `(T, N)`; rows after `session` are not read.
    session
        Row, 0 to T - 1, at least `window - 1`.

    Raises
    ------
    ConfigError, DataError
        As `estimate`; or the window is longer than the past.
    """
    values = np.asarray(returns, dtype=np.float64)
    if not MINIMUM <= window <= session + 1 <= len(values):
        raise DataError(
            f"covariance: session {session} of {len(values)} with a window of {window}: give a session that has the "
            f"window behind it, and a window of at least {MINIMUM}"
        )
    return estimate(values[session + 1 - window : session + 1], estimator, **options)


def nearest_psd(matrix: Array) -> Array:
    """Positive semi-definite matrix with the same diagonal, by clipping the correlations' negative eigenvalues.

    A matrix that has none comes back as it is.

    Raises
    ------
    DataError
        A variance is negative, or an entry not finite.

    References
    ----------
    Rousseeuw and Molenberghs (1993), the eigenvalue method.
    """
    symmetric = (matrix + matrix.T) / 2.0
    scale, correlation = correlations(symmetric)
    values, vectors = np.linalg.eigh(correlation)
    if values[0] >= -np.finfo(np.float64).eps * len(values) * max(1.0, values[-1]):
        return np.asarray(symmetric)
    clipped = (vectors * np.maximum(values, 0.0)) @ vectors.T
    length = np.sqrt(np.diag(clipped))
    # Where there is no variance there can be no covariance.
    factor = np.divide(scale, length, out=np.zeros_like(scale), where=length > 0)
    repaired = clipped * np.outer(factor, factor)
    np.fill_diagonal(repaired, np.diag(symmetric))
    return np.asarray((repaired + repaired.T) / 2.0)


def correlations(matrix: Array) -> tuple[Array, Array]:
    """Standard deviations and correlations of a symmetric matrix; 0 beside a symbol that never moves.

    Raises
    ------
    DataError
        A variance is negative, or an entry not finite.
    """
    variance = np.diag(matrix)
    if not np.isfinite(matrix).all() or (variance < 0).any():
        raise DataError("covariance: a variance is negative or an entry not finite: look for extreme returns")
    scale = np.sqrt(variance)
    units = np.where(scale > 0, scale, 1.0)
    return scale, matrix / np.outer(units, units)


def pairwise(returns: Array, weights: Array, *, centred: bool, minimum: int = MINIMUM) -> tuple[Array, Array]:
    """Weighted means of products over the rows that each pair has in common.

    Parameters
    ----------
    returns
        `(T, N)`, NaN where missing.
    weights
        `(T,)` weight of each row, > 0.
    centred
        Take each symbol's own weighted mean off first.

    Returns
    -------
    products, common
        `(N, N)` means, and how many rows each pair has in common.

    Raises
    ------
    DataError
        A pair has fewer than `minimum` rows in common.
    """
    known = np.isfinite(returns)
    filled = np.where(known, returns, 0.0)
    present = known.astype(np.float64)
    common = present.T @ present
    if common.min() < minimum:
        i, j = np.unravel_index(int(common.argmin()), common.shape)
        raise DataError(
            f"covariance: symbols {i} and {j} have {int(common[i, j])} returns in common, {minimum} are needed: leave "
            "one out, give a longer window, or a factor model of given exposures"
        )
    if centred:
        filled = np.where(known, filled - (weights @ filled) / (weights @ present), 0.0)
    root = np.sqrt(weights)[:, None]
    total = (filled * root).T @ (filled * root)
    mass = (present * root).T @ (present * root)
    return total / mass, common


def complete_rows(returns: Array, minimum: int = MINIMUM) -> Array:
    """Rows in which every symbol has a return.

    Raises
    ------
    DataError
        They are fewer than `minimum`; the symbol with most gaps is named.
    """
    gaps = ~np.isfinite(returns)
    kept = returns[~gaps.any(axis=1)]
    if len(kept) < minimum:
        worst = int(gaps.sum(axis=0).argmax())
        raise DataError(
            f"covariance: {len(kept)} of {len(returns)} sessions have a return of every symbol, {minimum} are needed: "
            f"leave out symbol {worst}, which lacks {int(gaps[:, worst].sum())}, or use a pairwise estimator ('sample')"
        )
    return kept


def _checked(returns: ArrayLike) -> Array:
    values = np.ascontiguousarray(returns, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise DataError(f"covariance: returns of shape {values.shape}: give (T, N), one column a symbol")
    if np.isinf(values).any():
        row, column = np.argwhere(np.isinf(values))[0]
        raise DataError(f"covariance: return of symbol {column} at row {row} is infinite: clean the prices")
    seen = np.isfinite(values).sum(axis=0)
    few = np.flatnonzero(seen < MINIMUM)
    if len(few):
        named = ", ".join(map(str, few[:5])) + (", ..." if len(few) > 5 else "")
        raise DataError(
            f"covariance: {len(few)} of {len(seen)} symbols have fewer than {MINIMUM} returns (columns {named}): "
            "leave them out or give a longer window"
        )
    return values
