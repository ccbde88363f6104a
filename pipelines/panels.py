"""From clean tables to the panel, over every session that has prices."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from features.assemble import assemble
from features.panel import Dates, Panel
from features.universe import UniverseRule
from pipelines.tables import read_tables
from sources.calendar import sessions


def session_range(prices: pd.DataFrame) -> Dates:
    """Every session of the exchange from the first to the last price."""
    first, last = prices["date"].min(), prices["date"].max()
    return sessions(first.date(), last.date())


def load_panel(folder: Path, rule: UniverseRule) -> Panel:
    """The panel of a folder of clean tables."""
    tables = read_tables(folder)
    return assemble(tables, session_range(tables["prices"]), rule)
