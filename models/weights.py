"""How much a row teaches: less where its outcome overlaps others', less the longer ago it is.

References
----------
López de Prado, M. (2018). Advances in Financial Machine Learning, ch. 4. Wiley.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.jit import njit


def uniqueness(start: ArrayLike, end: ArrayLike, group: ArrayLike) -> NDArray[np.float64]:
    """Average uniqueness of outcomes that overlap in time: the mean of 1 / concurrency over an outcome's own span.

    Parameters
    ----------
    start, end
        `(R,)` first and last session of each outcome, both included, as non-negative integers.
    group
        `(R,)` code of the symbol that the outcome is of, >= 0: outcomes of different symbols do not overlap.

    Returns
    -------
    `(R,)` in (0, 1]: 1 for an outcome that shares none of its sessions.
    """
    first, last, codes = (np.ascontiguousarray(values, dtype=np.int64) for values in (start, end, group))
    if not len(first):
        return np.empty(0)
    order = np.argsort(codes, kind="stable")
    out = np.empty(len(first))
    out[order] = _uniqueness(first[order], last[order], codes[order], int(last.max()) + 1)
    return out


@njit()
def _uniqueness(
    first: NDArray[np.int64], last: NDArray[np.int64], codes: NDArray[np.int64], length: int
) -> NDArray[np.float64]:
    out = np.empty(len(first))
    concurrency = np.zeros(length + 1)
    shares = np.zeros(length + 1)
    begin = 0
    while begin < len(codes):
        stop = begin
        while stop < len(codes) and codes[stop] == codes[begin]:
            stop += 1
        concurrency[:] = 0.0
        for row in range(begin, stop):
            concurrency[first[row]] += 1.0
            concurrency[last[row] + 1] -= 1.0
        running, total = 0.0, 0.0
        for session in range(length):
            running += concurrency[session]
            shares[session] = total
            if running > 0.5:
                total += 1.0 / running
        shares[length] = total
        for row in range(begin, stop):
            out[row] = (shares[last[row] + 1] - shares[first[row]]) / (last[row] + 1 - first[row])
        begin = stop
    return out


def recency(session: NDArray[np.integer], half_life: float) -> NDArray[np.float64]:
    """`(R,)` weights that halve every `half_life` sessions before the last one, which weighs 1."""
    return np.asarray(0.5 ** ((session[-1] - session) / half_life)) if len(session) else np.empty(0)
