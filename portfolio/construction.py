"""From forecasts to weights: mean-variance with square-root impact, within limits.

    max  alpha'w - gamma/2 w'Sigma w - c'|d| - k'|d|^(3/2) - b sum max(-w, 0),     d = w - held

over the weights that the limits of `portfolio.limits` allow. A cost of k |d|^(3/2) is the square-root law
of `portfolio.costs`: weight traded times impact.

What cannot be traded (halted, without volume, volatility or capital to speak of) keeps its weight. What has
no forecast may be reduced and not added to. Limits that cannot all hold give way in the declared order, and
the result says which, from what to what.

References
----------
Almgren, R. and Chriss, N. (2001). Optimal execution of portfolio transactions. Journal of Risk 3.
Grinold, R. C. and Kahn, R. N. (2000). Active portfolio management, 2nd ed., chapter 14.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.errors import ConvergenceError, DataError
from core.params import Params
from portfolio.costs import BPS, CostRule
from portfolio.limits import Limit, LimitRule, declare
from portfolio.objective import Objective, Solution
from portfolio.performance import SESSIONS_PER_YEAR
from portfolio.program import Program
from portfolio.prospects import Mask, Prospects
from portfolio.relaxation import Relaxation, relax, within_reach

Array = NDArray[np.float64]

TOLERANCE = 1e-6
"""The most by which weights may pass a limit, in units of weight: the solver's rounding."""
# A weight, a trade or a range for one that is smaller is none: the solver's rounding.
_ROUNDING = 1e-7
# A row this close to its bound with a price above this part of the largest slope binds.
_CLOSE = 1e-5
_PRICED = 1e-6


class ConstructionRule(Params):
    """How forecasts become weights.

    Attributes
    ----------
    risk_aversion
        gamma.
    capital
        Currency of the traded values; sets the size of orders.
    sessions
        Sessions to the next rebalance: alpha and covariance are of returns over them, and shorts are borrowed for them.
    """

    risk_aversion: float = Field(default=50.0, ge=0)
    capital: float = Field(default=10_000_000.0, gt=0)
    sessions: int = Field(default=5, ge=1)
    limits: LimitRule = LimitRule()
    costs: CostRule = CostRule()


@dataclass(frozen=True)
class Binding:
    """A limit's row that holds the book back.

    Attributes
    ----------
    kind, member
        Which limit, and which symbol, sector or factor of it.
    bound
        Its bound, after any relaxation.
    price
        Gain of the objective for one unit more of the bound.
    """

    kind: str
    member: str
    bound: float
    price: float

    def __str__(self) -> str:
        return f"{self.kind} {self.member} at {self.bound:.6g} (price {self.price:.3g})"


@dataclass(frozen=True, eq=False)
class Construction:
    """A book and why it is so.

    Attributes
    ----------
    weights, trades
        `(N,)` fractions of the capital.
    status
        "optimal"; "optimal_inaccurate" (the limits hold, the objective may be better); "nearest" (the solver lost
        its way to the optimum: the weights within the limits nearest to where it stopped, or to those held); or
        "nothing to trade".
    binding
        Rows that hold the book back, the dearest first.
    relaxed
        Rows that were widened, and from what to what.
    objective, expected_return, volatility
        Of the book to the next rebalance.
    trading_cost, impact_cost, borrow_cost
        Fractions of the capital.
    """

    weights: Array
    trades: Array
    status: str
    binding: tuple[Binding, ...]
    relaxed: tuple[Relaxation, ...]
    objective: float
    expected_return: float
    volatility: float
    trading_cost: float
    impact_cost: float
    borrow_cost: float


def construct(prospects: Prospects, rule: ConstructionRule) -> Construction:
    """The best book within the limits.

    Raises
    ------
    DataError
        A factor of the rule has no exposures.
    ConvergenceError
        Limits conflict that may not be relaxed, or the solver's answer does not pass the check of its limits.
    """
    known = np.isfinite(prospects.alpha)
    held = np.asarray(prospects.held, dtype=np.float64)
    objective = _objective(prospects, rule)
    declared = _limits(prospects, rule, known)
    hard = [limit for limit in declared if limit.hard]
    lower, upper = np.max([limit.low for limit in hard], axis=0), np.min([limit.high for limit in hard], axis=0)
    free = upper - lower > _ROUNDING
    lower, upper = np.where(free, lower, held), np.where(free, upper, held)
    limits, relaxed = within_reach(declared, lower, upper)
    if not free.any():
        nothing = Solution(held.copy(), "nothing to trade", tuple(np.zeros(len(limit.members)) for limit in limits))
        return _result(prospects, nothing, objective, limits, relaxed)
    program = Program(held, lower, upper)
    solution = program.maximise(objective, limits)
    if solution is None or _worst(limits, solution.weights)[1] > TOLERANCE:
        limits, conflicts = relax(limits, rule.limits.relax, program.least_excess)
        relaxed += conflicts
        solution = program.maximise(objective, limits, loosened=True)
        if solution is None or _worst(limits, _tidied(solution.weights, held, lower, upper, limits))[1] > TOLERANCE:
            solution = _nearest(program, held if solution is None else solution.weights, limits)
    weights = _tidied(solution.weights, held, lower, upper, limits)
    limit, excess = _worst(limits, weights)
    if excess > TOLERANCE:
        raise ConvergenceError(
            f"construction: the solver's weights pass the limit {limit} by {excess:.3g}: widen it, or check the scale "
            "of alpha and covariance"
        )
    return _result(prospects, replace(solution, weights=weights), objective, limits, relaxed)


