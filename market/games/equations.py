"""The equations of a finite-state mean-field game, their derivative and their invariant, compiled.

The unknown y = (theta, v) holds the masses of the K states and the costs to go from them, these in units of the cost
of switching:

    theta_i' = sum_j theta_j (v_j - v_i)^+ - theta_i sum_j (v_i - v_j)^+,    theta(0) given,
    v_i' = -b_i - c_i theta_i + 1/2 sum_j ((v_i - v_j)^+)^2,                 v(T) = 0.

They keep the invariant

    sum_i (b_i theta_i + c_i theta_i^2 / 2) - 1/2 sum_i theta_i sum_j ((v_i - v_j)^+)^2.

References
----------
Gomes, D. A., Mohr, J. and Souza, R. R. (2013). Continuous time finite state mean field games. Applied Mathematics
and Optimization 68, 99-143.
"""

from __future__ import annotations

import numpy as np

from core.jit import compiled


@compiled
def field(b, c, y, out):
    """The right-hand side y'."""
    states = len(b)
    for i in range(states):
        out[i] = 0.0
        out[states + i] = -b[i] - c[i] * y[i]
    for i in range(states):
        for j in range(states):
            gap = y[states + i] - y[states + j]
            if gap > 0.0:
                out[i] -= y[i] * gap
                out[j] += y[i] * gap
                out[states + i] += 0.5 * gap * gap


@compiled
def field_jacobian(c, y, out):
    """Its Jacobian; where two costs are equal, that of the side on which nobody moves."""
    states = len(c)
    for i in range(2 * states):
        for j in range(2 * states):
            out[i, j] = 0.0
    for i in range(states):
        out[states + i, i] = -c[i]
        for j in range(states):
            gap = y[states + i] - y[states + j]
            if gap > 0.0:
                out[i, i] -= gap
                out[j, i] += gap
                out[i, states + i] -= y[i]
                out[i, states + j] += y[i]
                out[j, states + i] += y[i]
                out[j, states + j] -= y[i]
                out[states + i, states + i] += gap
                out[states + i, states + j] -= gap


@compiled
def drifts(b, c, y):
    """The invariant at the first of the points, its span over all relative to its largest term, and the least mass."""
    states = len(b)
    first, low, high, largest, least = 0.0, np.inf, -np.inf, 0.0, np.inf
    for k in range(len(y)):
        total = 0.0
        for i in range(states):
            held = (b[i] + 0.5 * c[i] * y[k, i]) * y[k, i]
            moved = 0.0
            for j in range(states):
                gap = max(y[k, states + i] - y[k, states + j], 0.0)
                moved += 0.5 * gap * gap * y[k, i]
            total += held - moved
            largest = max(largest, abs(held), abs(moved))
            least = min(least, y[k, i])
        if k == 0:
            first = total
        low, high = min(low, total), max(high, total)
    # A crowd that costs at least something leaves no game without a term.
    return first, (high - low) / largest, least
