"""Who trades how, and who leaves: a mean-field game of entry and exit among finitely many ways to trade.

Each of many small traders is in one of K states and chooses the rate a_ij at which to change from i to j for the cost
kappa a_ij^2 / 2 of switching. Being in state i costs b_i + c_i theta_i per unit of time, theta_i being the share of
traders there: with c_i > 0 a crowded state costs more. With the cost to go u_i, the best rates are
(u_i - u_j)^+ / kappa and the equilibrium solves

    -u_i' = b_i + c_i theta_i - 1/(2 kappa) sum_j ((u_i - u_j)^+)^2,                         u(T) = 0,
    theta_i' = sum_j theta_j (u_j - u_i)^+ / kappa - theta_i sum_j (u_i - u_j)^+ / kappa,    theta(0) given.

Traders look ahead over the whole horizon, but they know only what the arguments tell: a game whose b and theta(0) are
known at a session's close may make a signal for it.

References
----------
Gomes, D. A., Mohr, J. and Souza, R. R. (2013). Continuous time finite state mean field games. Applied Mathematics
and Optimization 68, 99-143: the initial-terminal value problem, with the quadratic cost of switching of its examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, ConvergenceError, DataError
from market.games.collocation import FRESH, INACCURATE, SOLVED, solve_batch

Array = NDArray[np.float64]

STATES = ("passive", "momentum", "contrarian", "exited")
"""The states of the game of traders, in the order of their columns; the solver takes any number."""


@dataclass(frozen=True)
class Equilibrium:
    """The equilibrium of one game, or of M games along a first axis.

    Attributes
    ----------
    times
        `(n + 1,)` from 0 to the horizon, evenly spaced.
    theta
        `(..., n + 1, K)` shares of the traders: at least 0, with the sum of theta(0).
    u
        `(..., n + 1, K)` cost to go from each state.
    invariant
        `(...)` sum_i (b_i theta_i + c_i theta_i^2 / 2) - 1/(2 kappa) sum_i theta_i sum_j ((u_i - u_j)^+)^2, which is
        the same at all times.
    drift
        `(...)` span of the invariant of the computed solution, relative to its largest term where the least b is 0.
    switching
        The cost of switching kappa.
    """

    times: Array
    theta: Array
    u: Array
    invariant: Array
    drift: Array
    switching: float

    @property
    def flows(self) -> Array:
        """`(..., n + 1, K)` theta', net flow into each state per unit of time."""
        return flows(self.theta, self.u, self.switching)

    @property
    def regret(self) -> Array:
        """`(..., n + 1)` max u - min u: what the worst placed traders would give to be placed best."""
        return self.u.max(axis=-1) - self.u.min(axis=-1)

    def theta_at(self, time: float) -> Array:
        """`(..., K)` shares at a time, on the cubic through the neighbouring points with the slopes there.

        Raises
        ------
        ConfigError
            The time lies outside the horizon.
        """
        if not 0 <= time <= self.times[-1]:
            raise ConfigError(f"entry and exit: time {time}: choose one from 0 to the horizon {self.times[-1]}")
        k = min(int(np.searchsorted(self.times, time, side="right")) - 1, len(self.times) - 2)
        h = self.times[k + 1] - self.times[k]
        s = (time - self.times[k]) / h
        pair = slice(k, k + 2)
        theta, slope = self.theta[..., pair, :], flows(self.theta[..., pair, :], self.u[..., pair, :], self.switching)
        return (
            (1 + 2 * s) * (1 - s) ** 2 * theta[..., 0, :]
            + s**2 * (3 - 2 * s) * theta[..., 1, :]
            + h * s * (1 - s) ** 2 * slope[..., 0, :]
            - h * s**2 * (1 - s) * slope[..., 1, :]
        )


