"""Features of prices and volume.

All are ratios, ranks or moments of returns: a later split, which multiplies a whole history of
prices and divides its volume, changes none of them. A window needs four fifths of its values.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from core.params import Params
from features import kernels as k
from features.asof import bucket_count
from features.panel import Array, Panel
from features.registry import Family
from features.returns import market_beta, market_grid, returns_over, unbroken
from features.volume import mean_volume
from features.windows import MONTH, QUARTER, WEEK, YEAR, fading, least

Window = Annotated[int, Field(ge=5, le=504)]


class MarketParams(Params):
    """Windows, in sessions, of the features that come in several lengths, and the parts of a candle."""

    reversal: list[Annotated[int, Field(ge=1, le=63)]] = Field([1, 5, 21])
    momentum: list[Annotated[int, Field(gt=21, le=504)]] = Field([126, 252])
    sector_reversal: list[Annotated[int, Field(ge=1, le=63)]] = Field([5, 21])
    sector_momentum: list[Annotated[int, Field(gt=21, le=504)]] = Field([252])
    volatility: list[Window] = Field([21, 63])
    sector_volatility: list[Window] = Field([63])
    range_volatility: list[Window] = Field([21])
    max_return: list[Annotated[int, Field(ge=1, le=10)]] = Field([1, 5])
    abnormal_volume: list[Annotated[int, Field(ge=1, le=126)]] = Field([1, 5, 21])
    session_part: list[Window] = Field([21, 63])
    position: list[Window] = Field([21])
    average: list[Window] = Field([10, 50, 200])
    candle: list[Literal["body", "length", "upper", "lower"]] = Field(["body", "length", "upper", "lower"])


market = Family("market", MarketParams)


def log_ratio(upper: Array, lower: Array) -> Array:
    """`log(upper / lower)`, NaN unless both are positive; the ratio first, so that a common scale cancels exactly."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((upper > 0) & (lower > 0), np.log(upper / lower), np.nan)


# Reversal and momentum


@market.feature("reversal_{sessions}", over="reversal", lookback=lambda sessions: sessions + 1,
                inputs=("close",), units="fraction", sign=-1,
                reference="Jegadeesh (1990), Evidence of predictable behavior of security returns")  # fmt: skip
def reversal(panel: Panel, sessions: int) -> Array:
    """Return of the last sessions."""
    return returns_over(panel, sessions)


@market.feature("reversal_sector_{sessions}", over="sector_reversal", lookback=lambda sessions: sessions + 1,
                inputs=("close",), units="fraction", sign=-1,
                reference="Da, Liu, Schaumburg (2014), A closer look at the short-term return reversal")  # fmt: skip
def reversal_sector(panel: Panel, sessions: int) -> Array:
    """Return of the last sessions minus the mean of the sector."""
    return k.demean(returns_over(panel, sessions), panel.universe, panel.sector)


@market.feature("reversal_volume", lookback=QUARTER, inputs=("close", "volume"), units="fraction", sign=-1,
                reference="Campbell, Grossman, Wang (1993), Trading volume and serial correlation")  # fmt: skip
def reversal_volume(panel: Panel) -> Array:
    """Return of the week times the week's volume over its quarter's mean: liquidity trades revert."""
    return returns_over(panel, WEEK) * mean_volume(panel, WEEK) / mean_volume(panel, QUARTER)


@market.feature("reversal_unexplained", lookback=QUARTER + WEEK - 1, inputs=("close", "volume", "earnings"),
                units="fraction", sign=-1,
                reference="Llorente, Michaely, Saar, Wang (2002), Dynamic volume-return relation of individual stocks; "
                          "Da, Liu, Schaumburg (2014), A closer look at the short-term return reversal")  # fmt: skip
def reversal_unexplained(panel: Panel) -> Array:
    """Week's returns beside the sector's, each times the log of its volume above the quarter's mean; none on news.

    A session in which earnings were announced adds nothing: what news moves does not revert. The last session counts
    in full, the one before for four fifths, and so on.
    """
    beside = k.demean(returns_over(panel, 1), panel.universe, panel.sector)
    busy = np.log(np.maximum(panel["volume"] / mean_volume(panel, QUARTER), 1.0))
    news = bucket_count(panel.events["earnings"], panel.shape) > 0
    return k.rolling_weighted_sum(np.where(news, 0.0, beside * busy), fading(WEEK), least(WEEK))


@market.feature("momentum_{window}", over="momentum", lookback=lambda window: window + 1,
                inputs=("close",), units="fraction", sign=+1,
                reference="Jegadeesh, Titman (1993), Returns to buying winners and selling losers")  # fmt: skip
