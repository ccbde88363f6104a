"""What is known of the symbols when a book is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from portfolio.covariance.form import Covariance

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Prospects:
    """What is known of N symbols when a book is built.

    Attributes
    ----------
    symbols
        Names.
    alpha
        `(N,)` expected return to the next rebalance, NaN without a forecast.
    covariance
        Of the same returns.
    held
        `(N,)` weights before trading, drifted with prices.
    adv, volatility
        `(N,)` average traded value a session (currency) and daily volatility of the return; where one is missing
        or there is no volume, the symbol is not traded.
    tradable
        `(N,)`, False where halted or without a price; None: all.
    sector, industry
        `(N,)` codes, -1 where unknown.
    factors
        `(N,)` exposures by factor name: market, size, value, momentum, volatility.
    no_new_longs
        `(N,)`, True where nothing may be bought beyond closing a short; None: nowhere.
    """

    symbols: Sequence[str]
    alpha: Array
    covariance: Covariance
    held: Array
    adv: Array
    volatility: Array
    tradable: Mask | None = None
    sector: NDArray[np.int64] | None = None
    industry: NDArray[np.int64] | None = None
    factors: Mapping[str, Array] = field(default_factory=dict)
    no_new_longs: Mask | None = None

    def __post_init__(self) -> None:
        count = len(self.symbols)
        if not count:
            raise DataError("construction: no symbols: give at least one")
        if len(self.covariance) != count:
            raise DataError(f"construction: covariance of {len(self.covariance)} symbols for {count}: use one panel")
        arrays = {name: getattr(self, name) for name in ("alpha", "held", "adv", "volatility")}
        optional = {name: getattr(self, name) for name in ("tradable", "sector", "industry", "no_new_longs")}
        named = {f"factor {name}": values for name, values in self.factors.items()}
        for name, values in {**arrays, **{k: v for k, v in optional.items() if v is not None}, **named}.items():
            if np.shape(values) != (count,):
                raise DataError(f"construction: {name} has shape {np.shape(values)}, there are {count} symbols")
        for name, values in {"held": self.held, **named}.items():
            if not np.isfinite(values).all():
                at = self.symbols[int(np.flatnonzero(~np.isfinite(values))[0])]
                raise DataError(f"construction: {name} of {at} is not finite: leave the symbol out or fill it")
        if np.isinf(self.alpha).any():
            at = self.symbols[int(np.flatnonzero(np.isinf(self.alpha))[0])]
            raise DataError(f"construction: alpha of {at} is infinite: NaN is the mark of no forecast")
