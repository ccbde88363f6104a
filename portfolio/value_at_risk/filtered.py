"""Filtered historical simulation: past surprises at the volatility of the next session.

Returns are divided by their own volatility, known before each, and multiplied by that of the session to come.

References
----------
Barone-Adesi, G., Giannopoulos, K. and Vosper, L. (1999). VaR without correlations for portfolios of derivative
securities. Journal of Futures Markets 19(5).
Bollerslev, T. (1986). Generalized autoregressive conditional heteroskedasticity. Journal of Econometrics 31(3).
"""

from __future__ import annotations

import numpy as np
from arch import arch_model

from core.errors import ConvergenceError
from market.volatility import ewma_volatility, filtered_returns
from portfolio.value_at_risk.base import Array, TailRisk, risk_model, spread_of
from portfolio.value_at_risk.historical import empirical_risk

_STARTS: tuple[Array | None, ...] = (None, np.array([0.0, 0.05, 0.05, 0.90]))
"""Mean, omega, alpha, beta to start a fit of returns of variance 1 from; None for the library's own."""


@risk_model("filtered_ewma", minimum=10)
def filtered_ewma(returns: Array, level: float) -> TailRisk:
    """Filtered by the exponentially weighted volatility about zero, begun at the sample's variance."""
    volatility, forecast = ewma_of(returns)
    return empirical_risk(-filtered_returns(returns, volatility, forecast), level)


@risk_model("filtered_garch", minimum=250)
def filtered_garch(returns: Array, level: float) -> TailRisk:
    """Filtered by a GARCH(1, 1) about a constant mean, fitted by normal quasi-maximum likelihood."""
    spread = spread_of(returns, "returns")
    model = arch_model(returns / spread, mean="Constant", vol="GARCH", p=1, q=1, dist="normal", rescale=False)
    for start in _STARTS:
        fitted = model.fit(disp="off", show_warning=False, starting_values=start)
        if fitted.convergence_flag == 0:
            break
    else:
        said = fitted.optimization_result.message
        raise ConvergenceError(
            f"value at risk: GARCH(1, 1) on {len(returns)} returns did not converge ({said}): give a longer history or "
            "use the model 'filtered_ewma'"
        )
    ahead = fitted.forecast(horizon=1, reindex=False)
    mean, variance = float(ahead.mean.to_numpy()[-1, 0]), float(ahead.variance.to_numpy()[-1, 0])
    return empirical_risk(-spread * (mean + np.sqrt(variance) * np.asarray(fitted.std_resid)), level)


def ewma_of(returns: Array) -> tuple[Array, float]:
    """`(T,)` volatility forecast for each session of a sample, and that for the session after it.

    Raises
    ------
    DataError
        The returns do not vary.
    """
    spread_of(returns, "returns")
    start = float(returns.var())
    after = ewma_volatility(returns, initial=start, ahead=True)
    return np.append(np.sqrt(start), after[:-1]), float(after[-1])
