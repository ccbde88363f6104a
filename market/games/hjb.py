"""A game of very many equal players in one dimension, solved on a grid: each optimises, together they are the crowd.

A player moves by dX = (b(t, X, crowd) + a) dt + sigma dW and chooses a to minimise

    E[ integral_0^T kappa a^2 + running(t, X, crowd) dt + terminal(X, crowd_T) ].

The crowd is the density of X over all players and their mean control, both as they come out of that choice. Its value
u and density m solve the Hamilton-Jacobi-Bellman and the Fokker-Planck equation (Lasry and Lions 2007)

    u_t + sigma^2/2 u_xx + b u_x - u_x^2 / 4 kappa + running = 0,     u(T) = terminal,
    m_t - sigma^2/2 m_xx + ((b + a) m)_x = 0,  a = -u_x / 2 kappa,    m(0) = initial.

Both are discretised as the exact adjoint of each other (`scheme`); the crowd is found by Anderson-accelerated
best responses. A solution is returned only if the residuals of BOTH equations with the crowd that came out, not with
the one assumed, and the lost mass are within the tolerance. Where the game has several equilibria it is one of them.

Measured against closed forms, cells and steps refined together: with sigma > 0 and theta = 1/2 errors fall with order
2 once |b + a| h <= sigma^2 where players are, with sigma = 0 (upwind) or theta = 1 with order 1.

    systemic risk, sigma = 1:    curvature of u    5.7e-4, 1.4e-4, 3.5e-5 on 50, 100, 200 cells    order 2.00, 2.00
    trade crowding, sigma = 2:   mean inventory    1.3e-4, 3.3e-5 on 70, 140 cells                 order 1.95
    trade crowding, sigma = 0:   mean inventory    .045, .021, .009 on 48, 96, 192 cells           order 1.1, 1.2

References
----------
Lasry, J.-M. and Lions, P.-L. (2007). Mean field games. Japanese Journal of Mathematics 2.
Cardaliaguet, P. and Lehalle, C.-A. (2018). Mean field game of controls and an application to trade crowding.
Mathematics and Financial Economics 12: coupling through the mean control.
Achdou, Y. and Capuzzo-Dolcetta, I. (2010). Mean field games: numerical methods. SIAM Journal on Numerical Analysis 48.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError, ConvergenceError
from market.games.fixed_point import Anderson
from market.games.game import Crowd, Game
from market.games.scheme import Mesh, density_residual, solve_density, solve_value, value_residual

Array = NDArray[np.float64]

NEGATIVE = 1e-6
"""How far below 0 the midpoint step may leave a density, as a share of the greatest: beyond, steps are too long."""

Costs = tuple[Array, Array, Array]
"""Running cost and drift `(M, N)`, terminal cost `(N,)`."""


@dataclass(frozen=True)
class Solution:
    """An equilibrium on a mesh of N cells and M steps, and how well it solves the equations.

    Attributes
    ----------
    mesh
        Its `centres`, `times` and `middles` say where the values below are.
    value, density
        `(M + 1, N)` u and m at the times.
    control
        `(M, N)` a at the middles of the steps.
    crowd
        The crowd at the middles of the steps, K = M.
    mean
        `(M + 1,)` mean of the state at the times.
    value_residual, density_residual
        Greatest residual of each equation, times T: the first over cells, as a share of the greatest value; the second
        summed over cells, as a share of the mass.
    mass_error
        Greatest departure of the mass from 1.
    wall_mass
        Greatest share of the mass in the two cells at the walls: not negligible, the walls are part of the game.
    iterations
        Best responses computed.
    """

    mesh: Mesh
    value: Array
    density: Array
    control: Array
    crowd: Crowd
    mean: Array
    value_residual: float
    density_residual: float
    mass_error: float
    wall_mass: float
    iterations: int

    @property
    def error(self) -> float:
        """The greatest of the residuals and the mass error."""
        # Not max(), which may drop a NaN.
        return float(np.max([self.value_residual, self.density_residual, self.mass_error]))


def solve(
    game: Game,
    cells: int = 200,
    steps: int = 400,
    *,
    theta: float = 0.5,
    tolerance: float = 1e-8,
    iterations: int = 200,
    depth: int = 8,
    mixing: float = 1.0,
) -> Solution:
    """The crowd that is the best response to itself.

    Parameters
    ----------
    cells, steps
        Of the mesh.
    theta
        1/2: midpoint steps; 1: implicit Euler steps, less exact but never with a negative density.
    tolerance
        For the `error` of the solution.
    iterations
        Cap on the best responses computed.
    depth, mixing
        Of the acceleration, see `Anderson`; a smaller mixing damps.

    Raises
    ------
    ConfigError
        A parameter is out of range, or the game is not finite on the mesh.
    ConvergenceError
        The residuals stay above the tolerance, or steps are too long for a density that is not negative.
    """
    mesh = Mesh(game.low, game.high, cells, game.horizon, steps, theta)
    if not tolerance > 0 or iterations < 1:
        raise ConfigError(f"game: tolerance {tolerance}, iterations {iterations}: need both positive")
    start = game.start(mesh.centres, mesh.width)
    # One vector for the fixed point: masses within the steps and at the horizon, then the mean control, scaled so
    # that to cross the whole range in the whole horizon is 1.
    speed = (mesh.high - mesh.low) / mesh.horizon
    masses = (steps + 1) * cells
    guess = np.concatenate([np.tile(start * mesh.width, steps + 1), np.zeros(steps)])
    acceleration, best = Anderson(depth, mixing), np.inf
    for count in range(1, iterations + 1):
        within = _repair(mesh, guess[:masses].reshape(steps + 1, cells) / mesh.width)
        guess[:masses] = within.ravel() * mesh.width
        assumed = _costs(game, mesh, within, guess[masses:] * speed)
        solution, within = _respond(game, mesh, start, assumed, count)
        if solution.error <= tolerance:
            _check_sign(solution)
            return solution
        best = min(best, solution.error)
        image = np.concatenate([within.ravel() * mesh.width, solution.crowd.control[:, 0] / speed])
        guess = acceleration.propose(guess, image)
    raise ConvergenceError(
        f"game: after {count} best responses the residual of the value is {solution.value_residual:.2e}, that of the "
        f"density {solution.density_residual:.2e}, the mass error {solution.mass_error:.2e}; the best had {best:.2e}, "
        f"the tolerance is {tolerance:.0e}: lower mixing ({mixing}), raise depth ({depth}) or iterations, or shorten "
        "the horizon"
    )


def _respond(game: Game, mesh: Mesh, start: Array, costs: Costs, count: int) -> tuple[Solution, Array]:
    """Best response to given costs, judged by the costs of the crowd it makes; that crowd's density as in `_costs`."""
    cost, drift, terminal = costs
    value, control = solve_value(mesh, terminal, cost, drift, game.control_cost, game.sigma)
    density, middle = solve_density(mesh, start, drift + control, game.sigma)
    within = _repair(mesh, np.vstack([middle, density[-1:]]))
    flow = (middle * control).sum(axis=1) * mesh.width
    cost, drift, terminal = _costs(game, mesh, within, flow)
    scale = np.abs(value).max() or 1.0
    behind = value_residual(mesh, value, cost, drift, game.control_cost, game.sigma)
    ahead = density_residual(mesh, density, drift + control, game.sigma)
    solution = Solution(
        mesh=mesh,
        value=value,
        density=density,
        control=control,
        crowd=Crowd(middle, _mean(mesh, middle), flow[:, None]),
        mean=_mean(mesh, density)[:, 0],
        value_residual=float(max(np.abs(behind).max() * mesh.horizon, np.abs(terminal - value[-1]).max()) / scale),
        density_residual=float(np.abs(ahead).sum(axis=1).max() * mesh.width * mesh.horizon),
        mass_error=float(np.abs(density.sum(axis=1) * mesh.width - 1).max()),
        wall_mass=float((density[:, 0] + density[:, -1]).max() * mesh.width),
        iterations=count,
    )
    return solution, within


