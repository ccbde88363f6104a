"""Simulated and real markets beside each other: tables of what was measured, and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import erfc

from features.panel import Panel
from features.returns import market_return
from market.catalogue import load_catalogue
from market.stylised import RANGES
from reporting.markdown import markdown_table
from reporting.market_measure import LAGS, LEVERAGE_LAGS, SIZES, later_states
from reporting.page import PALETTE, format_value, new_figure
from sources.simulation.params import PRESETS
from sources.simulation.story import CALM, CRISIS, STRESS
from sources.simulation.traders import POPULATIONS
from sources.simulation.world import World

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Markets = Mapping[str, Mapping[str, Any]]
"""By name, what `reporting.market_measure.measure` found; `real` is the bundle's."""

REAL = "real"
GREY = "#8a8f98"
_SHADES = {STRESS: "#e0873a", CRISIS: "#c7566f"}

_FACTS = {
    "excess_kurtosis": "excess kurtosis",
    "skewness": "skewness",
    "hill": "tail index (Hill, 5 %)",
    "acf_return_1": "autocorrelation of r, lag 1",
    "acf_absolute_1": "autocorrelation of |r|, lag 1",
    "acf_absolute_10": "autocorrelation of |r|, lag 10",
    "acf_absolute_100": "autocorrelation of |r|, lag 100",
    "leverage": "leverage, lags 1 to 10",
    "volume_correlation": "correlation of volume and |r|",
}
_STATES = {
    "stress_hmm": ("HMM, filtered: share of sessions in stress", ".0%"),
    "switches_hmm": ("HMM: switches a year", ".1f"),
    "stress_jump": ("jump model, online: share of sessions in stress", ".0%"),
    "switches_jump": ("jump model: switches a year", ".1f"),
    "market_hill": ("tail index of the market", ".2f"),
    "market_hill_standardised": ("tail index of the market over its forecast volatility", ".2f"),
    "shape": ("Pareto shape ξ of its standardised losses", "z.3f"),
    "value_at_risk": ("99 % value at risk, forecast standard deviations", ".2f"),
    "expected_shortfall": ("99 % expected shortfall, forecast standard deviations", ".2f"),
    "rotation": ("rotation of the sectors' order within a month", ".2f"),
    "dispersion": ("dispersion across sectors, median a session", ".2%"),
    "correlation": ("average correlation of stocks, median of quarters", ".2f"),
    "correlation_high": ("average correlation of stocks, 95 % quantile", ".2f"),
}


def facts_table(markets: Markets) -> str:
    """Stylised facts of each market beside the ranges of acceptance; bold: outside of its range."""
    rows = []
    for part, names in (("stocks", list(_FACTS)), ("market", ["excess_kurtosis", "skewness", "leverage"])):
        for name in names:
            low, high = RANGES.get(name, (np.nan, np.nan)) if part == "stocks" else (np.nan, np.nan)
            row = {"fact": _FACTS[name] if part == "stocks" else f"{_FACTS[name]}, market"}
            row["accepted"] = "" if np.isnan(low) else f"above {low:g}" if np.isinf(high) else f"{low:g} to {high:g}"
            for market, found in markets.items():
                value = found[part][name]
                text = format_value(value, "z.2f")
                row[market] = f"**{text}**" if value is not None and (value < low or value > high) else text
            rows.append(row)
    # Asterisks are markup here and nowhere else in the table.
    return f"{markdown_table(pd.DataFrame(rows)).replace(chr(92) + '*', '*')}\n\n{_sizes(markets)}"


def _sizes(markets: Markets) -> str:
    spans: dict[str, list[str]] = {}
    for market, found in markets.items():
        first, last = found["sessions"]
        spans.setdefault(f"{found['symbols']} symbols, {first} to {last}", []).append(market)
    return "; ".join(f"{', '.join(names)}: {span}" for span, names in spans.items()) + "."


def states_table(markets: Markets) -> str:
    """Regimes, tails and sectors of each market."""
    rows = [
        {"figure": text, **{name: format_value(found["states"][key], spec) for name, found in markets.items()}}
        for key, (text, spec) in _STATES.items()
    ]
    return markdown_table(pd.DataFrame(rows))


def presets_table() -> str:
    """What each preset plants, and how strongly its traders copy each other."""
    rows = []
    for name, preset in PRESETS.items():
        planted = ", ".join(f"{source} {ic:g}" for source, ic in preset.planted.items())
        rows.append({"preset": name, "planted (correlation with the outcome)": planted or "nothing",
                     "pull of panic": f"{preset.herding:g}"})  # fmt: skip
    return markdown_table(pd.DataFrame(rows))


def stress_table() -> str:
    """The catalogue of stress scenarios."""
    rows = []
    for scenario in load_catalogue().values():
        shocks = {**scenario.factor_shocks(), **scenario.sector_shocks()}
        rows.append(
            {
                "scenario": scenario.title,
                "window": f"{scenario.first} to {scenario.last}",
                "market": f"{scenario.market:+.1%}",
                "VIX": f"{scenario.vix_from:g} to {scenario.vix_to:g}" if scenario.vix_from else "",
                "over the market": ", ".join(f"{name.replace('_', ' ')} {move:+.0%}" for name, move in shocks.items()),
            }
        )
    return markdown_table(pd.DataFrame(rows))


