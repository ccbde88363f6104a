"""The state of the market: fear, credit, rates, oil, the dollar, and how the universe moves as a whole.

A value is the same for every symbol, so it tells nothing within a session by itself: it says when other features
count for more. A source names its series as it likes; the family's parameters say which one is meant, and a feature
whose series is not there is skipped. A series enters at the session at which it became known, and a change over
a month is one of what was known then and now.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from core.params import Params
from features import kernels as k
from features.memo import remembered
from features.panel import Array, Panel
from features.registry import Family
from features.returns import held_before, market_return, returns_over, unbroken, universe_risk
from features.windows import MONTH, QUARTER, YEAR, least

AVERAGE = 200
"""Sessions of the mean above which a symbol is in a rising trend."""

SeriesName = Annotated[str, Field(min_length=1)]


class MacroParams(Params):
    """Names of the series in the table `macro`, and the windows of changes in sessions."""

    implied_volatility: SeriesName = "VIX_CLOSE"
    """Of the market over a month, percent a year."""
    implied_volatility_quarter: SeriesName = "VXVCLS"
    """Over three months."""
    credit_spread: SeriesName = "BAA10Y"
    """Yield of risky bonds less that of the government's, percent."""
    term_spread: SeriesName = "T10Y2Y"
    """Long yield less short yield, percent."""
    oil: SeriesName = "DCOILWTICO"
    """Price, of any currency."""
    dollar: SeriesName = "DTWEXB"
    """Index that rises with the currency."""
    change: list[Annotated[int, Field(ge=1, le=252)]] = Field([21])


macro = Family("macro", MacroParams)


# --- what the features share ---------------------------------------------------------------------------------
#
# One value a session is a column (T, 1) until the end, as the kernels take it.


def _series(panel: Panel, name: str) -> Array:
    return panel.series[name][:, None]


def _everywhere(panel: Panel, column: Array) -> Array:
    """`(T, 1)` as `(T, N)`."""
    return np.repeat(column, panel.shape[1], axis=1)


def _difference(column: Array, window: int) -> Array:
    return column - k.shift(column, window)


def _zscore(column: Array) -> Array:
    """Distance from the year's mean in the year's standard deviations."""
    mean, spread = k.rolling_mean(column, YEAR, least(YEAR)), k.rolling_std(column, YEAR, least(YEAR))
    return (column - mean) / np.where(spread > 0, spread, np.nan)


@remembered
def _breadth(panel: Panel) -> Array:
    close = panel["close"]
    mean = k.rolling_mean(close, AVERAGE, least(AVERAGE)) * unbroken(panel, AVERAGE - 1)
    above = np.where(np.isfinite(close) & np.isfinite(mean), close > mean, np.nan)
    return k.row_mean(above, panel.universe)[:, None]


@remembered
def _dispersion(panel: Panel) -> Array:
    apart = returns_over(panel, 1) - market_return(panel)[:, None]
    daily = np.sqrt(k.row_mean(apart**2, held_before(panel)))[:, None]
    return k.rolling_mean(daily, MONTH, least(MONTH))


def _correlation(panel: Panel) -> Array:
    return universe_risk(panel, QUARTER)[2][:, None]


# --- fear ----------------------------------------------------------------------------------------------------


@macro.feature("vix", lookback=1, inputs=lambda params: (params.implied_volatility,), units="percent a year", sign=+1,
               reference="Whaley (2000), The investor fear gauge; Giot (2005), Relationships between implied "
                         "volatility indexes and stock index returns")  # fmt: skip
def vix(panel: Panel, name: str) -> Array:
    """Implied volatility of the market over a month."""
    return _everywhere(panel, _series(panel, name))


@macro.feature("vix_change_{window}", over="change", lookback=lambda window: window + 1,
               inputs=lambda params: (params.implied_volatility,), units="log", sign=-1,
               reference="Ang, Hodrick, Xing, Zhang (2006), The cross-section of volatility")  # fmt: skip
def vix_change(panel: Panel, name: str, window: int) -> Array:
    """Log change of implied volatility."""
    return _everywhere(panel, k.log_change(_series(panel, name), window))


@macro.feature("vix_z", lookback=YEAR, inputs=lambda params: (params.implied_volatility,),
               units="standard deviations", sign=+1,
               reference="Giot (2005), Relationships between implied volatility indexes and stock index "
                         "returns")  # fmt: skip
def vix_z(panel: Panel, name: str) -> Array:
    """Implied volatility against its year."""
    return _everywhere(panel, _zscore(_series(panel, name)))


@macro.feature("vix_term", lookback=1,
               inputs=lambda params: (params.implied_volatility, params.implied_volatility_quarter),
               units="1", sign=0, reference="Johnson (2017), Risk premia and the VIX term structure")  # fmt: skip
def vix_term(panel: Panel, month: str, quarter: str) -> Array:
    """Implied volatility over a month, over that of three months: above 1 in a panic."""
    longer = _series(panel, quarter)
    return _everywhere(panel, _series(panel, month) / np.where(longer > 0, longer, np.nan))


# --- credit, rates, oil, the dollar ---------------------------------------------------------------------------


@macro.feature("credit_spread", lookback=1, inputs=lambda params: (params.credit_spread,), units="percent", sign=+1,
               reference="Fama, French (1989), Business conditions and expected returns")  # fmt: skip
def credit_spread(panel: Panel, name: str) -> Array:
    """Yield of risky bonds less that of the government's."""
    return _everywhere(panel, _series(panel, name))


@macro.feature("credit_spread_change_{window}", over="change", lookback=lambda window: window + 1,
               inputs=lambda params: (params.credit_spread,), units="percentage points", sign=0,
               reference="Gilchrist, Zakrajsek (2012), Credit spreads and business cycle fluctuations")  # fmt: skip
