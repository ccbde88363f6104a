"""Volume against its usual level, and which way it was traded: what several families share."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import erf

from features.kernels import rolling_mean, rolling_std
from features.memo import remembered
from features.panel import Array, Panel
from features.returns import returns_over
from features.windows import QUARTER, least


@remembered
def mean_volume(panel: Panel, window: int) -> Array:
    """Mean volume in shares, NaN where nothing was traded."""
    mean = rolling_mean(panel["volume"], window, least(window))
    return np.where(mean > 0, mean, np.nan)


@remembered
def standard_return(panel: Panel) -> Array:
    """The session's return in standard deviations of the quarter's; NaN where the price never moved."""
    returns = returns_over(panel, 1)
    spread = rolling_std(returns, QUARTER, least(QUARTER))
    return returns / np.where(spread > 0, spread, np.nan)


@remembered
def imbalance(panel: Panel) -> Array:
    """Volume bought less volume sold, in average volumes of the quarter; looks back a quarter and a session.

    Of the session's volume the share Phi(r / sigma) was bought: (V / ADV) (2 Phi(r / sigma) - 1).

    References
    ----------
    Easley, D., Lopez de Prado, M. and O'Hara, M. (2012). Flow toxicity and liquidity in a high-frequency world. Review
    of Financial Studies 25 (bulk classification of volume).
    """
    return panel["volume"] / mean_volume(panel, QUARTER) * bought_less_sold(standard_return(panel))


def bought_less_sold(standardised: Array) -> Array:
    """2 Phi(z) - 1: the share of volume bought less the share sold in a session whose return is z deviations."""
    return np.asarray(erf(standardised / math.sqrt(2.0)))