def momentum(panel: Panel, window: int) -> Array:
    """Return from `window` sessions ago to a month ago."""
    return k.shift(returns_over(panel, window - MONTH), MONTH)


@market.feature("momentum_relative_{window}", over="sector_momentum", lookback=lambda window: window + 1,
                inputs=("close",), units="fraction", sign=+1,
                reference="Asness, Porter, Stevens (2000), Predicting stock returns using industry-relative "
                          "firm characteristics")  # fmt: skip
def momentum_relative(panel: Panel, window: int) -> Array:
    """Return from `window` sessions ago to a month ago minus the mean of the sector."""
    return k.demean(momentum(panel, window), panel.universe, panel.sector)


@market.feature("momentum_sector", lookback=127, inputs=("close",), units="fraction", sign=+1,
                reference="Moskowitz, Grinblatt (1999), Do industries explain momentum?")  # fmt: skip
def momentum_sector(panel: Panel) -> Array:
    """Mean of the sector's returns over half a year."""
    return k.group_mean(returns_over(panel, 126), panel.universe, panel.sector)


@market.feature("momentum_discreteness", lookback=YEAR + 1, inputs=("close",), units="-1..1", sign=0,
                reference="Da, Gurun, Warachka (2014), Frog in the pan")  # fmt: skip
def momentum_discreteness(panel: Panel) -> Array:
    """Sign of the year's return times (share of falls - share of rises): continuous news is underpriced."""
    steps = -np.sign(returns_over(panel, 1))
    return np.sign(returns_over(panel, YEAR)) * k.rolling_mean(steps, YEAR, least(YEAR))


@market.feature("seasonality", lookback=YEAR + 1, inputs=("close",), units="fraction", sign=+1,
                reference="Heston, Sadka (2008), Seasonality in the cross-section of stock returns")  # fmt: skip
def seasonality(panel: Panel) -> Array:
    """Return of the month that followed this day a year ago."""
    return k.shift(returns_over(panel, MONTH), YEAR - MONTH)


@market.feature("high_52w", lookback=YEAR, inputs=("close", "high"), units="fraction", sign=+1,
                reference="George, Hwang (2004), The 52-week high and momentum investing")  # fmt: skip
def high_52w(panel: Panel) -> Array:
    """Close over the year's highest high."""
    return panel["close"] / k.rolling_max(panel["high"], YEAR, least(YEAR)) * unbroken(panel, YEAR - 1)


@market.feature("high_age", lookback=YEAR, inputs=("high",), units="fraction", sign=-1,
                reference="Bhootra, Hur (2013), The timing of 52-week high price and momentum")  # fmt: skip
def high_age(panel: Panel) -> Array:
    """Sessions since the year's highest high, over a year."""
    return k.rolling_argmax(panel["high"], YEAR, least(YEAR)) / YEAR * unbroken(panel, YEAR - 1)


@market.feature("average_{window}", over="average", lookback=lambda window: window,
                inputs=("close",), units="fraction", sign=0,
                reference="Han, Zhou, Zhu (2016), A trend factor: any economic gains")  # fmt: skip
def average(panel: Panel, window: int) -> Array:
    """Mean close of the window over the close, minus 1."""
    return (k.rolling_mean(panel["close"], window, least(window)) / panel["close"] - 1) * unbroken(panel, window - 1)


@market.feature("position_{window}", over="position", lookback=lambda window: window,
                inputs=("close", "high", "low"), units="0..1", sign=-1,
                reference="Lane (1984), Lane's stochastics; RSV of Qlib's Alpha158")  # fmt: skip
def position(panel: Panel, window: int) -> Array:
    """Place of the close between the window's lowest low and highest high."""
    low = k.rolling_min(panel["low"], window, least(window))
    width = k.rolling_max(panel["high"], window, least(window)) - low
    return np.where(width > 0, (panel["close"] - low) / np.where(width > 0, width, 1.0), np.nan) * unbroken(
        panel, window - 1
    )


# Risk


@market.feature("volatility_{window}", over="volatility", lookback=lambda window: window + 1,
                inputs=("close",), units="fraction a session", sign=-1,
                reference="Ang, Hodrick, Xing, Zhang (2006), The cross-section of volatility")  # fmt: skip
def volatility(panel: Panel, window: int) -> Array:
    """Standard deviation of daily returns."""
    return k.rolling_std(returns_over(panel, 1), window, least(window))


@market.feature("volatility_relative_{window}", over="sector_volatility", lookback=lambda window: window + 1,
                inputs=("close",), units="fraction a session", sign=-1,
                reference="Ang, Hodrick, Xing, Zhang (2006), The cross-section of volatility; relative to the "
                          "sector as Asness, Porter, Stevens (2000)")  # fmt: skip