def credit_spread_change(panel: Panel, name: str, window: int) -> Array:
    """Change of the credit spread."""
    return _everywhere(panel, _difference(_series(panel, name), window))


@macro.feature("credit_spread_z", lookback=YEAR, inputs=lambda params: (params.credit_spread,),
               units="standard deviations", sign=+1,
               reference="Fama, French (1989), Business conditions and expected returns")  # fmt: skip
def credit_spread_z(panel: Panel, name: str) -> Array:
    """The credit spread against its year."""
    return _everywhere(panel, _zscore(_series(panel, name)))


@macro.feature("term_spread", lookback=1, inputs=lambda params: (params.term_spread,), units="percent", sign=+1,
               reference="Fama, French (1989), Business conditions and expected returns")  # fmt: skip
def term_spread(panel: Panel, name: str) -> Array:
    """Long yield less short yield."""
    return _everywhere(panel, _series(panel, name))


@macro.feature("term_spread_change_{window}", over="change", lookback=lambda window: window + 1,
               inputs=lambda params: (params.term_spread,), units="percentage points", sign=0,
               reference="Chen, Roll, Ross (1986), Economic forces and the stock market")  # fmt: skip
def term_spread_change(panel: Panel, name: str, window: int) -> Array:
    """Change of the term spread."""
    return _everywhere(panel, _difference(_series(panel, name), window))


@macro.feature("oil_change_{window}", over="change", lookback=lambda window: window + 1,
               inputs=lambda params: (params.oil,), units="log", sign=-1,
               reference="Driesprong, Jacobsen, Maat (2008), Striking oil: another puzzle?")  # fmt: skip
def oil_change(panel: Panel, name: str, window: int) -> Array:
    """Log change of the price of oil."""
    return _everywhere(panel, k.log_change(_series(panel, name), window))


@macro.feature("dollar_change_{window}", over="change", lookback=lambda window: window + 1,
               inputs=lambda params: (params.dollar,), units="log", sign=0,
               reference="Bartov, Bodnar (1994), Firm valuation, earnings expectations, and the exchange-rate "
                         "exposure effect")  # fmt: skip
def dollar_change(panel: Panel, name: str, window: int) -> Array:
    """Log change of the dollar."""
    return _everywhere(panel, k.log_change(_series(panel, name), window))


# --- the universe as a whole ----------------------------------------------------------------------------------


@macro.feature("market_breadth", lookback=AVERAGE, inputs=("close",), units="0..1", sign=0,
               reference="Brock, Lakonishok, LeBaron (1992), Simple technical trading rules (the mean of 200 "
                         "sessions), counted over the universe")  # fmt: skip
def market_breadth(panel: Panel) -> Array:
    """Share of the universe that closes above its mean of 200 sessions."""
    return _everywhere(panel, _breadth(panel))


@macro.feature("market_breadth_change_{window}", over="change", lookback=lambda window: AVERAGE + window,
               inputs=("close",), units="fraction", sign=0,
               reference="Brock, Lakonishok, LeBaron (1992), Simple technical trading rules (the mean of 200 "
                         "sessions), counted over the universe")  # fmt: skip
def market_breadth_change(panel: Panel, window: int) -> Array:
    """Change of the share of the universe that closes above its mean of 200 sessions."""
    return _everywhere(panel, _difference(_breadth(panel), window))


@macro.feature("market_advances", lookback=MONTH + 1, inputs=("close",), units="-1..1", sign=+1,
               reference="Zaremba, Szyszka, Karathanasopoulos, Mikutowski (2021), Herding for profits: market "
                         "breadth and the cross-section of global equity returns")  # fmt: skip
def market_advances(panel: Panel) -> Array:
    """Share of the universe that rises less the share that falls, mean of the month."""
    daily = k.row_mean(np.sign(returns_over(panel, 1)), held_before(panel))[:, None]
    return _everywhere(panel, k.rolling_mean(daily, MONTH, least(MONTH)))


@macro.feature("market_dispersion", lookback=MONTH + 1, inputs=("close",), units="fraction a session", sign=-1,
               reference="Maio (2016), Cross-sectional return dispersion and the equity premium")  # fmt: skip
def market_dispersion(panel: Panel) -> Array:
    """Standard deviation of a session's returns over the universe, mean of the month."""
    return _everywhere(panel, _dispersion(panel))


@macro.feature("market_dispersion_z", lookback=YEAR + MONTH, inputs=("close",), units="standard deviations", sign=-1,
               reference="Stivers, Sun (2010), Cross-sectional return dispersion and time variation in value and "
                         "momentum premiums")  # fmt: skip
def market_dispersion_z(panel: Panel) -> Array:
    """The dispersion of returns against its year."""
    return _everywhere(panel, _zscore(_dispersion(panel)))


@macro.feature("market_correlation", lookback=QUARTER + 1, inputs=("close",), units="-1..1", sign=+1,
               reference="Pollet, Wilson (2010), Average correlation and stock market returns")  # fmt: skip
def market_correlation(panel: Panel) -> Array:
    """Correlation of the quarter's daily returns of two symbols, if that of every pair in the universe were the same.

    See `universe_risk`.
    """
    return _everywhere(panel, _correlation(panel))


@macro.feature("market_correlation_change_{window}", over="change", lookback=lambda window: QUARTER + 1 + window,
               inputs=("close",), units="1", sign=+1,
               reference="Pollet, Wilson (2010), Average correlation and stock market returns")  # fmt: skip
def market_correlation_change(panel: Panel, window: int) -> Array:
    """Change of the average correlation."""
    return _everywhere(panel, _difference(_correlation(panel), window))
