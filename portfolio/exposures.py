"""Exposures of symbols to the market and to styles on every session, for the limits of a book.

The market's is a slope, sum w b the beta of a book. A style's is a characteristic in cross-sectional standard
deviations, the usual unit of risk models: 0.2 is a book whose average name, weighted, lies 0.2 deviations from the
mean of the universe.

References
----------
Grinold, R. C. and Kahn, R. N. (2000). Active portfolio management, 2nd ed., chapter 3.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from features.kernels import rolling_beta, zscore
from portfolio.styles import WINDOW, characteristics

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

MARKET, VALUE = "market", "value"
_FAR = 3.0
"""Standard deviations at which a characteristic ends: one outlier would be most of a book's exposure."""


def exposures(
    returns: Array, market: Array, traded: Array, universe: Mask, further: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """`(T, N)` exposures by name, each known at its session's close; NaN where unknown.

    Parameters
    ----------
    returns
        `(T, N)` daily returns, NaN where there is none.
    market
        `(T,)` return of the market.
    traded
        `(T, N)` value traded, currency.
    universe
        `(T, N)` who may be held; the mean and deviation of a characteristic are theirs.
    further
        `(T, N)` characteristics by name that others know, such as `value`.

    Returns
    -------
    dict
        `market`, the styles of `portfolio.styles.STYLES`, and those of `further`.

    Raises
    ------
    DataError
        The shapes differ.
    """
    told = {**characteristics(returns, traded), **(further or {})}
    wrong = [name for name, values in told.items() if values.shape != returns.shape]
    if wrong or universe.shape != returns.shape or market.shape != returns.shape[:1]:
        raise DataError(f"exposures: shapes differ ({', '.join(wrong) or 'market, universe'}): use one panel")
    beta = rolling_beta(np.repeat(market[:, None], returns.shape[1], axis=1), returns, WINDOW, WINDOW // 2)
    scored = {name: np.clip(zscore(values, universe), -_FAR, _FAR) for name, values in told.items()}
    return {MARKET: beta, **scored}
