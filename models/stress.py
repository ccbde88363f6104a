"""How likely stress was on each session of a history, as it was known then."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import DataError
from models.regimes import STATES, RegimeModel, RegimeRule

Array = NDArray[np.float64]

STRESS = STATES[0]
"""The state that is told: a probability, by the hidden Markov model."""


def walk_forward_stress(market: ArrayLike, starts: Sequence[int], rule: RegimeRule) -> Array:
    """Filtered probability of stress, each block told by a model that was fitted on the sessions before it.

    Parameters
    ----------
    market
        `(T,)` daily equal-weight market returns as fractions in time order; NaN where unknown.
    starts
        First session of each block, ascending; a block ends where the next one starts.

    Returns
    -------
    `(T,)`, NaN before the first block, and in blocks with too little history before them.
    """
    returns = np.asarray(market, dtype=np.float64)
    out = np.full(len(returns), np.nan)
    for start, stop in pairwise([*starts, len(returns)]):
        try:
            model = RegimeModel.fit(returns[:start], rule)
        except DataError:
            # Too little history is usual in the first blocks; what follows from not knowing is the reader's to say.
            continue
        begin = max(0, start - model.lookback + 1)
        out[start:stop] = model.states(returns[begin:stop])[start - begin :, 0]
    return out
