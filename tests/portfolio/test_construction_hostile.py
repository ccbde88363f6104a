"""Whatever is thrown at a construction, no limit is passed, and nothing but the project's errors is raised."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import SignalsError
from portfolio.construction import TOLERANCE, ConstructionRule, construct
from portfolio.costs import CostRule
from portfolio.covariance.form import Covariance
from portfolio.limits import RELAXED_FIRST, LimitRule
from portfolio.prospects import Prospects


@st.composite
def hostile(draw, most):
    """Prospects and a rule: the troubles are hypothesis' choice, the numbers come from a seed."""
    n = draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def some(values, broken):
        """Values, a part of them broken: none, a third or all."""
        return np.where(rng.random(n) < draw(st.sampled_from([0.0, 0.0, 0.3, 1.0])), broken, values)

    def bound(*values):
        return draw(st.none() | st.sampled_from(values))

    loadings = rng.normal(size=(n, draw(st.integers(1, n + 1)))) * 10 ** rng.uniform(-3, -1)
    covariance = draw(
        st.sampled_from(
            [
                Covariance.of(np.zeros((n, n))),
                Covariance.of(np.full((n, n), 1e-4)),
                Covariance.of(loadings @ loadings.T),
                Covariance(loadings, np.full(n, 1e-4)),
                Covariance(loadings, np.where(rng.random(n) < 0.5, 0.0, 1e-3)),
            ]
        )
    )
    factors = {f"f{i}": rng.normal(size=n) * 10 ** rng.uniform(-1, 1) for i in range(draw(st.integers(0, 3)))}
    prospects = Prospects(
        symbols=[f"s{i}" for i in range(n)],
        alpha=some(rng.normal(size=n) * 10 ** rng.uniform(-5, 1), np.nan),
        covariance=covariance,
        held=rng.normal(size=n) * draw(st.sampled_from([0.0, 0.01, 0.3, 3.0])),
        adv=some(some(10 ** rng.uniform(2, 11, n), 0.0), np.nan),
        volatility=some(rng.uniform(0, 0.1, n), np.nan),
        tradable=some(np.ones(n), 0.0).astype(bool),
        sector=rng.integers(-1, 3, n),
        industry=rng.integers(-1, 6, n),
        factors=factors,
        no_new_longs=some(np.zeros(n), 1.0).astype(bool),
    )
    low, width = draw(st.sampled_from([-1.5, -0.1, 0.0, 0.3, 1.0])), draw(st.sampled_from([0.0, 0.0, 0.5]))
    correlation = bound(0.2, 0.7, 1.0)
    limits = LimitRule(
        gross=draw(st.sampled_from([0.01, 0.5, 1.0, 10.0])),
        net_low=bound(low),
        net_high=bound(low + width),
        position=bound(0.001, 0.05, 1.0),
        sector=bound(0.0, 0.05, 0.3),
        industry=bound(0.0, 0.05, 0.3),
        factors={name: draw(st.sampled_from([0.0, 0.05, 0.5])) for name in factors},
        turnover=bound(0.0, 0.01, 0.3),
        participation=draw(st.sampled_from([0.01, 0.1, 1.0])),
        effective_names=bound(1.0, float(n), 2.0 * n),
        correlation=correlation,
        correlated_weight=None if correlation is None else draw(st.sampled_from([0.01, 0.5])),
        relax=draw(st.permutations(RELAXED_FIRST)),
    )
    costs = CostRule(
        commission_bps=draw(st.sampled_from([0.0, 1.0, 50.0])),
        half_spread_bps=0.0,
        impact=draw(st.sampled_from([0.0, 1.0, 5.0])),
        borrow_bps=draw(st.sampled_from([0.0, 30.0, 3000.0])),
    )
    return prospects, ConstructionRule(
        risk_aversion=draw(st.sampled_from([0.0, 1.0, 10.0, 1000.0])),
        capital=draw(st.sampled_from([1e4, 1e7, 1e10])),
        limits=limits,
        costs=costs,
    )


def _never(prospects, rule, excesses):
    try:
        found = construct(prospects, rule)
    except SignalsError:
        return False
    w, held = found.weights, prospects.held
    assert np.isfinite(w).all()
    # Beyond the hard limits: not a trade, whatever else would need it.
    still = ~(prospects.tradable & (prospects.adv > 0) & np.isfinite(prospects.volatility))
    assert (w[still] == held[still]).all()
    blind = np.isnan(prospects.alpha)
    assert (np.minimum(held, 0) <= w)[blind].all()
    assert (w <= np.maximum(held, 0))[blind | prospects.no_new_longs].all()
    moves = ~still
    most = rule.limits.participation * prospects.adv[moves] / rule.capital
    assert (np.abs(w - held)[moves] <= most * (1 + 1e-9) + 1e-12).all()
    # The others: every row that is passed was declared relaxed, and is within what it was relaxed to.
    above = {(row.kind, row.member): row.given for row in found.relaxed if row.given > row.asked}
    below = {(row.kind, row.member): -row.given for row in found.relaxed if row.given < row.asked}
    for (kind, member), (value, bound) in excesses(w, prospects, rule).items():
        if kind == "participation":
            continue
        assert kind in rule.limits.relax
        if kind == "net":
            widened = [(below if member == "low" else above).get(("net", "net"))]
        elif kind == "correlation":
            # Symbols with the same row share one name.
            widened = [given for side in (above, below) for (k, _), given in side.items() if k == kind]
        else:
            widened = [side.get((kind, member)) for side in (above, below)]
        widened = [given for given in widened if given is not None]
        assert widened, f"{kind} {member}: {value} passes {bound} and nothing says so"
        assert value <= max(widened) + TOLERANCE * max(1.0, np.abs(prospects.factors.get(member, 1.0)).max())
    return True


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(hostile(most=4))
def test_no_limit_is_passed(excesses, case):
    _never(*case, excesses)


@pytest.mark.long
def test_no_limit_is_passed_a_thousand_times(excesses):
    solved = []

    @settings(deadline=None, max_examples=1000, suppress_health_check=list(HealthCheck), database=None)
    @given(hostile(most=30))
    def check(case):
        solved.append(_never(*case, excesses))

    check()
    assert len(solved) >= 1000
    # Refusing is safe, and must stay rare.
    assert np.mean(solved) > 0.99
