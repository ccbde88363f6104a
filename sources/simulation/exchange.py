"""The market from session to session: prices, volume, posts and accounts answer each other.

A firm's return is its loadings on the market and its sector, plus an idiosyncratic part: orders nobody could
foresee, a jump when earnings are announced, and what the plant leaves to be earned. The populations' foreseeable
demand is in the quotes; it decides how far a surprise moves the price, how much trades, and who stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from sources.simulation.accounts import Accounts
from sources.simulation.firms import SECTORS, Array, Firms
from sources.simulation.plant import DELAY, NAMES, REACH, SOURCES, foreseen
from sources.simulation.posts import Chatter
from sources.simulation.reports import Dates, Reports, month_ends
from sources.simulation.story import USUAL_VOL, Day, Story
from sources.simulation.streams import Streams
from sources.simulation.traders import MOMENTUM, Traders, stretch

HIGH_VOLUME = 1.5
"""Multiple of the usual volume above which a day's move reverts."""

_NEWS, _MEMORY, _FEAR = 0.075, 0.895, 0.35
_SLOW_MEMORY, _SLOW_VOL = 0.997, 0.55
_CROWD_MEMORY, _ALIKE = 0.9, 0.9
_COLLAPSE = -0.6


@dataclass(frozen=True)
class Block:
    """The sessions of one month.

    Attributes
    ----------
    first
        Index of its first session.
    before
        `(N,)` prices at the close before it.
    close
        `(B, N)` USD on the split basis of the first session.
    residual
        `(B, N)` idiosyncratic return.
    shares
        `(B, N)` outstanding, on the split basis of the first session.
    vol
        `(B, N)` volatility of the idiosyncratic part, known the day before.
    volume
        `(B, N)` multiple of the usual volume.
    crowd
        `(B, N)` inventory of the crowd, in days of usual volume.
    expected
        By source, `(B, N)` residual return of D+2 to D+6 expected at D, at multiplier one.
    market, market_vol
        `(B,)` return, and its volatility as expected the day before, fractions.
    regime
        `(B,)` calm, stress or crisis, as `story` numbers them.
    panic
        `(B,)` share of panicked traders.
    populations
        `(B, P)` share of each population.
    posts
        Rows of the `posts` table.
    """

    first: int
    before: Array
    close: Array
    residual: Array
    shares: Array
    vol: Array
    volume: Array
    crowd: Array
    expected: Mapping[str, Array]
    market: Array
    market_vol: Array
    regime: NDArray[np.int8]
    panic: Array
    populations: Array
    posts: pd.DataFrame


