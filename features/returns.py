"""Returns, the market's return and market betas: what several families and the target share."""

from __future__ import annotations

import numpy as np

from features.kernels import change, rolling_beta, rolling_std, rolling_sum, row_mean
from features.memo import remembered
from features.panel import Array, Mask, Panel
from features.windows import least


@remembered
def unbroken(panel: Panel, sessions: int) -> Array:
    """1.0 where no unresolved jump of the price level lies in the last `sessions` sessions, else NaN."""
    if "level_break" not in panel.fields:
        return np.ones(panel.shape)
    return np.where(rolling_sum(panel["level_break"], sessions, 1) > 0, np.nan, 1.0)


@remembered
def returns_over(panel: Panel, sessions: int) -> Array:
    """`close[t] / close[t - sessions] - 1`, a fraction; NaN across a break of the price level."""
    return change(panel["close"], sessions) * unbroken(panel, sessions)


@remembered
def held_before(panel: Panel) -> Mask:
    """Where a symbol was in the universe at the close before: those whose return a session's mean is of."""
    held = np.zeros(panel.shape, dtype=bool)
    held[1:] = panel.universe[:-1]
    return held


@remembered
def market_return(panel: Panel) -> Array:
    """`(T,)` equal-weight return of the names that were in the universe at the close before."""
    return row_mean(returns_over(panel, 1), held_before(panel))


@remembered
def market_grid(panel: Panel) -> Array:
    """The market's return as `(T, N)`, for kernels of two arrays."""
    return np.repeat(market_return(panel)[:, None], panel.shape[1], axis=1)


@remembered
def market_beta(panel: Panel, sessions: int, min_count: int) -> Array:
    """Slope of daily returns on the market's return over `sessions` returns; looks back one session more."""
    return rolling_beta(market_grid(panel), returns_over(panel, 1), sessions, min_count)


@remembered
def universe_risk(panel: Panel, sessions: int) -> tuple[Array, Array, Array]:
    """Symbols of the universe, the mean of their daily standard deviations, and their average correlation; `(T,)` each.

    The correlation is that of two symbols if every pair had the same: with n symbols of standard deviations s and an
    equal-weight return of variance V, `(n V - mean(s^2)) / (n mean(s)^2 - mean(s^2))`. It looks back one session more.
    """
    whole = rolling_std(market_return(panel)[:, None], sessions, least(sessions))[:, 0] ** 2
    own = rolling_std(returns_over(panel, 1), sessions, least(sessions))
    count = (panel.universe & np.isfinite(own)).sum(axis=1).astype(np.float64)
    risk, variance = row_mean(own, panel.universe), row_mean(own**2, panel.universe)
    # The pairs are all cells of the matrix of covariances less its diagonal; those of the products of risks likewise.
    pairs, products = count * whole - variance, count * risk**2 - variance
    correlation = np.where(count > 1, pairs / np.where(products > 0, products, np.nan), np.nan)
    return count, risk, correlation