def _costs(game: Game, mesh: Mesh, density: Array, flow: Array) -> Costs:
    """Running cost, drift `(M, N)` and terminal cost `(N,)` under a crowd.

    `density` is `(M + 1, N)`, within each step and then at the horizon; `flow` the `(M,)` mean control.
    """
    within = Crowd(density[:-1], _mean(mesh, density[:-1]), flow[:, None])
    final = Crowd(density[-1:], _mean(mesh, density[-1:]), flow[-1:, None])
    times, last = mesh.middles[:, None], np.array([[mesh.horizon]])
    states = mesh.centres
    cost, drift = (game.evaluate(name, times, states, within) for name in ("running", "drift"))
    return cost, drift, game.evaluate("terminal", last, states, final)[0]


def _repair(mesh: Mesh, density: Array) -> Array:
    """The density that the players are shown: extrapolation and midpoint steps may leave it a little negative."""
    positive = np.maximum(density, 0.0)
    return positive / (positive.sum(axis=1, keepdims=True) * mesh.width)


def _mean(mesh: Mesh, density: Array) -> Array:
    return (density @ mesh.centres)[:, None] * mesh.width


def _check_sign(solution: Solution) -> None:
    density, mesh = solution.density, solution.mesh
    n, i = np.unravel_index(density.argmin(), density.shape)
    if density[n, i] < -NEGATIVE * density.max():
        raise ConvergenceError(
            f"game: the density is {density[n, i]:.2e} at time {mesh.times[n]:g}, state {mesh.centres[i]:g}: steps of "
            f"{mesh.step:g} are too long for theta {mesh.theta}: take more steps, or theta 1"
        )
