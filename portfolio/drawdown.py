"""Drawdown, and exposure that shrinks with it.

In continuous time the wealth W never falls below a share alpha of its peak M, and its logarithm grows fastest, with
k (W - alpha M) invested, k = mu / sigma^2: Kelly's stake of the cushion alone. The price of the floor is a share alpha
of the growth: (1 - alpha) mu^2 / (2 sigma^2).

For a book that trades once a session, with DD = 1 - W / M:

    L = L0 clip((D_max - DD) / (D_max - D_soft), 0, 1)

which holds DD <= D_max as long as no session loses more than (D_max - D_soft) / L0.

References
----------
Grossman, S. J. and Zhou, Z. (1993). Optimal investment strategies for controlling drawdowns. Mathematical Finance 3(3).
Cvitanić, J. and Karatzas, I. (1995). On portfolio optimization under "drawdown" constraints. IMA Volumes in
Mathematics and its Applications 65 (the growth rate).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, DataError
from portfolio.sizing import kelly

Array = NDArray[np.float64]


def drawdowns(wealth: ArrayLike) -> Array:
    """`(T,)` fall of a positive series below its highest value so far, as a positive fraction of it.

    Raises
    ------
    DataError
        The series is empty, or a value is not finite or not positive.
    """
    values = np.asarray(wealth, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all() or (values <= 0).any():
        raise DataError(f"drawdown: wealth of shape {values.shape}: give one series of positive numbers")
    return np.asarray(1.0 - values / np.maximum.accumulate(values))


def cushion_exposure(wealth: ArrayLike, peak: ArrayLike, mean: ArrayLike, volatility: ArrayLike, floor: float) -> Array:
    """Amount to invest, in the unit of the wealth: (mu / sigma^2) (W - alpha M), 0 at or below the floor.

    Parameters
    ----------
    wealth, peak
        W and its highest value so far M, both > 0, W <= M.
    mean, volatility
        Expected excess return and standard deviation per unit of time; see `portfolio.sizing.kelly`.
    floor
        Share alpha of the peak that must not be lost, 0 <= alpha < 1.

    References
    ----------
    Grossman and Zhou (1993), for logarithmic utility.
    """
    now, high = np.asarray(wealth, dtype=np.float64), np.asarray(peak, dtype=np.float64)
    if not (np.isfinite(high).all() and (now > 0).all() and (now <= high).all()):
        raise DataError("drawdown: need 0 < wealth <= peak, both finite: update the peak before the exposure")
    cushion = np.maximum(now - _checked_floor(floor) * high, 0.0)
    return np.asarray(kelly(mean, volatility) * cushion)


def cushion_growth(mean: ArrayLike, volatility: ArrayLike, floor: float) -> Array:
    """Long-run growth rate of the wealth under `cushion_exposure`, above the riskless rate.

    References
    ----------
    Cvitanić and Karatzas (1995).
    """
    return np.asarray((1.0 - _checked_floor(floor)) * np.asarray(mean) * kelly(mean, volatility) / 2.0)


def drawdown_factor(drawdown: ArrayLike, soft: float, hard: float) -> Array:
    """Factor 0..1 on the exposure: 1 to the soft limit, 0 from the hard one on, straight between.

    Parameters
    ----------
    drawdown
        Positive fraction of the peak, 0..1; any shape.
    soft, hard
        D_soft and D_max, 0 <= soft < hard <= 1.

    Raises
    ------
    ConfigError
        The limits are not in order.
    DataError
        A drawdown lies outside 0..1 or is not finite.
    """
    if not 0 <= soft < hard <= 1:
        raise ConfigError(f"drawdown: limits {soft} and {hard}: choose 0 <= soft < hard <= 1")
    depth = np.asarray(drawdown, dtype=np.float64)
    if not ((depth >= 0) & (depth <= 1)).all():
        raise DataError("drawdown: a drawdown is not between 0 and 1: give positive fractions of the peak")
    return np.asarray(np.clip((hard - depth) / (hard - soft), 0.0, 1.0))


def controlled_exposure(
    returns: ArrayLike, soft: float, hard: float, *, exposure: float = 1.0, window: int | None = None
) -> Array:
    """Exposure to a strategy whose wealth is that of the controlled book itself.

    Entry t is held over session t and knows the returns before t alone.

    Parameters
    ----------
    returns
        `(T,)` returns of the strategy at an exposure of 1.
    soft, hard
        See `drawdown_factor`.
    exposure
        L0, the exposure without drawdown, > 0.
    window
        Sessions of wealth that the peak is the highest of; None for all. A book that has reached the hard limit is
        out, its wealth stands still, and without a window it stays out for ever.

    Raises
    ------
    ConfigError
        The limits, the exposure or the window are impossible.
    DataError
        A return is not finite, or one session loses the whole wealth.
    """
    moves = np.asarray(returns, dtype=np.float64)
    if moves.ndim != 1 or not np.isfinite(moves).all():
        raise DataError(f"drawdown: returns {moves.shape}: give one series of finite numbers")
    if not 0 < exposure < np.inf:
        raise ConfigError(f"drawdown: exposure {exposure}: choose a finite one > 0")
    if window is not None and window < 1:
        raise ConfigError(f"drawdown: window {window}: choose at least 1 session")
    out = np.empty(len(moves))
    wealth = np.ones(len(moves) + 1)
    peak = 1.0
    for t, move in enumerate(moves):
        peak = max(peak, wealth[t]) if window is None else wealth[max(0, t + 1 - window) : t + 1].max()
        out[t] = exposure * drawdown_factor(1.0 - wealth[t] / peak, soft, hard)
        wealth[t + 1] = wealth[t] * (1.0 + out[t] * move)
        if wealth[t + 1] <= 0:
            raise DataError(f"drawdown: session {t} loses the whole wealth: lower the exposure of {exposure}")
    return out


def _checked_floor(floor: float) -> float:
    if not 0 <= floor < 1:
        raise ConfigError(f"drawdown: floor {floor}: choose a share of the peak, at least 0 and below 1")
    return floor
