"""How many copies of a habit survive: the birth-death process, whose members multiply and die alone.

From n_0 members, each gives birth at rate b and dies at rate d whatever the others do. With r = b - d,

    E[n(t)] = n_0 e^{rt},   Var[n(t)] = n_0 (b + d) / r e^{rt} (e^{rt} - 1),
    P(n(t) = 0) = [d (e^{rt} - 1) / (b e^{rt} - d)]^{n_0},

with their limits n_0, 2 n_0 b t and (b t / (1 + b t))^{n_0} where b = d. All three broadcast their arguments, and are
computed without a difference that cancels where b is near d.

References
----------
Kendall, D. G. (1948). On the generalized "birth-and-death" process. Annals of Mathematical Statistics 19, 1-15.
Bailey, N. T. J. (1964). The Elements of Stochastic Processes. Wiley, section 8.6.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import DataError

Array = NDArray[np.float64]


def mean(births: ArrayLike, deaths: ArrayLike, count: ArrayLike, time: ArrayLike) -> Array:
    """Expected number of members.

    Parameters
    ----------
    births, deaths
        Rates b and d per member and unit of time, at least 0.
    count
        Members n_0 at time 0, at least 0.
    time
        t, at least 0.

    Raises
    ------
    DataError
        An argument is negative.
    """
    b, d, n, t = _checked(births, deaths, count, time)
    return np.asarray(n * np.exp((b - d) * t))


def variance(births: ArrayLike, deaths: ArrayLike, count: ArrayLike, time: ArrayLike) -> Array:
    """Variance of the number of members; arguments as for `mean`."""
    b, d, n, t = _checked(births, deaths, count, time)
    growth = np.exp((b - d) * t)
    # (e^{rt} - 1) / r is the integral of e^{rs} from 0 to t: e^{max(r, 0) t} times that of the decay e^{-|r|s}.
    return np.asarray(n * (b + d) * growth * np.exp(np.maximum(b - d, 0.0) * t) * _decayed(b - d, t))


def extinction(births: ArrayLike, deaths: ArrayLike, count: ArrayLike, time: ArrayLike) -> Array:
    """Probability that no member is left at time t; arguments as for `mean`."""
    b, d, n, t = _checked(births, deaths, count, time)
    # With h the integral of e^{-|r|s}, the base is d h / (1 + min(b, d) h): no term overflows or cancels.
    h = _decayed(b - d, t)
    # A certain end may round to the number above 1.
    return np.asarray(np.minimum(d * h / (1.0 + np.minimum(b, d) * h), 1.0) ** n)


def _decayed(r: Array, t: Array) -> Array:
    """Integral of e^{-|r|s} from 0 to t."""
    speed = np.abs(r)
    return np.where(speed > 0, -np.expm1(-speed * t) / np.where(speed > 0, speed, 1.0), t)


def _checked(births: ArrayLike, deaths: ArrayLike, count: ArrayLike, time: ArrayLike) -> tuple[Array, ...]:
    values = {"births": births, "deaths": deaths, "count": count, "time": time}
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
    for name, value in arrays.items():
        if (value < 0).any():
            raise DataError(f"branching: {name} {value[value < 0][0]}: give at least 0")
    return tuple(arrays.values())
