"""The past of a session, read as the daily job reads it, and what the risk of a book is told from."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import SessionError
from features.assemble import assemble
from features.panel import Panel
from features.registry import Feature
from pipelines.day import last_rows
from pipelines.params import Settings
from portfolio.book_risk import HISTORY, Holdings
from portfolio.styles import LOOKBACK, known_returns, loadings, style_returns
from sources.calendar import sessions
from sources.cleaning import LOOKBACKS, clean

Array = NDArray[np.float64]

_TABLES = ("prices", "securities")


def holdings(panel: Panel, sectors: Mapping[str, str], weights: Array) -> Holdings:
    """Weights at the panel's last close, and what their risk is told from.

    Parameters
    ----------
    sectors
        Sector by symbol.
    weights
        `(N,)`.

    Raises
    ------
    DataError
        Nothing is held, or the history does not reach far enough.
    """
    returns, market = known_returns(panel["close"], panel["level_break"])
    styles = style_returns(returns, panel["close"] * panel["volume"], panel.universe)
    return Holdings(
        date=str(panel.dates[-1]),
        symbols=[str(symbol) for symbol in panel.symbols],
        sectors=[str(sectors.get(symbol) or "") for symbol in panel.symbols],
        weights=weights,
        returns=returns,
        loadings=loadings(returns, market, styles),
    )


@dataclass(frozen=True, eq=False)
class Past:
    """What was known at a session's close.

    Attributes
    ----------
    panel
        Up to the session, as far back as a book's risk and its stance look.
    securities
        None where the source has none.
    """

    panel: Panel
    securities: pd.DataFrame | None

    @property
    def sectors(self) -> dict[str, str]:
        """Sector by symbol; those that have none are left out."""
        return sectors_of(self.securities)

    def features(self, named: Sequence[Feature], sessions: int) -> dict[str, Array]:
        """`(T, N)` of features by name, of the last sessions alone; those whose inputs are not there are left out."""
        told = [feature for feature in named if not feature.missing(self.panel)]
        count = min(sessions, len(self.panel.dates))
        values = last_rows(self.panel, told, count) if told else None
        out = {}
        for place, feature in enumerate(told):
            out[feature.name] = np.full(self.panel.shape, np.nan)
            out[feature.name][-count:] = values[:, :, place]  # type: ignore[index]
        return out


def sectors_of(securities: pd.DataFrame | None) -> dict[str, str]:
    """Sector by symbol; those that have none are left out."""
    if securities is None:
        return {}
    known = securities.dropna(subset="sector")
    return dict(zip(known["symbol"], known["sector"], strict=True))


def read_past(settings: Settings, session: np.datetime64, further: Sequence[str] = ()) -> Past:
    """Prices and securities up to a session, and further tables; cleaned as the daily job does.

    Raises
    ------
    SessionError
        The data does not reach the session.
    DataError
        A table is missing or broken.
    """
    source = settings.open_source()
    wanted = max(LOOKBACK, HISTORY + 1) + settings.universe.lookback - 1
    last = session.astype(datetime.date)
    days = sessions(last - datetime.timedelta(days=int((wanted + max(LOOKBACKS.values())) * 1.5) + 30), last)
    tables = {}
    for name in (name for name in (*_TABLES, *further) if name in source.tables()):
        back = wanted + LOOKBACKS.get(name, 1) - 1
        tables[name] = source.read(name, days[-back].astype(datetime.date), last)
    newest = tables["prices"]["date"].max()
    if not newest >= pd.Timestamp(session):
        told = "none before it" if pd.isna(newest) else f"the last before it is {newest:%Y-%m-%d}"
        raise SessionError(f"the data has no prices for {session} ({told}): deliver that session, or pick another")
    cleaned = clean(tables, days[-wanted].astype(datetime.date), last).tables
    begin = int(np.searchsorted(days, cleaned["prices"]["date"].min().to_numpy().astype("datetime64[D]")))
    panel = assemble(cleaned, days[max(begin, len(days) - wanted) :], settings.universe)
    return Past(panel, cleaned.get("securities"))
