"""The book that signals ask for, with the past of its symbols: what `signals risk` and the tear sheet measure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import numpy as np
import pandas as pd

from core.errors import DataError, SessionError
from features.assemble import assemble
from features.panel import Panel, pivot
from pipelines.params import Settings
from portfolio.backtest import BacktestRule, target_weights
from portfolio.book_risk import HISTORY, Holdings
from portfolio.styles import LOOKBACK, known_returns, loadings, style_returns
from sources.calendar import sessions
from sources.cleaning import LOOKBACKS, clean

_TABLES = ("prices", "securities")


def target_book(panel: Panel, sectors: Mapping[str, str], signals: pd.DataFrame, rule: BacktestRule) -> Holdings:
    """Target weights of the panel's last session by the rule of the backtest, and what their risk is told from.

    The rule's mean over the last `hold_sessions` portfolios is taken of the sessions that have signals.

    Parameters
    ----------
    sectors
        Sector by symbol.
    signals
        `date, symbol, signal` of sessions of the panel.

    Raises
    ------
    DataError
        The last session has too few signals, or the history does not reach far enough.
    """
    signal = pivot(signals, "signal", panel.dates, panel.symbols)
    weights = target_weights(signal, rule, panel.sector)[-1]
    if not weights.any():
        raise DataError(
            f"{panel.dates[-1]}: the signals of the last {rule.hold_sessions} session(s) make no book: fewer than "
            f"backtest.min_names ({rule.min_names}) of a session, or all alike in their sectors; write the signals "
            "again, or lower it"
        )
    given = int(np.isfinite(signal[-rule.hold_sessions :]).any(axis=1).sum())
    returns, market = known_returns(panel["close"], panel["level_break"])
    styles = style_returns(returns, panel["close"] * panel["volume"], panel.universe)
    return Holdings(
        date=str(panel.dates[-1]),
        symbols=[str(symbol) for symbol in panel.symbols],
        sectors=[str(sectors.get(symbol) or "") for symbol in panel.symbols],
        weights=weights * (rule.hold_sessions / given),
        returns=returns,
        loadings=loadings(returns, market, styles),
    )


def sectors_of(securities: pd.DataFrame | None) -> dict[str, str]:
    """Sector by symbol; those that have none are left out."""
    if securities is None:
        return {}
    known = securities.dropna(subset="sector")
    return dict(zip(known["symbol"], known["sector"], strict=True))


def read_history(settings: Settings, session: np.datetime64) -> tuple[Panel, dict[str, str]]:
    """The panel up to a session, as far back as a book's risk looks, and the sectors; cleaned as the daily job does.

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
    for name in (name for name in _TABLES if name in source.tables()):
        back = wanted + LOOKBACKS.get(name, 1) - 1
        tables[name] = source.read(name, days[-back].astype(datetime.date), last)
    newest = tables["prices"]["date"].max()
    if not newest >= pd.Timestamp(session):
        told = "none before it" if pd.isna(newest) else f"the last before it is {newest:%Y-%m-%d}"
        raise SessionError(f"the data has no prices for {session} ({told}): deliver that session, or pick another")
    cleaned = clean(tables, days[-wanted].astype(datetime.date), last).tables
    begin = int(np.searchsorted(days, cleaned["prices"]["date"].min().to_numpy().astype("datetime64[D]")))
    panel = assemble(cleaned, days[max(begin, len(days) - wanted) :], settings.universe)
    return panel, sectors_of(cleaned.get("securities"))
