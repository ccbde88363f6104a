"""A finite-state mean-field game as a two-point boundary value problem, by collocation and Newton's method.

The unknown is y = (theta, v) of `market.games.equations`, with theta(0) and v(T) given. On every step of a uniform mesh
a cubic meets the equations at both ends and in the middle (the Hermite-Simpson or Lobatto IIIA rule, order 4). One end
fixes theta and the other v, so a Newton step solves its linear equations by a sweep backwards, dv_k = P_k dtheta_k +
p_k, and one forwards: the sweep of a linear-quadratic control problem, which is stable where shooting is not. The
invariant of the equations is nothing that the rule knows about: its drift tells the error of a solution, and the mesh
is halved until it is small.

Each problem is solved by itself, by scalar loops in a fixed order: its result has the same bits whatever
stands beside it.

References
----------
Kierzenka, J. and Shampine, L. F. (2001). A BVP solver based on residual control and the MATLAB PSE. ACM Transactions
on Mathematical Software 27.
Ascher, U., Mattheij, R. and Russell, R. (1995). Numerical Solution of Boundary Value Problems for Ordinary
Differential Equations. SIAM, sections 4.4 and 6.2.
"""

from __future__ import annotations

import numpy as np

from core.jit import compiled
from market.games.equations import drifts, field, field_jacobian

FRESH, SOLVED, NO_ROOT, INACCURATE = 0, 1, 2, 3
"""A problem not yet tried, and how one ended: well; Newton's method found no root; on the finest mesh the invariant
still drifts or a mass is negative."""

ITERATIONS = 50
"""Newton steps of one horizon on one mesh."""
RESIDUAL = 1e-11
"""Largest error of a collocation equation that ends Newton's method, relative to the largest unknown (at least 1)."""
LEAST_DAMPING = 1e-4
"""Part of a Newton step at which the method has stalled."""
SHORTEST = 1.0 / 256
"""Least step of the continuation, as a share of the horizon."""
SLACK = 1e-9
"""How far below zero an accepted mass may lie."""


@compiled
def solve_batch(b, c, theta0, horizon, steps, halvings, tolerance, theta, v, constant, drift, status):
    """Fill the solutions of M problems.

    Parameters
    ----------
    b, c, theta0
        `(M, K)`.
    steps, halvings
        Steps of the first mesh, and how often at most they are halved.
    tolerance
        Largest accepted drift of the invariant.
    theta, v
        Out: `(M, steps + 1, K)` on the first mesh; left as they are where there is no solution.
    constant, drift
        Out: `(M,)` invariant at time 0, and its span over the mesh relative to its largest term.
    status
        Out: `(M,)` SOLVED, NO_ROOT or INACCURATE. A problem that is not FRESH before is passed over.
    """
    states = b.shape[1]
    for m in range(len(b)):
        if status[m] != FRESH:
            continue
        stride, found, refined = 1, False, False
        y = np.empty((0, 2 * states))
        while status[m] == FRESH:
            y = _halved(b[m], c[m], horizon, y) if found else np.empty((stride * steps + 1, 2 * states))
            found = _continued(b[m], c[m], theta0[m], horizon, y, found)
            if found:
                constant[m], drift[m], least = drifts(b[m], c[m], y)
                refined = drift[m] <= tolerance and least >= -SLACK
            if refined:
                status[m] = SOLVED
            elif stride >= 2**halvings:
                status[m] = INACCURATE if found else NO_ROOT
            else:
                stride *= 2
        if refined:
            for k in range(steps + 1):
                for i in range(states):
                    theta[m, k, i] = y[k * stride, i]
                    v[m, k, i] = y[k * stride, states + i]


@compiled
def _guess(b, c, theta0, horizon, y):
    """Fill y as if nobody moved and every state cost until the end what it costs at first."""
    steps, states = len(y) - 1, len(b)
    for k in range(steps + 1):
        for i in range(states):
            y[k, i] = theta0[i]
            y[k, states + i] = (b[i] + c[i] * theta0[i]) * horizon * (steps - k) / steps


@compiled
def _continued(b, c, theta0, horizon, y, begun):
    """Fill y by Newton's method, from y itself where that is begun; where it fails, from those of shorter horizons."""
    states = len(b)
    last = np.empty_like(y)
    done, step = 0.0, 1.0
    while done < 1.0:
        share = min(1.0, done + step)
        if done == 0.0 and not (begun and step == 1.0):
            _guess(b, c, theta0, share * horizon, y)
        elif done > 0.0:
            # What is left to pay grows with the horizon: the longer one begins from the scaled costs.
            for k in range(len(y)):
                for i in range(states):
                    y[k, i] = last[k, i]
                    y[k, states + i] = last[k, states + i] * share / done
        if _newton(b, c, share * horizon, y):
            _add(y, 0.0, y, last)
            done = share
            step *= 2.0
        else:
            step /= 2.0
            if step < SHORTEST:
                return False
    return True


@compiled
def _newton(b, c, horizon, y):
    """Solve the collocation equations from y, in place; False where the method stalls.

    The equations are piecewise smooth: a step that does not bring their error down is halved.
    """
    count, size = len(y) - 1, y.shape[1]
    f = np.empty((count + 1, size))
    jacobian = np.empty((count + 1, size, size))
    residual = np.empty((count, size))
    step = np.empty_like(y)
    trial = np.empty_like(y)
    error = _residuals(b, c, horizon, y, f, residual)
    for _ in range(ITERATIONS):
        if error <= RESIDUAL:
            return True
        _newton_step(b, c, horizon, y, f, jacobian, residual, step)
        damping = 1.0
        while True:
            _add(y, damping, step, trial)
            new = _residuals(b, c, horizon, trial, f, residual)
            if new < (1.0 - 0.1 * damping) * error:
                break
            damping *= 0.5
            if damping < LEAST_DAMPING:
                return False
        _add(trial, 0.0, trial, y)
        error = new
    return False


