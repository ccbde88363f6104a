"""From clean tables to the panel, over every session that has prices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from features.assemble import assemble
from features.panel import Dates, Panel
from features.universe import UniverseRule
from pipelines.tables import read_tables
from sources.calendar import sessions

_MONTH = 22
_HARDLY_ANY = 0.1


def session_range(prices: pd.DataFrame) -> Dates:
    """Every session of the exchange from the first to the last price."""
    first, last = prices["date"].min(), prices["date"].max()
    return sessions(first.date(), last.date())


def load_panel(folder: Path, rule: UniverseRule) -> Panel:
    """The panel of a folder of clean tables."""
    tables = read_tables(folder)
    return assemble(tables, session_range(tables["prices"]), rule)


def unpriced_sessions(panel: Panel) -> Dates:
    """Sessions on which fewer than a tenth of the symbols that are usual in a month have a price."""
    priced = pd.Series(np.isfinite(panel["close"]).sum(axis=1))
    usual = priced.rolling(_MONTH, min_periods=1).median()
    return panel.dates[(priced < _HARDLY_ANY * usual).to_numpy()]


def closing_remedy(panel: Panel) -> str:
    """What to do about sessions without prices, as the end of a message; empty where there are none."""
    days = unpriced_sessions(panel)
    if not len(days):
        return ""
    more = f" and {len(days) - 1} more sessions" if len(days) > 1 else ""
    return (
        f"; hardly any symbol has a price on {days[-1]}{more}: deliver them, or, if the exchange was closed, list "
        "such days under data.closings in params.yaml"
    )
