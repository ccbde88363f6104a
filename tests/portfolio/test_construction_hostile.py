"""Whatever is thrown at a construction, no limit is passed, and nothing but the project's errors is raised."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import portfolio.rebalance
from benchmarks.books import market_of, weekly
from core.errors import SignalsError
from portfolio.construction import ConstructionRule, construct
from portfolio.costs import CostRule
from portfolio.covariance.form import Covariance
from portfolio.limits import RELAXED_FIRST, LimitRule
from portfolio.prospects import Prospects
from portfolio.walk import walk


@st.composite
def hostile(draw, most):
    """Prospects and a rule: the troubles are hypothesis' choice, the numbers come from a seed."""
    n = draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def some(values, broken):
        """Values, a part of them broken: none, a third or, now and then, all."""
        return np.where(rng.random(n) < draw(st.sampled_from([*[0.0] * 10, *[0.3] * 5, 1.0])), broken, values)

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


def _never(prospects, rule, check_limits):
    try:
        found = construct(prospects, rule)
    except SignalsError:
        return False
    check_limits(found, prospects, rule)
    return True


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(hostile(most=30))
def test_no_limit_is_passed(check_limits, case):
    _never(*case, check_limits)


@pytest.mark.long
def test_no_limit_is_passed_a_thousand_times(check_limits):
    solved = []

    @settings(deadline=None, max_examples=1000, suppress_health_check=list(HealthCheck), database=None)
    @given(hostile(most=30))
    def check(case):
        solved.append(_never(*case, check_limits))

    check()
    assert len(solved) >= 1000
    # Refusing is safe, and must stay rare.
    assert np.mean(solved) > 0.99


@pytest.mark.long
@pytest.mark.real_data
def test_no_limit_is_passed_in_ten_years(real_data, check_limits, monkeypatch):
    market, signals, start = market_of(real_data, "2007-01-03", "2016-12-30")
    excesses = []

    def checked(prospects, rule):
        found = construct(prospects, rule)
        excesses.append(check_limits(found, prospects, rule))
        return found

    monkeypatch.setattr(portfolio.rebalance, "construct", checked)
    found = walk(market, signals, weekly(), start=start)
    print(f"{len(excesses)} constructions, the worst excess {max(excesses):.3g}; {found.limits['kind'].value_counts()}")
    assert len(found.daily) > 2500
    assert len(excesses) > 500
