"""Target weights through history, and the rank portfolio of a signal, net of costs: the yardstick of the book.

The signal of session D is traded in D+1. The target is the average of the last `hold_sessions` rank portfolios. Orders
towards it are sized at the close of D; fills, drift, delistings, borrowing and costs are those of
`portfolio.settlement`, as for the book.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from core.errors import DataError
from core.params import Params
from features.memo import remembered
from portfolio.book_rule import BookRule
from portfolio.holdings import BookState
from portfolio.performance import summarise
from portfolio.sessions import Day, Market, Signals, day_at
from portfolio.settlement import Settlement, settle

Array = NDArray[np.float64]


class RankRule(Params):
    """How the ranks of a signal become a portfolio.

    Attributes
    ----------
    gross
        Sum of absolute target weights, half long and half short.
    hold_sessions
        Number of daily rank portfolios averaged in the target.
    rebalance_sessions
        Sessions between two trades.
    sector_neutral
        Rank inside sectors, so that every sector is dollar-neutral.
    min_names
        A day with fewer signals holds nothing new.
    """

    gross: float = Field(default=1.0, gt=0, le=10)
    hold_sessions: int = Field(default=5, ge=1)
    rebalance_sessions: int = Field(default=1, ge=1)
    sector_neutral: bool = True
    min_names: int = Field(default=20, ge=2)


@dataclass(frozen=True)
class Backtest:
    """Result of a backtest.

    Attributes
    ----------
    daily
        One row per session from the first trade on: `date`, `gross`, `cost`, `net` (fractions of the capital, net
        is gross less cost), `turnover` (one way: half the traded notional), `long`, `short` (exposure at the close,
        short negative), `names`, `market` (its return, see `portfolio.sessions.Market`).
    summary
        See `portfolio.performance.summarise`.
    """

    daily: pd.DataFrame
    summary: dict[str, Any]


def target_weights(signal: Array, rule: RankRule, sector: NDArray[np.int64] | None = None) -> Array:
    """`(T, N)` dollar-neutral weights linear in the signal's ranks, smoothed over `hold_sessions`.

    Ranks are taken per session (inside each sector where `rule.sector_neutral` and `sector` are
    given), centred, and scaled to a sum of absolute weights of `rule.gross`.
    """
    raw = np.zeros(signal.shape)
    codes = np.zeros(signal.shape[1], dtype=np.int64) if sector is None or not rule.sector_neutral else sector
    groups = [np.flatnonzero(codes == code) for code in np.unique(codes)]
    for columns in groups:
        ranks = pd.DataFrame(signal[:, columns]).rank(axis=1).to_numpy()
        names = np.isfinite(ranks).sum(axis=1, keepdims=True)
        raw[:, columns] = np.nan_to_num((ranks - 0.5) / np.maximum(names, 1) - 0.5)
    raw[np.isfinite(signal).sum(axis=1) < rule.min_names] = 0.0
    size = np.abs(raw).sum(axis=1, keepdims=True)
    weights = np.divide(raw * rule.gross, size, out=np.zeros_like(raw), where=size > 1e-12)
    return _trailing_mean(weights, rule.hold_sessions)


def backtest(signal: Array, market: Market, rank: RankRule, rule: BookRule) -> Backtest:
    """Trade the rank portfolio of a signal through history.

    Parameters
    ----------
    signal : Array of shape (T, N)
        Known at the close of each session; NaN where there is none. Sessions before the first signal give the volumes
        and volatilities of the first trades.
    market : Market
        The T sessions of N symbols.
    rank : RankRule
        How ranks become weights.
    rule : BookRule
        Capital, costs, execution, delistings, and windows of volume and volatility; the rest of it is not read.

    Raises
    ------
    DataError
        Shapes differ, no session has enough signals to trade, or the capital is lost.
    """
    if signal.shape != market.close.shape:
        raise DataError(f"backtest: signal of shape {signal.shape}, market {market.close.shape}: use one panel")
    target = target_weights(signal, rank, market.sector)
    if not (target[:-1] != 0).any():
        raise DataError(
            f"backtest: no session has {rank.min_names} signals and a session after it to trade: lower "
            "portfolio.rank.min_names or widen the universe"
        )
    daily = pd.DataFrame(
        [
            {"date": market.dates[t], **done.figures(weights), "market": market.index_return[t]}
            for t, weights, done, _ in follow(target[None], market, rule, rank.rebalance_sessions)
        ]
    ).astype({"date": "datetime64[ns]"})
    return Backtest(daily, summarise(daily))


def follow(
    targets: Array, market: Market, rule: BookRule, every: int = 1
) -> Iterator[tuple[int, Array, Settlement, Array]]:
    """Hold K portfolios of target weights in one account, which sends the net of their orders.

    A symbol that does not trade, or has no volume or volatility yet, is not ordered. Each session begins with the
    rule's capital: gains are paid out and losses made up, so that orders keep their size.

    Parameters
    ----------
    targets : Array of shape (K, T, N)
        Fractions of the capital that are asked for at each close.
    market : Market
        The T sessions of N symbols.
    rule : BookRule
        As in `backtest`.
    every : int, default=1
        Sessions between two trades.

    Yields
    ------
    session : int
        From the one after the first target on.
    weights : Array of shape (N,)
        Net, at the close.
    settlement : Settlement
        Of the net orders.
    traded : Array of shape (K, N)
        What each portfolio traded at the price of the fill, currency; the sum is `settlement.filled`.
    """
    capital, shape, days = rule.construction.capital, market.close.shape, _days(market)
    adv, volatility = market.liquidity(rule.adv_sessions, rule.volatility_sessions)
    active = np.flatnonzero((targets != 0).any(axis=(0, 2)))
    first = int(active[0]) if len(active) else shape[0]
    state = BookState.start(market.symbols, capital)
    value = orders = np.zeros((len(targets), shape[1]))
    for t, day in enumerate(days[first:], first):
        state, done = settle(state, day, rule)
        value = done.moves.carry(value, orders)
        if t > first:
            yield t, value.sum(axis=0) / done.after, done, np.where(done.moves.open, orders, 0.0) * done.moves.fill
        value = value * (capital / done.after)
        net = value.sum(axis=0)
        can = day.trades & (adv[t] > 0) & np.isfinite(volatility[t]) & ((t - first) % every == 0)
        orders = np.where(can, targets[:, t] * capital - value, 0.0)
        state = replace(
            state,
            cash=capital - float(net.sum()),
            value=net,
            orders=orders.sum(axis=0),
            adv=adv[t],
            volatility=volatility[t],
            wealth=(capital,),
        )


@remembered
def _days(market: Market) -> list[Day]:
    """Every session, without signals, which no settlement reads; for all portfolios that trade in one market."""
    unknown = np.broadcast_to(np.nan, market.close.shape)
    silent = Signals(unknown, unknown, unknown[:, 0], crowd_cost=unknown, panic=unknown)
    return [day_at(market, silent, t, BookRule()) for t in range(len(market.dates))]


def _trailing_mean(weights: Array, length: int) -> Array:
    """Mean of the last `length` rows; rows before the first count as 0, so that the book is built up evenly."""
    out = np.zeros_like(weights)
    for lag in range(min(length, len(weights))):
        out[lag:] += weights[: len(weights) - lag]
    return out / length
