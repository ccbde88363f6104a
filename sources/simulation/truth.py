"""The truth of a simulated market as tables, kept apart from those that a pipeline reads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sources.simulation.firms import Array
from sources.simulation.reports import Dates
from sources.simulation.story import CALM, CRISIS, STRESS
from sources.simulation.traders import POPULATIONS

REGIMES: Mapping[int, str] = {CALM: "calm", STRESS: "stress", CRISIS: "crisis"}
PART = "part_"
"""What leads the column of one source's expected return."""


def symbol_truth(
    dates: Dates, symbols: NDArray[np.str_], alive: Array, parts: Mapping[str, Array], crowd: Array,
    regime: NDArray[np.int8],
) -> pd.DataFrame:  # fmt: skip
    """What is true of each firm at the close of each session, `(T, N)` arrays in long form.

    Parameters
    ----------
    alive
        1.0 where the firm is listed, NaN elsewhere: those rows are left out.
    parts
        By planted source, the residual return (fraction) of the sessions D+2 to D+6 that it makes one expect at D.

    Returns
    -------
    DataFrame
        `date`, `symbol`, `regime`, `expected`, `part_<source>`, and `crowd`, the crowd's inventory in days of usual
        volume.
    """
    session, firm = np.nonzero(np.isfinite(alive))
    at = (session, firm)
    names = np.array([REGIMES[key] for key in sorted(REGIMES)])
    planted = {f"{PART}{name}": values[at] for name, values in parts.items()}
    return pd.DataFrame(
        {
            "date": dates[session].astype("datetime64[ms]"),
            "symbol": symbols[firm],
            "regime": names[regime[session]],
            "expected": sum(planted.values(), np.zeros(len(session))),
            **planted,
            "crowd": crowd[at],
        }
    )


def market_truth(
    dates: Dates, market: Array, vol: Array, regime: NDArray[np.int8], panic: Array, populations: Array
) -> pd.DataFrame:
    """What is true of the whole market in each session.

    Returns
    -------
    DataFrame
        `date`, `market` and `market_vol` (return and its volatility, fractions), `regime`, `panic` (share of panicked
        traders at the close), and `share_<population>`.
    """
    return pd.DataFrame(
        {
            "date": dates.astype("datetime64[ms]"),
            "market": market,
            "market_vol": vol,
            "regime": [REGIMES[int(key)] for key in regime],
            "panic": panic,
            **{f"share_{name}": populations[:, k] for k, name in enumerate(POPULATIONS)},
        }
    )