def tails_figure(markets: Markets) -> Figure:
    """How often returns are large, and how falls of the market are followed by wild sessions."""
    figure, (tail, leverage) = new_figure(1, 2, height=2.9)
    sizes, gauss = np.array(SIZES), erfc(np.array(SIZES) / np.sqrt(2.0))
    for name, style, curves in _curves(markets):
        beyond = np.array(curves["beyond"])
        tail.loglog(sizes[beyond > 0], beyond[beyond > 0], label=name, **style)
        leverage.plot(LEVERAGE_LAGS, np.cumsum(curves["leverage"]), **style)
    tail.loglog(sizes[gauss > 1e-5], gauss[gauss > 1e-5], color=GREY, linestyle="--", label="Gaussian")
    tail.set_ylabel("share of |r| beyond")
    tail.set_xlabel("standard deviations of the stock")
    tail.legend(frameon=False, fontsize=8)
    leverage.set_ylabel("sum of corr(r, later r²), market")
    leverage.set_xlabel("lag, sessions")
    return figure


def memory_figure(markets: Markets) -> Figure:
    """Autocorrelation of the size and of the sign of returns, beside the ranges of acceptance."""
    figure, (size, sign) = new_figure(1, 2, height=2.9)
    for name, style, curves in _curves(markets):
        size.semilogx(LAGS, curves["memory"], label=name, **style)
        sign.semilogx(LAGS, curves["sign"], **style)
    for lag in (1, 10, 100):
        size.plot([lag, lag], RANGES[f"acf_absolute_{lag}"], color=GREY, linewidth=5, alpha=0.35)
    sign.fill_between([1, max(LAGS)], *RANGES["acf_return_1"], color=GREY, alpha=0.15, linewidth=0)
    size.set_ylabel("autocorrelation of |r|")
    size.legend(frameon=False, fontsize=8)
    sign.set_ylabel("autocorrelation of r")
    for axes in (size, sign):
        axes.set_xlabel("lag, sessions")
    return figure


def _curves(markets: Markets) -> Iterator[tuple[str, dict[str, Any], Mapping[str, list[float]]]]:
    """Name, style and curves of each market; the real one is drawn last and in black."""
    for place, (name, found) in enumerate(markets.items()):
        yield name, {"color": "black" if name == REAL else PALETTE[place], "linewidth": 1.2}, found["curves"]


def world_figure(world: World) -> Figure:
    """What traders do in a simulated market: its level, its panic, its populations."""
    figure, (level, panic, shares) = new_figure(3, 1, height=5.0, sharex=True)
    rows = slice(0, world.last + 1)
    dates = world.dates[rows].astype("datetime64[ms]").astype(object)
    level.plot(dates, np.exp(np.cumsum(np.log1p(world.market[rows]))), linewidth=1.0)
    level.set_yscale("log")
    level.set_ylabel("market")
    _shade(level, dates, world.regime[rows])
    panic.plot(dates, world.panic[rows], color="#c7566f", linewidth=1.0)
    panic.set_ylabel("share in panic")
    shares.stackplot(dates, world.populations[rows].T, labels=POPULATIONS, alpha=0.85, linewidth=0)
    shares.set_ylim(0.0, 1.0)
    shares.grid(False)
    shares.set_ylabel("populations")
    shares.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure


def regimes_figure(panel: Panel, world: World) -> Figure:
    """A simulated history: what two models said of each year that were fitted on the time before it, and the truth."""
    figure, (level, told) = new_figure(2, 1, width=8.0, height=3.0, sharex=True)
    market = market_return(panel)
    states = later_states(market)
    rest = slice(len(market) - len(states), len(market))
    dates = panel.dates[rest].astype("datetime64[ms]").astype(object)
    level.plot(dates, np.exp(np.cumsum(np.log1p(market[rest]))), linewidth=1.0)
    level.set_ylabel("market")
    _shade(level, dates, world.regime[rest])
    told.plot(dates, states[:, 0], linewidth=0.7, label="HMM, filtered P(stress)")
    told.plot(dates, states[:, 1], linewidth=1.4, label="jump model, online")
    told.set_ylim(-0.03, 1.25)
    told.set_ylabel("stress")
    told.legend(frameon=False, ncols=2, loc="upper left", fontsize=8)
    return figure


def _shade(axes: Axes, dates: Any, regime: Any) -> None:
    """Shade the true regimes but the calm one."""
    edges = np.flatnonzero(np.diff(regime)) + 1
    for first, last in zip([0, *edges.tolist()], [*edges.tolist(), len(regime)], strict=True):
        if regime[first] != CALM:
            axes.axvspan(dates[first], dates[last - 1], color=_SHADES[int(regime[first])], alpha=0.25, linewidth=0)
