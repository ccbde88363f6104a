"""How the other investors behave: panic, salience, attention, gains not yet taken, and herding.

Features named `market_` have one value for every symbol of a session: they tell nothing within it by themselves, but
say when others count for more. Lottery demand (`max_return`), nearness to the 52-week high and abnormal volume are in
the market family, the agreement of posts in the text family.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from core.params import Params
from features import kernels as k
from features.asof import carry, fill_forward, ratio
from features.biases import gains_overhang, salience_value, weighted_fall
from features.herding import (
    absolute_deviation,
    correlation_below,
    deviation_curvature,
    herding_measure,
    others_mean,
)
from features.memo import remembered
from features.panel import Array, Panel
from features.posts import sides
from features.registry import Family
from features.returns import held_before, market_beta, market_grid, market_return, returns_over, unbroken
from features.windows import MONTH, QUARTER, WEEK, YEAR, least

USUAL_VOLUME = 60
"""Sessions that tell how much is usually traded."""
MIN_FALLS = 15
"""Sessions of a fall that a correlation needs."""
MIN_WEEKS = 52
"""Weeks of trading that a reference price needs."""
HERDING = 120
"""Sessions of the regression of the deviation of returns."""
LAGS = 4
"""Of its Newey-West variance: 4 (T / 100)^(2/9), rounded down."""
LOWS = 20
"""Sessions of which a close is the lowest."""
TIES = 12
"""Decimals to which two returns are the same."""
MIN_POSTS = 5
"""Posts that take a side, as the herding measure needs them (traders in Wermers 1999)."""


class BehaviourParams(Params):
    """Windows of the features that come in several lengths, and names of series in the table `macro`."""

    overhang: list[Annotated[int, Field(ge=MIN_WEEKS, le=260)]] = Field([260])
    """Weeks of trading behind the price that holders paid."""
    sector_herding: list[Annotated[int, Field(ge=10, le=252)]] = Field([21])
    """Sessions over which a symbol is held against its sector."""
    implied_volatility: Annotated[str, Field(min_length=1)] = "VIX_CLOSE"
    """Of the market over a month, percent a year."""
    implied_volatility_quarter: Annotated[str, Field(min_length=1)] = "VXVCLS"
    """Over three months."""


behaviour = Family("behaviour", BehaviourParams)


# --- what the features share ---------------------------------------------------------------------------------


def _everywhere(panel: Panel, values: Array) -> Array:
    """`(T,)` or `(T, 1)` as `(T, N)`."""
    return np.repeat(values.reshape(-1, 1), panel.shape[1], axis=1)


def _usual(panel: Panel) -> tuple[Array, Array]:
    """Mean and standard deviation of volume, NaN where it does not vary."""
    spread = k.rolling_std(panel["volume"], USUAL_VOLUME, least(USUAL_VOLUME))
    mean = k.rolling_mean(panel["volume"], USUAL_VOLUME, least(USUAL_VOLUME))
    return np.where(mean > 0, mean, np.nan), np.where(spread > 0, spread, np.nan)


@remembered
def _herding(panel: Panel) -> tuple[Array, Array]:
    market = market_return(panel)
    deviation = absolute_deviation(returns_over(panel, 1), market, held_before(panel))
    return deviation_curvature(deviation, market, HERDING, least(HERDING), LAGS)


@remembered
def _beta_dispersion(panel: Panel) -> Array:
    beta = market_beta(panel, QUARTER, least(QUARTER))
    return k.row_mean((beta - 1.0) ** 2, panel.universe)[:, None]


@remembered
def _sector_correlation(panel: Panel, window: int) -> Array:
    returns = returns_over(panel, 1)
    others = others_mean(returns, held_before(panel), panel.sector)
    return k.rolling_corr(others, returns, window, least(window))


# --- panic ---------------------------------------------------------------------------------------------------


@behaviour.feature("panic_selling", lookback=USUAL_VOLUME + WEEK - 1, inputs=("close", "volume"),
                   units="fraction times standard deviations", sign=+1,
                   reference="Elkind, Kaminski, Lo, Siah, Wong (2022), When do investors freak out?; Campbell, "
                             "Grossman, Wang (1993), Trading volume and serial correlation")  # fmt: skip
def panic_selling(panel: Panel) -> Array:
    """Volume-weighted fall of the week times its abnormal volume, 0 where less is traded than usual."""
    mean, spread = _usual(panel)
    fall = weighted_fall(returns_over(panel, 1), panel["volume"] / mean, WEEK, least(WEEK))
    excess = (k.rolling_mean(panel["volume"], WEEK, least(WEEK)) - mean) / spread
    return fall * np.maximum(excess, 0.0)


@behaviour.feature("correlation_down", lookback=YEAR + 1, inputs=("close",), units="-2..2", sign=+1,
                   reference="Ang, Chen (2002), Asymmetric correlations of equity portfolios; Hong, Tu, Zhou (2007), "
                             "Asymmetries in stock returns")  # fmt: skip
def correlation_down(panel: Panel) -> Array:
    """Correlation with the market on those days of the year when it fell by over one sigma, less that of all days."""
    market, returns = market_return(panel), returns_over(panel, 1)
    threshold = -k.rolling_std(market[:, None], YEAR, least(YEAR))[:, 0]
    below = correlation_below(market, returns, threshold, YEAR, least(YEAR), MIN_FALLS)
    return below - k.rolling_corr(market_grid(panel), returns, YEAR, least(YEAR))


# --- what is noticed -----------------------------------------------------------------------------------------


@behaviour.feature("salience", lookback=MONTH + 1, inputs=("close",), units="fraction", sign=-1,
                   reference="Cosemans, Frehen (2021), Salience theory and stock prices")  # fmt: skip
def salience(panel: Panel) -> Array:
    """Covariance of the month's daily returns with how much they stand out from the market's."""
    return salience_value(returns_over(panel, 1), market_return(panel), MONTH, least(MONTH))


@behaviour.feature("attention_volume", lookback=YEAR, inputs=("volume",), units="0..1", sign=-1,
                   reference="Barber, Odean (2008), All that glitters")  # fmt: skip
def attention_volume(panel: Panel) -> Array:
    """Rank of the day's volume within the year."""
    return k.rolling_rank(panel["volume"], YEAR, least(YEAR))


