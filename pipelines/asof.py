"""Tables as they were known at the close of a session: read, cleaned and assembled into a panel.

The one reader behind the daily job, `signals risk` and `signals monitor`, so that all of them see what training saw.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from core.errors import SessionError
from features.assemble import assemble
from features.panel import Panel
from features.universe import UniverseRule
from sources.base import Source
from sources.calendar import sessions_until
from sources.cleaning import LOOKBACKS, clean


@dataclass(frozen=True, eq=False)
class AsOf:
    """What was known at a session's close.

    Attributes
    ----------
    panel : Panel
        Ends with the session.
    tables : Mapping[str, DataFrame]
        Cleaned, by name.
    raw : Mapping[str, DataFrame]
        What they were cleaned from, by name.
    """

    panel: Panel
    tables: Mapping[str, pd.DataFrame]
    raw: Mapping[str, pd.DataFrame]


def read_as_of(
    source: Source,
    session: np.datetime64,
    sessions: int,
    universe: UniverseRule,
    tables: Mapping[str, int | None],
) -> AsOf:
    """Read and clean what was known at the close of a session, and no more sessions than are needed.

    Parameters
    ----------
    source : Source
        Of the raw tables.
    session : datetime64[D]
        A trading session.
    sessions : int
        Sessions, ending with this one, whose panel and universe are those of the complete history; fewer where the
        data begins later. The panel reaches further back by the lookback of the universe.
    universe : UniverseRule
        Of the panel.
    tables : Mapping[str, int | None]
        Tables wanted, and the sessions of each; None: as many as the panel has. Those that the source lacks are left
        out.

    Raises
    ------
    SessionError
        The data has no prices for the session.
    DataError
        A table does not fit its schema, or holds no usable price.
    """
    wanted = sessions + universe.lookback - 1
    # A clean row depends on raw rows before it.
    reach = {name: (tables[name] or wanted) + LOOKBACKS.get(name, 1) - 1 for name in source.tables() if name in tables}
    days = sessions_until(session, max(wanted, *reach.values()))
    last = session.astype(datetime.date)
    raw = {name: source.read(name, days[-count].astype(datetime.date), last) for name, count in reach.items()}
    dates = raw["prices"]["date"]
    if dates.empty or dates.max() < pd.Timestamp(session):
        newest = "none before it" if dates.empty else f"the last before it is {dates.max():%Y-%m-%d}"
        raise SessionError(
            f"the data has no prices for {session} ({newest}): deliver that session, pick another, or, if the "
            "exchange was closed, list it under data.closings in params.yaml"
        )
    cleaned = clean(raw, days[-wanted].astype(datetime.date), last).tables
    # As in training, nothing that became known before the first price is there.
    begin = int(np.searchsorted(days, cleaned["prices"]["date"].min().to_numpy().astype("datetime64[D]")))
    return AsOf(assemble(cleaned, days[max(begin, len(days) - wanted) :], universe), cleaned, raw)
