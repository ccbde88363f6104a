"""What a book has earned, told in the parts of a tear sheet: rolling figures, calendar returns, drawdowns.

All of them read the daily frame of `portfolio.backtest.Backtest`: one row a session, returns as fractions of the
capital. Sharpe ratios are yearly and of returns as they are, no riskless rate taken off: the book is self-financed.
"""

from __future__ import annotations

import calendar
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, DataError
from portfolio.drawdown import drawdowns

Array = NDArray[np.float64]

SESSIONS_PER_YEAR = 252
NEEDED = ("date", "gross", "cost", "net", "turnover", "long", "short", "names", "market")
"""Columns of a daily frame."""
MONTHS = tuple(calendar.month_abbr[1:])


class DrawdownState(NamedTuple):
    """Where a book stands below its highest value so far.

    Attributes
    ----------
    now, worst
        Fall below the peak at the last session, and the deepest ever; positive fractions.
    peak
        Session of the highest value so far; None where that is the start.
    sessions
        Sessions since the peak.
    """

    now: float
    worst: float
    peak: pd.Timestamp | None
    sessions: int


def summarise(daily: pd.DataFrame) -> dict[str, Any]:
    """Figures of a backtest's daily frame, or of a part of it.

    Returns
    -------
    dict
        Yearly `net_return`, `gross_return`, `cost_annual`, `volatility` (arithmetic, fractions);
        `net_sharpe`, `gross_sharpe` (yearly); `max_drawdown` (positive fraction of the peak);
        `turnover` (mean per session, one way); `cost_share` of the gross return (NaN where that is
        not positive); `names` (mean); `beta` (slope of `net` on `market`, which is `features.returns.market_return`);
        `days`.
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


def checked_daily(daily: pd.DataFrame) -> pd.DataFrame:
    """The frame in order of time, where it is one of a backtest.

    Raises
    ------
    DataError
        A column is missing, there is no row, a date is there twice, or a number is not finite; the first is named.
    """
    missing = [name for name in NEEDED if name not in daily]
    if missing:
        raise DataError(f"tear sheet: the daily frame has no column {missing[0]!r}: give that of the stage backtest")
    if daily.empty:
        raise DataError("tear sheet: the daily frame has no session: run the backtest over dates that have signals")
    frame = daily.sort_values("date", ignore_index=True)
    twice = frame["date"].duplicated()
    if twice.any():
        raise DataError(
            f"tear sheet: {frame.loc[twice, 'date'].iloc[0]:%Y-%m-%d} is there twice: keep one row a session"
        )
    for name in NEEDED[1:]:
        bad = ~np.isfinite(frame[name].to_numpy(dtype=np.float64))
        if bad.any():
            day = frame.loc[bad, "date"].iloc[0]
            raise DataError(f"tear sheet: {name} of {day:%Y-%m-%d} is not finite: run the backtest again")
    return frame


def wealth(net: ArrayLike) -> Array:
    """`(T + 1,)` growth of 1, the start before the first session included.

    Raises
    ------
    DataError
        A return is not finite, or a session loses the whole capital.
    """
    returns = np.asarray(net, dtype=np.float64)
    if returns.ndim != 1 or not np.isfinite(returns).all():
        raise DataError(f"tear sheet: net returns of shape {returns.shape}: give one series of finite numbers")
    lost = np.flatnonzero(returns <= -1)
    if len(lost):
        raise DataError(f"tear sheet: session {lost[0]} loses the whole capital: there is no equity after it")
    return np.concatenate([[1.0], np.cumprod(1.0 + returns)])


def rolling_sharpe(net: ArrayLike, window: int) -> Array:
    """`(T,)` yearly Sharpe ratio of the last `window` sessions; NaN before, and where nothing moved."""
    rolled = _rolling(net, window)
    spread = rolled.std(ddof=1).to_numpy()
    mean = rolled.mean().to_numpy()
    # A window of one number leaves a spread of rounding error.
    still = (spread <= 1e-12 * np.abs(mean)) | (spread == 0)
    ratio = np.divide(mean, spread, out=np.full(len(mean), np.nan), where=np.isfinite(spread) & ~still)
    return np.asarray(ratio * np.sqrt(SESSIONS_PER_YEAR))


def rolling_beta(net: ArrayLike, market: ArrayLike, window: int) -> Array:
    """`(T,)` slope of the book's return on the market's over the last `window` sessions; NaN before."""
    base = pd.Series(np.asarray(market, dtype=np.float64))
    variance = base.rolling(_checked(window)).var().to_numpy()
    covariance = pd.Series(np.asarray(net, dtype=np.float64)).rolling(window).cov(base).to_numpy()
    return np.divide(covariance, variance, out=np.full(len(base), np.nan), where=variance > 1e-18)


def by_label(daily: pd.DataFrame, labels: ArrayLike, name: str) -> pd.DataFrame:
    """`summarise` of the sessions of each label, a row each, in the labels' order; sessions without are left out."""
    given = pd.Series(np.asarray(labels), index=daily.index)
    rows = [{name: label, **summarise(part)} for label, part in daily.groupby(given, sort=True)]
    return pd.DataFrame(rows)


