"""Figures of a walked book beyond its return: how concentrated it was, how deep it fell, what held it back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from portfolio.performance import SESSIONS_PER_YEAR, worst_drawdowns
from portfolio.walk import COST_PARTS, Walk

_FEW = 0.05
"""Quantile of the effective names that stands for the least."""


def book_figures(found: Walk) -> dict[str, Any]:
    """Everything that is told of a walk in numbers.

    Returns
    -------
    dict
        Those of `portfolio.performance.summarise`, and `effective_names` (median) and `least_effective_names` (the 5 %
        quantile) of the sessions that hold something, `largest_weight`, `gross_exposure` and `net_exposure` (means),
        `longest_drawdown` (sessions from a peak until it was reached again), `drawdown_volatilities` (the worst
        drawdown over the volatility a year), `dropped` (orders not filled, a year), `costs` (parts, a year), `modes`
        (share of the sessions), `binding`, `relaxed` and `forced` (rebalances in which a kind of limit bound, gave way
        to others, or was out of reach). NaN where nothing was held.
    """
    daily, volatility = found.daily, found.summary["volatility"]
    held = daily.loc[daily["names"] > 0, "effective_names"]
    falls = worst_drawdowns(daily, count=len(daily))
    kinds = found.limits
    return found.summary | {
        "effective_names": float(held.median()),
        "least_effective_names": float(held.quantile(_FEW)),
        "largest_weight": float(daily["largest"].max()) if len(held) else float("nan"),
        "gross_exposure": float((daily["long"] - daily["short"]).mean()),
        "net_exposure": float((daily["long"] + daily["short"]).mean()),
        "longest_drawdown": int(falls["sessions"].max()) if len(falls) else 0,
        "drawdown_volatilities": found.summary["max_drawdown"] / volatility if volatility > 0 else float("nan"),
        "dropped": float(daily["dropped"].mean()) * SESSIONS_PER_YEAR,
        "costs": {name: float(daily[name].mean()) * SESSIONS_PER_YEAR for name in COST_PARTS},
        "modes": {str(mode): float(share) for mode, share in daily["mode"].value_counts(normalize=True).items()},
        "binding": rebalances(kinds[~kinds["relaxed"]]),
        "relaxed": rebalances(kinds[kinds["relaxed"] & ~kinds["forced"]]),
        "forced": rebalances(kinds[kinds["forced"]]),
    }


def rebalances(limits: pd.DataFrame) -> dict[str, int]:
    """In how many rebalances each kind of limit is named."""
    return {str(kind): int(count) for kind, count in limits.groupby("kind")["date"].nunique().items()}


def positions(found: Walk) -> pd.DataFrame:
    """`date, symbol, weight, target, stance, reason` of what was held or asked for at each close."""
    session, symbol = np.nonzero((found.weights != 0) | (found.targets != 0))
    words = {
        name: pd.Categorical.from_codes(codes[session, symbol], pd.Index(labels))
        for name, codes, labels in (
            ("stance", found.stance, found.stances),
            ("reason", found.reason, found.reasons),
        )
    }
    return pd.DataFrame(
        {
            "date": found.daily["date"].to_numpy()[session],
            "symbol": np.asarray(found.symbols, dtype=object)[symbol],
            "weight": found.weights[session, symbol].astype(np.float32),
            "target": found.targets[session, symbol].astype(np.float32),
            **words,
        }
    )