def _nearest(program: Program, weights: Array, limits: Sequence[Limit]) -> Solution:
    """Weights within limits where the solver lost its way to the best ones; their rows have no prices."""
    found = program.nearest(weights, limits)
    if found is None:
        raise ConvergenceError(
            "construction: the solver found no weights within limits that can all hold: check the scale of alpha and "
            "covariance"
        )
    return Solution(found, "nearest", tuple(np.zeros(len(limit.members)) for limit in limits))


def _tidied(weights: Array, held: Array, lower: Array, upper: Array, limits: Sequence[Limit]) -> Array:
    """Weights within their ranges, without those and without trades that are rounding, where limits allow that."""
    clipped = np.clip(weights, lower, upper)
    clean = np.where(np.abs(clipped - held) < _ROUNDING, held, np.where(np.abs(clipped) < _ROUNDING, 0.0, clipped))
    clean = np.clip(clean, lower, upper)
    return clean if _worst(limits, clean)[1] <= TOLERANCE else clipped


def _objective(prospects: Prospects, rule: ConstructionRule) -> Objective:
    linear, impact = rule.costs.coefficients(rule.capital, prospects.adv, prospects.volatility)
    return Objective(
        np.nan_to_num(prospects.alpha, nan=0.0),
        prospects.covariance,
        rule.risk_aversion,
        linear,
        impact,
        rule.costs.borrow_bps * BPS * rule.sessions / SESSIONS_PER_YEAR,
    )


def _limits(prospects: Prospects, rule: ConstructionRule, known: Mask) -> list[Limit]:
    missing = sorted(set(rule.limits.factors) - set(prospects.factors))
    if missing:
        raise DataError(f"construction: no exposures to {', '.join(missing)}: give them, or drop their limit")
    held = np.asarray(prospects.held, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        liquid = (prospects.adv > 0) & np.isfinite(prospects.adv) & np.isfinite(prospects.volatility)
    if prospects.tradable is not None:
        liquid &= prospects.tradable
    # Beyond any weight that the gross allows: no limit, and of a size that suits the solver.
    wide = rule.limits.gross + np.abs(held).sum()
    share = rule.limits.participation * np.where(liquid, prospects.adv, 0.0) / rule.capital
    most_traded = np.minimum(share, wide)
    lower = np.where(known, -wide, np.minimum(held, 0.0))
    upper = np.where(known, wide, np.maximum(held, 0.0))
    if prospects.no_new_longs is not None:
        upper = np.where(prospects.no_new_longs, np.maximum(held, 0.0), upper)
    return declare(
        rule.limits,
        prospects.symbols,
        held,
        prospects.covariance,
        most_traded=most_traded,
        lower=lower,
        upper=upper,
        sector=prospects.sector,
        industry=prospects.industry,
        factors=prospects.factors,
    )


def _worst(limits: Sequence[Limit], weights: Array) -> tuple[str, float]:
    """Name and size of the largest excess."""
    worst = ("none", 0.0)
    for limit in limits:
        excess = limit.excess(weights) / limit.scale()
        row = int(excess.argmax())
        worst = max(worst, (f"{limit.kind} {limit.members[row]}", float(excess[row])), key=lambda found: found[1])
    return worst


def _result(
    prospects: Prospects,
    solution: Solution,
    objective: Objective,
    limits: Sequence[Limit],
    relaxed: tuple[Relaxation, ...],
) -> Construction:
    weights, held = solution.weights, np.asarray(prospects.held, dtype=np.float64)
    cheap = _PRICED * max(float(np.abs(objective.alpha).max()), 1e-12)
    binding = []
    for limit, prices in zip(limits, solution.prices, strict=True):
        value = limit.value(weights)
        for row in np.flatnonzero(prices > cheap):
            bound = limit.high[row] if limit.high[row] - value[row] <= value[row] - limit.low[row] else limit.low[row]
            if abs(bound - value[row]) <= _CLOSE:
                binding.append(Binding(limit.kind, limit.members[row], float(bound), float(prices[row])))
    trading, impact, borrow = objective.costs(weights, held)
    return Construction(
        weights=weights,
        trades=weights - held,
        status=solution.status,
        binding=tuple(sorted(binding, key=lambda found: -found.price)),
        relaxed=relaxed,
        objective=objective.value(weights, held),
        expected_return=float(objective.alpha @ weights),
        volatility=float(np.sqrt(objective.covariance.variance(weights))),
        trading_cost=trading,
        impact_cost=impact,
        borrow_cost=borrow,
    )
