import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DataError
from portfolio.costs import CostRule
from portfolio.pods import DecayRule, PodRule, combine, decay, net_trades, pod_budgets, pod_shares

SIGMA = np.array([0.1, 0.2, 0.3])
THREE = np.array([[1, 0.2, 0.5], [0.2, 1, 0.1], [0.5, 0.1, 1]]) * np.outer(SIGMA, SIGMA)


def test_budgets_follow_the_evidence():
    assert pod_budgets([0.9, 0.7, 0.4, np.nan, 0.5], 1.0) == pytest.approx([2 / 3, 1 / 3, 0, 0, 0])
    # What the cap takes goes to the others in proportion.
    assert pod_budgets([1.0, 0.6, 0.55], 0.5) == pytest.approx([0.5, 1 / 3, 1 / 6])
    assert pod_budgets([1.0, 0.9, 0.51], 0.4) == pytest.approx([0.4, 0.4, 0.2])
    # Too few pods for the cap: the rest is cash. None with evidence: all cash.
    assert pod_budgets([0.9, 0.8], 0.3) == pytest.approx([0.3, 0.3])
    assert pod_budgets([0.5, 0.1, np.nan], 0.5).tolist() == [0, 0, 0]
    assert pod_budgets([], 0.5).tolist() == []


@settings(deadline=None, max_examples=100)
@given(st.lists(st.one_of(st.floats(0, 1), st.just(np.nan)), min_size=1, max_size=8), st.floats(0.05, 1))
def test_budgets_keep_to_the_cap(psr, cap):
    budgets = pod_budgets(psr, cap)
    evidence = np.maximum(np.nan_to_num(psr) - 0.5, 0)
    assert (budgets <= cap + 1e-12).all()
    assert (budgets[evidence == 0] == 0).all()
    able = np.count_nonzero(evidence > 0) * cap
    assert budgets.sum() == pytest.approx(min(1.0, able) if (evidence > 0).any() else 0.0)
    free = (budgets > 0) & (budgets < cap - 1e-9)
    if free.sum() > 1:
        assert np.ptp(budgets[free] / evidence[free]) == pytest.approx(0, abs=1e-6 / evidence[free].min())


def test_shares_contribute_the_budgets():
    assert pod_shares([0.5, 0.3, 0.2], THREE) == pytest.approx([0.634819, 0.255719, 0.109462], abs=1e-6)
    half = pod_shares([0.25, 0.15, 0.1], THREE)
    assert half == pytest.approx(0.5 * np.array([0.634819, 0.255719, 0.109462]), abs=1e-6)
    assert pod_shares([0.0, 0.0, 0.0], THREE).tolist() == [0, 0, 0]


def test_books_add_up_within_their_limits():
    targets = np.array([[0.5, -0.5, 0.0, 0.0], [-0.5, 0.0, 1.0, 0.5]])
    free = combine(targets, [0.5, 0.5], PodRule(pod_gross=2.0, gross=5.0, position=None))
    assert free.weights == pytest.approx([0.0, -0.25, 0.5, 0.25])
    assert free.bound == ()
    own = combine(targets, [0.5, 0.5], PodRule(pod_gross=1.0, gross=5.0, position=None))
    assert own.parts[1] == pytest.approx([-0.125, 0, 0.25, 0.125])
    assert own.bound == ("pod 1 gross",)
    total = combine(targets, [0.5, 0.5], PodRule(pod_gross=2.0, gross=0.5, position=0.4))
    assert total.bound == ("position of symbol 2", "gross")
    assert np.abs(total.weights).sum() == pytest.approx(0.5)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 6))
def test_no_limit_of_the_sum_is_passed(seed, pods, symbols):
    rng = np.random.default_rng(seed)
    targets, shares = rng.normal(size=(pods, symbols)), rng.dirichlet(np.ones(pods))
    rule = PodRule(pod_gross=rng.uniform(0.2, 3), gross=rng.uniform(0.2, 2), position=rng.uniform(0.02, 1))
    book = combine(targets, shares, rule)
    assert book.parts.sum(axis=0) == pytest.approx(book.weights)
    assert np.abs(book.weights).sum() <= rule.gross + 1e-12
    assert np.abs(book.weights).max() <= rule.position + 1e-12
    assert (np.abs(book.parts).sum(axis=1) <= rule.pod_gross * shares + 1e-12).all()
    assert (book.parts * targets >= 0).all()


def test_netting_before_costs():
    costs = CostRule(commission_bps=10.0, half_spread_bps=0.0, impact=0.0)
    netting = net_trades([[0.02, 0.01, 0.0], [-0.01, 0.01, 0.0]], costs, 1e7, [1e8] * 3, [0.02] * 3)
    assert netting.trades == pytest.approx([0.01, 0.02, 0.0])
    assert netting.crossed == pytest.approx(0.02)
    # Symbol 0 costs .01 x 10 bp, shared 2 to 1; symbol 1 costs .02 x 10 bp, shared evenly.
    assert netting.cost == pytest.approx([1e-5 * 2 / 3 + 1e-5, 1e-5 / 3 + 1e-5])
    assert netting.saved == pytest.approx(0.02 * 1e-3)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_the_pods_pay_what_the_market_takes(seed, pods):
    rng = np.random.default_rng(seed)
    trades, adv, sigma = rng.normal(0, 0.01, (pods, 5)), rng.lognormal(18, 1, 5), rng.uniform(0.01, 0.03, 5)
    netting = net_trades(trades, CostRule(), 1e7, adv, sigma)
    sent = np.abs(trades.sum(axis=0))
    assert netting.cost.sum() == pytest.approx(float(sent @ CostRule().rate(sent * 1e7, adv, sigma)))
    assert (netting.cost >= 0).all()
    if pods == 1:
        assert netting.crossed == pytest.approx(0, abs=1e-15)
        assert netting.saved == pytest.approx(0, abs=1e-15)


def test_decay_sends_a_pod_to_shadow():
    rule = DecayRule(expected=0.03, slack=0.01, limit=0.1)
    # Each IC of 0 adds .02: above .1 after the sixth.
    assert decay(0.0, [0.0] * 5, rule) == (pytest.approx(0.1), False)
    assert decay(0.0, [0.0] * 6, rule) == (pytest.approx(0.12), True)
    # Good days forgive, and no more than all; days that cannot be judged change nothing.
    assert decay(0.0, [0.0, 0.0, 0.5, 0.0], rule) == (pytest.approx(0.02), False)
    assert decay(0.04, [np.nan], rule) == (0.04, False)
    score, shadow = decay(0.0, [0.0] * 3, rule)
    assert decay(score, [0.0] * 3, rule) == (pytest.approx(0.12), True)
    assert not shadow


def test_refusals():
    with pytest.raises(DataError, match="PSR is a probability"):
        pod_budgets([1.2], 0.5)
    with pytest.raises(DataError, match="give \\(K, N\\) and \\(K,\\)"):
        combine(np.zeros((2, 3)), [1.0], PodRule())
    with pytest.raises(DataError, match="shares not negative"):
        combine(np.zeros((1, 3)), [-1.0], PodRule())
    with pytest.raises(DataError, match="must be finite"):
        net_trades([[np.nan]], CostRule(), 1e7, [1e8], [0.02])
