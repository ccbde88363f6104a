"""The simulated world: one set of tables and one truth for one set of parameters."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from core.params import Day, Params
from sources.calendar import sessions
from sources.simulation.firms import Array, Firms, draw_firms
from sources.simulation.paths import Paths, draw_shocks, evolve
from sources.simulation.plant import SHARES, realised, strengths
from sources.simulation.posts import draw_posts
from sources.simulation.reports import Dates, draw_reports
from sources.simulation.tables import earnings_table, filing_table, macro_table, securities_table
from sources.simulation.tape import FAULTS, Tape, price_table, print_tape

PILOT = 504
"""First sessions, without a plant, on which the plant's strength is set: it cannot depend on the sample's end."""
_WARM_UP = 63


class SimulationParams(Params):
    """Parameters of the simulated market."""

    symbols: int = Field(default=160, ge=2, le=5000)
    start: Day = datetime.date(2010, 1, 4)
    end: Day = datetime.date(2017, 12, 29)
    seed: int = Field(default=7, ge=0)
    planted_ic: float = Field(default=0.06, ge=0.0, lt=0.5)
    """Mean daily correlation over symbols of the true expected five-day residual return with the realised one."""
    posts_per_day: float = Field(default=1.0, ge=0.0, le=50.0)
    """Mean posts a day of a symbol that people write about (two in five symbols)."""
    late_share: float = Field(default=0.06, ge=0.0, le=1.0)
    """Share of symbols listed half a year to four years after the start."""
    restated_rate: float = Field(default=0.03, ge=0.0, le=1.0)
    wrong_entity_rate: float = Field(default=0.004, ge=0.0, le=1.0)
    repeat_rate: float = Field(default=0.14, ge=0.0, le=0.6)
    """Share of posts that repeat a text."""
    missing_rate: float = Field(default=6e-4, ge=0.0, le=0.5)
    gap_rate: float = Field(default=3e-5, ge=0.0, le=0.1)
    """Probability per row that two to six weeks without prices begin."""
    spike_rate: float = Field(default=8e-5, ge=0.0, le=0.5)
    zero_open_rate: float = Field(default=1e-3, ge=0.0, le=0.5)
    crossed_rate: float = Field(default=1e-4, ge=0.0, le=0.5)
    """Probability per row that high and low are exchanged."""
    zero_volume_rate: float = Field(default=5e-4, ge=0.0, le=0.5)

    @model_validator(mode="after")
    def _ordered(self) -> SimulationParams:
        if self.end <= self.start:
            raise ValueError(f"end {self.end} must be after start {self.start}")
        return self

    @property
    def fault_rates(self) -> Mapping[str, float]:
        """Probability per price row of each fault."""
        return {name: getattr(self, f"{name}_rate") for name in FAULTS}


@dataclass(frozen=True)
class World:
    """Everything that is true of one simulated market.

    Attributes
    ----------
    dates
        `(T,)` sessions; they reach beyond the sample, so that its last rows are as complete as any.
    last
        Index of the sample's last session.
    scale
        Multiplier of each source of the plant.
    """

    params: SimulationParams
    firms: Firms
    dates: Dates
    last: int
    paths: Paths
    tape: Tape
    scale: Mapping[str, float]
    tables: Mapping[str, pd.DataFrame]

    @cached_property
    def expected(self) -> Array:
        """`(T, N)` expected residual return of sessions D+2 to D+6 given what is known at D."""
        return sum((self.scale[name] * self.paths.expected[name] for name in SHARES), np.zeros(self.paths.close.shape))

    @cached_property
    def outcome(self) -> Array:
        """`(T, N)` realised residual return of sessions D+2 to D+6; NaN at the end."""
        return realised(self.paths.residual)

    @cached_property
    def listed(self) -> Array:
        """`(T, N)` 1.0 where the firm is listed, NaN before."""
        return _listed(self.firms, len(self.dates))


def _listed(firms: Firms, length: int) -> Array:
    return np.where(np.arange(length)[:, None] >= firms.listed[None, :], 1.0, np.nan)


@lru_cache(maxsize=4)
def make_world(params: SimulationParams) -> World:
    """Simulate; the same parameters give the same bits, and the world up to D does not depend on `end`."""
    beyond = max(params.end + datetime.timedelta(days=14), params.start + datetime.timedelta(days=760))
    dates = sessions(params.start, beyond)
    last = int(np.searchsorted(dates, np.datetime64(params.end), side="right")) - 1
    firms = draw_firms(params.symbols, params.seed, params.late_share, params.posts_per_day)
    reports = draw_reports(firms, dates, params.seed, params.restated_rate, params.wrong_entity_rate)
    shocks = draw_shocks(firms, reports, len(dates), params.seed)
    posts = draw_posts(firms, dates, shocks.size, params.seed, params.repeat_rate)

    scale = dict.fromkeys(SHARES, 0.0)
    if params.planted_ic > 0:
        pilot = evolve(firms, reports, shocks, posts.tone, dates[:PILOT], scale)
        window = slice(_WARM_UP, PILOT - 10)
        expected = {name: values[window] for name, values in pilot.expected.items()}
        alive = _listed(firms, PILOT)[window]
        scale = strengths(expected, realised(pilot.residual)[window], alive, params.planted_ic)
    paths = evolve(firms, reports, shocks, posts.tone, dates, scale)
    tape = print_tape(firms, paths, shocks, params.seed)
    tables = {
        "prices": price_table(firms, tape, dates, last, params.seed, params.fault_rates),
        "fundamentals": filing_table(firms, reports, paths.figures, tape.split, last, dates),
        "earnings": earnings_table(firms, reports, paths.figures, tape.split, dates),
        "posts": posts.table,
        "securities": securities_table(firms),
        "macro": macro_table(shocks, dates, params.seed),
    }
    return World(params, firms, dates, last, paths, tape, scale, tables)
