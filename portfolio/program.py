"""The convex programs behind a construction.

The symbols that can move are the variables; the others stay at their weights and enter as constants, so
that what must not be traded is not traded to the last bit.

References
----------
Boyd, S., Busseti, E., Diamond, S., Kahn, R. N., Koh, K., Nystrup, P. and Speth, J. (2017). Multi-period
trading via convex optimization. Foundations and Trends in Optimization 3(1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from portfolio.conic import Affine, ConicProgram, Solved
from portfolio.limits import Limit
from portfolio.objective import Objective, Solution
from portfolio.relaxation import ROUNDING

Array = NDArray[np.float64]

_NO_SLOPE = 1e-12
_Slack = float | Affine


@dataclass(frozen=True, eq=False)
class _Row:
    """Rows of the program (`at`), and which row (`member`) of which limit (`owner`) each of them stands for."""

    at: NDArray[np.int64]
    owner: NDArray[np.int64]
    member: NDArray[np.int64]


class Program:
    """The weights that may be chosen in one rebalance.

    Parameters
    ----------
    held
        `(N,)` weights before trading.
    lower, upper
        `(N,)` range in which each weight must end; those whose range is one point stay there, and one has more.
    """

    def __init__(self, held: Array, lower: Array, upper: Array) -> None:
        self._held, self._lower, self._upper = held, lower, upper

    def maximise(self, objective: Objective, limits: Sequence[Limit], *, loosened: bool = False) -> Solution | None:
        """The best weights within limits; None where the solver finds none.

        Parameters
        ----------
        loosened
            Leave the limits the solver's rounding, as after a relaxation, where they touch each other.
        """
        book = _Book(self._held, self._lower, self._upper)
        rows = book.limit(limits, ROUNDING if loosened else 0.0)
        found = book.best(objective)
        if found is None:
            return None
        solved, scale = found
        prices = tuple(np.zeros(len(limit.members)) for limit in limits)
        for row in rows:
            for price, owner, member in zip(solved.prices[row.at], row.owner, row.member, strict=True):
                prices[owner][member] += scale * price
        return Solution(book.weights(solved), solved.status, prices)

    def nearest(self, weights: Array, limits: Sequence[Limit]) -> Array | None:
        """The weights within limits that are nearest to given ones, each by its room; None where none are found."""
        book = _Book(self._held, self._lower, self._upper)
        book.limit(limits, ROUNDING)
        return book.nearest(weights)

    def least_excess(self, limits: Sequence[Limit], limit: Limit) -> tuple[Array, Array] | None:
        """Excesses of a limit's rows below and above with the smallest sum; None where the other limits cannot hold."""
        book = _Book(self._held, self._lower, self._upper)
        book.limit(limits, ROUNDING)
        return book.excesses(limit)


