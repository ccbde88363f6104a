"""The default source: a simulated market that needs no download and whose truth is known."""

from __future__ import annotations

import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import ConfigError
from sources.base import PROVIDERS
from sources.schemas import TABLES, normalise
from sources.simulation.params import SimulationParams
from sources.simulation.truth import market_truth, symbol_truth
from sources.simulation.world import World, make_world


@PROVIDERS.register("simulated")
class Simulated:
    """Tables of a simulated market, drawn from a seed.

    Parameters
    ----------
    path
        Not used: nothing is read.
    params
        Size, span, seed, strength of the planted signal and rates of the faults.
    """

    Params = SimulationParams

    def __init__(self, path: Path | None, params: SimulationParams) -> None:
        self.params = params

    def tables(self) -> tuple[str, ...]:
        """Every table but that of the user's own series."""
        return tuple(sorted(name for name, schema in TABLES.items() if not schema.own))

    def read(self, table: str, start: datetime.date | None = None, end: datetime.date | None = None) -> pd.DataFrame:
        """Rows that became known on the days `[start, end]`, within the simulated span.

        Raises
        ------
        ConfigError
            There is no such table.
        """
        if table not in self.tables():
            raise ConfigError(f"unknown table {table!r}: choose one of {', '.join(self.tables())}")
        frame = _normalised(self.params, table)
        known = TABLES[table].known
        if known is None:
            return frame.copy()
        first, last = start or self.params.start, end or self.params.end
        return frame[_between(frame[known], first, last)].reset_index(drop=True)

    def last_day(self) -> np.datetime64:
        """Last day that has a price."""
        return self.read("prices")["date"].max().to_numpy().astype("datetime64[D]")

    def truth(self) -> pd.DataFrame:
        """What is true of each firm and session, for judging: no stage of the pipeline reads it.

        Returns
        -------
        DataFrame
            As `symbol_truth` has it; `expected` is the residual return (fraction) of the sessions D+2 to D+6, which a
            trade at the close of D+1 earns, as expected from what is known at the close of D.
        """
        world, rows = self.world, slice(0, self.world.last + 1)
        parts = {name: values[rows] for name, values in world.parts.items()}
        arrays = (world.crowd[rows], world.regime[rows])
        return symbol_truth(world.dates[rows], world.firms.symbols, world.listed[rows], parts, *arrays)

    def market_truth(self) -> pd.DataFrame:
        """What is true of the whole market in each session, as `market_truth` of `sources.simulation.truth` has it."""
        world, rows = self.world, slice(0, self.world.last + 1)
        state = (world.regime[rows], world.panic[rows], world.populations[rows])
        return market_truth(world.dates[rows], world.market[rows], world.market_vol[rows], *state)

    @property
    def world(self) -> World:
        """The whole simulated world, made once a process."""
        return make_world(self.params)


@lru_cache(maxsize=24)
def _normalised(params: SimulationParams, table: str) -> pd.DataFrame:
    """One table of a world, in its schema."""
    return normalise(table, make_world(params).tables[table], f"simulated {table}", allow_empty=True)


def _between(times: pd.Series, first: datetime.date, last: datetime.date) -> np.ndarray:
    naive = times.dt.tz_convert(None) if isinstance(times.dtype, pd.DatetimeTZDtype) else times
    days = naive.to_numpy().astype("datetime64[D]")
    return (days >= np.datetime64(first)) & (days <= np.datetime64(last))
