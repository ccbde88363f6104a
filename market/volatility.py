"""Volatility that forgets exponentially, and returns measured in it.

The forecast of a session's variance is an average of squared returns with weights that fall by the factor lambda per
return, sigma^2_{t+1} = lambda sigma^2_t + (1 - lambda) r_t^2, about zero and not about the mean. What is used at t
knows only the returns before t.

Divided by their own forecast, returns of calm and of wild times become comparable: tails are fitted to such returns,
and scaled by the forecast for the next session they are the sample of filtered historical simulation.

An entry that is not finite is unknown (halted, not yet listed, delisted). It changes no forecast: the weights fall per
known return, so that the forecast waits through a halt. Whether a symbol is still traded is for the caller to say.

References
----------
J. P. Morgan and Reuters (1996). RiskMetrics Technical Document, 4th edition, section 5.2.
Barone-Adesi, G., Giannopoulos, K. and Vosper, L. (1999). VaR without correlations for portfolios of derivative
securities. Journal of Futures Markets 19.
Hull, J. and White, A. (1998). Incorporating volatility updating into the historical simulation method for
value-at-risk. Journal of Risk 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, DataError
from core.jit import compiled

Array = NDArray[np.float64]


DECAY = 0.94
"""Factor by which a daily return's weight falls with each newer one (RiskMetrics 1996)."""

MINIMUM = 20
"""Known returns that a forecast needs where nothing else starts it."""


def ewma_volatility(
    returns: ArrayLike,
    decay: float = DECAY,
    *,
    initial: ArrayLike | None = None,
    minimum: int | None = None,
    window: int | None = None,
    ahead: bool = False,
) -> Array:
    """Forecast standard deviation of each session's return from the returns before it.

    Parameters
    ----------
    returns
        `(T,)` or `(T, N)` returns as fractions.
    decay
        Lambda, between 0 and 1.
    initial
        Variance forecast for the first row, a number or `(N,)`. It must itself be known by then to keep the forecasts
        free of the future. Without it the weights are scaled to sum to one over the returns known so far.
    minimum
        Known returns that a forecast needs; by default 20, and none where `initial` is given.
    window
        Rows that a forecast may read: then a short history gives the same bits as a long one. All rows by default.
    ahead
        False: row t is the forecast for row t. True: row t is the forecast for row t + 1 and knows the return of row
        t, so that the last row is that of the session after the sample.

    Returns
    -------
    Array shaped as `returns`, as fractions a session; NaN where fewer than `minimum` returns are known.

    Raises
    ------
    ConfigError
        A parameter is out of range, or both `initial` and `window` are given.
    DataError
        The returns are no `(T,)` or `(T, N)` array, or an initial variance is negative, unknown or of another shape.

    References
    ----------
    RiskMetrics (1996), section 5.2.
    """
    least = minimum if minimum is not None else (0 if initial is not None else MINIMUM)
    if not 0 < decay < 1 or least < 0 or (window is not None and window < max(1, least)):
        raise ConfigError(
            f"volatility: decay {decay}, minimum {least}, window {window}: need 0 < decay < 1, minimum >= 0 and "
            "a window of at least one row and of no fewer than minimum"
        )
    if initial is not None and window is not None:
        raise ConfigError("volatility: an initial variance starts the first row, a window starts each row: give one")
    values = np.ascontiguousarray(returns, dtype=np.float64)
    if values.ndim not in (1, 2):
        raise DataError(f"volatility: returns of shape {values.shape}: give (T,) or (T, N)")
    columns = values if values.ndim == 2 else values[:, None]
    start = _initial(initial, columns.shape[1])
    variance = np.empty((len(columns) + 1, columns.shape[1]))
    variance[0] = start if least == 0 else np.nan
    _ewma(columns, decay, start, least, window or 0, variance[1:])
    kept = variance[1:] if ahead else variance[:-1]
    return np.sqrt(kept).reshape(values.shape)


def standardised_returns(returns: ArrayLike, volatility: ArrayLike) -> Array:
    """Returns in units of their forecast standard deviation, z_t = r_t / sigma_t.

    Parameters
    ----------
    returns, volatility
        Of one shape; row t of `volatility` must be the forecast FOR row t, not the one made at its close.

    Returns
    -------
    Array of that shape; NaN where the return is unknown or the volatility unknown or zero.

    Raises
    ------
    DataError
        The shapes differ, or a volatility is negative.
    """
    values, sigma = (np.asarray(v, dtype=np.float64) for v in (returns, volatility))
    if values.shape != sigma.shape:
        raise DataError(f"volatility: returns {values.shape} and volatility {sigma.shape}: give arrays of one shape")
    if (sigma < 0).any():
        raise DataError("volatility: a negative standard deviation: give volatilities, not returns or log volatilities")
    usable = np.isfinite(values) & np.isfinite(sigma) & (sigma > 0)
    return np.divide(values, sigma, out=np.full(values.shape, np.nan), where=usable)


def filtered_returns(returns: ArrayLike, volatility: ArrayLike, forecast: ArrayLike) -> Array:
    """Past returns as they would have been at the volatility of the next session, r_t sigma_{T+1} / sigma_t.

    The sample of filtered historical simulation: its quantiles are those of the next session's return.

    Parameters
    ----------
    returns, volatility
        `(T,)` or `(T, N)`, as in `standardised_returns`.
    forecast
        sigma_{T+1}, a number or `(N,)`: the last row of `ewma_volatility(..., ahead=True)`.

    Returns
    -------
    Array shaped as `returns`; NaN where a standardised return or the forecast is unknown.

    Raises
    ------
    DataError
        The shapes do not fit, or a volatility is negative.

    References
    ----------
    Barone-Adesi, Giannopoulos and Vosper (1999); Hull and White (1998).
    """
    scaled, ahead = standardised_returns(returns, volatility), np.asarray(forecast, dtype=np.float64)
    if ahead.ndim and ahead.shape != scaled.shape[1:]:
        raise DataError(f"volatility: forecast {ahead.shape} for returns {scaled.shape}: give a number or one a column")
    if (ahead < 0).any():
        raise DataError("volatility: a negative forecast: give standard deviations")
    return scaled * ahead


def _initial(variance: ArrayLike | None, count: int) -> Array:
    """`(N,)` variances that start the recursion; NaN where nothing does."""
    if variance is None:
        return np.full(count, np.nan)
    given = np.asarray(variance, dtype=np.float64)
    if given.shape not in ((), (count,)):
        raise DataError(f"volatility: initial of shape {given.shape}: give a number or one for each of {count} columns")
    if not ((given >= 0) & np.isfinite(given)).all():
        raise DataError("volatility: an initial variance is negative or unknown: give finite variances of at least 0")
    return np.array(np.broadcast_to(given, (count,)))


@compiled
def _ewma(returns, decay, initial, minimum, window, out):
    """Fill the variance that the rows up to each row forecast; `window` 0 reads them all."""
    for n in range(returns.shape[1]):
        # The weights' sum divides their total: it is 1 throughout where an initial variance has the weight left over.
        begun = np.isfinite(initial[n])
        mass = 1.0 if begun else 0.0
        total = initial[n] if begun else 0.0
        seen = 0
        for t in range(len(returns)):
            low = t
            if window > 0:
                low = max(0, t - window + 1)
                mass, total, seen = 0.0, 0.0, 0
            for u in range(low, t + 1):
                r = returns[u, n]
                if np.isfinite(r):
                    mass = decay * mass + (1.0 - decay)
                    total = decay * total + (1.0 - decay) * r * r
                    seen += 1
            out[t, n] = total / mass if mass > 0.0 and seen >= minimum else np.nan
