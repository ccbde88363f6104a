"""The firms of the simulated market: what stays fixed about each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sources.simulation.streams import stream

Array = NDArray[np.float64]

INDUSTRIES: dict[str, tuple[str, ...]] = {
    "Consumer Discretionary": ("Specialty Stores", "Restaurants", "Auto Parts & Equipment"),
    "Consumer Staples": ("Packaged Foods & Meats", "Household Products", "Soft Drinks"),
    "Energy": ("Oil & Gas Exploration & Production", "Oil & Gas Equipment & Services"),
    "Financials": ("Regional Banks", "Property & Casualty Insurance", "Asset Management"),
    "Health Care": ("Health Care Equipment", "Pharmaceuticals", "Managed Health Care"),
    "Industrials": ("Industrial Machinery", "Airlines", "Railroads"),
    "Information Technology": ("Semiconductors", "Application Software", "Internet Software & Services"),
    "Materials": ("Specialty Chemicals", "Paper Packaging", "Steel"),
    "Telecommunications Services": ("Integrated Telecommunications Services", "Wireless Telecommunication Services"),
    "Utilities": ("Electric Utilities", "MultiUtilities"),
}
SECTORS = tuple(INDUSTRIES)

# No vowel: a ticker that spells an English word would carry a mood of its own into the posts.
_LETTERS = np.array(list("BCDFGHJKLMNPQRSTVWXZ"))
_FIRST = ("Alder", "Boreal", "Cinder", "Dunmore", "Easton", "Fairlea", "Glenrock", "Hartwell", "Inver", "Juniper")
_SECOND = ("Creek", "Point", "Ridge", "Harbor", "Valley", "Bridge", "Summit", "Crossing", "Field", "Bay")
SEASONED, FAILING = 504, 0.4
"""Sessions that every firm is listed for at least, and the share of delistings that are failures."""
_LAST = ("Corp", "Holdings", "Group", "Industries", "Partners", "Systems")


@dataclass(frozen=True)
class Firms:
    """Fixed traits, arrays of length N in the order of the symbols.

    Attributes
    ----------
    beta, sector_beta
        Loadings on the market and on the sector's own return.
    vol
        Typical daily volatility of the idiosyncratic return, fraction.
    price, shares
        At the first session: USD, and shares outstanding.
    listed, delisted
        Index of the first session that is traded, and of the last one.
    fails
        Whether the firm is delisted because it failed.
    year_end
        Month in which the fiscal year ends, 1 to 12.
    earnings_yield, roe, margin
        Levels that the firm returns to, a year.
    turnover
        Share of the firm's shares traded on a usual day.
    attention
        Posts on a usual day; zero for firms that nobody writes about.
    """

    symbols: NDArray[np.str_]
    names: NDArray[np.str_]
    exchange: NDArray[np.str_]
    sector: NDArray[np.int64]
    industry: NDArray[np.str_]
    beta: Array
    sector_beta: Array
    vol: Array
    price: Array
    shares: Array
    listed: NDArray[np.int64]
    delisted: NDArray[np.int64]
    fails: NDArray[np.bool_]
    year_end: NDArray[np.int64]
    earnings_yield: Array
    roe: Array
    margin: Array
    turnover: Array
    attention: Array


def draw_firms(count: int, seed: int, late_share: float, posts_per_day: float, delisting_rate: float = 0.0) -> Firms:
    """Draw the firms of a world.

    Parameters
    ----------
    late_share
        Share of firms that are listed half a year to four years after the first session.
    posts_per_day
        Mean posts a day of a firm that people write about (two in five firms).
    delisting_rate
        Share of firms delisted in a year.
    """
    rng = stream(seed, "firms")
    sector = rng.permutation(np.arange(count) % len(SECTORS))
    value = np.exp(rng.normal(np.log(8e9), 1.1, count))
    price = np.exp(rng.uniform(np.log(18.0), np.log(95.0), count))
    late = rng.random(count) < late_share
    fiscal = rng.choice([12, 12, 12, 12, 12, 12, 9, 6, 3, 1, 10, 5], count)
    attention = np.exp(rng.normal(0.0, 0.9, count)) * (rng.random(count) < 0.4)
    mean_attention = np.exp(0.9**2 / 2)
    listed = np.where(late, rng.integers(126, 1008, count), 0)
    life = stream(seed, "life").exponential(1.0, count)
    return Firms(
        symbols=_symbols(count),
        names=np.array([
            f"{_FIRST[k % 10]} {_SECOND[k // 10 % 10]} {_LAST[k // 100 % 6]}" + (f" {k // 600 + 1}" if k >= 600 else "")
            for k in range(count)
        ]),
        exchange=np.where(rng.random(count) < 0.6, "NYSE", "NASDAQ"),
        sector=sector,
        industry=np.array([INDUSTRIES[SECTORS[s]][k % len(INDUSTRIES[SECTORS[s]])] for k, s in enumerate(sector)]),
        beta=np.clip(rng.normal(1.0, 0.3, count), 0.3, 1.9),
        sector_beta=np.clip(rng.normal(1.0, 0.25, count), 0.3, 1.7),
        vol=np.exp(rng.normal(np.log(0.014), 0.3, count)),
        price=price,
        shares=np.round(value / price, -3),
        listed=listed,
        delisted=listed + np.minimum(SEASONED + 252.0 * life / max(delisting_rate, 1e-9), 1e6).astype(np.int64),
        fails=stream(seed, "fails").random(count) < FAILING,
        year_end=fiscal,
        earnings_yield=np.clip(rng.normal(0.06, 0.015, count), 0.02, 0.12),
        roe=np.clip(rng.normal(0.15, 0.05, count), 0.04, 0.35),
        margin=np.clip(rng.normal(0.10, 0.04, count), 0.02, 0.25),
        turnover=np.exp(rng.normal(np.log(0.006), 0.4, count)),
        attention=attention * posts_per_day / mean_attention,
    )  # fmt: skip


def _symbols(count: int) -> NDArray[np.str_]:
    """Sorted tickers of four letters, the same for every seed."""
    rng = np.random.Generator(np.random.Philox(2))
    taken: dict[str, None] = {}
    while len(taken) < count:
        taken["".join(rng.choice(_LETTERS, 4, replace=False))] = None
    return np.array(sorted(taken))
