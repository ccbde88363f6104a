"""Returns with a market, sectors, clustered volatility and fat tails; earnings that follow them.

A firm's return is its loadings on the market and its sector, plus an idiosyncratic part: noise, a jump when
earnings are announced, and the planted expectation. The firm's earnings power is drawn towards what its price
implies, so that yields stay in a believable range; prices never react to anything but the announcements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sources.simulation.firms import SECTORS, Array, Firms
from sources.simulation.plant import KERNELS, ahead, earned
from sources.simulation.reports import Dates, Reports, month_ends
from sources.simulation.streams import stream

HIGH_VOLUME = 1.5
"""Multiple of the usual volume above which a day's move reverts."""

_CALM, _STRESS = 0, 1
_MARKET_VOL = (0.0065, 0.0160)
_MARKET_DRIFT = (0.0006, -0.0006)
_LEAVE = (0.005, 0.02)  # daily probability of leaving the calm and the stressed state
_USUAL_MARKET_VOL = 0.009


@dataclass(frozen=True)
class Shocks:
    """Everything about returns that does not depend on prices, for all sessions.

    Attributes
    ----------
    market, market_vol
        `(T,)` return and its volatility as expected the day before, fractions.
    common
        `(T, N)` market and sector part of each firm's return.
    vol
        `(T, N)` volatility of the idiosyncratic noise, known the day before.
    noise
        `(T, N)` idiosyncratic return without announcement jumps and plant.
    jump
        `(T, N)` reaction to the announcements.
    volume
        `(T, N)` multiple of the usual volume.
    """

    market: Array
    market_vol: Array
    common: Array
    vol: Array
    noise: Array
    jump: Array
    volume: Array

    @property
    def size(self) -> Array:
        """Noise in units of its volatility."""
        return self.noise / self.vol


@dataclass(frozen=True)
class Figures:
    """Quarterly figures of every report, `(R,)`: USD, and shares on the split basis of the first session."""

    net_income: Array
    net_income_year: Array
    power: Array
    equity: Array
    shares: Array
    dividends: Array


@dataclass(frozen=True)
class Paths:
    """One evolution of the market.

    Attributes
    ----------
    close
        `(T, N)` USD on the split basis of the first session.
    residual
        `(T, N)` idiosyncratic return.
    shares
        `(T, N)` outstanding, on the split basis of the first session.
    expected
        `(T, N)` by source: residual return of D+2 to D+6 expected at D, at multiplier one.
    """

    close: Array
    residual: Array
    shares: Array
    expected: Mapping[str, Array]
    figures: Figures


def draw_shocks(firms: Firms, reports: Reports, sessions: int, seed: int) -> Shocks:
    """Draw volatilities, common and idiosyncratic returns and volumes."""
    market, market_vol = _market(sessions, seed)
    stress = market_vol / _USUAL_MARKET_VOL
    count = len(firms.symbols)
    sector = 0.004 * _fat(stream(seed, "sectors"), (sessions, len(SECTORS)), 5) * np.sqrt(stress)[:, None]
    draws = _fat(stream(seed, "idiosyncratic"), (sessions, count), 5)
    vol = firms.vol * np.sqrt(_garch(draws, 0.07, 0.90)) * np.clip(np.sqrt(stress), 0.75, 1.8)[:, None]
    noise = np.clip(vol * draws, -0.35, 0.5)

    known = reports.announced_at < sessions
    at = (reports.announced_at[known], reports.firm[known])
    jump, news = np.zeros((sessions, count)), np.zeros((sessions, count), dtype=bool)
    jump[at] = np.clip(1.6 * reports.surprise[known] * firms.vol[at[1]], -0.3, 0.3)
    news[at] = True

    mood = stream(seed, "volume").standard_normal((sessions, count))
    busy = 0.25 * mood + 0.45 * (np.abs(draws) - 0.75) + 0.7 * news
    return Shocks(
        market, market_vol, firms.beta * market[:, None] + firms.sector_beta * sector[:, firms.sector],
        vol, noise, jump, np.exp(busy),
    )  # fmt: skip


