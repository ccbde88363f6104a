"""The simulated world: one set of tables and one truth for one set of parameters."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import ConfigError
from sources.calendar import sessions
from sources.schemas import TABLES
from sources.simulation.accounts import Figures
from sources.simulation.exchange import Block, Exchange
from sources.simulation.firms import Array, Firms, draw_firms
from sources.simulation.params import SimulationParams
from sources.simulation.plant import NAMES, realised, strengths
from sources.simulation.reports import Dates, Reports, draw_reports
from sources.simulation.tables import earnings_table, filing_table, macro_table, securities_table
from sources.simulation.tape import Tape, price_table

PILOT = 504
"""First sessions, without a plant, on which the plant's strength is set: it cannot depend on the sample's end."""
_WARM_UP = 63


@dataclass
class Evolution:
    """A market on its way: `blocks` lives through it once and leaves the small tables' sources behind.

    Attributes
    ----------
    dates
        `(T,)` sessions; they reach beyond the sample, so that its last rows are as complete as any.
    last
        Index of the sample's last session.
    scale
        Multiplier of each source of the plant.
    final
        `(N,)` cumulative split factor of the last session of the sample.
    """

    params: SimulationParams
    firms: Firms
    reports: Reports
    dates: Dates
    last: int
    scale: Mapping[str, float]
    final: Array = field(init=False)
    _splits: list[Array] = field(default_factory=list)
    _market_vol: list[Array] = field(default_factory=list)
    _figures: Figures | None = None

    def blocks(self) -> Iterator[tuple[Block, pd.DataFrame]]:
        """Every block with its printed rows, those beyond the sample included."""
        exchange = _exchange(self.params, self.firms, self.reports, self.dates, self.scale)
        tape = Tape(self.firms, self.params.seed, self.params.fault_rates)
        for block in exchange.blocks():
            printed = tape.print(block, self.dates)
            self._splits.append(tape.splits[-1])
            self._market_vol.append(block.market_vol)
            if block.first <= self.last < block.first + len(block.close):
                self.final = tape.splits[self.last - block.first]
            yield block, printed
        self._figures = exchange.accounts.figures()

    @property
    def planted(self) -> tuple[str, ...]:
        """Sources of the plant that are there."""
        return tuple(name for name in NAMES if self.scale[name] != 0.0)

    def known(self, table: str, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows that became known within the span of the sample, of firms listed by then."""
        known, end = TABLES[table].known, np.datetime64(self.params.end)
        days = None if known is None else _days(frame[known])
        keep = np.ones(len(frame), dtype=bool)
        if "symbol" in frame:
            # Firms that are listed beyond the sessions lived through are not known yet.
            calendar = np.append(self.dates, np.datetime64("9999-12-31"))
            first = pd.Series(calendar[np.minimum(self.firms.listed, len(self.dates))], index=self.firms.symbols)
            keep &= (end if days is None else days) >= frame["symbol"].map(first).to_numpy("datetime64[D]")
        if days is not None:
            keep &= (days >= np.datetime64(self.params.start)) & (days <= end)
        return frame[keep]

    def small_tables(self) -> dict[str, pd.DataFrame]:
        """The tables that do not grow with the sessions times the symbols, once the blocks have been lived through."""
        if self._figures is None:
            raise RuntimeError("the blocks must be lived through first")
        split = np.array(self._splits)
        firms, reports, figures, dates = self.firms, self.reports, self._figures, self.dates
        return {
            "fundamentals": filing_table(firms, reports, figures, split, self.final, dates),
            "earnings": earnings_table(firms, reports, figures, split, dates),
            "securities": securities_table(firms),
            "macro": macro_table(np.concatenate(self._market_vol), dates, self.params.seed),
        }


def _days(times: pd.Series) -> Dates:
    naive = times.dt.tz_convert(None) if isinstance(times.dtype, pd.DatetimeTZDtype) else times
    return naive.to_numpy().astype("datetime64[D]")


