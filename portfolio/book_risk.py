"""The risk of a book as it stands: tails, exposures, concentration, contributions, stress.

The weights of now are held against the returns of the past: what the book would have earned, had it been held all the
time. It never was; the history says what its positions do together, not what the strategy did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import DataError
from market.catalogue import Scenario
from market.scenarios import PARTS, stress
from portfolio.contributions import (
    effective_number,
    factor_exposures,
    sector_exposures,
    shortfall_contributions,
    volatility_contributions,
)
from portfolio.covariance.base import estimate
from portfolio.forecasts import tails_by_model
from portfolio.performance import SESSIONS_PER_YEAR
from portfolio.styles import Loadings

Array = NDArray[np.float64]

LEVELS = (0.95, 0.99)
HISTORY = 500
"""Sessions that the present weights are held against: two years."""
COVARIANCE_WINDOW = 252
SHORTFALL_LEVEL = 0.95
"""Of the contributions: 25 of 500 sessions are behind each."""
UNKNOWN = "unknown"


@dataclass(frozen=True, eq=False)
class Holdings:
    """A book and the past of its symbols.

    Attributes
    ----------
    date
        Session at whose close the weights are known.
    symbols, sectors
        N names, and the sector of each as the scenarios have it; "" where unknown.
    weights
        `(N,)` fractions of the capital, short negative.
    returns
        `(T, N)` daily returns up to the session, NaN where a symbol had none.
    loadings
        Of the same symbols.
    """

    date: str
    symbols: Sequence[str]
    sectors: Sequence[str]
    weights: Array
    returns: Array
    loadings: Loadings

    def __post_init__(self) -> None:
        count = len(self.symbols)
        if self.weights.shape != (count,) or self.returns.shape[1:] != (count,) or len(self.sectors) != count:
            raise DataError(
                f"book of {self.date}: {count} symbols, weights {self.weights.shape}, returns {self.returns.shape}, "
                f"{len(self.sectors)} sectors: give one of each a symbol"
            )
        if not np.isfinite(self.weights).all() or not (self.weights != 0).any():
            raise DataError(
                f"book of {self.date}: it holds nothing, or a weight is not finite: choose a session with signals"
            )

    def held(self) -> Holdings:
        """The same without the symbols that are not held."""
        there = np.flatnonzero(self.weights).tolist()
        told = self.loadings
        return Holdings(
            self.date,
            [self.symbols[k] for k in there],
            [self.sectors[k] for k in there],
            self.weights[there],
            self.returns[:, there],
            Loadings(told.market[there], told.styles[there], told.names, told.tilt, told.assumed[there]),
        )


@dataclass(frozen=True, eq=False)
class BookRisk:
    """What there is to say of a book.

    Attributes
    ----------
    history
        `(S,)` what the present weights would have earned.
    figures
        `gross, net, long, short, names, effective_names, volatility` (a year), `beta`.
    tails
        See `portfolio.forecasts.tails_by_model`; the next session, fractions of the capital.
    exposures
        `factor, exposure`: the market's beta, then the styles.
    sectors
        `sector, net, gross`.
    contributions
        `symbol, sector, weight, marginal_volatility, volatility_share, marginal_shortfall, shortfall_share`, the
        greatest share of the volatility first; marginals a session.
    stress
        `scenario, title, total`, the parts of `market.scenarios.PARTS`, and `unmet`: worst first.
    notes
        What a reader must know: what is assumed or missing.
    """

    date: str
    history: Array
    figures: Mapping[str, float]
    tails: pd.DataFrame
    exposures: pd.DataFrame
    sectors: pd.DataFrame
    contributions: pd.DataFrame
    stress: pd.DataFrame
    notes: tuple[str, ...]


def book_risk(holdings: Holdings, scenarios: Mapping[str, Scenario]) -> BookRisk:
    """Measure a book.

    Raises
    ------
    DataError
        The book is empty, or its history shorter than a covariance needs.
    """
    book = holdings.held()
    weights, returns = book.weights, book.returns[-HISTORY:]
    filled = np.nan_to_num(returns)
    history = filled @ weights
    parts = volatility_contributions(weights, estimate(filled[-COVARIANCE_WINDOW:], "ledoit_wolf"))
    shortfall = shortfall_contributions(weights, filled, SHORTFALL_LEVEL)
    beta = book.loadings.beta
    figures = {
        "gross": float(np.abs(weights).sum()),
        "net": float(weights.sum()),
        "long": float(weights[weights > 0].sum()),
        "short": float(weights[weights < 0].sum()),
        "names": len(weights),
        "effective_names": effective_number(weights),
        "volatility": parts.total * float(np.sqrt(SESSIONS_PER_YEAR)),
        "beta": float(weights @ beta),
    }
    exposures = np.append(figures["beta"], factor_exposures(weights, book.loadings.styles))
    contributions = pd.DataFrame(
        {
            "symbol": list(book.symbols),
            "sector": [name or UNKNOWN for name in book.sectors],
            "weight": weights,
            "marginal_volatility": parts.marginal,
            "volatility_share": parts.share,
            "marginal_shortfall": shortfall.marginal,
            "shortfall_share": shortfall.share,
        }
    ).sort_values("volatility_share", ascending=False, kind="stable", ignore_index=True)
    return BookRisk(
        date=book.date,
        history=history,
        figures=figures,
        tails=tails_by_model(history, LEVELS),
        exposures=pd.DataFrame({"factor": ["market", *book.loadings.names], "exposure": exposures}),
        sectors=_sectors(book),
        contributions=contributions,
        stress=stress_table(book, scenarios),
        notes=tuple(_notes(book, returns)),
    )


def stress_table(book: Holdings, scenarios: Mapping[str, Scenario]) -> pd.DataFrame:
    """Gain or loss of the book in each scenario, by part, the worst first."""
    symbols, sectors = list(book.symbols), list(book.sectors)
    rows = []
    for name, scenario in scenarios.items():
        met = stress(book.loadings.book(symbols, book.weights, sectors, scenario), scenario)
        line = {"scenario": name, "title": scenario.title, "total": met.total, **met.by_part}
        rows.append({**line, "unmet": ", ".join(met.unmet)})
    table = pd.DataFrame(rows, columns=["scenario", "title", "total", *PARTS, "unmet"])
    return table.sort_values("total", kind="stable", ignore_index=True)


def _sectors(book: Holdings) -> pd.DataFrame:
    names, codes = np.unique([name or UNKNOWN for name in book.sectors], return_inverse=True)
    told = sector_exposures(book.weights, codes.astype(np.int64))
    return pd.DataFrame({"sector": names[told.sectors], "net": told.net, "gross": told.gross})


def _notes(book: Holdings, returns: Array) -> list[str]:
    notes = ["the exit of a crowd is not counted in the stress: the book is not told what a crowd holds"]
    size = np.abs(book.weights)
    missing = float(((~np.isfinite(returns)).mean(axis=0) @ size) / size.sum())
    if missing > 0:
        notes.append(
            f"{missing:.1%} of the book's past has no return and counts as none earned: its risk is told too low"
        )
    if book.loadings.assumed.any():
        few = [str(book.symbols[k]) for k in np.flatnonzero(book.loadings.assumed).tolist()]
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        notes.append(
            f"{', '.join(few[:5])}{more}: too few returns for loadings, so the market's beta of 1 and no style is "
            "assumed"
        )
    return notes
