"""What plain ways to trade have paid: to hold the market, to follow the year's winners, to buy the week's losers."""

from __future__ import annotations

import numpy as np

from features import kernels as k
from features.memo import remembered
from features.panel import Array, Panel
from features.returns import held_before, market_return, returns_over
from features.windows import MONTH, WEEK, YEAR

SLEEVES = ("passive", "momentum", "contrarian")
LOOKBACK = YEAR + 2
"""Sessions that a pay-off depends on: a year's momentum as of the session before."""
EXTREME = 3.0
"""Standard deviations at which a weight ends."""


@remembered
def payoffs(panel: Panel) -> Array:
    """`(T, 3)` return of the session of each sleeve, a fraction, in the order of `SLEEVES`.

    Momentum and contrarian hold every symbol of the universe of the session before in proportion to its return then,
    less the universe's mean (momentum: of the year but its last month; contrarian: of the week, with the sign turned),
    at a gross exposure of one. No rank decides, so that no tie of returns can be broken by rounding.

    References
    ----------
    Lo, A. W. and MacKinlay, A. C. (1990). When are contrarian profits due to stock market overreaction? Review of
    Financial Studies 3. Jegadeesh, N. and Titman, S. (1993). Returns to buying winners and selling losers. Journal of
    Finance 48 (the month left out).
    """
    momentum = k.shift(returns_over(panel, YEAR - MONTH), MONTH)
    return np.column_stack([market_return(panel), _payoff(panel, momentum), -_payoff(panel, returns_over(panel, WEEK))])


def _payoff(panel: Panel, signal: Array) -> Array:
    """`(T,)` return of holding the standardised signal of the session before."""
    weight = k.shift(np.clip(k.zscore(signal, panel.universe), -EXTREME, EXTREME), 1)
    earned = weight * returns_over(panel, 1)
    held = held_before(panel) & np.isfinite(earned)
    gross = k.row_mean(np.abs(weight), held)
    return k.row_mean(earned, held) / np.where(gross > 0, gross, np.nan)


def sharpe(returns: Array, window: int, min_count: int) -> Array:
    """Mean over standard deviation of a window of sessions, per session; NaN where nothing varies."""
    spread = k.rolling_std(returns, window, min_count)
    return k.rolling_mean(returns, window, min_count) / np.where(spread > 0, spread, np.nan)