def volatility_relative(panel: Panel, window: int) -> Array:
    """Standard deviation of daily returns minus the mean of the sector."""
    return k.demean(volatility(panel, window), panel.universe, panel.sector)


@market.feature("parkinson_{window}", over="range_volatility", lookback=lambda window: window,
                inputs=("high", "low"), units="log a session", sign=-1,
                reference="Parkinson (1980), The extreme value method for estimating the variance")  # fmt: skip
def parkinson(panel: Panel, window: int) -> Array:
    """Volatility from the day's range: sqrt of mean log(H/L)^2 / (4 log 2)."""
    spread = log_ratio(panel["high"], panel["low"]) ** 2 / (4 * math.log(2))
    return np.sqrt(k.rolling_mean(spread, window, least(window)))


@market.feature("garman_klass_{window}", over="range_volatility", lookback=lambda window: window,
                inputs=("open", "high", "low", "close"), units="log a session", sign=-1,
                reference="Garman, Klass (1980), On the estimation of security price volatilities")  # fmt: skip
def garman_klass(panel: Panel, window: int) -> Array:
    """Volatility from range and body: sqrt of mean log(H/L)^2 / 2 - (2 log 2 - 1) log(C/O)^2."""
    spread = log_ratio(panel["high"], panel["low"]) ** 2 / 2
    body = log_ratio(panel["close"], panel["open"]) ** 2
    variance = k.rolling_mean(spread - (2 * math.log(2) - 1) * body, window, least(window))
    return np.sqrt(np.maximum(variance, 0.0))


@market.feature("yang_zhang_{window}", over="range_volatility", lookback=lambda window: window + 1,
                inputs=("open", "high", "low", "close"), units="log a session", sign=-1,
                reference="Yang, Zhang (2000), Drift-independent volatility estimation")  # fmt: skip
def yang_zhang(panel: Panel, window: int) -> Array:
    """Volatility from gap, body and range: sqrt of var log(O/C') + k var log(C/O) + (1 - k) mean Rogers-Satchell."""
    start, close = panel["open"], panel["close"]
    gap = log_ratio(start, k.shift(close, 1)) * unbroken(panel, 1)
    body, up, down = (log_ratio(panel[name], start) for name in ("close", "high", "low"))
    trendless = k.rolling_mean(up * (up - body) + down * (down - body), window, least(window))
    between, within = (k.rolling_std(part, window, least(window)) ** 2 for part in (gap, body))
    # The paper's choice of k, which makes the variance of the estimate smallest.
    share = 0.34 / (1.34 + (window + 1) / (window - 1))
    return np.sqrt(np.maximum(between + share * within + (1 - share) * trendless, 0.0))


@market.feature("volatility_downside", lookback=QUARTER + 1, inputs=("close",), units="fraction a session", sign=0,
                reference="Ang, Chen, Xing (2006), Downside risk")  # fmt: skip
def volatility_downside(panel: Panel) -> Array:
    """Root mean square of the quarter's negative daily returns, rises counting as 0."""
    return np.sqrt(k.rolling_mean(np.minimum(returns_over(panel, 1), 0.0) ** 2, QUARTER, least(QUARTER)))


@market.feature("max_return_{count}", over="max_return", lookback=MONTH + 1,
                inputs=("close",), units="fraction", sign=-1,
                reference="Bali, Cakici, Whitelaw (2011), Maxing out")  # fmt: skip
def max_return(panel: Panel, count: int) -> Array:
    """Mean of the month's `count` largest daily returns: lottery demand."""
    return k.rolling_top_mean(returns_over(panel, 1), MONTH, count, least(MONTH))


@market.feature("skew", lookback=QUARTER + 1, inputs=("close",), units="1", sign=-1,
                reference="Amaya, Christoffersen, Jacobs, Vasquez (2015), Does realized skewness predict")  # fmt: skip
def skew(panel: Panel) -> Array:
    """Skewness of the quarter's daily returns."""
    return k.rolling_skew(returns_over(panel, 1), QUARTER, least(QUARTER))


@market.feature("beta", lookback=YEAR + 1, inputs=("close",), units="1", sign=-1,
                reference="Frazzini, Pedersen (2014), Betting against beta")  # fmt: skip
def beta(panel: Panel) -> Array:
    """Slope of the year's daily returns on the equal-weight universe."""
    return market_beta(panel, YEAR, least(YEAR))


@market.feature("idiosyncratic_volatility", lookback=QUARTER + 1, inputs=("close",), units="fraction a session",
                sign=-1, reference="Ang, Hodrick, Xing, Zhang (2006), The cross-section of volatility")  # fmt: skip
def idiosyncratic_volatility(panel: Panel) -> Array:
    """Standard deviation of the quarter's market-model residuals."""
    return k.rolling_residual_std(market_grid(panel), returns_over(panel, 1), QUARTER, least(QUARTER))


