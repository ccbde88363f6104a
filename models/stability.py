"""Does the signal work everywhere, or in one year, one sector, one size, one kind of market?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from core.params import Params
from models.scoring import default_lags, icir, newey_west_t

REGIMES = ("calm", "normal", "stress")
UNKNOWN_REGIME = "unknown"
SIZES = ("small", "middle", "large")


class VolatilityRule(Params):
    """How regimes are told apart.

    Attributes
    ----------
    volatility_sessions
        Window of the market's volatility.
    history
        Sessions of that volatility needed before a regime is told.
    """

    volatility_sessions: int = Field(default=63, ge=5)
    history: int = Field(default=126, ge=3)


def market_regimes(returns: pd.Series, rule: VolatilityRule) -> pd.Series:
    """Regime of each session, from the market's trailing volatility against its own past alone.

    The lowest, middle and highest third of the past are calm, normal and stress.

    Parameters
    ----------
    returns
        Equal-weight market return by date, beginning as early as known.
    """
    volatility = returns.rolling(rule.volatility_sessions).std()
    share = volatility.expanding(rule.history).rank(pct=True)
    labels = np.select([share <= 1 / 3, share <= 2 / 3, share > 2 / 3], REGIMES, UNKNOWN_REGIME)
    return pd.Series(labels, index=returns.index, name="regime")


def size_terciles(size: ArrayLike, session: NDArray[np.int64]) -> NDArray[np.object_]:
    """Third of its day's stocks that each row belongs to by size: small, middle, large; None where unknown.

    Parameters
    ----------
    size
        `(R,)` any measure known at the date; only its order within the day counts.
    session
        `(R,)` session of each row.
    """
    ranks = pd.Series(np.asarray(size, dtype=np.float64)).groupby(session).rank(pct=True).to_numpy()
    # A third of three, six, ... stocks must not fall on the wrong side by rounding.
    third = np.ceil(ranks * 3 - 1e-9)
    out = np.full(len(third), None, dtype=object)
    for number, name in enumerate(SIZES, 1):
        out[third == number] = name
    return out


def stability(
    daily: pd.Series,
    regime: NDArray[Any],
    inside: pd.DataFrame,
    horizon: int,
    sizes: pd.DataFrame | None = None,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Rank IC by year, sector, size and regime.

    Parameters
    ----------
    daily
        Rank IC by date.
    regime
        Regime label of each of those days.
    inside
        Daily rank IC inside each known sector, one column a sector.
    sizes
        Daily rank IC inside each third by size, one column a third; None where no size is known.

    Returns
    -------
    figures
        `positive_years`, `positive_sectors` (shares), `worst_year_ic`, `worst_sector_ic`,
        `worst_size_ic`, `worst_regime_ic`, and the rank IC by name in `years`, `sectors`, `sizes`,
        `regimes`; NaN where a group has no day, and for `positive_sectors` with fewer than two sectors.
    tables
        `by_year`, `by_sector`, `by_size`, `by_regime`: days, rank IC, Newey-West t, ICIR.
    """
    by_year = _table("year", dict(iter(daily.groupby(pd.DatetimeIndex(daily.index).year))), horizon)
    by_regime = _table("regime", {name: daily[regime == name] for name in (*REGIMES, UNKNOWN_REGIME)}, horizon)
    by_sector = _table("sector", {str(name): inside[name] for name in inside.columns}, horizon)
    found = {} if sizes is None else {name: sizes[name] for name in SIZES if name in sizes.columns}
    by_size = _table("size", found, horizon)
    told = by_regime[by_regime["regime"] != UNKNOWN_REGIME]
    figures = {
        "positive_years": _positive(by_year),
        "worst_year_ic": float(by_year["rank_ic"].min()),
        # one sector alone says nothing about others
        "positive_sectors": _positive(by_sector) if len(by_sector) > 1 else float("nan"),
        "worst_sector_ic": float(by_sector["rank_ic"].min()),
        "worst_size_ic": float(by_size["rank_ic"].min()),
        "worst_regime_ic": float(told["rank_ic"].min()),
        "years": _by_name(by_year, "year"),
        "sectors": _by_name(by_sector, "sector"),
        "sizes": _by_name(by_size, "size"),
        "regimes": _by_name(told, "regime"),
    }
    tables = {"by_year": by_year, "by_sector": by_sector, "by_size": by_size, "by_regime": by_regime}
    return figures, tables


def _table(name: str, groups: Mapping[Any, pd.Series], horizon: int) -> pd.DataFrame:
    """One line a group that has at least one day."""
    lines = []
    for label, series in groups.items():
        values = series.dropna()
        if not len(values):
            continue
        t_value = newey_west_t(values, default_lags(len(values), horizon))
        line = {name: label, "days": len(values), "rank_ic": values.mean()}
        lines.append({**line, "rank_ic_t": t_value, "icir": icir(values)})
    return pd.DataFrame(lines, columns=[name, "days", "rank_ic", "rank_ic_t", "icir"])


def _positive(table: pd.DataFrame) -> float:
    return float((table["rank_ic"] > 0).mean()) if len(table) else float("nan")


def _by_name(table: pd.DataFrame, key: str) -> dict[str, float]:
    return {str(name): float(value) for name, value in zip(table[key], table["rank_ic"], strict=True)}
