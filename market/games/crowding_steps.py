"""The game of trade crowding in steps of time, for groups of traders with preferences of their own.

A group k of weight w_k trades Q_k from E0_k in N steps of length h. Over a step at the rate v a trader pays
v times the price at its middle and kappa v^2; the price then moves by alpha mu h, mu being the mean rate
sum w_k v_k. Summed by parts, a trader maximises

    sum_n alpha mu_n h (Q_n + Q_{n+1}) / 2 - kappa (Q_{n+1} - Q_n)^2 / h  -  phi h sum' Q_n^2  -  A Q_N^2

with sum' counting the two ends half: a quadratic with a tridiagonal matrix. The equilibrium is the mean rate
to which the groups' best replies have that mean rate. Where impact is large, plain replies to replies swing
ever wider around it, so they are mixed over the last rounds (Anderson). The error against continuous time is
of the order h^2.

References
----------
Cardaliaguet, P. and Lehalle, C.-A. (2018). Mean field game of controls and an application to trade crowding.
Mathematics and Financial Economics 12 (heterogeneous preferences).
Walker, H. F. and Ni, P. (2011). Anderson acceleration for fixed-point iterations. SIAM Journal on Numerical
Analysis 49.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solveh_banded

from core.errors import ConfigError, ConvergenceError
from market.games.crowding import Array


@dataclass(frozen=True)
class Steps:
    """An equilibrium.

    Attributes
    ----------
    time
        `(N + 1,)` from 0 to the horizon.
    inventories
        `(K, N + 1)` of a trader of each group.
    crowd
        `(N + 1,)` mean inventory over the groups.
    rates
        `(N,)` mean rate over each step.
    iterations
        Best replies that were computed.
    """

    time: Array
    inventories: Array
    crowd: Array
    rates: Array
    iterations: int


def best_reply(
    rates: ArrayLike, initial: float, alpha: float, kappa: float, phi: float, terminal: float, horizon: float
) -> Array:
    """`(N + 1,)` inventory of a trader who knows the crowd's mean rates, `(N,)`, one a step."""
    mean = np.asarray(rates, dtype=np.float64)
    step = horizon / len(mean)
    bands = np.empty((2, len(mean)))
    bands[0] = -2 * kappa / step
    bands[1] = 4 * kappa / step + 2 * phi * step
    bands[1, -1] = 2 * kappa / step + phi * step + 2 * terminal
    gains = alpha * step / 2 * mean
    gains[:-1] += alpha * step / 2 * mean[1:]
    gains[0] += 2 * kappa / step * initial
    return np.append(initial, solveh_banded(bands, gains))


def solve_steps(
    initial: ArrayLike,
    phi: ArrayLike,
    terminal: ArrayLike,
    *,
    alpha: float,
    kappa: float,
    horizon: float,
    weights: ArrayLike = 1.0,
    steps: int = 400,
    memory: int = 20,
    tolerance: float = 1e-12,
    iterations: int = 500,
) -> Steps:
    """The equilibrium, by best replies to best replies until nobody would change.

    Parameters
    ----------
    initial, phi, terminal, weights
        A number, or `(K,)` one of each group; weights are scaled to sum to one.
    alpha, kappa, horizon
        As in `CrowdingGame`.
    memory
        Earlier rounds that a round is mixed with; 0: plain best replies.
    tolerance
        Largest gap between the mean inventory and that of the replies to it, over the largest initial one.

    Raises
    ------
    ConfigError
        A parameter is out of its range.
    ConvergenceError
        The gap is above the tolerance after `iterations`.
    """
    held, aversion, final, share = _checked(initial, phi, terminal, weights, alpha, kappa, horizon)
    if min(steps, memory + 1, iterations) < 1:
        raise ConfigError(
            f"crowding steps: steps {steps}, memory {memory}, iterations {iterations}: need at least 1, 0 and 1"
        )

    def replies_to(crowd: Array) -> Array:
        rates = np.diff(crowd) * (steps / horizon)
        preferences = zip(held, aversion, final, strict=True)
        return np.stack([best_reply(rates, own, alpha, kappa, p, a, horizon) for own, p, a in preferences])

    scale = max(float(np.abs(held).max()), np.finfo(float).tiny)
    crowd = np.full(steps + 1, float(share @ held))
    rounds: deque[tuple[Array, Array]] = deque(maxlen=memory + 1)
    for count in range(1, iterations + 1):
        replies = replies_to(crowd)
        mean = share @ replies
        gap = mean - crowd
        if np.abs(gap).max() <= tolerance * scale:
            time = np.linspace(0.0, horizon, steps + 1)
            return Steps(time, replies, mean, np.diff(mean) * (steps / horizon), count)
        rounds.append((mean, gap))
        crowd = _mixed(rounds)
    raise ConvergenceError(
        f"crowding steps: the replies are still {np.abs(gap).max() / scale:.3g} away after {iterations} iterations: "
        "allow more iterations, a longer memory or a larger tolerance"
    )


def _checked(
    initial: ArrayLike, phi: ArrayLike, terminal: ArrayLike, weights: ArrayLike, *market: float
) -> tuple[Array, ...]:
    """The groups' numbers as `(K,)`, weights summing to one."""
    try:
        arrays = (np.atleast_1d(np.asarray(values, float)) for values in (initial, phi, terminal, weights))
        groups = np.broadcast_arrays(*arrays)
    except ValueError as error:
        raise ConfigError(f"crowding steps: the groups' numbers differ in length ({error}): one each") from error
    alpha, kappa, horizon = market
    if not all(np.isfinite(values).all() for values in (*groups, np.array(market))):
        raise ConfigError("crowding steps: a parameter is not finite: give finite numbers")
    if alpha < 0 or kappa <= 0 or horizon <= 0 or min(values.min() for values in groups[1:]) < 0:
        raise ConfigError(
            f"crowding steps: alpha {alpha:g}, kappa {kappa:g}, horizon {horizon:g}: need kappa and horizon above 0, "
            "and alpha and the groups' phi, terminal and weights of at least 0"
        )
    if not groups[3].sum() > 0:
        raise ConfigError("crowding steps: the weights sum to 0: give one group a weight")
    return (*groups[:3], groups[3] / groups[3].sum())


def _mixed(rounds: Sequence[tuple[Array, Array]]) -> Array:
    """The next guess: the replies, mixed over the rounds so that their gaps would cancel as far as they can."""
    mean, gap = rounds[-1]
    if len(rounds) == 1:
        return mean
    means, gaps = (np.diff(np.stack(kind), axis=0).T for kind in zip(*rounds, strict=True))
    mixed: Array = mean - means @ np.linalg.lstsq(gaps, gap, rcond=None)[0]
    return mixed
