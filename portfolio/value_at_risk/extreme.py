"""Extreme value theory: a generalised Pareto law for the surprises beyond a threshold.

The law is fitted to losses in units of their volatility, which are nearer to independent and alike than the losses
themselves, and scaled by the volatility of the session to come.

References
----------
McNeil, A. J. and Frey, R. (2000). Estimation of tail-related risk measures for heteroscedastic financial time series:
an extreme value approach. Journal of Empirical Finance 7(3-4).
"""

from __future__ import annotations

from core.errors import DataError
from market.tails import MINIMUM_PEAKS, fit_peaks
from market.volatility import standardised_returns
from portfolio.value_at_risk.base import Array, TailRisk, risk_model
from portfolio.value_at_risk.filtered import ewma_of

SHARE = 0.1
"""Of the surprises, taken for the tail (McNeil and Frey 2000, section 2.2)."""


@risk_model("peaks_over_threshold", minimum=int(MINIMUM_PEAKS / SHARE))
def peaks_over_threshold(returns: Array, level: float) -> TailRisk:
    """Generalised Pareto tail of the worst tenth of returns in units of their exponentially weighted volatility."""
    volatility, forecast = ewma_of(returns)
    tail = fit_peaks(-standardised_returns(returns, volatility), share=SHARE).scaled(forecast)
    if tail.shape >= 1:
        raise DataError(
            f"value at risk: the tail has shape {tail.shape:.3g} and no mean, so no expected shortfall: give a longer "
            "history, or use the model 'filtered_ewma'"
        )
    return TailRisk(tail.value_at_risk(level), tail.expected_shortfall(level))
