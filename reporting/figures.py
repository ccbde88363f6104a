"""The plots of the evaluation page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reporting.page import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GREY = "#8a8f98"
_GOOD, _BAD = "#3fa27a", "#c7566f"
_SHOWN_FEATURES = 8


def _shade_holdout(axes: Any, daily: pd.DataFrame) -> None:
    held = daily.loc[daily["holdout"].astype(bool), "date"]
    if len(held):
        axes.axvspan(held.iloc[0], held.iloc[-1], color=_GREY, alpha=0.15, linewidth=0)


def cumulative(daily: pd.DataFrame) -> Figure:
    """Cumulative daily rank IC of the stack and its layers."""
    figure, axes = new_figure()
    names = [name for name in daily.columns if name not in ("date", "holdout")]
    for name in names:
        axes.plot(
            daily["date"], daily[name].fillna(0.0).cumsum(), label=name, linewidth=2.0 if name == "stack" else 1.0
        )
    _shade_holdout(axes, daily)
    axes.legend(loc="upper left")
    axes.set_ylabel("sum of daily rank IC")
    return figure


def bars(table: pd.DataFrame, key: str) -> Figure:
    """Rank IC by group, with its t-value."""
    figure, axes = new_figure(height=2.6)
    values = table["rank_ic"].to_numpy(dtype=np.float64)
    bars = axes.bar(table[key].astype(str), values, color=[_GOOD if v > 0 else _BAD for v in values])
    axes.bar_label(bars, [f"t = {t:.1f}" for t in table["rank_ic_t"]], padding=2, fontsize=8)
    axes.margins(y=0.15)
    axes.set_ylabel("rank IC")
    return figure


def deciles(table: pd.DataFrame) -> Figure:
    """Mean outcome by tenth of the signal."""
    figure, axes = new_figure(height=2.4)
    axes.bar(table["decile"], table["forward"] * 1e4)
    axes.set_xticks(table["decile"])
    axes.set_xlabel("tenth of the signal (10 = strongest buy)")
    axes.set_ylabel("basis points")
    return figure


def equity_curve(equity: pd.DataFrame) -> Figure:
    """Growth of the book before and after costs, and its drawdown."""
    figure, (top, bottom) = new_figure(2, 1, height=4.2, sharex=True, height_ratios=[2, 1])
    for name in ("gross", "net"):
        if name in equity:
            top.plot(equity["date"], (1.0 + equity[name]).cumprod(), label=name)
    top.legend(loc="upper left")
    top.set_ylabel("growth of 1")
    wealth = np.concatenate([[1.0], (1.0 + equity["net"]).cumprod()])
    bottom.fill_between(
        equity["date"], (wealth / np.maximum.accumulate(wealth) - 1.0)[1:] * 100, alpha=0.5, linewidth=0
    )
    bottom.set_ylabel("drawdown, %")
    return figure


def reliability(table: pd.DataFrame) -> Figure:
    """Stated probability of a wrong sign against how often it was wrong."""
    figure, axes = new_figure(width=5.0, height=3.2)
    # Two standard deviations of a share; overlapping outcomes make the true noise larger still.
    noise = 2 * np.sqrt(table["realised"] * (1 - table["realised"]) / table["rows"])
    axes.axline((0.5, 0.5), slope=1.0, color=_GREY, linewidth=1, linestyle="--")
    axes.errorbar(table["stated"], table["realised"], noise, marker="o", markersize=4, linestyle="none")
    axes.set_xlabel("stated probability of a wrong sign")
    axes.set_ylabel("share that was wrong")
    return figure


def coverage(table: pd.DataFrame, level: float) -> Figure:
    """Share of outcomes inside the interval over a rolling year."""
    figure, axes = new_figure(height=2.2)
    axes.plot(table["date"], table["rolling"] * 100)
    axes.axhline(level * 100, color=_GREY, linewidth=1, linestyle="--")
    axes.set_ylabel("coverage, %, rolling year")
    return figure


def weights(table: pd.DataFrame) -> Figure:
    """Weight of each layer in each block of history."""
    figure, axes = new_figure(height=2.4)
    for layer, rows in table.groupby("layer"):
        axes.plot(rows["fold"], rows["weight"], marker="o", markersize=3, label=str(layer))
    axes.set_xticks(sorted(set(table["fold"])))
    axes.set_xlabel("block")
    axes.set_ylabel("mean weight")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def paths(table: pd.DataFrame) -> Figure:
    """Rank IC of each rung along each path."""
    figure, axes = new_figure(height=2.6)
    rungs = list(dict.fromkeys(table["rung"]))
    axes.plot(table["rung"].map(rungs.index), table["rank_ic"], marker="o", markersize=4, linestyle="none", alpha=0.7)
    axes.set_xticks(range(len(rungs)), [str(rung) for rung in rungs])
    axes.margins(x=0.1)
    axes.axhline(0.0, color=_GREY, linewidth=1, linestyle="--")
    axes.set_ylabel("rank IC")
    return figure


def attribution(table: pd.DataFrame) -> Figure:
    """What each layer leans on: its features with the largest shares."""
    layers = list(dict.fromkeys(table["layer"]))
    figure, grid = new_figure(len(layers), 1, height=0.5 + 1.8 * len(layers), squeeze=False)
    for axes, layer in zip(grid[:, 0], layers, strict=True):
        # Drawn from below: the largest comes last.
        rows = table[table["layer"] == layer].head(_SHOWN_FEATURES).iloc[::-1]
        axes.barh(rows["feature"].astype(str), rows["share"] * 100)
        axes.set_title(str(layer), loc="left")
    grid[-1, 0].set_xlabel("share, %")
    return figure