def by_year(daily: pd.DataFrame) -> pd.DataFrame:
    """`summarise` of each calendar year, with its compounded return as `return`."""
    year = daily["date"].dt.year
    table = by_label(daily, year, "year")
    table.insert(1, "return", (1.0 + daily["net"]).groupby(year).prod().to_numpy() - 1.0)
    return table


def month_table(daily: pd.DataFrame) -> pd.DataFrame:
    """Compounded net return by year (rows) and month, and of the year; NaN for months without a session."""
    grown = (1.0 + daily["net"]).groupby([daily["date"].dt.year, daily["date"].dt.month]).prod() - 1.0
    table = grown.unstack().reindex(columns=range(1, 13))
    table.columns = pd.Index(MONTHS)
    table["Year"] = (1.0 + daily["net"]).groupby(daily["date"].dt.year).prod() - 1.0
    return table.rename_axis("year").reset_index()


def worst_drawdowns(daily: pd.DataFrame, count: int = 5) -> pd.DataFrame:
    """The deepest falls from a peak, deepest first: `depth, peak, trough, recovered, sessions`.

    A fall lasts from the peak to the first session that reaches it again. `peak` is missing where it is the start,
    `recovered` where the fall is not over; `sessions` are those from the peak to recovery, or to the last one.
    """
    path, dates = wealth(daily["net"]), daily["date"].to_list()
    depth = drawdowns(path)
    under = depth > 0
    first = np.flatnonzero(under & ~np.concatenate([[False], under[:-1]]))
    rows = []
    for start in first:
        over = np.flatnonzero(~under[start:])
        stop = int(start + over[0]) if len(over) else len(path)
        trough = int(start + depth[start:stop].argmax())
        rows.append(
            {
                "depth": float(depth[trough]),
                "peak": _day(dates, int(start) - 1),
                "trough": _day(dates, trough),
                "recovered": _day(dates, stop) if stop < len(path) else pd.NaT,
                "sessions": min(stop, len(path) - 1) - int(start) + 1,
            }
        )
    table = pd.DataFrame(rows, columns=["depth", "peak", "trough", "recovered", "sessions"])
    return table.sort_values("depth", ascending=False, kind="stable", ignore_index=True).head(count)


def drawdown_state(daily: pd.DataFrame) -> DrawdownState:
    """How far the book is below its peak at the last session."""
    path = wealth(daily["net"])
    depth = drawdowns(path)
    # The last time that the highest value was reached.
    peak = len(path) - 1 - int(path[::-1].argmax())
    day = _day(daily["date"].to_list(), peak)
    return DrawdownState(float(depth[-1]), float(depth.max()), day, len(path) - 1 - peak)


def _day(dates: list[pd.Timestamp], place: int) -> pd.Timestamp | None:
    """Session of a place in the wealth; the start, before the first session, has none."""
    return dates[place - 1] if place else None


def _rolling(values: ArrayLike, window: int) -> pd.api.typing.Rolling:
    return pd.Series(np.asarray(values, dtype=np.float64)).rolling(_checked(window))


def _checked(window: int) -> int:
    if window < 2:
        raise ConfigError(f"tear sheet: a window of {window} sessions: choose at least 2")
    return window
