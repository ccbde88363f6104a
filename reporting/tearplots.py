"""The plots of the tear sheet and of the risk page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from portfolio.forecasts import Judged
from reporting.page import PALETTE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

_GREY = "#8a8f98"
_GOOD, _BAD = "#3fa27a", "#c7566f"


def rolling(dates: pd.Series, sharpe: Array, beta: Array) -> Figure:
    """Sharpe ratio and beta over a rolling window."""
    figure, (top, bottom) = new_figure(2, 1, height=3.6, sharex=True)
    for axes, values, name in ((top, sharpe, "Sharpe ratio"), (bottom, beta, "beta")):
        axes.plot(dates, values)
        axes.axhline(0.0, color=_GREY, linewidth=1, linestyle="--")
        axes.set_ylabel(name)
    return figure


def years(table: pd.DataFrame) -> Figure:
    """Compounded net return of each year."""
    figure, axes = new_figure(height=2.4)
    values = table["return"].to_numpy(dtype=np.float64) * 100
    axes.bar(table["year"].astype(str), values, color=[_GOOD if v > 0 else _BAD for v in values])
    axes.set_ylabel("net return, %")
    return figure


def exposures(daily: pd.DataFrame) -> Figure:
    """Long, short and net exposure, and the names held."""
    figure, (top, bottom) = new_figure(2, 1, height=3.6, sharex=True, height_ratios=[2, 1])
    net = daily["long"] + daily["short"]
    for values, label in ((daily["long"], "long"), (daily["short"], "short"), (net, "net")):
        top.plot(daily["date"], values * 100, label=label)
    top.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    top.set_ylabel("% of the capital")
    bottom.plot(daily["date"], daily["names"])
    bottom.set_ylabel("names")
    return figure


def trading(daily: pd.DataFrame, parts: Sequence[str]) -> Figure:
    """Turnover, and what trading and borrowing have cost so far, by part where the parts are known."""
    figure, (top, bottom) = new_figure(2, 1, height=3.6, sharex=True)
    top.plot(daily["date"], daily["turnover"] * 100, linewidth=0.8)
    top.set_ylabel("turnover, %")
    told = {name: daily[name] for name in parts} or {"cost": daily["cost"]}
    bottom.stackplot(daily["date"], *(values.cumsum() * 100 for values in told.values()), labels=list(told))
    bottom.legend(loc="upper left")
    bottom.set_ylabel("costs so far, %")
    return figure


def capacity(table: pd.DataFrame) -> Figure:
    """Net Sharpe ratio by capital, on a logarithmic scale."""
    figure, axes = new_figure(height=2.4)
    axes.plot(table["capital"], table["net_sharpe"], "o-")
    axes.axhline(0.0, color=_GREY, linewidth=1, linestyle="--")
    axes.set_xscale("log")
    axes.set_xlabel("capital")
    axes.set_ylabel("net Sharpe ratio")
    return figure


def shares(reviews: pd.DataFrame) -> Figure:
    """Share of the capital of each pod, from review to review."""
    figure, axes = new_figure(height=2.4)
    table = reviews.pivot(index="date", columns="pod", values="share")
    axes.stackplot(table.index, *(table[pod] * 100 for pod in table), labels=[str(pod) for pod in table])
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_ylabel("% of the capital")
    return figure


def exceedances(daily: pd.DataFrame, judged: Judged) -> Figure:
    """Daily returns, the forecast of the loss, and the sessions that lost more."""
    figure, axes = new_figure(height=2.8)
    dates, net = daily["date"].to_numpy(), daily["net"].to_numpy(dtype=np.float64)
    made = np.isfinite(judged.var)
    beyond = made & (-net > judged.var)
    axes.plot(dates[made], net[made] * 100, color=_GREY, linewidth=0.6, label="net return")
    axes.plot(dates[made], -judged.var[made] * 100, color=PALETTE[0], label=f"- VaR {judged.level:.0%}")
    axes.plot(dates[beyond], net[beyond] * 100, "o", color=_BAD, markersize=3, label="beyond it")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_ylabel("%")
    return figure


def stress(table: pd.DataFrame) -> Figure:
    """Gain or loss in each scenario, the worst on top."""
    figure, axes = new_figure(height=0.6 + 0.24 * len(table))
    rows = table.iloc[::-1]
    values = rows["total"].to_numpy(dtype=np.float64) * 100
    axes.barh(rows["scenario"].astype(str), values, color=[_GOOD if v > 0 else _BAD for v in values])
    axes.axvline(0.0, color=_GREY, linewidth=1)
    axes.set_xlabel("% of the capital")
    return figure


def contributions(table: pd.DataFrame) -> Figure:
    """Shares of the book's volatility by symbol, the greatest on top."""
    figure, axes = new_figure(height=0.6 + 0.24 * len(table))
    rows = table.iloc[::-1]
    axes.barh(rows["symbol"].astype(str), rows["volatility_share"] * 100)
    axes.set_xlabel("% of the volatility")
    return figure