def begin(params: SimulationParams) -> Evolution:
    """Draw the firms and their calendar, and set the plant's strength on a pilot run.

    Raises
    ------
    ConfigError
        The span holds no session, or too few firms to plant anything.
    """
    beyond = max(params.end + datetime.timedelta(days=14), params.start + datetime.timedelta(days=760))
    dates = sessions(params.start, beyond)
    last = int(np.searchsorted(dates, np.datetime64(params.end), side="right")) - 1
    if last < 0:
        raise ConfigError(f"no session of the exchange lies between {params.start} and {params.end}: widen the span")
    firms = draw_firms(params.symbols, params.seed, params.late_share, params.posts_per_day, params.delisting_rate)
    reports = draw_reports(firms, dates, params.seed, params.restated_rate, params.wrong_entity_rate)
    return Evolution(params, firms, reports, dates, last, _strengths(params, firms, reports, dates))


def _exchange(
    params: SimulationParams, firms: Firms, reports: Reports, dates: Dates, scale: Mapping[str, float]
) -> Exchange:
    return Exchange(firms, reports, dates, params.seed, scale, params.pull, params.repeat_rate)


def _strengths(params: SimulationParams, firms: Firms, reports: Reports, dates: Dates) -> dict[str, float]:
    scale = dict.fromkeys(NAMES, 0.0)
    wanted = {name: strength for name, strength in params.oracle_ic().items() if strength > 0}
    if not wanted:
        return scale
    pilot = list(_exchange(params, firms, reports, dates[:PILOT], scale).blocks())
    window = slice(_WARM_UP, PILOT - 10)
    expected = {name: np.concatenate([block.expected[name] for block in pilot])[window] for name in wanted}
    outcome = realised(np.concatenate([block.residual for block in pilot]))[window]
    return {**scale, **strengths(expected, outcome, alive(firms, PILOT)[window], wanted)}


def alive(firms: Firms, length: int) -> Array:
    """`(T, N)` 1.0 where the firm is listed, NaN elsewhere."""
    at = np.arange(length)[:, None]
    return np.where((at >= firms.listed) & (at <= firms.delisted), 1.0, np.nan)


@dataclass(frozen=True)
class World:
    """Everything that is true of one simulated market, in memory.

    Attributes
    ----------
    dates
        `(T,)` sessions, also those beyond the sample.
    last
        Index of the sample's last session.
    parts
        By planted source, `(T, N)` expected residual return of sessions D+2 to D+6 given what is known at D.
    tables
        Raw rows that became known within the sample.
    close, residual, volume, crowd, market, market_vol, regime, panic, populations
        As in `Block`, of all sessions.
    """

    params: SimulationParams
    firms: Firms
    dates: Dates
    last: int
    parts: Mapping[str, Array]
    tables: Mapping[str, pd.DataFrame]
    close: Array
    residual: Array
    volume: Array
    crowd: Array
    market: Array
    market_vol: Array
    regime: NDArray[np.int8]
    panic: Array
    populations: Array

    @cached_property
    def expected(self) -> Array:
        """`(T, N)` expected residual return of sessions D+2 to D+6 given what is known at D."""
        return sum(self.parts.values(), np.zeros(self.close.shape))

    @cached_property
    def outcome(self) -> Array:
        """`(T, N)` realised residual return of sessions D+2 to D+6; NaN at the end."""
        return realised(self.residual)

    @cached_property
    def listed(self) -> Array:
        """`(T, N)` 1.0 where the firm is listed, NaN elsewhere."""
        return alive(self.firms, len(self.dates))


_PATHS = ("close", "residual", "volume", "crowd", "market", "market_vol", "regime", "panic", "populations")


@lru_cache(maxsize=4)
def make_world(params: SimulationParams) -> World:
    """Simulate; the same parameters give the same bits, and the world up to D does not depend on `end`."""
    evolution = begin(params)
    pairs = list(evolution.blocks())
    blocks = [block for block, _ in pairs]
    printed = pd.concat([rows for _, rows in pairs], ignore_index=True)
    tables = {
        "prices": price_table(printed[printed["session"] <= evolution.last], evolution.final),
        "posts": pd.concat([block.posts for block in blocks], ignore_index=True),
        **evolution.small_tables(),
    }
    scale = evolution.scale
    return World(
        params, evolution.firms, evolution.dates, evolution.last,
        parts={
            name: scale[name] * np.concatenate([block.expected[name] for block in blocks])
            for name in evolution.planted
        },
        tables={name: evolution.known(name, frame) for name, frame in tables.items()},
        **{name: np.concatenate([getattr(block, name) for block in blocks]) for name in _PATHS},
    )  # fmt: skip
