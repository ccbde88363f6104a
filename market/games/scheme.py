"""Finite differences of a controlled diffusion in one dimension: its value backward, its density forward.

A state moves by dX = (b + a) dt + sigma dW between two walls; the control a costs kappa a^2. On cells of width h it
is replaced by a Markov chain that jumps to the neighbours at the rates, with v = b + a,

    up = max(v / h, (sigma^2 / h + v) / 2h, 0)        down = max(-v / h, (sigma^2 / h - v) / 2h, 0):

central differences (order 2) where |v| h <= sigma^2, upwind ones (order 1) elsewhere, so everywhere with sigma = 0.
These are the rates with the least artificial diffusion that are never negative: the scheme is monotone. The walls
reflect. With the chain's generator A(a) and t_n = n dt,

    (u_{n+1} - u_n) / dt + min_a [A(a) w_n + kappa a^2] + cost_n = 0,        w_n = theta u_n + (1 - theta) u_{n+1},
    (m_{n+1} - m_n) / dt = A(a_n)' p_n,                                      p_n = theta m_{n+1} + (1 - theta) m_n.

The second is the exact adjoint of the first: what the crowd does is what its members' value assumes, and mass is
conserved to rounding. theta = 1 is the implicit Euler step: order 1 in time and never negative. theta = 1/2 is the
midpoint step: order 2 in time, never negative where dt times the rate out of a cell is at most 2, and in practice
where the density is smooth on the scale of a cell.

References
----------
Achdou, Y. and Capuzzo-Dolcetta, I. (2010). Mean field games: numerical methods. SIAM Journal on Numerical Analysis
48(3): the adjoint pair of monotone schemes.
Kushner, H. and Dupuis, P. (2001). Numerical Methods for Stochastic Control Problems in Continuous Time, chapter 5:
rates of the approximating chain. Policies are iterated within a step (Howard).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError
from core.jit import compiled

Array = NDArray[np.float64]


POLICIES = 60
"""Cap on the policies tried within a step; a few suffice. One not settled by then shows in the residual."""


@dataclass(frozen=True)
class Mesh:
    """Cells between two walls, and steps up to a horizon.

    Attributes
    ----------
    low, high
        The walls.
    cells
        N cells of equal width.
    horizon
        T.
    steps
        M steps of equal length.
    theta
        Weight of the implicit end of a step: 1 (implicit Euler) to 1/2 (midpoint).

    Raises
    ------
    ConfigError
        A number is out of range.
    """

    low: float
    high: float
    cells: int
    horizon: float
    steps: int
    theta: float = 0.5

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high and 0 < self.horizon < np.inf):
            raise ConfigError(
                f"mesh: from {self.low} to {self.high} over {self.horizon}: need low < high and a positive horizon, "
                "all finite"
            )
        if self.cells < 3 or self.steps < 1 or not 0.5 <= self.theta <= 1:
            raise ConfigError(
                f"mesh: cells {self.cells}, steps {self.steps}, theta {self.theta}: need 3 cells, a step and theta "
                "from 1/2 to 1"
            )

    @property
    def width(self) -> float:
        """Width h of a cell."""
        return (self.high - self.low) / self.cells

    @property
    def step(self) -> float:
        """Length dt of a step."""
        return self.horizon / self.steps

    @property
    def spacing(self) -> tuple[float, float, float]:
        """h, dt and theta."""
        return float(self.width), float(self.step), float(self.theta)

    @property
    def centres(self) -> Array:
        """`(N,)` middles of the cells."""
        return self.low + self.width * (np.arange(self.cells, dtype=np.float64) + 0.5)

    @property
    def times(self) -> Array:
        """`(M + 1,)` times of value and density."""
        return self.step * np.arange(self.steps + 1, dtype=np.float64)

    @property
    def middles(self) -> Array:
        """`(M,)` middles of the steps, times of the control."""
        return self.step * (np.arange(self.steps, dtype=np.float64) + 0.5)


def solve_value(
    mesh: Mesh, terminal: Array, cost: Array, drift: Array, control_cost: float, sigma: float
) -> tuple[Array, Array]:
    """Least expected cost from each cell and time, and the control that attains it.

    Parameters
    ----------
    terminal
        `(N,)` cost at the horizon.
    cost, drift
        `(M, N)` running cost per unit of time without that of the control, and b, at the middles of the steps.
    control_cost
        kappa > 0.
    sigma
        Volatility of the state, at least 0.

    Returns
    -------
    `(M + 1, N)` value and `(M, N)` control.
    """
    value = np.empty((mesh.steps + 1, mesh.cells))
    control = np.empty((mesh.steps, mesh.cells))
    value[-1] = terminal
    scalars = float(control_cost), float(sigma) ** 2, *mesh.spacing
    _backward(_plain(cost), _plain(drift), *scalars, value, control)
    return value, control


def solve_density(mesh: Mesh, start: Array, velocity: Array, sigma: float) -> tuple[Array, Array]:
    """Density of a crowd that moves with a given velocity.

    Parameters
    ----------
    start
        `(N,)` density at time 0.
    velocity
        `(M, N)` drift plus control at the middles of the steps.

    Returns
    -------
    `(M + 1, N)` density m_n at the times and `(M, N)` p_n within the steps.
    """
    density = np.empty((mesh.steps + 1, mesh.cells))
    within = np.empty((mesh.steps, mesh.cells))
    density[0] = start
    _forward(_plain(velocity), float(sigma) ** 2, *mesh.spacing, density, within)
    return density, within


def value_residual(mesh: Mesh, value: Array, cost: Array, drift: Array, control_cost: float, sigma: float) -> Array:
    """`(M, N)` left-hand side of the equation of the value, the control being the best for that value."""
    mixed = mesh.theta * value[:-1] + (1 - mesh.theta) * value[1:]
    least = np.empty_like(mixed)
    _hamiltonian(mixed, _plain(drift), float(control_cost), float(sigma) ** 2, mesh.width, least)
    return np.diff(value, axis=0) / mesh.step + least + cost


def density_residual(mesh: Mesh, density: Array, velocity: Array, sigma: float) -> Array:
    """`(M, N)` difference of the two sides of the equation of the density."""
    mixed = mesh.theta * density[1:] + (1 - mesh.theta) * density[:-1]
    up, down = _rates(velocity, sigma**2, mesh.width)
    across = up[:, :-1] * mixed[:, :-1] - down[:, 1:] * mixed[:, 1:]
    return np.diff(density, axis=0) / mesh.step + np.diff(across, axis=1, prepend=0.0, append=0.0)


def _plain(values: Array) -> Array:
    """The kind of array that the kernels are compiled for: another, even a read-only one, would compile them anew."""
    return np.require(values, np.float64, ["C", "W"])


def _rates(velocity: Array, variance: float, h: float) -> tuple[Array, Array]:
    up, down = (np.maximum(np.maximum(v / h, (variance / h + v) / (2 * h)), 0.0) for v in (velocity, -velocity))
    return up, down


@compiled
def _jump(v, variance, h):
    """Rate of jumps to the side where v points."""
    return max(v / h, (variance / h + v) / (2 * h), 0.0)


@compiled
def _charge(a, up, down, drift, kappa, variance, h):
    """A(a) w + kappa a^2 of a cell, `up` and `down` being the differences of w to its neighbours."""
    v = drift + a
    return _jump(v, variance, h) * up + _jump(-v, variance, h) * down + kappa * a * a


@compiled
def _choose(up, down, drift, kappa, variance, h):
    """The control with the least charge: the best where differences are central, upward, or downward."""
    edge = variance / h
    best = min(max(drift - (up - down) / (4 * h * kappa), -edge), edge) - drift
    least = _charge(best, up, down, drift, kappa, variance, h)
    upward = max(drift - up / (2 * h * kappa), edge) - drift
    downward = min(drift + down / (2 * h * kappa), -edge) - drift
    for a in (upward, downward):
        charge = _charge(a, up, down, drift, kappa, variance, h)
        if charge < least:
            best, least = a, charge
    return best


@compiled
def _differences(w, i):
    """Of w from cell i to the one above and the one below; none across a wall."""
    up = w[i + 1] - w[i] if i + 1 < len(w) else 0.0
    down = w[i - 1] - w[i] if i > 0 else 0.0
    return up, down


@compiled
def _hamiltonian(mixed, drift, kappa, variance, h, out):
    for n in range(mixed.shape[0]):
        for i in range(mixed.shape[1]):
            up, down = _differences(mixed[n], i)
            a = _choose(up, down, drift[n, i], kappa, variance, h)
            out[n, i] = _charge(a, up, down, drift[n, i], kappa, variance, h)


@compiled
def _solve(below, diagonal, above, right, out):
    """Thomas algorithm; overwrites `above` and `right`. Matrices here need no pivots: they are M-matrices."""
    last = len(out) - 1
    for i in range(last + 1):
        pivot = diagonal[i] - (below[i] * above[i - 1] if i > 0 else 0.0)
        above[i] /= pivot
        right[i] = (right[i] - (below[i] * right[i - 1] if i > 0 else 0.0)) / pivot
    out[last] = right[last]
    for i in range(last - 1, -1, -1):
        out[i] = right[i] - above[i] * out[i + 1]


@compiled
def _backward(cost, drift, kappa, variance, h, dt, theta, value, control):
    steps, cells = cost.shape
    below, diagonal, above, right = np.empty(cells), np.empty(cells), np.empty(cells), np.empty(cells)
    mixed, last = np.empty(cells), np.empty(cells)
    span = theta * dt
    for n in range(steps - 1, -1, -1):
        # With w for u_n the step is an implicit Euler step of length theta dt, whatever theta is.
        later = value[n + 1]
        mixed[:] = later
        for _ in range(POLICIES):
            last[:] = mixed
            for i in range(cells):
                up, down = _differences(mixed, i)
                a = _choose(up, down, drift[n, i], kappa, variance, h)
                v = drift[n, i] + a
                above[i] = -span * _jump(v, variance, h) if i + 1 < cells else 0.0
                below[i] = -span * _jump(-v, variance, h) if i > 0 else 0.0
                diagonal[i] = 1 - above[i] - below[i]
                right[i] = later[i] + span * (kappa * a * a + cost[n, i])
                control[n, i] = a
            _solve(below, diagonal, above, right, mixed)
            if np.abs(mixed - last).max() <= 1e-12 * np.abs(mixed).max():
                break
        for i in range(cells):
            value[n, i] = (mixed[i] - (1 - theta) * later[i]) / theta


@compiled
def _forward(velocity, variance, h, dt, theta, density, within):
    steps, cells = velocity.shape
    below, diagonal, above, right = np.empty(cells), np.empty(cells), np.empty(cells), np.empty(cells)
    span = theta * dt
    for n in range(steps):
        for i in range(cells):
            up = span * _jump(velocity[n, i], variance, h) if i + 1 < cells else 0.0
            down = span * _jump(-velocity[n, i], variance, h) if i > 0 else 0.0
            diagonal[i] = 1 + up + down
            # What leaves a cell enters its neighbours: the rates stand in columns here, in rows backward.
            if i + 1 < cells:
                below[i + 1] = -up
            if i > 0:
                above[i - 1] = -down
        below[0] = above[cells - 1] = 0.0
        right[:] = density[n]
        _solve(below, diagonal, above, right, within[n])
        for i in range(cells):
            density[n + 1, i] = (within[n, i] - (1 - theta) * density[n, i]) / theta
