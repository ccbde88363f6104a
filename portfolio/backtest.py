"""A daily long-short book of a signal, after costs.

The signal of session D is traded at the close of D+1. The target is the average of the last
`hold_sessions` rank portfolios; between trades the weights drift with prices. With w the weights
after yesterday's trades, r today's returns and d today's trades (all relative to the capital):

    g = w'r,   w <- w (1 + r) / (1 + g),   c = sum |d| rate(|d|),   1 + net = (1 + g) (1 - c),   w <- (w + d) / (1 - c)

A stock without a close cannot be traded and keeps its last price.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from core.errors import DataError
from core.params import Params
from portfolio.costs import BPS, CostRule

Array = NDArray[np.float64]

SESSIONS_PER_YEAR = 252
GONE_SESSIONS = 21
"""Sessions without a price after which a symbol counts as delisted."""
# Fewest observations behind a stock's average volume and volatility before it may be traded.
_MIN_OBSERVATIONS = 10


class RankRule(Params):
    """How the ranks of a signal become a book.

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
    adv_sessions, volatility_sessions
        Windows of the average traded value and of the volatility in the impact cost.
    """

    gross: float = Field(default=1.0, gt=0, le=10)
    hold_sessions: int = Field(default=5, ge=1)
    rebalance_sessions: int = Field(default=1, ge=1)
    sector_neutral: bool = True
    min_names: int = Field(default=20, ge=2)
    adv_sessions: int = Field(default=21, ge=_MIN_OBSERVATIONS)
    volatility_sessions: int = Field(default=63, ge=_MIN_OBSERVATIONS)


class BacktestRule(RankRule):
    """The same with what trading it costs.

    Attributes
    ----------
    capital
        Assets under management at each rebalance, currency of the prices; sets the size of orders.
    """

    capital: float = Field(default=10_000_000.0, gt=0)
    costs: CostRule = CostRule()


@dataclass(frozen=True)
class Backtest:
    """Result of a backtest.

    Attributes
    ----------
    daily
        One row a session from the first trade on: `date`, `gross`, `cost`, `net` (fractions of the
        capital), `turnover` (one way: half the traded notional), `long`, `short` (exposure after
        trading, short negative), `names`, `market` (equal-weight return).
    summary
        See `summarise`.
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


def backtest(
    signal: Array,
    close: Array,
    volume: Array,
    dates: NDArray[np.datetime64],
    rule: BacktestRule,
    *,
    sector: NDArray[np.int64] | None = None,
    level_break: Array | None = None,
) -> Backtest:
    """Trade a signal through history.

    Parameters
    ----------
    signal
        `(T, N)` known at the close of each session; NaN where there is none. Rows before the first
        signal give the volumes and volatilities of the first trades.
    close, volume
        `(T, N)` price and shares traded; a NaN close cannot be traded.
    sector
        `(N,)` codes for sector neutrality.
    level_break
        `(T, N)` non-zero where the step of the price into that session is no return; it counts as 0.

    Raises
    ------
    DataError
        Shapes differ, or no session has enough signals to trade.
    """
    for name, values in {"close": close, "volume": volume, "level_break": level_break}.items():
        if values is not None and values.shape != signal.shape:
            raise DataError(f"backtest: {name} has shape {values.shape}, the signal {signal.shape}: use one panel")
    target = target_weights(signal, rule, sector)
    active = np.flatnonzero(np.abs(target).sum(axis=1) > 0)
    if not len(active) or active[0] + 1 >= len(dates):
        raise DataError(
            f"backtest: no session has {rule.min_names} signals and a session after it to trade: lower "
            "portfolio.rank.min_names or widen the universe"
        )
    returns, market = price_returns(close, level_break)
    adv, sigma = liquidity(close, volume, returns, rule)
    tradable = np.isfinite(close) & (adv > 0) & np.isfinite(sigma)
    first = int(active[0]) + 1
    columns = ("gross", "cost", "net", "turnover", "long", "short", "names")
    out = np.zeros((len(dates) - first, len(columns)))
    weights = np.zeros(signal.shape[1])
    borrow = rule.costs.borrow_bps * BPS / SESSIONS_PER_YEAR
    for row, day in enumerate(range(first, len(dates))):
        gross = float(weights @ returns[day])
        fee = borrow * float(-weights[weights < 0].sum())
        weights = weights * (1.0 + returns[day]) / (1.0 + gross)
        trade = np.zeros_like(weights)
        if row % rule.rebalance_sessions == 0:
            can = tradable[day]
            trade[can] = target[day - 1, can] - weights[can]
        size = np.abs(trade)
        moved = size > 0
        rate = rule.costs.rate(size[moved] * rule.capital, adv[day, moved], sigma[day, moved])
        cost = fee + float(size[moved] @ rate)
        weights = (weights + trade) / (1.0 - cost)
        net = (1.0 + gross) * (1.0 - cost) - 1.0
        long, short = weights[weights > 0].sum(), weights[weights < 0].sum()
        out[row] = gross, gross - net, net, 0.5 * size.sum(), long, short, (weights != 0).sum()
    daily = pd.DataFrame(out, columns=columns)
    daily.insert(0, "date", np.asarray(dates[first:]).astype("datetime64[ns]"))
    daily["names"] = daily["names"].astype(np.int64)
    daily["market"] = market[first:]
    return Backtest(daily, summarise(daily))


