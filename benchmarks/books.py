"""The book that the benchmarks of `portfolio` trade: a market of a folder of tables, a plain signal, a weekly optimiser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from features.assemble import assemble
from features.panel import Panel
from features.universe import UniverseRule
from pipelines.panels import session_range
from portfolio.backtest import price_returns
from portfolio.book_rule import BookRule
from portfolio.construction import ConstructionRule
from portfolio.costs import CostRule
from portfolio.limits import LimitRule
from portfolio.sessions import Market, Signals
from sources.base import open_source
from sources.cleaning import clean

TABLES = ("prices", "securities", "corporate_actions")
PAST = 252
"""Sessions before the first one that is traded: the covariance's."""
LOOKBACK = 21


def weekly(costs: CostRule | None = None) -> BookRule:
    """A book rebalanced weekly by the optimiser, every kind of limit but the correlations' in force."""
    limits = LimitRule(
        net_low=-0.1,
        net_high=0.1,
        position=0.03,
        sector=0.1,
        factors={"market": 0.05},
        turnover=0.5,
        effective_names=50.0,
    )
    return BookRule(construction=ConstructionRule(limits=limits, costs=costs or CostRule()))


def market_of(folder: Path, first: str, last: str) -> tuple[Market, Signals, int]:
    """The sessions of a folder's prices from `first` to `last`, cleaned, with the past that the book needs.

    Returns
    -------
    market, signals, start
        The signal is the reversal of a month, ranked: its forecast and its doubt grow and fall with the rank.
    """
    source = open_source("files", folder, {})
    tables = {name: source.read(name) for name in TABLES if name in source.tables()}
    days = tables["prices"]["date"]
    cleaned = clean(tables, days.min().date(), days.max().date()).tables
    panel = assemble(cleaned, session_range(cleaned["prices"]), UniverseRule())
    begin = int(np.searchsorted(panel.dates, np.datetime64(first)))
    end = int(np.searchsorted(panel.dates, np.datetime64(last), side="right"))
    start = min(begin, PAST)
    panel = panel.window(begin - start, end)
    breaks = panel.fields.get("level_break")
    returns, index = price_returns(panel["close"], breaks)
    market = Market(
        dates=panel.dates,
        symbols=[str(name) for name in panel.symbols],
        close=panel["close"],
        volume=panel["volume"],
        level_break=breaks,
        sector=panel.sector,
        factors={"market": _betas(returns, index)},
    )
    return market, _reversal(panel, returns), max(start, 1)


def _betas(returns: np.ndarray, index: np.ndarray) -> np.ndarray:
    steps, mean = pd.DataFrame(returns), pd.Series(index)
    window = {"window": PAST, "min_periods": PAST // 2}
    return steps.rolling(**window).cov(mean).div(mean.rolling(**window).var(), axis=0).to_numpy()


def _reversal(panel: Panel, returns: np.ndarray) -> Signals:
    fallen = -pd.DataFrame(returns).rolling(LOOKBACK).sum().to_numpy()
    rank = pd.DataFrame(np.where(panel.universe, fallen, np.nan)).rank(axis=1, pct=True).to_numpy() - 0.5
    return Signals(0.02 * rank, 0.5 - 0.5 * np.abs(rank), np.zeros(len(rank)))