@behaviour.feature("attention_return", lookback=YEAR + 1, inputs=("close",), units="0..1", sign=-1,
                   reference="Barber, Odean (2008), All that glitters")  # fmt: skip
def attention_return(panel: Panel) -> Array:
    """Rank of the day's absolute return within the year."""
    # Prices in cents make equal moves that differ by rounding: such a tie must stay one on any split basis.
    moved = np.round(np.abs(returns_over(panel, 1)), TIES)
    return k.rolling_rank(moved, YEAR, least(YEAR))


@behaviour.feature("fomo", lookback=YEAR, inputs=("close", "volume"), units="fraction", sign=-1,
                   reference="Barber, Huang, Odean, Schwarz (2022), Attention-induced trading and returns: evidence "
                             "from Robinhood users")  # fmt: skip
def fomo(panel: Panel) -> Array:
    """Fear of missing out: rise of the month (0 for a fall) times the week's volume over the year's."""
    usual = k.rolling_mean(panel["volume"], YEAR, least(YEAR))
    crowd = k.rolling_mean(panel["volume"], WEEK, least(WEEK)) / np.where(usual > 0, usual, np.nan)
    return np.maximum(returns_over(panel, MONTH), 0.0) * crowd


# --- gains not yet taken -------------------------------------------------------------------------------------


@behaviour.feature("gains_overhang_{weeks}", over="overhang", lookback=lambda weeks: WEEK * weeks,
                   inputs=("close", "volume", "filings.shares"), units="fraction", sign=+1,
                   reference="Grinblatt, Han (2005), Prospect theory, mental accounting, and momentum")  # fmt: skip
def capital_gains_overhang(panel: Panel, weeks: int) -> Array:
    """Capital gains overhang: close less what its holders paid on average, over the close."""
    filings = panel.events["filings"]
    # Weeks as in the paper: single sessions would be five times the work for a price that moves by weeks and months.
    return gains_overhang(
        fill_forward(panel["close"], WEEK),
        k.rolling_sum(panel["volume"], WEEK, 1),
        carry(filings, filings.values["shares"], panel.shape, 1),
        panel.fields.get("level_break", np.zeros(panel.shape)),
        weeks,
        MIN_WEEKS,
        panel.wanted,
    )


# --- herding of a symbol -------------------------------------------------------------------------------------


@behaviour.feature("sector_correlation_{window}", over="sector_herding", lookback=lambda window: window + 1,
                   inputs=("close",), units="-1..1", sign=0,
                   reference="Morck, Yeung, Yu (2000), The information content of stock markets (synchronicity)"
                   )  # fmt: skip
def sector_correlation(panel: Panel, window: int) -> Array:
    """Correlation of daily returns with the mean of the sector's other symbols."""
    return _sector_correlation(panel, window)


@behaviour.feature("sector_same_sign_{window}", over="sector_herding", lookback=lambda window: window + 1,
                   inputs=("close",), units="0..1", sign=0,
                   reference="Morck, Yeung, Yu (2000), The information content of stock markets (share of stocks that "
                             "move in the same direction)")  # fmt: skip
