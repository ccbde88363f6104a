"""What a market is like: stylised facts, tails, regimes and sectors, measured alike on simulated and real tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from core.params import parse
from features import kernels as k
from features.assemble import assemble
from features.panel import Array, Panel
from features.returns import held_before, market_return, returns_over
from features.universe import UniverseRule
from features.windows import QUARTER, YEAR, least
from market.dispersion import average_correlation, cross_dispersion
from market.hill import hill
from market.rotation import rank_rotation, relative_strength, trailing_slope
from market.stylised import HILL_SHARE, autocorrelation, leverage_correlation, stylised_facts
from market.tails import fit_peaks
from market.volatility import ewma_volatility, standardised_returns
from models.regimes import RegimeModel, RegimeRule
from sources.base import Source
from sources.calendar import sessions
from sources.cleaning import clean

USED = ("prices", "securities")
"""Tables that the measurements need."""
LAGS = tuple(np.unique(np.geomspace(1, 250, 24).round().astype(int)).tolist())
LEVERAGE_LAGS = tuple(range(1, 31))
SIZES = tuple(np.geomspace(0.5, 12.0, 25).round(4).tolist())
"""Sizes of returns, in standard deviations of the symbol, whose frequency is told."""
FIRST = 3
"""One in so many sessions belongs to the first part, of which regimes are not told."""
TAIL, LEVEL = 0.1, 0.99
"""Share of losses that the Pareto law is fitted to, and level of the value at risk."""


def read_panel(source: Source) -> Panel:
    """The cleaned prices and sectors of a source, as a run of the pipeline has them."""
    tables = {name: source.read(name) for name in source.tables() if name in USED}
    first, last = tables["prices"]["date"].min().date(), tables["prices"]["date"].max().date()
    return assemble(clean(tables, first, last).tables, sessions(first, last), parse(UniverseRule, {}, "universe"))


def measure(panel: Panel) -> dict[str, Any]:
    """Everything that the page tells of a market, in plain numbers for a JSON file.

    Raises
    ------
    DataError, ConvergenceError
        The history is too short for a figure, or has none.
    """
    returns = np.log1p(returns_over(panel, 1))
    market = np.log1p(market_return(panel))
    # Volume that grows with the years would hide what it has to do with moves.
    usual = k.rolling_mean(panel["volume"], QUARTER, least(QUARTER))
    volume = panel["volume"] / np.where(usual > 0, usual, np.nan)
    report = stylised_facts(returns, volume, market)
    return {
        "symbols": len(panel.symbols),
        "sessions": [str(panel.dates[0]), str(panel.dates[-1])],
        "stocks": _plain(asdict(report.stocks)),
        "market": _plain(asdict(report.market)) if report.market else {},
        "curves": _curves(returns, market),
        "states": _plain({**_tails(market), **_sectors(panel), **_regimes(panel)}),
    }


def _curves(returns: Array, market: Array) -> dict[str, list[float]]:
    size = np.abs(returns)
    scaled = size / np.nanstd(returns, axis=0)
    known = scaled[np.isfinite(scaled)]
    memory = autocorrelation(size, LAGS)
    return {
        "beyond": [_round((known > at).mean()) for at in SIZES],
        "memory": [_round(value) for value in np.nanmedian(memory, axis=1)],
        "sign": [_round(value) for value in np.nanmedian(autocorrelation(returns, LAGS), axis=1)],
        "leverage": [_round(value) for value in leverage_correlation(market, LEVERAGE_LAGS)[:, 0]],
    }


def _tails(market: Array) -> dict[str, float]:
    losses = -standardised_returns(market, ewma_volatility(market))
    peaks = fit_peaks(losses, share=TAIL)
    return {
        "market_hill": hill(np.abs(market), share=HILL_SHARE).alpha,
        "market_hill_standardised": hill(np.abs(losses), share=HILL_SHARE).alpha,
        "shape": peaks.shape,
        "value_at_risk": peaks.value_at_risk(LEVEL),
        "expected_shortfall": peaks.expected_shortfall(LEVEL),
    }


def _sectors(panel: Panel) -> dict[str, float]:
    returns, market = returns_over(panel, 1), market_return(panel)
    correlation = average_correlation(returns, QUARTER)
    names = sorted(set(panel.sector.tolist()) - {-1})
    told = {
        "correlation": float(np.nanmedian(correlation)),
        "correlation_high": float(np.nanquantile(correlation, 0.95)),
    }
    if len(names) < 3:
        return {**told, "dispersion": np.nan, "rotation": np.nan}
    held = held_before(panel)
    sectors = np.column_stack([k.row_mean(returns, held & (panel.sector == code)) for code in names])
    grown = [np.exp(np.nancumsum(np.log1p(values), axis=0)) for values in (sectors, market)]
    slopes = trailing_slope(relative_strength(*grown), QUARTER)
    return {
        **told,
        "dispersion": float(np.nanmedian(cross_dispersion(sectors))),
        "rotation": float(np.nanmean(rank_rotation(slopes))),
    }


def _regimes(panel: Panel) -> dict[str, float]:
    """What two models say of each year that were fitted on the time before it."""
    told = later_states(market_return(panel))
    years = len(told) / YEAR
    stress = np.where(np.isfinite(told), told > 0.5, False)
    switches = (stress[1:] != stress[:-1]).sum(axis=0) / years
    return {
        "stress_hmm": float(stress[:, 0].mean()),
        "stress_jump": float(stress[:, 1].mean()),
        "switches_hmm": float(switches[0]),
        "switches_jump": float(switches[1]),
    }


def later_states(market: Array) -> Array:
    """`(T - T // FIRST, 2)` probability of stress of the HMM and state of the jump model after the first part.

    Both are fitted anew every year, on all sessions before it.

    Raises
    ------
    DataError
        The first part of the history is too short for a fit.
    """
    starts = range(len(market) // FIRST, len(market), YEAR)
    told = [RegimeModel.fit(market[:at], RegimeRule()).states(market[: at + YEAR])[at:] for at in starts]
    return np.concatenate(told)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _round(value) if isinstance(value, float) else value for name, value in values.items()}


def _round(value: float) -> float:
    """Six digits: what is written tells no more, and the last bits of a sum may differ between machines."""
    return float(f"{value:.6g}")