def solve(
    b: ArrayLike,
    c: ArrayLike,
    theta0: ArrayLike,
    horizon: float,
    *,
    switching: float = 1.0,
    steps: int = 40,
    halvings: int = 7,
    tolerance: float = 1e-5,
) -> Equilibrium:
    """The equilibrium of one game: `solve_many` of it alone.

    Parameters
    ----------
    b, c, theta0
        `(K,)` each.

    Raises
    ------
    DataError
        The shapes do not fit, an entry is not finite, or `theta0` is no set of shares.
    ConfigError, ConvergenceError
        As `solve_many` says.
    """
    rows = [np.asarray(value, dtype=np.float64) for value in (b, c, theta0)]
    if not all(row.ndim == 1 and np.isfinite(row).all() for row in rows):
        raise DataError(
            f"entry and exit: b {rows[0].tolist()}, c {rows[1].tolist()} and theta0 {rows[2].tolist()}: give three "
            "finite rows, one entry a state"
        )
    found = solve_many(
        rows[0][None], rows[1], rows[2][None], horizon, switching=switching, steps=steps, halvings=halvings,
        tolerance=tolerance,
    )  # fmt: skip
    return Equilibrium(found.times, found.theta[0], found.u[0], found.invariant[0], found.drift[0], switching)


def solve_many(
    b: ArrayLike,
    c: ArrayLike,
    theta0: ArrayLike,
    horizon: float,
    *,
    switching: float = 1.0,
    steps: int = 40,
    halvings: int = 7,
    tolerance: float = 1e-5,
) -> Equilibrium:
    """The equilibria of M games, each by itself: its bits do not depend on the games beside it.

    Parameters
    ----------
    b
        `(M, K)` running cost of each state, per unit of time; pay-offs are negative costs.
    c
        `(K,)` or `(M, K)` cost of crowding, above 0: so the equilibrium is unique.
    theta0
        `(M, K)` shares of the traders at time 0.
    horizon
        T, in units of time.
    switching
        kappa, above 0.
    steps
        Steps of the mesh that is returned. The mesh of the solver is finer where a game needs it.
    halvings
        How often at most the solver halves it.
    tolerance
        Largest drift of the invariant, relative to its largest term where the least b is 0. The error of theta is of
        about that size.

    Returns
    -------
    The equilibria; all NaN for a game with an entry that is not finite.

    Raises
    ------
    ConfigError
        A parameter is out of range.
    DataError
        The shapes do not fit, or a row of `theta0` is no set of shares.
    ConvergenceError
        A game has no solution whose invariant holds.
    """
    if not 0 < horizon < np.inf or not 0 < switching < np.inf or steps < 1 or halvings < 0 or not tolerance > 0:
        raise ConfigError(
            f"entry and exit: horizon {horizon}, switching {switching}, steps {steps}, halvings {halvings}, tolerance "
            f"{tolerance}: need a finite horizon and switching above 0, steps of at least 1, halvings of at least 0 "
            "and a tolerance above 0"
        )
    costs, crowding, shares = _games(b, c, theta0)
    # A cost that every state shares moves nobody: without it the invariant has no large terms that cancel.
    common = costs.min(axis=1, keepdims=True)
    count, states = costs.shape
    theta, v = np.full((2, count, steps + 1, states), np.nan)
    constant, drift = np.full((2, count), np.nan)
    known = np.isfinite(costs + crowding + shares).all(axis=1)
    status = np.where(known, FRESH, SOLVED)
    solve_batch(
        (costs - common) / switching, crowding / switching, shares, float(horizon), steps, halvings, tolerance,
        theta, v, constant, drift, status,
    )  # fmt: skip
    bad = np.flatnonzero(status != SOLVED)
    if len(bad):
        row = int(bad[0])
        fault = (
            f"the invariant drifts by {drift[row]:.1e} against a tolerance of {tolerance:.1e} or a share is negative"
            if status[row] == INACCURATE
            else "Newton's method finds no solution"
        )
        raise ConvergenceError(
            f"entry and exit: game {row} of {count}: {fault} on {steps * 2**halvings} steps: shorten the horizon "
            f"{horizon}, raise the cost of switching {switching}, or allow more steps or halvings"
        )
    times = np.linspace(0.0, horizon, steps + 1)
    left = (horizon - times)[:, None]
    u = switching * v + common[:, :, None] * left
    total = switching * constant + common[:, 0] * _sum(shares)
    return Equilibrium(times, np.maximum(theta, 0.0), u, total, drift, switching)