@compiled
def _add(y, factor, step, out):
    """Fill out with y + factor step."""
    for k in range(y.shape[0]):
        for i in range(y.shape[1]):
            out[k, i] = y[k, i] + factor * step[k, i]


@compiled
def _middle(left, right, f_left, f_right, h, out):
    """Middle of the cubic through two points with the slopes there."""
    for i in range(len(left)):
        out[i] = 0.5 * (left[i] + right[i]) + 0.125 * h * (f_left[i] - f_right[i])


@compiled
def _residuals(b, c, horizon, y, f, residual):
    """Fill y' on the mesh and the errors of the equations; return the largest, relative to the largest unknown."""
    count, size = residual.shape
    h = horizon / count
    middle, f_middle = np.empty(size), np.empty(size)
    for k in range(count + 1):
        field(b, c, y[k], f[k])
    largest, scale = 0.0, 1.0
    for k in range(count):
        _middle(y[k], y[k + 1], f[k], f[k + 1], h, middle)
        field(b, c, middle, f_middle)
        for i in range(size):
            residual[k, i] = y[k + 1, i] - y[k, i] - h / 6.0 * (f[k, i] + 4.0 * f_middle[i] + f[k + 1, i])
            # A maximum would pass over what is not a number.
            if not np.isfinite(residual[k, i]):
                return np.inf
            largest = max(largest, abs(residual[k, i]))
            scale = max(scale, abs(y[k, i]))
    return largest / scale


@compiled
def _newton_step(b, c, horizon, y, f, jacobian, residual, step):
    """Fill the Newton step, with f and the residuals at y given: eliminate backwards, substitute forwards."""
    count, size = residual.shape
    states = size // 2
    h = horizon / count
    middle = np.empty(size)
    at_middle, left, right = np.empty((size, size)), np.empty((size, size)), np.empty((size, size))
    system = np.empty((size, size + states + 1))
    # Of each step, dv(k) and dtheta(k + 1) as an affine function of dtheta(k).
    slopes, shifts = np.empty((count, size, states)), np.empty((count, size))
    nothing, still = np.zeros((size, states)), np.zeros(size)
    for k in range(count + 1):
        field_jacobian(c, y[k], jacobian[k])
    for k in range(count - 1, -1, -1):
        # Upper parts: P and p of the right end.
        P, p = (slopes[k + 1], shifts[k + 1]) if k + 1 < count else (nothing, still)
        _middle(y[k], y[k + 1], f[k], f[k + 1], h, middle)
        field_jacobian(c, middle, at_middle)
        _step_matrices(jacobian[k], jacobian[k + 1], at_middle, h, left, right)
        for i in range(size):
            for j in range(states):
                system[i, j] = left[i, states + j]
                total = right[i, j]
                for a in range(states):
                    total += right[i, states + a] * P[a, j]
                system[i, states + j] = total
                system[i, size + j] = -left[i, j]
            total = -residual[k, i]
            for a in range(states):
                total -= right[i, states + a] * p[a]
            system[i, size + states] = total
        _eliminate(system)
        for i in range(size):
            for j in range(states):
                slopes[k, i, j] = system[i, size + j]
            shifts[k, i] = system[i, size + states]
    for i in range(states):
        step[0, i] = 0.0
        step[count, states + i] = 0.0
    for k in range(count):
        for i in range(size):
            total = shifts[k, i]
            for a in range(states):
                total += slopes[k, i, a] * step[k, a]
            if i < states:
                step[k, states + i] = total
            else:
                step[k + 1, i - states] = total


@compiled
def _step_matrices(j_left, j_right, j_middle, h, left, right):
    """Derivatives of a step's equations by its two ends."""
    size = len(j_left)
    for i in range(size):
        for j in range(size):
            a, z = 0.5 * j_middle[i, j], 0.5 * j_middle[i, j]
            for m in range(size):
                a += 0.125 * h * j_middle[i, m] * j_left[m, j]
                z -= 0.125 * h * j_middle[i, m] * j_right[m, j]
            left[i, j] = -h / 6.0 * (j_left[i, j] + 4.0 * a)
            right[i, j] = -h / 6.0 * (j_right[i, j] + 4.0 * z)
        left[i, i] -= 1.0
        right[i, i] += 1.0


@compiled
def _eliminate(system):
    """Turn (A | B) into (I | A^-1 B) by Gauss-Jordan elimination with row exchanges."""
    size, width = system.shape
    for j in range(size):
        pivot = j
        for i in range(j + 1, size):
            if abs(system[i, j]) > abs(system[pivot, j]):
                pivot = i
        if pivot != j:
            for m in range(j, width):
                system[j, m], system[pivot, m] = system[pivot, m], system[j, m]
        inverse = 1.0 / system[j, j]
        for m in range(j, width):
            system[j, m] *= inverse
        for i in range(size):
            factor = system[i, j]
            if i != j and factor != 0.0:
                for m in range(j, width):
                    system[i, m] -= factor * system[j, m]


@compiled
def _halved(b, c, horizon, y):
    """The solution on a mesh of half the step: its cubics at their middles."""
    count, size = len(y) - 1, y.shape[1]
    out = np.empty((2 * count + 1, size))
    f_left, f_right = np.empty(size), np.empty(size)
    for k in range(count):
        field(b, c, y[k], f_left)
        field(b, c, y[k + 1], f_right)
        _middle(y[k], y[k + 1], f_left, f_right, horizon / count, out[2 * k + 1])
    for k in range(count + 1):
        for i in range(size):
            out[2 * k, i] = y[k, i]
    return out