def _fat(rng: np.random.Generator, shape: tuple[int, ...], freedom: int) -> Array:
    """Student-t draws of unit variance."""
    return np.clip(rng.standard_t(freedom, shape) / np.sqrt(freedom / (freedom - 2)), -9.0, 9.0)


def _garch(draws: Array, news: float, memory: float) -> Array:
    """Variance around one, fed by the squared draws (Bollerslev, 1986), bounded."""
    out = np.empty_like(draws)
    level = np.ones(draws.shape[1])
    for t, draw in enumerate(draws):
        out[t] = level
        level = np.minimum(1.0 - news - memory + level * (memory + news * np.minimum(draw**2, 12.0)), 9.0)
    return out


def _market(sessions: int, seed: int) -> tuple[Array, Array]:
    """Market return: calm and stressed spells (Hamilton, 1989) with volatility that clusters within them."""
    draws = _fat(stream(seed, "market"), (sessions,), 6)
    switch = stream(seed, "regime").random(sessions)
    returns, vols = np.empty(sessions), np.empty(sessions)
    state, variance = _CALM, _MARKET_VOL[_CALM] ** 2
    for t in range(sessions):
        if switch[t] < _LEAVE[state]:
            state = _STRESS if state == _CALM else _CALM
        vols[t] = np.sqrt(variance)
        shock = vols[t] * draws[t]
        returns[t] = np.clip(_MARKET_DRIFT[state] + shock, -0.11, 0.11)
        target = _MARKET_VOL[state] ** 2
        variance = 0.06 * target + 0.84 * variance + 0.10 * min(shock**2, 12.0 * variance)
    return returns, vols


def impulses(shocks: Shocks, reports: Reports, tone: Array) -> dict[str, Array]:
    """Impulses that do not depend on prices, by source, `(T, N)` as fractions of return.

    Parameters
    ----------
    tone
        `(T, N)` shrunken mean tone of the posts that became known in each session.
    """
    sessions = len(shocks.vol)
    known = reports.announced_at < sessions
    at = (reports.announced_at[known], reports.firm[known])
    drift, news = np.zeros_like(shocks.vol), np.zeros(shocks.vol.shape, dtype=bool)
    drift[at] = reports.surprise[known] * shocks.vol[at]
    news[at] = True
    reverts = (shocks.volume > HIGH_VOLUME) & ~news
    return {
        "drift": drift,
        "reversal": np.where(reverts, -shocks.noise, 0.0),
        "mood": tone * shocks.vol,
    }


def evolve(
    firms: Firms, reports: Reports, shocks: Shocks, tone: Array, dates: Dates, scale: Mapping[str, float]
) -> Paths:
    """Roll prices and earnings forward, month by month.

    Parameters
    ----------
    dates
        `(T,)` sessions to evolve; the shocks may cover more.
    scale
        Multiplier of each source of the plant; zeros make a market without any.
    """
    sessions, count = len(dates), len(firms.symbols)
    sources = {name: values[:sessions] for name, values in impulses(shocks, reports, tone).items()}
    planted = sum(scale[name] * earned(impulse, KERNELS[name]) for name, impulse in sources.items())
    residual = shocks.noise[:sessions] + shocks.jump[:sessions] + planted
    close, shares = np.empty((sessions, count)), np.empty((sessions, count))
    value = np.zeros((sessions, count))

    book = _Book(firms, reports)
    price = firms.price.copy()
    score, older = np.zeros(count), np.zeros(count)
    ends = [*(np.searchsorted(dates, month_ends(dates), side="right") - 1), sessions - 1]
    start = 0
    for month, end in enumerate(ends):
        block = slice(start, end + 1)
        if start > end:
            continue
        held = np.repeat(score[None], end + 1 - start, axis=0)
        value[block] = held
        # The first session of a block is too soon for the score that became known the day before.
        acted = held.copy()
        acted[0] = older
        residual[block] += scale["value"] * acted * firms.vol
        growth = np.cumprod(1.0 + np.clip(shocks.common[block] + residual[block], -0.6, 1.0), axis=0)
        close[block] = price * growth
        shares[block] = book.shares
        price = close[end]
        if month < len(ends) - 1:
            book.close_quarters(month, price * book.shares)
            book.publish(end)
            # The score counts from the month's last session on: it is known at that close.
            older, score = score, book.score(price, listed=firms.listed <= end)
            value[end] = score
        start = end + 1
    expected = {name: ahead(impulse, KERNELS[name]) for name, impulse in sources.items()}
    expected["value"] = 5.0 * value * firms.vol
    return Paths(close, residual, shares, expected, book.figures())


