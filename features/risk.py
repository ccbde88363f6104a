"""The risk scale of an outcome, known before it: what intervals are drawn with."""

from __future__ import annotations

import math

from features.companies import joined, separated
from features.kernels import rolling_std
from features.panel import Array, Panel
from features.returns import returns_over

WINDOW = 63
LOOKBACK = WINDOW + 1
"""Sessions that the scale of a session depends on, itself included."""


def risk_scale(panel: Panel, horizon: int) -> Array:
    """`(T, N)` standard deviation of a return over `horizon` sessions, a fraction.

    Daily close-to-close volatility of the last 63 returns, scaled by the square root of time; NaN
    where fewer than half of them are known.
    """
    return joined(panel, rolling_std(returns_over(separated(panel), 1), WINDOW, WINDOW // 2) * math.sqrt(horizon))
