import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, ConvergenceError, DataError
from portfolio.allocation import SCHEMES, allocate
from portfolio.budgets import risk_budgets
from portfolio.schemes.hierarchical import clusters

SIGMA = np.array([0.1, 0.2, 0.3])
THREE = np.array([[1, 0.2, 0.5], [0.2, 1, 0.1], [0.5, 0.1, 1]]) * np.outer(SIGMA, SIGMA)
SIGMA_4 = np.array([0.1, 0.12, 0.2, 0.25])
FOUR = np.array([[1, 0.8, 0.1, 0], [0.8, 1, 0.2, 0.1], [0.1, 0.2, 1, 0.6], [0, 0.1, 0.6, 1]]) * np.outer(
    SIGMA_4, SIGMA_4
)


@pytest.mark.parametrize(
    ("scheme", "covariance", "weights"),
    [
        ("equal_weight", THREE, [1 / 3, 1 / 3, 1 / 3]),
        ("inverse_volatility", THREE, [6 / 11, 3 / 11, 2 / 11]),
        ("risk_parity", THREE, [0.514507, 0.304644, 0.180849]),
        ("minimum_variance", THREE, [0.927329, 0.138178, -0.065507]),
        ("minimum_variance", FOUR, [0.852639, -0.044109, 0.108162, 0.083308]),
        ("hierarchical_risk_parity", FOUR, [0.463701, 0.322015, 0.130661, 0.083623]),
        ("nested_clusters", FOUR, [0.751079, 0.062590, 0.142488, 0.043843]),
    ],
)
def test_check_values(scheme, covariance, weights):
    assert allocate(scheme, covariance) == pytest.approx(weights, abs=1e-6)


@pytest.mark.parametrize(
    ("budgets", "weights"),
    [([1, 1, 1], [0.514507, 0.304644, 0.180849]), ([0.5, 0.3, 0.2], [0.634819, 0.255719, 0.109462])],
)
def test_risk_budgets(budgets, weights):
    assert risk_budgets(THREE, budgets) == pytest.approx(weights, abs=1e-6)


def _covariance(seed, count):
    rng = np.random.default_rng(seed)
    deviation = 10 ** rng.uniform(-3, -1, count)
    sample = rng.normal(size=(3 * count, count)) + rng.normal(size=(3 * count, 1))
    return np.cov(sample.T).reshape(count, count) * np.outer(deviation, deviation)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_contributions_are_the_budgets(seed, count):
    covariance = _covariance(seed, count)
    budgets = np.random.default_rng(seed).dirichlet(np.ones(count))
    w = risk_budgets(covariance, budgets)
    assert w.sum() == pytest.approx(1)
    assert w * (covariance @ w) / (w @ covariance @ w) == pytest.approx(budgets, abs=1e-8)


def test_no_budget_no_weight():
    w = risk_budgets(THREE, [0.5, 0.0, 0.5])
    assert w[1] == 0
    assert w[[0, 2]] == pytest.approx(risk_budgets(THREE[np.ix_([0, 2], [0, 2])], [1, 1]))


def test_a_singular_covariance_still_has_a_parity():
    assert risk_budgets(np.ones((3, 3)), [1, 1, 2]) == pytest.approx([0.25, 0.25, 0.5])
    # Two that offset each other entirely have no risk to share.
    with pytest.raises(ConvergenceError, match="risk can vanish"):
        risk_budgets(np.array([[1.0, -1.0], [-1.0, 1.0]]), [1, 1])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_every_scheme_adds_up_and_ignores_order_and_scale(seed, count):
    covariance = _covariance(seed, count)
    order = np.random.default_rng(seed).permutation(count)
    for name in SCHEMES:
        w = allocate(name, covariance)
        assert w.sum() == pytest.approx(1)
        assert allocate(name, 1e4 * covariance) == pytest.approx(w)
        if name not in ("minimum_variance", "nested_clusters"):
            assert (w > 0).all()
        # A tree's leaves have no order of their own inside a split, and recursive bisection takes the one it is given.
        if name != "hierarchical_risk_parity":
            assert allocate(name, covariance[np.ix_(order, order)]) == pytest.approx(w[order], rel=1e-6, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 8))
def test_no_weights_have_less_variance(seed, count):
    covariance = _covariance(seed, count)
    least = allocate("minimum_variance", covariance)
    moves = np.random.default_rng(seed).normal(size=(200, count))
    others = least + 0.01 * (moves - moves.mean(axis=1, keepdims=True))
    variance = np.einsum("ij,jk,ik->i", others, covariance, others)
    assert (variance >= least @ covariance @ least).all()


def test_hierarchical_by_hand():
    # Without correlation the order is as given, and every split is by the inverse variances of the halves.
    variance = np.array([1.0, 2.0, 3.0, 6.0])
    left, right = 1 / (1 / 1 + 1 / 2), 1 / (1 / 3 + 1 / 6)
    up = right / (left + right)
    expected = [up * 2 / 3, up * 1 / 3, (1 - up) * 2 / 3, (1 - up) * 1 / 3]
    assert allocate("hierarchical_risk_parity", np.diag(variance)) == pytest.approx(expected)


def test_clusters_are_found():
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(4), 5)
    returns = rng.normal(size=(500, 20)) + 2 * rng.normal(size=(500, 4))[:, group]
    labels = clusters(np.cov(returns.T))
    assert len(set(labels)) == 4
    assert all(len(set(labels[group == g])) == 1 for g in range(4))
    assert clusters(THREE[:2, :2]).tolist() == [0, 0]


def test_refusals():
    with pytest.raises(ConfigError, match="unknown allocation scheme 'best'"):
        allocate("best", THREE)
    with pytest.raises(DataError, match="give \\(N, N\\)"):
        allocate("equal_weight", THREE[:2])
    with pytest.raises(DataError, match="symbol 1 has"):
        allocate("equal_weight", np.diag([1.0, 0.0, 1.0]))
    with pytest.raises(DataError, match="symbol 0 has"):
        allocate("equal_weight", np.full((2, 2), np.nan))
    with pytest.raises(DataError, match="not symmetric"):
        allocate("equal_weight", np.array([[1.0, 0.1], [0.2, 1.0]]))
    with pytest.raises(DataError, match="singular: shrink it"):
        allocate("minimum_variance", np.ones((2, 2)))
    with pytest.raises(DataError, match="not all 0"):
        risk_budgets(THREE, [0, 0, 0])
    with pytest.raises(DataError, match="give \\(N, N\\) and \\(N,\\)"):
        risk_budgets(THREE, [1, 1])
    with pytest.raises(DataError, match="positive variances"):
        risk_budgets(np.zeros((2, 2)), [1, 1])
