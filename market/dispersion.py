"""Whether the members of a market still move apart: dispersion across them, and their average correlation.

Where everything moves together, choice is worth little and diversification fails: dispersion is low against
volatility and the average correlation high. The members are sectors or stocks.

Row t of every result reads the rows up to t, at most its own window of them, and has the bits of these alone. An entry
that is not finite is unknown: such a member is left out.

References
----------
Solnik, B. and Roulet, J. (2000). Dispersion as cross-sectional correlation. Financial Analysts Journal 56.
Pollet, J. M. and Wilson, M. (2010). Average correlation and stock market returns. Journal of Financial Economics 96.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, DataError
from core.jit import compiled

Array = NDArray[np.float64]


def cross_dispersion(returns: ArrayLike, minimum: int = 3) -> Array:
    """Standard deviation (over n) across the members' returns of each session, about their plain mean.

    Parameters
    ----------
    returns
        `(T, S)` returns as fractions.
    minimum
        Members that must be known.

    Returns
    -------
    `(T,)` as fractions; NaN where fewer are known.

    Raises
    ------
    ConfigError
        `minimum` is below 2.
    DataError
        The returns are no `(T, S)` array.

    References
    ----------
    Solnik and Roulet (2000).
    """
    if minimum < 2:
        raise ConfigError(f"dispersion: minimum {minimum}: a dispersion needs 2 members")
    table = _table(returns)
    known = np.isfinite(table)
    count = np.where(known.sum(axis=1) >= minimum, known.sum(axis=1), np.nan)
    mean = np.where(known, table, 0.0).sum(axis=1) / count
    apart = np.where(known, table - mean[:, None], 0.0)
    return np.sqrt((apart**2).sum(axis=1) / count)


def average_correlation(returns: ArrayLike, window: int, weights: ArrayLike | None = None) -> Array:
    """Mean pairwise correlation over the last `window` rows, from the variances of the members and of their portfolio.

    rho = (s_p^2 - sum w^2 s^2) / ((sum w s)^2 - sum w^2 s^2): the correlations weighed by w_i s_i w_j s_j, so that no
    matrix of them is needed.

    Parameters
    ----------
    returns
        `(T, S)` returns as fractions.
    window
        Rows, at least 2.
    weights
        `(S,)` or `(T, S)` of at least 0, those of row t for its whole window; equal by default. Their scale is free.

    Returns
    -------
    `(T,)` of the members known throughout the window; NaN where fewer than two of positive weight vary.

    Raises
    ------
    ConfigError
        The window is too short.
    DataError
        The returns are no `(T, S)` array, or the weights do not fit, or one is negative or unknown.

    References
    ----------
    Pollet and Wilson (2010).
    """
    if window < 2:
        raise ConfigError(f"dispersion: window {window}: choose at least 2 rows")
    table = _table(returns)
    shares = np.ones(table.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)
    if shares.shape not in (table.shape, table.shape[1:]):
        raise DataError(f"dispersion: weights {shares.shape} for returns {table.shape}: give (S,) or (T, S)")
    if not ((shares >= 0) & np.isfinite(shares)).all():
        raise DataError("dispersion: a weight is negative or unknown: give 0 to what the portfolio does not hold")
    out = np.full(len(table), np.nan)
    _average(table, np.ascontiguousarray(np.broadcast_to(shares, table.shape)), window, out)
    return out


def _table(values: ArrayLike) -> Array:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2:
        raise DataError(f"dispersion: returns of shape {table.shape}: give (T, S)")
    return np.ascontiguousarray(table)


@compiled
def _average(returns, weights, window, out):
    portfolio = np.empty(window)
    for t in range(window - 1, len(returns)):
        portfolio[:] = 0.0
        risk, own, varying = 0.0, 0.0, 0
        for s in range(returns.shape[1]):
            w = weights[t, s]
            mean = 0.0
            for i in range(window):
                mean += returns[t - i, s] - returns[t, s]
            if w == 0.0 or not np.isfinite(mean):
                continue
            mean = returns[t, s] + mean / window
            square = 0.0
            for i in range(window):
                gap = returns[t - i, s] - mean
                portfolio[i] += w * gap
                square += gap * gap
            if square > 0.0:
                varying += 1
            risk += w * np.sqrt(square)
            own += w * w * square
        if varying >= 2:
            whole = 0.0
            for i in range(window):
                whole += portfolio[i] * portfolio[i]
            out[t] = (whole - own) / (risk * risk - own)
