"""Weights at a panel's last close with what their risk is computed from, for `signals risk` and the tear sheet."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from features.panel import Panel
from features.returns import market_return, returns_over
from portfolio.book_risk import Holdings
from portfolio.styles import loadings, style_returns


def holdings(panel: Panel, sectors: Mapping[str, str], weights: NDArray[np.float64]) -> Holdings:
    """Weights at the panel's last close, and what their risk is computed from.

    Parameters
    ----------
    panel : Panel
        Ends with the session of the weights.
    sectors : Mapping[str, str]
        Sector by symbol.
    weights : (N,) array
        Fractions of the equity.

    Raises
    ------
    DataError
        Nothing is held, or the history does not reach far enough.
    """
    returns = returns_over(panel, 1)
    styles = style_returns(returns, panel["close"] * panel["volume"], panel.universe)
    return Holdings(
        date=str(panel.dates[-1]),
        symbols=[str(symbol) for symbol in panel.symbols],
        sectors=[str(sectors.get(symbol) or "") for symbol in panel.symbols],
        weights=weights,
        returns=returns,
        loadings=loadings(returns, market_return(panel), styles),
    )
