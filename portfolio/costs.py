"""What trading costs: commission, half the spread, square-root impact, and the borrowing of shorts.

Impact of an order Q against a daily volume ADV moves the price by Y sigma sqrt(Q / ADV) at its end;
a metaorder that is worked evenly pays two thirds of that on average.

References
----------
Tóth, B. et al. (2011). Anomalous price impact and the critical nature of liquidity. Physical Review X 1.
Almgren, R., Thum, C., Hauptmann, E. and Li, H. (2005). Direct estimation of equity market impact. Risk 18(7).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from core.params import Params

Array = NDArray[np.float64]

BPS = 1e-4
_AVERAGE_OF_PEAK = 2.0 / 3.0


class CostRule(Params):
    """Parameters of the cost model.

    Attributes
    ----------
    commission_bps, half_spread_bps
        Per unit of notional traded, one way, in basis points.
    impact
        Y of the square-root law; 0 switches impact off.
    borrow_bps
        Yearly fee on the notional held short, in basis points.
    """

    commission_bps: float = Field(default=0.5, ge=0)
    half_spread_bps: float = Field(default=2.5, ge=0)
    impact: float = Field(default=1.0, ge=0)
    borrow_bps: float = Field(default=30.0, ge=0)

    def rate(self, notional: ArrayLike, adv: ArrayLike, sigma: ArrayLike) -> Array:
        """Cost per unit of notional of orders, as a fraction.

        Parameters
        ----------
        notional
            Size of each order, currency, >= 0.
        adv
            Average daily traded value, currency, > 0.
        sigma
            Daily volatility of the return, as a fraction.
        """
        return self._fixed() + _AVERAGE_OF_PEAK * peak_impact(notional, adv, sigma, self.impact)

    def coefficients(self, capital: float, adv: ArrayLike, sigma: ArrayLike) -> tuple[Array, Array]:
        """c and k of the cost c |d| + k |d|^(3/2) of trading the part d of a capital, as fractions of it.

        Parameters
        ----------
        adv, sigma
            As in `rate`; k is 0 where one is missing or nothing is traded.
        """
        volume, volatility = np.asarray(adv, dtype=np.float64), np.asarray(sigma, dtype=np.float64)
        known = (volume > 0) & np.isfinite(volume) & np.isfinite(volatility)
        whole = peak_impact(capital, np.where(known, volume, 1.0), np.where(known, volatility, 0.0), self.impact)
        return np.full(volume.shape, self._fixed()), _AVERAGE_OF_PEAK * whole

    def _fixed(self) -> float:
        return (self.commission_bps + self.half_spread_bps) * BPS


def peak_impact(notional: ArrayLike, adv: ArrayLike, sigma: ArrayLike, coefficient: float = 1.0) -> Array:
    """Price move at the end of an order by the square-root law, as a fraction."""
    share = np.asarray(notional, dtype=np.float64) / np.asarray(adv, dtype=np.float64)
    return coefficient * np.asarray(sigma, dtype=np.float64) * np.sqrt(share)