class _Book:
    """The firms' accounts, and what of them is public."""

    def __init__(self, firms: Firms, reports: Reports) -> None:
        self.firms, self.reports = firms, reports
        worth = firms.price * firms.shares
        self.shares = firms.shares.copy()
        self.power = worth * firms.earnings_yield / 4.0
        self.equity = 4.0 * self.power / firms.roe
        self.last = np.repeat(self.power[:, None], 4, axis=1)
        self.rows = np.full((len(reports.firm), 6), np.nan)
        self.by_filing = np.argsort(reports.filed_at, kind="stable")
        self.filed_at = reports.filed_at[self.by_filing]
        self.read = 0
        self.known_year, self.known_equity = np.full(len(worth), np.nan), np.full(len(worth), np.nan)

    def close_quarters(self, month: int, worth: Array) -> None:
        """End the fiscal quarter of the firms whose quarter ends with this month."""
        low, high = np.searchsorted(self.reports.month, [month, month + 1])
        firm, noise = self.reports.firm[low:high], self.reports.noise[low:high]
        implied = worth[firm] * self.firms.earnings_yield[firm] / 4.0
        self.power[firm] *= (implied / self.power[firm]) ** 0.12 * np.exp(0.05 * noise[:, 0])
        income = self.power[firm] * (1.0 + 0.10 * self.reports.surprise[low:high] + 0.12 * noise[:, 1])
        paid = np.maximum(0.35 * self.power[firm], 0.0)
        # Buy-backs and issues pull equity towards the firm's usual return on it.
        usual = 4.0 * self.power[firm] / self.firms.roe[firm]
        self.equity[firm] = np.maximum(self.equity[firm] + income - paid, 0.2 * usual) ** 0.95 * usual**0.05
        self.shares[firm] = np.round(self.shares[firm] * np.exp(0.006 * noise[:, 2] - 0.001), -3)
        self.last[firm] = np.column_stack([self.last[firm, 1:], income])
        year = self.last[firm].sum(axis=1)
        columns = [income, year, self.power[firm], self.equity[firm], self.shares[firm], paid]
        self.rows[low:high] = np.column_stack(columns)

    def publish(self, session: int) -> None:
        """Make the filings public that may be used at the close of this session."""
        stop = int(np.searchsorted(self.filed_at, session, side="right"))
        rows = self.by_filing[self.read : stop]
        self.known_year[self.reports.firm[rows]] = self.rows[rows, 1]
        self.known_equity[self.reports.firm[rows]] = self.rows[rows, 3]
        self.read = stop

    def score(self, price: Array, listed: NDArray[np.bool_]) -> Array:
        """Earnings yield and return on equity, ranked, from public figures; zero where there are none."""
        known = listed & np.isfinite(self.known_year)
        out = np.zeros(len(price))
        if known.sum() > 1:
            worth = (price * self.shares)[known]
            for ratio in (self.known_year[known] / worth, self.known_year[known] / self.known_equity[known]):
                rank = np.argsort(np.argsort(ratio, kind="stable"), kind="stable")
                out[known] += ((rank + 0.5) / known.sum() * 2.0 - 1.0) * np.sqrt(1.5)
        return out

    def figures(self) -> Figures:
        """The figures of every report; NaN for those whose period has not ended."""
        return Figures(*self.rows.T)
