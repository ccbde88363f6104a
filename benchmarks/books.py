"""The book that the benchmarks of `portfolio` trade: a folder's market, a plain signal, a weekly optimiser."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from features.assemble import assemble
from features.panel import Panel, pivot
from features.returns import market_beta, market_return, returns_over
from features.universe import UniverseRule
from pipelines.panels import session_range
from portfolio.book_rule import BookRule
from portfolio.construction import ConstructionRule
from portfolio.costs import CostRule
from portfolio.holdings import BookState
from portfolio.limits import LimitRule
from portfolio.policy import StancePolicy
from portfolio.sessions import Market, Signals, day_at
from portfolio.settlement import settle
from portfolio.walk import Walk
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
        participation=0.1,
    )
    return BookRule(
        construction=ConstructionRule(risk_aversion=10.0, limits=limits, costs=costs or CostRule()),
        stance=StancePolicy(enter=0.6, leave=0.4, full=1.0, defence="passive"),
        drawdown=None,
    )


def market_of(folder: Path, first: str, last: str, oof: Path | None = None) -> tuple[Market, Signals, int]:
    """The sessions of a folder's prices from `first` to `last`, cleaned, with the past that the book needs.

    Parameters
    ----------
    oof
        A stack's out-of-fold predictions, whose `signal` is traded; None: the reversal of a month.

    Returns
    -------
    market, signals, start
        The signal is ranked: its forecast grows with the rank, and its doubt falls.
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
    market = Market(
        dates=panel.dates,
        symbols=[str(name) for name in panel.symbols],
        close=panel["close"],
        volume=panel["volume"],
        returns=returns_over(panel, 1),
        index_return=np.nan_to_num(market_return(panel)),
        level_break=panel.fields.get("level_break"),
        sector=panel.sector,
        factors={"market": market_beta(panel, PAST, PAST // 2)},
    )
    if oof is None:
        signal = -pd.DataFrame(np.nan_to_num(returns_over(panel, 1))).rolling(LOOKBACK).sum().to_numpy()
    else:
        predicted = pd.read_parquet(oof, columns=["date", "symbol", "signal"])
        known = predicted["date"].isin(panel.dates) & predicted["symbol"].isin(panel.symbols)
        signal = pivot(predicted[known], "signal", panel.dates, panel.symbols)
    return market, _ranked(signal, panel), max(start, 1)


def _ranked(signal: np.ndarray, panel: Panel) -> Signals:
    rank = pd.DataFrame(np.where(panel.universe, signal, np.nan)).rank(axis=1, pct=True).to_numpy() - 0.5
    return Signals(0.02 * rank, 0.5 - 0.5 * np.abs(rank), np.zeros(len(rank)))


# --- the weights of a walk, accounted for again ------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Aims:
    """What a walk decided: in which sessions (`(T,)`), and `(T, N)` the weights there were and those aimed at."""

    asked: np.ndarray
    weights: np.ndarray
    targets: np.ndarray

    @classmethod
    def of(cls, found: Walk) -> Aims:
        """The decisions of a walk."""
        return cls((found.daily["because"] != "").to_numpy(), found.weights, found.targets)


@dataclass(frozen=True, eq=False)
class Account:
    """What the book's accounting makes of given weights.

    Attributes
    ----------
    equity
        `(T,)` currency at each close.
    shares
        `(T, N)` filled in the session.
    held
        `(T, N)` weights at the close.
    volume, volatility
        `(T, N)` shares a session, and daily volatility, that the session's fills were charged by.
    """

    equity: np.ndarray
    shares: np.ndarray
    held: np.ndarray
    volume: np.ndarray
    volatility: np.ndarray


def account(market: Market, signals: Signals, aims: Aims, rule: BookRule, start: int) -> Account:
    """Settle the weights that a walk aimed at, at the costs of a rule."""
    state = BookState.start(market.symbols, rule.construction.capital)
    rows = []
    for row, asked in enumerate(aims.asked):
        day = day_at(market, signals, start + row, rule)
        adv, volatility = state.adv, state.volatility
        state, done = settle(state, day, rule)
        rows.append((done.after, done.filled / day.close, state.weights, adv / day.close, volatility))
        if asked:
            moves = aims.targets[row] != aims.weights[row]
            orders = np.where(moves, aims.targets[row] * state.equity - state.value, 0.0)
            adv, volatility = day.liquidity(rule)
            state = replace(state, orders=orders, adv=adv, volatility=volatility)
    return Account(*(np.nan_to_num(np.array(column)) for column in zip(*rows, strict=True)))
