"""Historical simulation: what was lost before is what can be lost next."""

from __future__ import annotations

import numpy as np

from core.errors import DataError
from portfolio.value_at_risk.base import Array, TailRisk, risk_model


@risk_model("historical", minimum=2)
def historical(returns: Array, level: float) -> TailRisk:
    """Tail of the returns as they were, each equally likely; see `empirical_risk`."""
    return empirical_risk(-returns, level)


def empirical_risk(losses: Array, level: float) -> TailRisk:
    """VaR and ES of equally likely losses.

    The VaR is the quantile with straight lines between the order statistics. The ES is the mean of the worst
    (1 - p) n losses, the last of them counted in part: a coherent measure, and never below that quantile.

    Raises
    ------
    DataError
        The losses are fewer than 1 / (1 - p): none would be expected in the tail.

    References
    ----------
    Acerbi and Tasche (2002), the estimator of expected shortfall by order statistics; Hyndman, R. J. and Fan, Y.
    (1996). Sample quantiles in statistical packages. American Statistician 50(4), definition 7.
    """
    return TailRisk(float(np.quantile(losses, level)), float(tail_weights(losses, level) @ losses))


def tail_weights(losses: Array, level: float) -> Array:
    """`(n,)` share of each loss in the expected shortfall: 1 / ((1 - p) n) for the worst, in part for the last.

    Of equal losses the earlier one counts first.

    Raises
    ------
    DataError
        The losses are fewer than 1 / (1 - p).
    """
    tail = (1.0 - level) * len(losses)
    # 10 losses at 90 % are enough, though 10 (1 - 0.9) is a little below 1 in floating point.
    if tail < 1.0 - 1e-9:
        raise DataError(
            f"value at risk: {len(losses)} losses leave none beyond a level of {level}: give "
            f"{int(np.ceil(1.0 / (1.0 - level) - 1e-9))} or more, or lower the level"
        )
    out = np.zeros(len(losses))
    rank = np.arange(len(losses))
    out[np.argsort(-losses, kind="stable")] = np.clip(tail - rank, 0.0, 1.0)
    return out / out.sum()
