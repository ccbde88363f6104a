"""How much to hold: the growth-optimal fraction, less for what is not known.

With excess return mu and variance sigma^2 per unit of time, a stake f of the wealth grows at
mu f - sigma^2 f^2 / 2, most at Kelly's f* = mu / sigma^2. Less is staked for three reasons, as factors:

- a fraction c of f* keeps c (2 - c) of the growth, and the wealth ever falls to a share b of its start with
  probability b^(2 / c - 1) only;
- a mean known with standard error s counts as more variance: mu / (sigma^2 + s^2);
- a bet on the sign that is wrong with probability p is an even-odds bet, staked at max(0, 1 - 2 p).

References
----------
Kelly, J. L. (1956). A new interpretation of information rate. Bell System Technical Journal 35(4).
Thorp, E. O. (2006). The Kelly criterion in blackjack, sports betting, and the stock market. Handbook of Asset and
Liability Management 1, section 7 (continuous time; fractions; falling to a share of the start).
MacLean, L. C., Ziemba, W. T. and Blazenko, G. (1992). Growth versus security in dynamic investment analysis.
Management Science 38(11).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, DataError

Array = NDArray[np.float64]

HALF_KELLY = 0.5
"""Fraction that keeps three quarters of the growth at half the volatility."""


def kelly(mean: ArrayLike, volatility: ArrayLike, error: ArrayLike = 0.0) -> Array:
    """Growth-optimal stake as a multiple of the wealth, negative for a short position.

    Parameters
    ----------
    mean
        Expected excess return per unit of time, fraction; any shape, like the others.
    volatility
        Standard deviation of the return per square root of that unit, > 0.
    error
        Standard error of `mean`, >= 0: the variance of the predictive distribution is the sum of both squares.

    Raises
    ------
    DataError
        A number is not finite, a volatility not positive, or an error negative.

    References
    ----------
    Thorp (2006), section 7; Browne, S. and Whitt, W. (1996). Portfolio choice and the Bayesian Kelly criterion.
    Advances in Applied Probability 28(4), for the predictive variance.
    """
    expected, spread, unsure = _finite("mean", mean), _finite("volatility", volatility), _finite("error", error)
    if (spread <= 0).any():
        raise DataError(f"sizing: volatility {spread.min()}: need > 0, leave out what does not move")
    if (unsure < 0).any():
        raise DataError(f"sizing: error {unsure.min()}: give a standard error, >= 0")
    return np.asarray(expected / (spread**2 + unsure**2))


def growth_kept(fraction: ArrayLike) -> Array:
    """Share c (2 - c) of the greatest growth that a fraction c of Kelly's stake keeps; negative beyond c = 2."""
    c = _finite("fraction", fraction)
    if (c < 0).any():
        raise ConfigError(f"sizing: fraction {c.min()} of the Kelly stake: choose >= 0")
    return np.asarray(c * (2.0 - c))


def fall_probability(share: ArrayLike, fraction: ArrayLike) -> Array:
    """Probability that the wealth ever falls to `share` of its start, at a fraction of Kelly's stake.

    Parameters
    ----------
    share
        Between 0 and 1: 0.5 for half of the start.
    fraction
        0 < c < 2; from 2 on the fall is certain, which the formula does not cover.

    References
    ----------
    Thorp (2006), section 7.
    """
    b, c = _finite("share", share), _finite("fraction", fraction)
    if (b <= 0).any() or (b > 1).any():
        raise ConfigError("sizing: share of the start: choose one above 0 and at most 1")
    if (c <= 0).any() or (c >= 2).any():
        raise ConfigError("sizing: fraction of the Kelly stake: choose one between 0 and 2")
    return np.asarray(b ** (2.0 / c - 1.0))


def confidence_factor(p_wrong: ArrayLike) -> Array:
    """max(0, 1 - 2 p): Kelly's stake on an even-odds bet that is lost with probability p.

    Raises
    ------
    DataError
        A probability lies outside 0..1 or is not finite.
    """
    p = _finite("p_wrong", p_wrong)
    if (p < 0).any() or (p > 1).any():
        raise DataError(f"sizing: p_wrong from {p.min()} to {p.max()}: give probabilities")
    return np.asarray(np.maximum(0.0, 1.0 - 2.0 * p))


def position_size(
    mean: ArrayLike,
    volatility: ArrayLike,
    *,
    error: ArrayLike = 0.0,
    p_wrong: ArrayLike = 0.0,
    fraction: float = HALF_KELLY,
    drawdown_factor: ArrayLike = 1.0,
) -> Array:
    """Stake as a multiple of the wealth: all the factors of this module, and that of the drawdown.

    Parameters
    ----------
    mean, volatility, error
        See `kelly`; shapes broadcast.
    p_wrong
        Probability that the sign of `mean` is wrong, 0..1.
    fraction
        Of Kelly's stake, above 0 and at most 1.
    drawdown_factor
        0..1, from `portfolio.drawdown.drawdown_factor`.

    Raises
    ------
    ConfigError
        The fraction is not above 0 and at most 1.
    DataError
        An input cannot be used; see the parts.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"sizing: fraction {fraction} of the Kelly stake: choose above 0 and at most 1")
    brake = _finite("drawdown_factor", drawdown_factor)
    if (brake < 0).any() or (brake > 1).any():
        raise DataError(f"sizing: drawdown_factor from {brake.min()} to {brake.max()}: give factors from 0 to 1")
    return np.asarray(fraction * kelly(mean, volatility, error) * confidence_factor(p_wrong) * brake)


def _finite(name: str, values: ArrayLike) -> Array:
    out = np.asarray(values, dtype=np.float64)
    if not np.isfinite(out).all():
        raise DataError(f"sizing: {name} has a value that is not finite: leave out what has no forecast")
    return out
