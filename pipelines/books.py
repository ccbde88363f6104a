"""What a book is walked on, from a panel, features and signals: by the stage `backtest` and by `signals risk`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

from core.files import read_json
from features.assemble import group_codes
from features.panel import Panel, spread
from features.returns import market_return, returns_over
from features.store import KEYS, read_values
from portfolio.book_rule import BookRule
from portfolio.conditions import FEATURES, conditions
from portfolio.exposures import VALUE, exposures
from portfolio.portfolio_rule import PortfolioRule
from portfolio.sessions import Market, Signals, long_gone
from portfolio.skill import forecasts

Array = NDArray[np.float64]

BOOK_TABLES = ("macro", "fundamentals")
"""Tables that those features need beside prices and securities."""
BOOK_TO_MARKET = "book_to_market"
"""Feature that the exposure to value is told by."""


def wanted_features(rule: BookRule) -> dict[str, str]:
    """Features that a book reads, and the family of each: those of its stance, and of value where that is limited."""
    value = {BOOK_TO_MARKET: "fundamental"} if VALUE in rule.construction.limits.factors else {}
    return {**FEATURES, **value}


def read_features(
    folder: Path, panel: Panel, families: Mapping[str, BaseModel], wanted: Mapping[str, str]
) -> dict[str, Array]:
    """`(T, N)` of the wanted features that the stage `features` has made, whose families are switched on."""
    out: dict[str, Array] = {}
    for family in sorted(set(wanted.values()) & set(families)):
        there = {told["name"] for told in read_json(folder / family / "features.json")["built"]}
        names = [name for name, of in wanted.items() if of == family and name in there]
        stored = read_values(folder / family / "values", [*KEYS, *names]).to_pandas()
        out |= spread(stored, names, panel.dates, panel.symbols)
    return out


def book_inputs(
    panel: Panel,
    rows: pd.DataFrame,
    p_stress: Array,
    features: Mapping[str, Array],
    securities: pd.DataFrame | None = None,
    *,
    rule: PortfolioRule,
    horizon: int,
) -> tuple[Market, Signals]:
    """What a walk is given.

    Parameters
    ----------
    rows
        `date, symbol, signal, expected_return, p_wrong` of sessions of the panel.
    p_stress
        `(T,)`.
    features
        `(T, N)`, those of `wanted_features` that are known.
    securities
        With the industries, where they are known.
    rule, horizon
        Where the expected returns come from, and the sessions that they span.
    """
    known = conditions(features)
    returns, index = returns_over(panel, 1), market_return(panel)
    further = {VALUE: features[BOOK_TO_MARKET]} if BOOK_TO_MARKET in features else {}
    market = Market(
        dates=panel.dates,
        symbols=[str(symbol) for symbol in panel.symbols],
        **{name: panel[name] for name in ("open", "high", "low", "close", "volume", "level_break")},
        returns=returns,
        # A session without any return moves no index.
        index_return=np.nan_to_num(index),
        delisted=long_gone(panel["close"]),
        sector=panel.sector,
        industry=group_codes(securities, "industry", panel.symbols),
        factors=exposures(returns, index, panel["close"] * panel["volume"], panel.universe, further),
        index_volatility=known.index_volatility,
    )
    told = spread(rows, ["signal", "expected_return", "p_wrong"], panel.dates, panel.symbols)
    forecast, p_wrong = told["expected_return"], told["p_wrong"]
    if rule.forecast.source == "score":
        forecast, p_wrong = forecasts(told["signal"], returns, horizon, rule.forecast.skill)
    signals = Signals(
        forecast=forecast,
        p_wrong=p_wrong,
        p_stress=p_stress,
        systemic=known.systemic,
        implied_ratio=known.implied_ratio,
        crowd_cost=known.crowd_cost,
        panic=known.panic,
    )
    return market, signals
