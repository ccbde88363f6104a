from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2

from core.errors import ConfigError, DataError
from portfolio.exceedances import (
    Transitions,
    christoffersen_independence,
    conditional_coverage,
    coverage,
    find_hits,
    kupiec,
    non_rejection,
    traffic_light,
    transitions,
)


@pytest.mark.parametrize(
    ("hits", "sessions", "probability", "statistic"),
    [
        (0, 250, 0.01, 5.0252),
        (2, 250, 0.01, 0.1084),
        (5, 250, 0.01, 1.9568),
        (8, 250, 0.01, 7.7336),
        (25, 250, 0.05, 10.3271),
    ],
)
def test_kupiec(hits, sessions, probability, statistic):
    got = kupiec(hits, sessions, probability)
    assert got.statistic == pytest.approx(statistic, abs=5e-5)
    assert got.p_value == pytest.approx(chi2.sf(statistic, 1), abs=1e-4)


@pytest.mark.parametrize(
    ("sessions", "probability", "low", "high"),
    [
        (255, 0.05, 7, 20),
        (510, 0.01, 2, 10),
        (510, 0.05, 17, 35),
        (1000, 0.01, 5, 16),
        (1000, 0.05, 38, 64),
    ],
)
def test_non_rejection(sessions, probability, low, high):
    assert non_rejection(sessions, probability) == (low, high)
    for hits in (low, high):
        assert kupiec(hits, sessions, probability).p_value > 0.05
    for hits in (low - 1, high + 1):
        assert kupiec(hits, sessions, probability).p_value < 0.05


def test_non_rejection_of_a_year():
    assert non_rejection(255, 0.01) == (1, 6)
    assert kupiec(0, 250, 0.01).p_value < 0.05 < kupiec(1, 250, 0.01).p_value
    low, high = non_rejection(255, 0.05, confidence=0.99)
    assert low < 7
    assert high > 20


@pytest.mark.parametrize(
    ("steps", "statistic", "places"),
    [((233, 8, 8, 1), 1.01218, 5e-6), ((228, 8, 8, 5), 14.87507, 5e-6), ((229, 10, 10, 0), 0.83706, 5e-6)],
)
def test_christoffersen(steps, statistic, places):
    assert christoffersen_independence(Transitions(*steps)).statistic == pytest.approx(statistic, abs=places)


def _plain(hits, probability):
    """Log-likelihoods of a series under the three hypotheses, term by term, the first session given."""
    later = list(pairwise(hits))
    share = {a: np.mean([y for x, y in later if x == a]) if any(x == a for x, _ in later) else 0.5 for a in (0, 1)}
    overall = np.mean([y for _, y in later])

    def total(chance):
        return sum(np.log(chance(x) if y else 1 - chance(x)) for x, y in later)

    return total(lambda x: share[x]), total(lambda x: overall), total(lambda x: probability)


def test_likelihood_ratios_equal_plain_sums():
    for hits in product((False, True), repeat=6):
        free, same, promised = _plain(hits, 0.2)
        steps = transitions(np.array(hits))
        assert christoffersen_independence(steps).statistic == pytest.approx(2 * (free - same), abs=1e-9)
        joint = conditional_coverage(steps, 0.2)
        assert joint.statistic == pytest.approx(2 * (free - promised), abs=1e-9)
        assert joint.p_value == pytest.approx(chi2.sf(2 * (free - promised), 2), abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=300), st.floats(0.001, 0.5))
def test_joint_test_is_the_sum_of_its_parts(hits, probability):
    steps = transitions(np.array(hits))
    count = steps.n01 + steps.n11
    parts = kupiec(count, sum(steps), probability).statistic + christoffersen_independence(steps).statistic
    assert conditional_coverage(steps, probability).statistic == pytest.approx(parts, abs=1e-8)
    assert sum(steps) == len(hits) - 1
    assert steps.n10 + steps.n11 == sum(hits[:-1])


def test_traffic_light():
    assert traffic_light(4).zone == "green"
    assert traffic_light(4).cumulative == pytest.approx(0.8922, abs=5e-5)
    assert [traffic_light(x).zone for x in range(12)] == ["green"] * 5 + ["yellow"] * 5 + ["red"] * 2
    assert traffic_light(10).cumulative == pytest.approx(0.99995, abs=5e-6)
    assert traffic_light(5).cumulative == pytest.approx(sum(binom.pmf(range(6), 250, 0.01)))


def test_tests_keep_their_size():
    """Of right forecasts, about one in twenty is rejected."""
    draws = np.random.default_rng(0).random((1000, 5000)) < 0.05
    steps = [transitions(row) for row in draws]
    for rejected in (
        np.mean([kupiec(int(row.sum()), 5000, 0.05).p_value < 0.05 for row in draws]),
        np.mean([christoffersen_independence(s).p_value < 0.05 for s in steps]),
        np.mean([conditional_coverage(s, 0.05).p_value < 0.05 for s in steps]),
    ):
        assert 0.03 < rejected < 0.08


def test_clustered_hits_are_found():
    quiet = np.zeros(1000, dtype=bool)
    quiet[np.arange(50) * 20] = True
    together = np.sort(quiet)
    for hits, independent in ((quiet, True), (together, False)):
        assert kupiec(50, 1000, 0.05).p_value > 0.9
        assert (christoffersen_independence(transitions(hits)).p_value > 0.01) == independent


def test_hits_of_a_series():
    returns = np.array([np.nan, -0.05, -0.01, 0.04, -0.02, -0.03])
    forecast = np.array([np.nan, np.nan, 0.02, 0.02, 0.02, 0.02])
    assert find_hits(returns, forecast).tolist() == [False, False, False, True]  # a loss equal to the VaR is none
    rng = np.random.default_rng(1)
    draws = rng.normal(size=1000)
    promised = np.full(1000, 2.326348)
    promised[:100] = np.nan
    got = coverage(draws, promised, 0.99)
    hits = -draws[100:] > 2.326348
    assert (got.sessions, got.hits, got.rate) == (900, hits.sum(), hits.mean())
    assert got.recent_hits == hits[-250:].sum()
    assert got.unconditional == pytest.approx(kupiec(got.hits, 900, 0.01))
    assert got.conditional == pytest.approx(conditional_coverage(transitions(hits), 0.01))
    assert got.light.cumulative == pytest.approx(traffic_light(got.recent_hits).cumulative)
    assert got.light.zone == traffic_light(got.recent_hits).zone


def test_refusals():
    with pytest.raises(DataError, match="return 1 is nan"):
        find_hits([0.1, np.nan], [0.1, 0.1])
    with pytest.raises(DataError, match="no session has a forecast"):
        find_hits([0.1, 0.2], [np.nan, np.nan])
    with pytest.raises(DataError, match="equally long"):
        find_hits([0.1, 0.2], [0.1])
    with pytest.raises(DataError, match="0 <= hits <= sessions"):
        kupiec(5, 4, 0.01)
    with pytest.raises(DataError, match="whole numbers"):
        kupiec(2.5, 250, 0.01)
    with pytest.raises(ConfigError, match=r"probability 1\.0"):
        kupiec(2, 250, 1.0)
    with pytest.raises(ConfigError, match="confidence 0"):
        non_rejection(250, 0.01, 0)
    with pytest.raises(DataError, match="two booleans or more"):
        transitions(np.array([0, 1, 0]))
    with pytest.raises(DataError, match="two booleans or more"):
        transitions(np.array([True]))
    with pytest.raises(DataError, match="at least one step"):
        christoffersen_independence(Transitions(0, 0, 0, 0))