def summarise(daily: pd.DataFrame) -> dict[str, Any]:
    """Figures of a backtest's daily frame, or of a part of it.

    Returns
    -------
    dict
        Yearly `net_return`, `gross_return`, `cost_annual`, `volatility` (arithmetic, fractions);
        `net_sharpe`, `gross_sharpe` (yearly); `max_drawdown` (positive fraction of the peak);
        `turnover` (mean per session, one way); `cost_share` of the gross return (NaN where that is
        not positive); `names` (mean); `beta` to the equal-weight market; `days`.
    """
    net, gross, cost = (daily[name].to_numpy(dtype=np.float64) for name in ("net", "gross", "cost"))
    days = len(daily)
    if not days:
        raise DataError("backtest: no session to summarise: choose dates inside the backtest")
    equity = np.concatenate([[1.0], np.cumprod(1.0 + net)])
    market = daily["market"].to_numpy(dtype=np.float64)
    variance = market.var()
    return {
        "net_return": float(net.mean() * SESSIONS_PER_YEAR),
        "gross_return": float(gross.mean() * SESSIONS_PER_YEAR),
        "cost_annual": float(cost.mean() * SESSIONS_PER_YEAR),
        "volatility": float(net.std(ddof=1) * np.sqrt(SESSIONS_PER_YEAR)) if days > 1 else float("nan"),
        "net_sharpe": _annual_sharpe(net),
        "gross_sharpe": _annual_sharpe(gross),
        "max_drawdown": float((1.0 - equity / np.maximum.accumulate(equity)).max()),
        "turnover": float(daily["turnover"].mean()),
        "cost_share": float(cost.sum() / gross.sum()) if gross.sum() > 0 else float("nan"),
        "names": float(daily["names"].mean()),
        "beta": float(((market - market.mean()) * net).mean() / variance) if variance > 0 else float("nan"),
        "days": days,
    }


def _annual_sharpe(returns: Array) -> float:
    spread = returns.std(ddof=1) if len(returns) > 1 else 0.0
    return float(returns.mean() / spread * np.sqrt(SESSIONS_PER_YEAR)) if spread > 0 else float("nan")


def price_returns(close: Array, level_break: Array | None = None) -> tuple[Array, Array]:
    """`(T, N)` returns on the last known price (0 without a price), and the `(T,)` equal-weight market's.

    A symbol that comes back after `GONE_SESSIONS` is another share: out of a bankruptcy, at a thousand times the price.
    """
    filled = pd.DataFrame(close).ffill(limit=GONE_SESSIONS - 1).to_numpy()
    returns = np.zeros(close.shape)
    with np.errstate(invalid="ignore"):
        returns[1:] = np.nan_to_num(filled[1:] / filled[:-1] - 1.0)
    if level_break is not None:
        returns[np.nan_to_num(level_break) != 0] = 0.0
    priced = np.isfinite(close)
    priced[1:] &= np.isfinite(filled[:-1])
    market = np.where(priced, returns, 0.0).sum(axis=1) / np.maximum(priced.sum(axis=1), 1)
    return returns, market


def liquidity(close: Array, volume: Array, returns: Array, rule: BacktestRule) -> tuple[Array, Array]:
    """Average traded value and volatility up to the session before; NaN with too few observations."""
    value = pd.DataFrame(close * volume)
    adv = value.rolling(rule.adv_sessions, min_periods=_MIN_OBSERVATIONS).mean().shift(1).to_numpy()
    moves = pd.DataFrame(np.where(np.isfinite(close), returns, np.nan))
    sigma = moves.rolling(rule.volatility_sessions, min_periods=_MIN_OBSERVATIONS).std().shift(1).to_numpy()
    return np.nan_to_num(adv), sigma


def _trailing_mean(weights: Array, length: int) -> Array:
    """Mean of the last `length` rows; rows before the first count as 0, so that the book is built up evenly."""
    out = np.zeros_like(weights)
    for lag in range(min(length, len(weights))):
        out[lag:] += weights[: len(weights) - lag]
    return out / length