def stationary(b: ArrayLike, c: ArrayLike) -> tuple[Array, Array]:
    """Shares at which nobody wants to move in the long run, and the cost per unit of time that all then bear.

    Where every state is used, theta_i = (level - b_i) / c_i with the level at which they sum to one. A state that costs
    more than the level even where it is empty is empty.

    Parameters
    ----------
    b, c
        `(..., K)`, c above 0; they are broadcast.

    Returns
    -------
    `(..., K)` shares and `(...)` levels; NaN where an entry is not finite.

    Raises
    ------
    ConfigError
        A crowding is not above 0.
    """
    costs, crowding = np.broadcast_arrays(np.asarray(b, np.float64), np.asarray(c, np.float64))
    _check_crowding(crowding)
    known = np.isfinite(costs).all(axis=-1) & np.isfinite(crowding).all(axis=-1)
    order = np.argsort(costs, axis=-1, kind="stable")
    sorted_costs = np.take_along_axis(costs, order, axis=-1)
    weight = np.take_along_axis(1.0 / crowding, order, axis=-1)
    # Filled from the cheapest state on, the level is the least over the sets of cheapest states.
    level = ((1.0 + np.cumsum(weight * sorted_costs, axis=-1)) / np.cumsum(weight, axis=-1)).min(axis=-1)
    level = np.where(known, level, np.nan)
    return np.maximum(level[..., None] - costs, 0.0) / crowding, level


def rates(u: ArrayLike, switching: float = 1.0) -> Array:
    """`(..., K, K)` best rates (u_i - u_j)^+ / kappa of changing from state i (row) to j, per unit of time."""
    cost = np.asarray(u, dtype=np.float64)
    return np.maximum(cost[..., :, None] - cost[..., None, :], 0.0) / switching


def flows(theta: ArrayLike, u: ArrayLike, switching: float = 1.0) -> Array:
    """`(..., K)` net flow of traders into each state per unit of time, from their shares and costs to go."""
    moves = np.asarray(theta, dtype=np.float64)[..., :, None] * rates(u, switching)
    return _sum(np.swapaxes(moves, -1, -2)) - _sum(moves)


def _sum(values: Array) -> Array:
    """Sum over the last axis from its first entry on: in the same order whatever the other axes are."""
    total = values[..., 0]
    for j in range(1, values.shape[-1]):
        total = total + values[..., j]
    return total


def _check_crowding(c: Array) -> None:
    if (c <= 0).any():
        raise ConfigError(
            f"entry and exit: crowding {c[c <= 0][0]}: choose c above 0, or the equilibrium is not unique"
        )


def _games(b: ArrayLike, c: ArrayLike, theta0: ArrayLike) -> tuple[Array, Array, Array]:
    """The three arguments as contiguous `(M, K)` arrays, checked."""
    given = (np.asarray(value, dtype=np.float64) for value in (b, c, theta0))
    costs, crowding, shares = (np.where(np.isfinite(value), value, np.nan) for value in given)
    if costs.ndim != 2 or costs.shape[1] < 2 or shares.shape != costs.shape:
        raise DataError(
            f"entry and exit: b of shape {costs.shape} and theta0 of shape {shares.shape}: give (M, K) each, K at "
            "least 2"
        )
    if crowding.shape not in (costs.shape, costs.shape[1:]):
        raise DataError(f"entry and exit: c of shape {crowding.shape}: give {costs.shape[1:]} or {costs.shape}")
    _check_crowding(crowding)
    bad = np.flatnonzero((shares < 0).any(axis=1) | (np.abs(_sum(shares) - 1.0) > 1e-9))
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"entry and exit: theta0 of game {row} is {shares[row].tolist()}: give shares of at least 0 that sum to 1"
        )
    return tuple(np.ascontiguousarray(value) for value in (costs, np.broadcast_to(crowding, costs.shape), shares))  # type: ignore[return-value]