# Volume and liquidity


@market.feature("illiquidity", lookback=QUARTER + 1, inputs=("close", "volume"), units="log of 1/currency", sign=+1,
                reference="Amihud (2002), Illiquidity and stock returns")  # fmt: skip
def illiquidity(panel: Panel) -> Array:
    """Log of the quarter's mean |return| a unit of money traded."""
    traded = panel["close"] * panel["volume"]
    impact = np.abs(returns_over(panel, 1)) / np.where(traded > 0, traded, np.nan)
    mean = k.rolling_mean(impact, QUARTER, least(QUARTER))
    return np.log(np.where(mean > 0, mean, np.nan))


@market.feature("dollar_volume", lookback=QUARTER, inputs=("close", "volume"), units="log of currency", sign=-1,
                reference="Brennan, Chordia, Subrahmanyam (1998), Alternative factor specifications")  # fmt: skip
def dollar_volume(panel: Panel) -> Array:
    """Log of the quarter's mean traded value."""
    mean = k.rolling_mean(panel["close"] * panel["volume"], QUARTER, least(QUARTER))
    return np.log(np.where(mean > 0, mean, np.nan))


@market.feature("abnormal_volume_{window}", over="abnormal_volume", lookback=YEAR,
                inputs=("volume",), units="log", sign=+1,
                reference="Gervais, Kaniel, Mingelgrin (2001), The high-volume return premium")  # fmt: skip
def abnormal_volume(panel: Panel, window: int) -> Array:
    """Log of the window's mean volume over the year's."""
    return log_ratio(mean_volume(panel, window), mean_volume(panel, YEAR))


@market.feature("volume_trend", lookback=QUARTER, inputs=("volume",), units="fraction a session", sign=0,
                reference="Lee, Swaminathan (2000), Price momentum and trading volume")  # fmt: skip
def volume_trend(panel: Panel) -> Array:
    """Slope of the quarter's volume over its mean."""
    return k.rolling_slope(panel["volume"], QUARTER, least(QUARTER)) / mean_volume(panel, QUARTER)


@market.feature("volume_variability", lookback=QUARTER, inputs=("volume",), units="1", sign=-1,
                reference="Chordia, Subrahmanyam, Anshuman (2001), Trading activity and expected returns")  # fmt: skip
def volume_variability(panel: Panel) -> Array:
    """Standard deviation of the quarter's volume over its mean."""
    return k.rolling_std(panel["volume"], QUARTER, least(QUARTER)) / mean_volume(panel, QUARTER)


@market.feature("volume_return_corr", lookback=QUARTER + 1, inputs=("close", "volume"), units="-1..1", sign=0,
                reference="Llorente, Michaely, Saar, Wang (2002), Dynamic volume-return relation")  # fmt: skip
def volume_return_corr(panel: Panel) -> Array:
    """Correlation of the quarter's daily returns with volume."""
    return k.rolling_corr(returns_over(panel, 1), panel["volume"], QUARTER, least(QUARTER))


# Within the session


@market.feature("overnight_{window}", over="session_part", lookback=lambda window: window + 1,
                inputs=("open", "close"), units="log a session", sign=0,
                reference="Lou, Polk, Skouras (2019), A tug of war: overnight versus intraday returns")  # fmt: skip
def overnight(panel: Panel, window: int) -> Array:
    """Mean log return from a close to the next open."""
    gap = log_ratio(panel["open"], k.shift(panel["close"], 1)) * unbroken(panel, 1)
    return k.rolling_mean(gap, window, least(window))


@market.feature("intraday_{window}", over="session_part", lookback=lambda window: window,
                inputs=("open", "close"), units="log a session", sign=0,
                reference="Lou, Polk, Skouras (2019), A tug of war: overnight versus intraday returns")  # fmt: skip
def intraday(panel: Panel, window: int) -> Array:
    """Mean log return from open to close."""
    return k.rolling_mean(log_ratio(panel["close"], panel["open"]), window, least(window))


@market.feature("candle_{part}", over="candle", lookback=1, inputs=("open", "high", "low", "close"),
                units="fraction", sign=0,
                reference="Yang et al. (2020), Qlib, Alpha158: KMID, KLEN, KUP, KLOW")  # fmt: skip
def candle(panel: Panel, part: str) -> Array:
    """Body, length, upper or lower shadow of the day's candle over its open."""
    start, high, low, close = (panel[name] for name in ("open", "high", "low", "close"))
    size = {
        "body": close - start,
        "length": high - low,
        "upper": high - np.maximum(start, close),
        "lower": np.minimum(start, close) - low,
    }[part]
    return size / start
