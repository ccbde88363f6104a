"""What a stock's return shares with the market and with styles: returns of style portfolios, and loadings on them.

A style is a long-short portfolio, formed at each close from what was known then and held for a session: the third of
the universe that has most of a characteristic, equally weighted, less the third that has least. Names are those of the
stress scenarios:

    size             small less large, by the value traded a session over a quarter
    momentum         winners less losers of the year that ended a month ago
    low_volatility   calm less volatile over a quarter
    reversal         losers less winners of the last session

Loadings are slopes of one regression of a stock's daily returns on the market's and all the styles',

    r_i = a_i + b_i m + sum_k B_ik f_k + e_i,        f_k = c_k + g_k m + u_k,

so that b_i + sum_k B_ik g_k is the beta to the market alone. Where a scenario moves the market and says nothing of a
style, that style moves as it usually does with the market, by g_k m.

References
----------
Fama, E. F. and French, K. R. (1993). Common risk factors in the returns on stocks and bonds. Journal of Financial
Economics 33(1).
Jegadeesh, N. and Titman, S. (1993). Returns to buying winners and selling losers. Journal of Finance 48(1).
Lehmann, B. N. (1990). Fads, martingales, and market efficiency. Quarterly Journal of Economics 105(1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import DataError
from market.catalogue import Scenario
from market.scenarios import Book

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

STYLES = ("size", "momentum", "low_volatility", "reversal")
WINDOW = 252
"""Sessions of returns behind a loading."""
QUARTER, MONTH, YEAR = 63, 21, 252
LOOKBACK = WINDOW + YEAR + 1
"""Sessions that loadings depend on: their own window, and that of the characteristics before it."""
_LEAST = WINDOW // 2
_THIRD = 1.0 / 3.0
_NAMES = 6
"""Symbols with a characteristic that a session's portfolio needs: two in each third."""


@dataclass(frozen=True, eq=False)
class Loadings:
    """What symbols are exposed to, in units of the returns of the market and the styles.

    Attributes
    ----------
    market, styles
        `(N,)` b and `(N, K)` B.
    names
        The K styles: those that the history could tell.
    tilt
        `(K,)` slope g of each style on the market.
    assumed
        `(N,)` True where a symbol had too few returns to tell: it counts as the market, with no style.
    """

    market: Array
    styles: Array
    names: tuple[str, ...]
    tilt: Array
    assumed: Mask

    @property
    def beta(self) -> Array:
        """`(N,)` beta to the market alone."""
        return np.asarray(self.market + self.styles @ self.tilt)

    def book(self, symbols: list[str], weights: Array, sectors: list[str], scenario: Scenario) -> Book:
        """The book as the scenario meets it: styles that it says nothing of move as they do with the market."""
        given = scenario.factor_shocks()
        silent = np.array([name not in given for name in self.names], dtype=bool)
        beta = self.market + self.styles[:, silent] @ self.tilt[silent]
        return Book(symbols, weights, beta, self.styles, self.names, sectors, np.zeros(len(symbols)))


def style_returns(returns: Array, traded: Array, universe: Mask) -> dict[str, Array]:
    """`(T,)` return of each style's portfolio; NaN where fewer than six symbols have the characteristic.

    Parameters
    ----------
    returns
        `(T, N)` daily returns, NaN where a symbol has none.
    traded
        `(T, N)` value traded, currency.
    universe
        `(T, N)` who may be held at each close.

    Raises
    ------
    DataError
        The shapes differ.
    """
    if returns.ndim != 2 or not returns.shape == traded.shape == universe.shape:
        raise DataError(
            f"styles: returns {returns.shape}, value traded {traded.shape}, universe {universe.shape}: use one panel"
        )
    traits = characteristics(returns, traded)
    return {name: _spread(traits[name], returns, universe) for name in STYLES}


def characteristics(returns: Array, traded: Array) -> dict[str, Array]:
    """`(T, N)` what each style sorts by, known at each close: the more, the more it is held."""
    daily, value = pd.DataFrame(returns), pd.DataFrame(traded)
    mean_value = value.rolling(QUARTER, min_periods=QUARTER // 2).mean()
    growth = pd.DataFrame(np.log1p(daily.clip(lower=-1 + 1e-9))).shift(MONTH)
    return {
        "size": -np.log(mean_value.where(mean_value > 0).to_numpy()),
        "momentum": growth.rolling(YEAR - MONTH, min_periods=(YEAR - MONTH) // 2).sum().to_numpy(),
        "low_volatility": -daily.rolling(QUARTER, min_periods=QUARTER // 2).std().to_numpy(),
        "reversal": -daily.to_numpy(),
    }


def _spread(trait: Array, returns: Array, universe: Mask) -> Array:
    """Return of the third with most of a trait at the close before, less that of the third with least."""
    known = pd.DataFrame(np.where(universe, trait, np.nan))
    share = known.rank(axis=1, pct=True).shift(1).to_numpy()
    out = _mean(returns, share > 1.0 - _THIRD) - _mean(returns, share <= _THIRD)
    few = known.notna().sum(axis=1).shift(1, fill_value=0).to_numpy() < _NAMES
    return np.where(few, np.nan, out)


def _mean(returns: Array, chosen: Mask) -> Array:
    there = chosen & np.isfinite(returns)
    count = there.sum(axis=1)
    total = np.where(there, returns, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


def loadings(returns: Array, market: Array, styles: dict[str, Array]) -> Loadings:
    """Loadings from the last 252 sessions.

    A style that is not known in half of them, or does not move, is left out.

    Parameters
    ----------
    returns
        `(T, N)` daily returns, NaN where a symbol has none.
    market, styles
        `(T,)` returns of the market and of each style.

    Raises
    ------
    DataError
        The market's return is known in fewer than half of the sessions, or does not vary.
    """
    values, base = returns[-WINDOW:], market[-WINDOW:]
    recent = {name: series[-WINDOW:] for name, series in styles.items()}
    names = tuple(n for n, s in recent.items() if np.isfinite(s).sum() >= _LEAST and np.nanstd(s) > 1e-12)
    matrix = np.column_stack([base, *(recent[name] for name in names)])
    whole = np.isfinite(matrix).all(axis=1)
    if whole.sum() < _LEAST or base[whole].std() <= 1e-12:
        raise DataError(
            f"styles: the market's return is known in {int(whole.sum())} of the last {WINDOW} sessions or never moves: "
            f"{_LEAST} are needed; choose a later session"
        )
    design = np.column_stack([np.ones(int(whole.sum())), matrix[whole]])
    tilt = np.linalg.lstsq(design[:, :2], design[:, 2:])[0][1]
    count = returns.shape[1]
    slopes = np.zeros((count, 1 + len(names)))
    assumed = np.zeros(count, dtype=bool)
    for symbol in range(count):
        series = values[whole, symbol]
        there = np.isfinite(series)
        if there.sum() < _LEAST:
            slopes[symbol, 0], assumed[symbol] = 1.0, True
            continue
        slopes[symbol] = np.linalg.lstsq(design[there], series[there])[0][1:]
    return Loadings(slopes[:, 0], slopes[:, 1:], names, tilt, assumed)
