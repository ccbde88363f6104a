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
from sources.simulation.world import SimulationParams, World, make_world


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

    def truth(self) -> pd.DataFrame:
        """Expected residual return, for judging: no stage of the pipeline reads it.

        Returns
        -------
        DataFrame
            `date`, `symbol`, `expected`: residual return (fraction) of the sessions D+2 to D+6, which a trade at the
            close of D+1 earns, as expected from what is known at the close of D; every listed symbol and session.
        """
        world = self.world
        session, firm = np.nonzero(np.isfinite(world.listed[: world.last + 1]))
        return pd.DataFrame(
            {
                "date": world.dates[session].astype("datetime64[ms]"),
                "symbol": world.firms.symbols[firm],
                "expected": world.expected[session, firm],
            }
        )

    @property
    def world(self) -> World:
        """The whole simulated world, made once a process."""
        return make_world(self.params)


@lru_cache(maxsize=24)
def _normalised(params: SimulationParams, table: str) -> pd.DataFrame:
    """One table of a world, in its schema, cut to what became known within the span of the world."""
    world = make_world(params)
    frame, schema = world.tables[table], TABLES[table]
    if "symbol" in frame:
        # Symbols that are listed beyond the simulated sessions are not known yet.
        sessions = np.append(world.dates, np.datetime64("9999-12-31"))
        first = pd.Series(sessions[np.minimum(world.firms.listed, len(world.dates))], index=world.firms.symbols)
        listed = frame["symbol"].map(first).to_numpy("datetime64[D]")
        known = np.datetime64(params.end) if schema.known is None else _days(frame[schema.known])
        frame = frame[known >= listed]
    if schema.known is not None:
        frame = frame[_between(frame[schema.known], params.start, params.end)]
    return normalise(table, frame, f"simulated {table}", allow_empty=True)


def _days(times: pd.Series) -> np.ndarray:
    naive = times.dt.tz_convert(None) if isinstance(times.dtype, pd.DatetimeTZDtype) else times
    return naive.to_numpy().astype("datetime64[D]")


def _between(times: pd.Series, first: datetime.date, last: datetime.date) -> np.ndarray:
    days = _days(times)
    return (days >= np.datetime64(first)) & (days <= np.datetime64(last))
