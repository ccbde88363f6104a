"""The construction against the same problem said in cvxpy's words."""

import cvxpy as cp
import numpy as np
import pytest

from portfolio.construction import ConstructionRule, construct
from portfolio.costs import CostRule
from portfolio.covariance.form import Covariance
from portfolio.limits import Limit, LimitRule
from portfolio.program import Program
from portfolio.prospects import Prospects


def _said_plainly(book, rule):
    """Optimum, and the price of the gross limit."""
    limits, costs = rule.limits, rule.costs
    w = cp.Variable(len(book.symbols))
    traded = cp.abs(w - book.held)
    # On average an order pays two thirds of the move at its end.
    impact = 2 / 3 * costs.impact * book.volatility * np.sqrt(rule.capital / book.adv)
    cost = (costs.commission_bps + costs.half_spread_bps) * 1e-4 * cp.sum(traded) + impact @ cp.power(
        traded, 1.5, approx=True
    )
    cost += costs.borrow_bps * 1e-4 * rule.sessions / 252 * cp.sum(cp.neg(w))
    risk = cp.sum_squares(book.covariance.loadings.T @ w) + cp.sum_squares(
        cp.multiply(np.sqrt(book.covariance.specific), w)
    )
    gross = cp.norm1(w) <= limits.gross
    allowed = [
        gross,
        cp.sum(w) >= limits.net_low,
        cp.sum(w) <= limits.net_high,
        cp.abs(w) <= limits.position,
        cp.multiply(traded, rule.capital / book.adv) <= limits.participation,
        cp.sum(traded) <= limits.turnover,
        cp.norm(w) <= limits.effective_names**-0.5,
        *(cp.abs(cp.sum(w[np.flatnonzero(book.sector == code)])) <= limits.sector for code in np.unique(book.sector)),
        *(cp.abs(book.factors[name] @ w) <= bound for name, bound in limits.factors.items()),
    ]
    problem = cp.Problem(cp.Maximize(100 * (book.alpha @ w - 0.5 * rule.risk_aversion * risk - cost)), allowed)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == cp.OPTIMAL
    return problem.value / 100, gross.dual_value / 100


@pytest.mark.parametrize("seed", range(1, 6))
def test_it_is_the_problem_that_was_meant(seed):
    rng, n = np.random.default_rng(seed), 40
    book = Prospects(
        symbols=[f"S{i}" for i in range(n)],
        alpha=rng.normal(0, 0.01, n),
        covariance=Covariance(rng.normal(0, 0.01, (n, 3)), rng.uniform(1e-4, 9e-4, n)),
        held=rng.normal(0, 0.01, n),
        adv=rng.lognormal(18, 1, n),
        volatility=rng.uniform(0.01, 0.03, n),
        sector=np.arange(n) % 3,
        factors={"market": rng.uniform(0.5, 1.5, n)},
    )
    limits = LimitRule(
        gross=0.8, net_low=-0.2, net_high=0.2, position=0.1, sector=0.1, factors={"market": 0.05}, turnover=1.0,
        effective_names=15.0, participation=0.1,
    )  # fmt: skip
    rule = ConstructionRule(risk_aversion=10.0, limits=limits, costs=CostRule())
    found = construct(book, rule)
    best, price = _said_plainly(book, rule)
    assert not found.relaxed
    assert found.objective == pytest.approx(best, abs=1e-8)
    prices = {bound.kind: bound.price for bound in found.binding}
    assert prices.get("gross", 0.0) == pytest.approx(price, abs=1e-5)


def test_one_wild_symbol_does_not_hide_the_others():
    rng, n = np.random.default_rng(3), 60
    alpha, loadings = rng.normal(0, 0.005, n), rng.normal(0, 0.01, (n, 3))
    specific, adv = rng.uniform(1e-4, 9e-4, n), rng.lognormal(18, 1, n)

    def built(names, specific):
        book = Prospects(
            symbols=[f"S{i}" for i in range(names)],
            alpha=alpha[:names],
            covariance=Covariance(loadings[:names], specific),
            held=np.zeros(names),
            adv=adv[:names],
            volatility=np.full(names, 0.02),
        )
        limits = LimitRule(
            gross=1.0, net_low=None, net_high=None, position=0.05, sector=None, factors={}, participation=0.1,
            effective_names=None,
        )  # fmt: skip
        return construct(book, ConstructionRule(risk_aversion=10.0, limits=limits, costs=CostRule()))

    # As a share has that comes out of a bankruptcy at a thousand times its price: nobody holds it.
    wild = built(n, np.append(specific[:-1], 25_000.0))
    without = built(n - 1, specific[:-1])
    assert abs(wild.weights[-1]) < 1e-6
    assert wild.objective == pytest.approx(without.objective, abs=1e-8)
    assert wild.weights[:-1] == pytest.approx(without.weights, abs=1e-4)


def test_the_nearest_weights_within_limits():
    # Within a sum of 0.3 of sizes, (0.4, 0.1) comes down by 0.1 on each side: the foot of the perpendicular, (0.3, 0).
    held, room = np.array([0.0, 0.0]), np.array([0.5, 0.5])
    gross = Limit("gross", ("gross",), np.array([-np.inf]), np.array([0.3]), None, 1, np.zeros(2))
    found = Program(held, held, room).nearest(np.array([0.4, 0.1]), [gross])
    assert found == pytest.approx([0.3, 0.0], abs=1e-5)