class _Book:
    """A conic program whose variables are the trades that can be made, the other weights being constants."""

    def __init__(self, held: Array, lower: Array, upper: Array) -> None:
        self._free = upper > lower
        self._held, self._still = held, np.where(self._free, 0.0, lower)
        room, held = (upper - lower)[self._free], held[self._free]
        # Each trade in units of what it may or would usually be, so that the solver's numbers are of about 1.
        self._unit = np.minimum(room, 1.0 / len(room))
        self._conic = ConicProgram()
        trade = self._conic.variable(len(room)).scaled(self._unit)
        self._x = trade + held
        self._moved = self._absolute(trade, lower[self._free] - held, upper[self._free] - held)
        self._size = self._absolute(self._x, lower[self._free], upper[self._free])

    def _absolute(self, f: Affine, low: Array, high: Array) -> Affine:
        """The absolute value of f, which is between low and high, where one wants it small."""
        sign = np.where(low >= 0, 1.0, np.where(high <= 0, -1.0, 0.0))
        either = np.flatnonzero(sign == 0)
        bound = self._conic.variable(len(either)).scaled(self._unit[either])
        part = f.rows(either)
        self._conic.nonnegative(bound - part)
        self._conic.nonnegative(bound + part)
        return f.scaled(sign) + bound.placed(either, len(f))

    def weights(self, solved: Solved) -> Array:
        """`(N,)` all weights of a solution."""
        weights = self._still.copy()
        weights[self._free] = solved.of(self._x)
        return weights

    def limit(self, limits: Sequence[Limit], slack: float) -> list[_Row]:
        """Add limits: those of single symbols as one range each, the narrowest; the others as they are."""
        out = []
        for number, limit in enumerate(limits):
            if not limit.per_symbol:
                out += self._sides(limit, number, slack, slack)
        single = [number for number, limit in enumerate(limits) if limit.per_symbol]
        if single:
            at = np.flatnonzero(self._free)
            lows, highs = (np.array([getattr(limits[i], side)[at] for i in single]) for side in ("low", "high"))
            above, below = self._x - lows.max(axis=0), -self._x + highs.min(axis=0)
            owner = np.array(single)
            out.append(_Row(self._conic.nonnegative(above), owner[lows.argmax(axis=0)], at))
            out.append(_Row(self._conic.nonnegative(below), owner[highs.argmin(axis=0)], at))
        return out

    def excesses(self, limit: Limit) -> tuple[Array, Array] | None:
        """The least that a limit must be widened by, below and above."""
        below, above = (self._conic.variable(len(limit.members)) for _ in range(2))
        for excess in (below, above):
            self._conic.nonnegative(excess)
        self._sides(limit, 0, below, above)
        solved = self._conic.minimise((below + above).total())
        return None if solved is None else (np.maximum(solved.of(below), 0.0), np.maximum(solved.of(above), 0.0))

    def best(self, objective: Objective) -> tuple[Solved, float] | None:
        """The weights that maximise an objective, and what it was divided by for the solver."""
        conic, x, free, covariance = self._conic, self._x, self._free, objective.covariance
        scale = _scale(objective, free, self._unit)
        aversion = 0.5 * objective.risk_aversion / scale
        # The sums of squares have weights of about 1, or the solver's tolerances are lost on them.
        factor = conic.variable(covariance.loadings.shape[1]).scaled(1.0 / np.sqrt(max(aversion, 1.0)))
        conic.zero(x.through(covariance.loadings[free].T) + covariance.loadings.T @ self._still - factor)
        cost = self._moved.scaled(objective.linear[free]) - x.scaled(objective.alpha[free])
        if objective.borrow:
            cost += (self._size - x).scaled(0.5 * objective.borrow)
        if objective.impact[free].any():
            # u^2 <= m and m^2 <= t u make t >= m^(3/2), exactly; the solver's power cones lose their way on some days.
            u, t = (conic.variable(len(x)) for _ in range(2))
            m = self._moved.scaled(1.0 / self._unit)
            conic.product(m, conic.constant(np.ones(len(x))), u)
            conic.product(t, u, m)
            cost += t.scaled(objective.impact[free] * self._unit**1.5)
        squares = [(factor, np.full(len(factor), aversion)), (x, aversion * covariance.specific[free])]
        solved = conic.minimise(cost.total().scaled(1.0 / scale), squares)
        return None if solved is None else (solved, scale)

    def nearest(self, weights: Array) -> Array | None:
        """The weights that differ the least from given ones, in units of the trades."""
        away = (self._x - weights[self._free]).scaled(1.0 / self._unit)
        solved = self._conic.minimise(self._conic.constant(np.zeros(1)), [(away, np.ones(len(away)))])
        return None if solved is None else self.weights(solved)

    def _sides(self, limit: Limit, number: int, below: _Slack, above: _Slack) -> list[_Row]:
        owner, member = np.full(len(limit.members), number), np.arange(len(limit.members))
        if limit.power == 2:
            # The norm of all is the norm of the part that moves beside the norm of the part that does not.
            part = (self._x - limit.centre[self._free]).then(self._conic.constant(self._fixed(limit)))
            return [_Row(self._conic.norm(part, self._conic.constant(limit.high) + above), owner, member)]
        f = self._value(limit)
        if np.array_equal(limit.low, limit.high) and not isinstance(below, Affine):
            return [_Row(self._conic.zero(f - limit.low), owner, member)]
        rows = []
        if np.isfinite(limit.low).all():
            rows.append(_Row(self._conic.nonnegative(f - limit.low + below), owner, member))
        if np.isfinite(limit.high).all():
            rows.append(_Row(self._conic.nonnegative(-f + limit.high + above), owner, member))
        return rows

    def _value(self, limit: Limit) -> Affine:
        """`(M,)` f of the weights, of the limits without squares."""
        if limit.matrix is None:
            part = self._moved if np.array_equal(limit.centre, self._held) else self._size
            return part.total() + self._fixed(limit)
        f = self._x.through(limit.matrix[:, self._free]) + limit.matrix @ self._still
        if limit.per_symbol:
            return f
        # Sums that stand in a variable of their own keep the solver's factorisation sparse.
        total = self._conic.variable(len(f))
        self._conic.zero(f - total)
        return total

    def _fixed(self, limit: Limit) -> Array:
        """`(1,)` norm of what does not move."""
        return np.array([np.linalg.norm((self._still - limit.centre)[~self._free], limit.power)])


def _scale(objective: Objective, free: NDArray[np.bool_], unit: Array) -> float:
    """Size of what a trade of one unit does to the objective: divided by it, the solver's tolerances mean the same.

    Of the risks the usual one counts: one symbol whose past is wild beyond all others must not make the rest vanish.
    """
    slopes = (objective.alpha[free], objective.linear[free], objective.impact[free] * np.sqrt(unit))
    risk = objective.risk_aversion * objective.covariance.volatility()[free] ** 2 * unit
    return max(
        *(float((np.abs(slope) * unit).max()) for slope in slopes),
        float(np.median(risk)),
        objective.borrow * float(unit.max()),
        _NO_SLOPE,
    )