def sector_same_sign(panel: Panel, window: int) -> Array:
    """Share of sessions on which the symbol moved with the majority of its sector's other symbols."""
    direction = np.sign(returns_over(panel, 1))
    majority = np.sign(others_mean(direction, held_before(panel), panel.sector))
    together = np.where(np.isnan(majority) | (majority == 0), np.nan, direction == majority)
    # A sector of few symbols is often split in halves: more days than one of other features may be missing.
    return k.rolling_mean(together, window, window // 2 + 1)


@behaviour.feature("herding_posts", lookback=WEEK, inputs=("posts",), units="-0.5..1", sign=0,
                   reference="Lakonishok, Shleifer, Vishny (1992), The impact of institutional trading on stock "
                             "prices")  # fmt: skip
def herding_posts(panel: Panel) -> Array:
    """Herding measure of a week's posts, positive ones taken for buyers and negative ones for sellers."""
    buyers, sellers = sides(panel, WEEK)
    # Sums of counts are exact, so their order is free.
    bought, sold = (np.nansum(np.where(panel.universe, side, 0.0), axis=1) for side in (buyers, sellers))
    measure = herding_measure(buyers, sellers, ratio(bought, bought + sold)[:, None])
    return np.where(buyers + sellers >= MIN_POSTS, measure, np.nan)


# --- herding and panic of the market -------------------------------------------------------------------------


@behaviour.feature("market_herding", lookback=HERDING + 1, inputs=("close",), units="1 / fraction", sign=0,
                   reference="Chang, Cheng, Khorana (2000), An examination of herd behavior in equity "
                             "markets")  # fmt: skip
def market_herding(panel: Panel) -> Array:
    """Bend g2 of mean |R_i - R_m| = a + g1 |R_m| + g2 R_m^2 over 120 sessions: below 0 where investors herd."""
    return _everywhere(panel, _herding(panel)[0])


@behaviour.feature("market_herding_t", lookback=HERDING + 1, inputs=("close",), units="t statistic", sign=0,
                   reference="Chang, Cheng, Khorana (2000), An examination of herd behavior in equity markets; Newey, "
                             "West (1987), A simple, positive semi-definite covariance matrix")  # fmt: skip
def market_herding_t(panel: Panel) -> Array:
    """Newey-West t statistic of the bend, 4 lags."""
    return _everywhere(panel, _herding(panel)[1])


@behaviour.feature("market_beta_dispersion", lookback=QUARTER + 1, inputs=("close",), units="1", sign=0,
                   reference="Hwang, Salmon (2004), Market stress and herding")  # fmt: skip
def market_beta_dispersion(panel: Panel) -> Array:
    """Mean of (beta - 1)^2 over the universe, betas of the quarter: low where investors follow the market."""
    return _everywhere(panel, _beta_dispersion(panel))


@behaviour.feature("market_beta_dispersion_change", lookback=QUARTER + MONTH + 1, inputs=("close",), units="1", sign=0,
                   reference="Hwang, Salmon (2004), Market stress and herding")  # fmt: skip
def market_beta_dispersion_change(panel: Panel) -> Array:
    """Change of the dispersion of betas over a month: below 0 where herding grows."""
    dispersion = _beta_dispersion(panel)
    return _everywhere(panel, dispersion - k.shift(dispersion, MONTH))


@behaviour.feature("market_sector_correlation", lookback=MONTH + 1, inputs=("close",), units="-1..1", sign=0,
                   reference="Morck, Yeung, Yu (2000), The information content of stock markets; Pollet, Wilson "
                             "(2010), Average correlation and stock market returns")  # fmt: skip
def market_sector_correlation(panel: Panel) -> Array:
    """Mean over the universe of the month's correlation with the sector's other symbols."""
    return _everywhere(panel, k.row_mean(_sector_correlation(panel, MONTH), panel.universe))


@behaviour.feature("market_lows", lookback=LOWS, inputs=("close",), units="0..1", sign=+1,
                   reference="Brown, Cliff (2004), Investor sentiment and the near-term stock market (new highs to "
                             "new lows)")  # fmt: skip
def market_lows(panel: Panel) -> Array:
    """Share of the universe that closes at its low of 20 sessions."""
    close = panel["close"]
    low = k.rolling_min(close, LOWS, least(LOWS)) * unbroken(panel, LOWS - 1)
    at_low = np.where(np.isfinite(close) & np.isfinite(low), close <= low, np.nan)
    return _everywhere(panel, k.row_mean(at_low, panel.universe))


@behaviour.feature("market_backwardation", lookback=MONTH,
                   inputs=lambda params: (params.implied_volatility, params.implied_volatility_quarter),
                   units="0..1", sign=+1, reference="Johnson (2017), Risk premia and the VIX term structure; Fassas, "
                   "Hourvouliades (2019), VIX futures as a market timing indicator")  # fmt: skip
def market_backwardation(panel: Panel, month: str, quarter: str) -> Array:
    """Share of the month's sessions on which implied volatility over a month stood above that over three."""
    near, far = panel.series[month], panel.series[quarter]
    above = np.where(np.isfinite(near) & np.isfinite(far), near > far, np.nan)
    return _everywhere(panel, k.rolling_mean(above[:, None], MONTH, least(MONTH)))
