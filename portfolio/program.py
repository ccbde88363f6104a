"""The convex programs behind a construction, in cvxpy's words, solved by the interior-point solver Clarabel.

The symbols that can move are the variables; the others stay at their weights and enter as constants, so
that what must not be traded is not traded to the last bit.

References
----------
Boyd, S., Busseti, E., Diamond, S., Kahn, R. N., Koh, K., Nystrup, P. and Speth, J. (2017). Multi-period
trading via convex optimization. Foundations and Trends in Optimization 3(1).
Goulart, P. and Chen, Y. (2024). Clarabel: an interior-point solver for conic programs with quadratic objectives.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from portfolio.limits import Limit
from portfolio.objective import Objective, Solution
from portfolio.relaxation import ROUNDING

Array = NDArray[np.float64]

_SETTINGS = {"tol_gap_abs": 1e-8, "tol_gap_rel": 1e-7, "tol_feas": 1e-8, "max_iter": 200}
_NO_SLOPE = 1e-8
_Slack = float | cp.Variable
_SOLVED = (cp.OPTIMAL, cp.OPTIMAL_INACCURATE)


@dataclass(frozen=True, eq=False)
class _Row:
    """A constraint, and which row (`member`) of which limit (`owner`) each of its entries stands for, if any."""

    constraint: cp.Constraint
    owner: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    member: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


class Program:
    """The weights that may be chosen in one rebalance.

    Parameters
    ----------
    held
        `(N,)` weights before trading.
    free
        `(N,)` boolean, who can move; the others stay at `held`. At least one can.
    room
        `(N,)` width of the range in which the weight of each can end.
    """

    def __init__(self, held: Array, free: NDArray[np.bool_], room: Array) -> None:
        self.held, self.free, self.room = held, free, room
        self._still = np.where(free, 0.0, held)
        count = int(free.sum())
        # In units of a usual weight the solver's cones have numbers of about 1.
        self._unit = max(float(np.median(np.minimum(room[free], 1.0 / count))), 1e-6)
        # Weights, and bounds from above on their sizes and on those of the trades: every use of a size is in
        # something that one wants small, so that the bounds are met where it matters.
        self._x, self._size, self._moved = (self._unit * cp.Variable(count) for _ in range(3))
        self._sizes = [self._size >= self._x, self._size >= -self._x]
        self._moves = [self._moved >= self._x - held[free], self._moved >= held[free] - self._x]

    def maximise(self, objective: Objective, limits: Sequence[Limit], *, loosened: bool = False) -> Solution | None:
        """The best weights within limits; None where the solver finds none.

        Parameters
        ----------
        loosened
            Leave the limits the solver's rounding, as after a relaxation, where they touch each other.
        """
        rows = self._rows(limits, ROUNDING if loosened else 0.0)
        scale = _scale(objective, self.free, self.room)
        status = _solve(cp.Problem(cp.Maximize(self._utility(objective) / scale), self._constraints(rows)))
        if status not in _SOLVED or self._x.value is None:
            return None
        weights = self._still.copy()
        weights[self.free] = self._x.value
        prices = tuple(np.zeros(len(limit.members)) for limit in limits)
        for row in rows:
            duals = np.abs(np.atleast_1d(row.constraint.dual_value))
            # Rows that stand for no limit have no owners, and their duals no taker.
            for dual, owner, member in zip(duals, row.owner, row.member, strict=bool(len(row.owner))):
                prices[owner][member] += scale * float(dual)
        return Solution(weights, status, prices)

    def least_excess(self, limits: Sequence[Limit], limit: Limit) -> tuple[Array, Array] | None:
        """Excesses of a limit's rows below and above with the smallest sum; None where the other limits cannot hold."""
        count = len(limit.members)
        below, above = cp.Variable(count, nonneg=True), cp.Variable(count, nonneg=True)
        rows = self._rows(limits, ROUNDING) + self._sides(limit, 0, below, above)
        status = _solve(cp.Problem(cp.Minimize(cp.sum(below) + cp.sum(above)), self._constraints(rows)))
        if status not in _SOLVED or below.value is None or above.value is None:
            return None
        return np.maximum(below.value, 0.0), np.maximum(above.value, 0.0)

    def _constraints(self, rows: Sequence[_Row]) -> list[cp.Constraint]:
        return [*self._sizes, *self._moves, *(row.constraint for row in rows)]

    def _rows(self, limits: Sequence[Limit], slack: float) -> list[_Row]:
        """Limits of single symbols as one range each, the narrowest; the others as they are."""
        out = []
        for number, limit in enumerate(limits):
            if not limit.per_symbol:
                out += self._sides(limit, number, slack, slack)
        single = [number for number, limit in enumerate(limits) if limit.per_symbol]
        if single:
            at = np.flatnonzero(self.free)
            lows, highs = (np.array([getattr(limits[i], side)[at] for i in single]) for side in ("low", "high"))
            owner = np.array(single)
            out.append(_Row(self._x >= lows.max(axis=0), owner[lows.argmax(axis=0)], at))
            out.append(_Row(self._x <= highs.min(axis=0), owner[highs.argmin(axis=0)], at))
        return out

    def _sides(self, limit: Limit, number: int, below: _Slack, above: _Slack) -> list[_Row]:
        f, out = self._value(limit), []
        if limit.matrix is not None and not limit.per_symbol:
            # Sums that stand in a variable of their own keep the solver's factorisation sparse.
            total = cp.Variable(len(limit.members))
            out.append(_Row(total == f))
            f = total
        owner, member = np.full(len(limit.members), number), np.arange(len(limit.members))
        if np.array_equal(limit.low, limit.high) and not isinstance(below, cp.Variable):
            return [*out, _Row(f == limit.low, owner, member)]
        if np.isfinite(limit.low).all():
            out.append(_Row(f >= limit.low - below, owner, member))
        if np.isfinite(limit.high).all():
            out.append(_Row(f <= limit.high + above, owner, member))
        return out

    def _value(self, limit: Limit) -> cp.Expression:
        """`(M,)` f of the weights."""
        if limit.matrix is not None:
            return limit.matrix[:, self.free] @ self._x + limit.matrix @ self._still
        fixed = float(np.linalg.norm((self._still - limit.centre)[~self.free], limit.power))
        if limit.power == 1:
            part = self._moved if np.array_equal(limit.centre, self.held) else self._size
            return cp.reshape(cp.sum(part) + fixed, (1,), order="C")
        # The norm of all is the norm of the part that moves beside the norm of the part that does not.
        return cp.reshape(cp.norm(cp.hstack([self._x - limit.centre[self.free], fixed]), 2), (1,), order="C")

    def _utility(self, objective: Objective) -> cp.Expression:
        x, free, covariance = self._x, self.free, objective.covariance
        risk = cp.sum_squares(covariance.loadings[free].T @ x + covariance.loadings.T @ self._still)
        deviation = np.sqrt(covariance.specific[free])
        if deviation.any():
            risk += cp.sum_squares(cp.multiply(deviation, x))
        utility = objective.alpha[free] @ x - 0.5 * objective.risk_aversion * risk
        utility -= objective.linear[free] @ self._moved
        if objective.impact[free].any():
            # As second-order cones, which is exact for 3/2; the solver's power cones lose their way on some days.
            units = self._unit**1.5 * cp.power(self._moved / self._unit, 1.5, approx=True)
            utility -= objective.impact[free] @ units
        if objective.borrow:
            utility -= 0.5 * objective.borrow * cp.sum(self._size - x)
        return utility


def _scale(objective: Objective, free: NDArray[np.bool_], room: Array) -> float:
    """Size of the objective's slopes: divided by it, the solver's tolerances mean the same for all."""
    slopes = (
        objective.alpha,
        objective.linear,
        objective.impact * np.sqrt(room),
        objective.risk_aversion * objective.covariance.volatility() ** 2,
    )
    return max(*(float(np.abs(slope[free]).max()) for slope in slopes), objective.borrow, _NO_SLOPE)


def _solve(problem: cp.Problem) -> str:
    """Status of the solver; one that gives up is a status too."""
    with warnings.catch_warnings():
        # Inaccurate solutions are judged by the caller, on the limits themselves; and a trade that rounding made
        # negative has no root in the value that cvxpy reports, which nobody reads.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            problem.solve(solver=cp.CLARABEL, **_SETTINGS)
        except cp.error.SolverError:
            return "no solution"
    return str(problem.status)