class Exchange:
    """One evolution of a market, lived through once by `blocks`.

    Parameters
    ----------
    dates
        `(T,)` sessions to live through.
    scale
        Multiplier of each source of the plant; zeros make a market without any.
    pull
        Pull of panic, see `Story`.
    repeat_rate
        Share of posts that repeat a text.
    """

    def __init__(
        self, firms: Firms, reports: Reports, dates: Dates, seed: int, scale: Mapping[str, float], pull: float,
        repeat_rate: float,
    ) -> None:  # fmt: skip
        count = len(firms.symbols)
        self.firms, self.reports, self.dates = firms, reports, dates
        self.accounts = Accounts(firms, reports)
        self._scale = scale
        self._streams = Streams(seed)
        self._story, self._traders = Story(self._streams, pull), Traders(count)
        self._chatter = Chatter(firms, self._streams, repeat_rate)
        order = np.argsort(reports.announced_at, kind="stable")
        self._announced, self._announced_at = order, reports.announced_at[order]
        self._price, self._level, self._slow = firms.price.copy(), np.ones(count), np.zeros(count)
        self._crowd = np.zeros(count)
        self._score = (np.zeros(count), np.zeros(count))
        self._due = np.zeros((DELAY + REACH, count))
        self._tail = {name: np.zeros((REACH - 1, count)) for name in NAMES}

    def blocks(self) -> Iterator[Block]:
        """The market month by month; the last block may be part of one."""
        ends = [*(np.searchsorted(self.dates, month_ends(self.dates), side="right") - 1), len(self.dates) - 1]
        first = 0
        for month, end in enumerate(ends):
            if first <= end:
                closes = month if month < len(ends) - 1 else None
                yield self._block(first, int(end), closes)
            first = int(end) + 1

    def _block(self, first: int, end: int, month: int | None) -> Block:
        shape = (end + 1 - first, len(self.firms.symbols))
        rows = {name: np.empty(shape) for name in ("close", "residual", "shares", "vol", "volume", "crowd")}
        impulses = {name: np.concatenate([self._tail[name], np.empty(shape)]) for name in NAMES}
        days, populations, before = [], np.empty((shape[0], len(self._traders.shares))), self._price
        for row, at in enumerate(range(first, end + 1)):
            day = self._story.session(self._traders.gone())
            found, pushes = self._session(at, day, month if at == end else None)
            for name, values in found.items():
                rows[name][row] = values
            for name, values in pushes.items():
                impulses[name][REACH - 1 + row] = values
            populations[row] = self._traders.shares
            days.append(day)
        self._tail = {name: values[-(REACH - 1) :].copy() for name, values in impulses.items()}
        return Block(
            first=first, before=before, **rows, populations=populations, posts=self._chatter.collect(self.dates),
            expected={name: foreseen(values, SOURCES[name]) for name, values in impulses.items()},
            market=np.array([day.market for day in days]), market_vol=np.array([day.vol for day in days]),
            regime=np.array([day.regime for day in days], dtype=np.int8), panic=np.array([day.panic for day in days]),
        )  # fmt: skip

    def _session(self, at: int, day: Day, month: int | None) -> tuple[dict[str, Array], dict[str, Array]]:
        """One session: what is to be kept of it, and the impulses known at its close."""
        firms, count, draw = self.firms, len(self.firms.symbols), self._streams
        alive = (firms.listed <= at) & (at <= firms.delisted)
        stress = day.vol / USUAL_VOL
        sector = 0.004 * draw.fat("sectors", (len(SECTORS),), 5) * np.sqrt(stress)
        common = firms.beta * day.market + firms.sector_beta * sector[firms.sector]

        lean = self._traders.lean()
        usual = firms.vol * min(max(np.sqrt(stress), 0.75), 1.8)
        vol = usual * np.sqrt(self._level) * np.exp(self._slow - _SLOW_VOL**2) * stretch(lean)
        size = draw.fat("idiosyncratic", (count,), 5)
        noise = np.clip(vol * size, -0.35, 0.5)
        surprise, news = self._announcements(at)
        jump = np.clip(1.6 * surprise * firms.vol, -0.3, 0.3)
        jump = np.where(firms.fails & (firms.delisted == at), _COLLAPSE, jump)
        residual = noise + jump + self._due[0]
        self._price = self._price * (1.0 + np.clip(common + residual, -0.9, 1.0))
        busy = 0.25 * draw["volume"].standard_normal(count) + 0.45 * (np.abs(size) - 0.75) + 0.7 * news
        volume = np.exp(busy + 0.3 * (np.abs(lean) - 0.2))
        self._evolve_volatility(size)

        # The crowd buys into the day's surprise, most of it alike.
        own = np.sqrt(1.0 - _ALIKE**2) * draw["crowd"].standard_normal(count)
        bought = volume * (2.0 * ndtr(_ALIKE * size + own) - 1.0)
        self._crowd = _CROWD_MEMORY * self._crowd + bought
        tone = self._chatter.session(at, size, lean - day.panic, alive)
        if month is not None:
            self.accounts.close_quarters(month, self._price * self.accounts.shares)
            self.accounts.publish(at)
            # The scores count from the month's last session on: they are known at that close.
            self._score = self.accounts.scores(self._price, alive)
        gap = np.log(self.accounts.worth() / (self._price * self.accounts.shares))
        self._traders.session((residual - jump) / vol, gap, day.market / USUAL_VOL, day.panic, alive.astype(float))

        pushes = {
            "drift": surprise * vol,
            "reversal": np.where((volume > HIGH_VOLUME) & ~news, -noise, 0.0),
            "mood": tone * vol,
            "value": self._score[0] * usual,
            "bargain": self._score[1] * usual,
            "pattern": noise,
            "trend": (-1.0 if day.stressed else 1.0) * self._traders.demands[MOMENTUM] * usual,
            "crowd": -self._crowd * usual,
        }
        self._earn(pushes)
        kept = {
            "close": self._price, "residual": residual, "shares": self.accounts.shares, "vol": vol, "volume": volume,
            "crowd": self._crowd,
        }  # fmt: skip
        return kept, pushes

    def _announcements(self, at: int) -> tuple[Array, NDArray[np.bool_]]:
        """Surprise of the earnings that may be used at this close, zero elsewhere, and where there are any."""
        rows = self._announced[slice(*np.searchsorted(self._announced_at, [at, at + 1]))]
        surprise, news = np.zeros(len(self.firms.symbols)), np.zeros(len(self.firms.symbols), dtype=bool)
        surprise[self.reports.firm[rows]] = self.reports.surprise[rows]
        news[self.reports.firm[rows]] = True
        return surprise, news

    def _evolve_volatility(self, size: Array) -> None:
        """Variance around one, fed by squared draws, by falls more than by rises, and slow waves around it."""
        fed = np.minimum(size**2, 12.0) * (1.0 - _FEAR * np.sign(size))
        self._level = np.minimum(1.0 - _NEWS - _MEMORY + self._level * (_MEMORY + _NEWS * fed), 9.0)
        wave = self._streams["slow volatility"].standard_normal(len(size))
        self._slow = _SLOW_MEMORY * self._slow + np.sqrt(1.0 - _SLOW_MEMORY**2) * _SLOW_VOL * wave

    def _earn(self, pushes: Mapping[str, Array]) -> None:
        """Put what the impulses earn on the sessions on which they earn it."""
        self._due = np.vstack([self._due[1:], np.zeros_like(self._due[:1])])
        for name, push in pushes.items():
            if self._scale[name]:
                kernel = SOURCES[name].kernel
                self._due[DELAY - 1 : DELAY - 1 + len(kernel)] += self._scale[name] * kernel[:, None] * push
