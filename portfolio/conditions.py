"""What the stance of a book is told of the state of the market and of the crowd, from features.

A probability or a measure that has no natural threshold is told as its percentile in its own trailing history: the
share of the last sessions, today's among them, that lie below it, ties half. It reads nothing of the future.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from features.kernels import rolling_rank

Array = NDArray[np.float64]

FEATURES = {
    "systemic_event_probability": "crowding",
    "crowd_cost": "crowding",
    "panic_selling": "behaviour",
    "vix_term": "macro",
    "vix": "macro",
}
"""Features that are read, and the family of each; one that is switched off is not known."""
TRAILING = 252
"""Sessions of a percentile."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """Of T sessions and N symbols, as in `portfolio.stance.Today`; None: not known.

    Attributes
    ----------
    systemic, implied_ratio
        `(T,)`.
    crowd_cost, panic
        `(T, N)`.
    index_volatility
        `(T,)` implied, a year, a fraction.
    """

    systemic: Array | None = None
    implied_ratio: Array | None = None
    crowd_cost: Array | None = None
    panic: Array | None = None
    index_volatility: Array | None = None


def conditions(features: Mapping[str, Array]) -> Conditions:
    """What the features say.

    Parameters
    ----------
    features
        `(T, N)` by name, those of `FEATURES` that are there; others are not looked at.

    Raises
    ------
    DataError
        Shapes differ.
    """
    known = {name: np.asarray(features[name], dtype=np.float64) for name in FEATURES if name in features}
    if len({values.shape for values in known.values()}) > 1:
        raise DataError("conditions: the features differ in shape: use one panel")
    systemic, panic = known.get("systemic_event_probability"), known.get("panic_selling")
    ratio, implied = known.get("vix_term"), known.get("vix")
    return Conditions(
        systemic=None if systemic is None else trailing_percentile(_shared(systemic)[:, None])[:, 0],
        implied_ratio=None if ratio is None else _shared(ratio),
        crowd_cost=known.get("crowd_cost"),
        panic=None if panic is None else trailing_percentile(panic),
        index_volatility=None if implied is None else _shared(implied) / 100.0,
    )


def trailing_percentile(values: Array, window: int = TRAILING) -> Array:
    """`(T, N)` percentile of each value in the last `window` ones of its column, 0 to 1; NaN with fewer than half."""
    return rolling_rank(values, window, window // 2)


def _shared(values: Array) -> Array:
    """`(T,)` the value that a row's symbols share, NaN where none is known."""
    known = np.isfinite(values)
    first = np.argmax(known, axis=1)
    return np.where(known.any(axis=1), values[np.arange(len(values)), first], np.nan)
