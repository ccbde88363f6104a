"""What a portfolio gains or loses in a scenario, by part and by symbol.

The return of symbol i under a scenario is linear in its shocks,

    r_i = beta_i m + B_i f + s_sector(i) + c g_i + floor_i,

with the market's move m, the factors' returns f, the sector's return over the market s, and g_i what the price does
when the crowd that holds the symbol leaves, counted c times. A loss cannot exceed the price: floor_i = max(0, -1 - the
rest) takes back what the linear form has fallen below -1, and is zero but in long windows. The portfolio gains
sum_i w_i r_i, which stays linear in the weights: a book and its opposite gain opposite amounts.

References
----------
Cardaliaguet, P. and Lehalle, C.-A. (2018). Mean field game of controls and an application to trade crowding.
Mathematics and Financial Economics 12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import DataError
from market.catalogue import Scenario

Array = NDArray[np.float64]

PARTS = ("market", "factors", "sector", "crowd", "floor")
"""Parts of a symbol's return, in the order in which results have them."""

MARKET = "market"
"""Name of the market among the factors."""


@dataclass(frozen=True)
class Book:
    """A portfolio and what its symbols are exposed to.

    Attributes
    ----------
    symbols
        N names.
    weights
        `(N,)` positions as fractions of equity, negative if short.
    beta
        `(N,)` loadings on the market.
    exposures
        `(N, K)` loadings on the factors, in units of the factors' returns.
    factors
        K names of the factors, as the scenarios have them.
    sectors
        N names of sectors, as the scenarios have them; "" where unknown, which has no sector shock.
    crowd
        `(N,)` returns if the crowd leaves, see `crowd_returns`.

    Raises
    ------
    DataError
        The shapes do not belong together, a name is given twice, or a number is not finite: the message names whose.
    """

    symbols: Sequence[str]
    weights: Array
    beta: Array
    exposures: Array
    factors: Sequence[str]
    sectors: Sequence[str]
    crowd: Array

    def __post_init__(self) -> None:
        n, k = len(self.symbols), len(self.factors)
        for name, shape in {"weights": (n,), "beta": (n,), "exposures": (n, k), "crowd": (n,)}.items():
            values = np.array(getattr(self, name), dtype=np.float64)
            if values.shape != shape:
                raise DataError(f"book: {name} {values.shape}, need {shape}: one row a symbol, one column a factor")
            object.__setattr__(self, name, values)
            bad = sorted(set(np.nonzero(~np.isfinite(values))[0].tolist()))
            if bad:
                more = f" (and of {len(bad) - 1} more symbols)" if len(bad) > 1 else ""
                raise DataError(
                    f"book: {name} of {self.symbols[bad[0]]} not finite{more}: give a number or leave the symbol out"
                )
        if len(self.sectors) != n:
            raise DataError(f"book: {len(self.sectors)} sectors for {n} symbols: give one each, '' where unknown")
        for kind, names in (("symbol", self.symbols), ("factor", (MARKET, *self.factors))):
            if len(set(names)) < len(names):
                twice = next(name for name in names if list(names).count(name) > 1)
                raise DataError(f"book: {kind} {twice} is there twice: keep one; the market's loadings are beta")

    def loadings(self) -> Array:
        """`(1 + K,)` loadings of the whole book on the market and on each factor: w' [beta, B]."""
        return np.append(self.weights @ self.beta, self.weights @ self.exposures)


@dataclass(frozen=True)
class StressResult:
    """Profit and loss in a scenario, as fractions of equity.

    Attributes
    ----------
    returns
        `(5, N)` returns of the symbols by part, in the order of `PARTS`.
    contributions
        `(5, N)` the same times the weights.
    unmet
        Factors that the scenario shocks and the book has no loadings on, and sectors that it has no symbol in: what
        they would do to it is not counted.
    """

    returns: Array
    contributions: Array
    unmet: tuple[str, ...]

    @property
    def total(self) -> float:
        """Profit or loss of the book."""
        return float(self.contributions.sum())

    @property
    def by_part(self) -> dict[str, float]:
        """Profit or loss by part."""
        return dict(zip(PARTS, self.contributions.sum(axis=1).tolist(), strict=True))

    @property
    def by_symbol(self) -> Array:
        """`(N,)` profit or loss by symbol."""
        return self.contributions.sum(axis=0)


def crowd_returns(impact: ArrayLike, inventory: ArrayLike, remaining: ArrayLike, volatility: ArrayLike) -> Array:
    """`(N,)` returns of the symbols when the crowd leaves: impact (remaining - inventory) volatility.

    In the game of Cardaliaguet and Lehalle (2018) the price drifts with the crowd's trading, dS = alpha E' dt + ..., so
    that over the horizon it moves by alpha (E_T - E_0). A crowd that is long sells, and the price falls; one that is
    short buys back, and the price rises.

    Parameters
    ----------
    impact
        `(N,)` alpha, permanent impact in daily standard deviations a unit of inventory; at least 0.
    inventory, remaining
        `(N,)` E_0 and E_T, the crowd's inventory in days of average volume, now and when the horizon ends.
    volatility
        `(N,)` daily standard deviation of the return; at least 0.

    Raises
    ------
    DataError
        The lengths differ, or an impact or a volatility is negative.
    """
    alpha, start, end, sigma = (np.asarray(v, dtype=np.float64) for v in (impact, inventory, remaining, volatility))
    if alpha.ndim != 1 or not alpha.shape == start.shape == end.shape == sigma.shape:
        raise DataError(
            f"crowd: impact {alpha.shape}, inventory {start.shape}, remaining {end.shape}, volatility {sigma.shape}: "
            "need one number a symbol each"
        )
    for name, values in (("impact", alpha), ("volatility", sigma)):
        if (values < 0).any():
            raise DataError(f"crowd: {name} of row {int(np.argmax(values < 0))} is negative: need at least 0")
    return alpha * (end - start) * sigma


def stress(book: Book, scenario: Scenario) -> StressResult:
    """Gain or loss of a book in a scenario; factors without a shock do not move."""
    factor, sector, held = scenario.factor_shocks(), scenario.sector_shocks(), set(book.sectors)
    parts = np.empty((len(PARTS), len(book.symbols)))
    parts[0] = book.beta * scenario.market
    parts[1] = book.exposures @ np.array([factor.get(name, 0.0) for name in book.factors])
    parts[2] = [sector.get(name, 0.0) for name in book.sectors]
    parts[3] = book.crowd * scenario.crowd
    parts[4] = floor(parts[:4].sum(axis=0))
    unmet = (*(name for name in factor if name not in book.factors), *(name for name in sector if name not in held))
    return StressResult(parts, parts * book.weights, unmet)


def floor(returns: Array) -> Array:
    """What a return below -1 has to be given back, max(0, -1 - r)."""
    return np.maximum(-1.0 - returns, 0.0)
