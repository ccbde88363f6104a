import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.weights import recency, uniqueness


def test_spans_of_the_book():
    assert uniqueness([1, 3, 5], [3, 4, 6], [0, 0, 0]) == pytest.approx([5 / 6, 3 / 4, 1])


def test_daily_outcomes_of_five_sessions_share_them_by_five():
    start = np.arange(1, 101)
    shares = uniqueness(start, start + 4, np.zeros(100, int))
    assert shares[10:-10] == pytest.approx(1 / 5)
    assert shares[[0, -1]] == pytest.approx(np.mean([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]))


@given(seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_uniqueness_equals_counting(seed):
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 20, 15)
    end = start + rng.integers(0, 6, 15)
    group = rng.integers(0, 3, 15)
    expected = []
    for row in range(15):
        span = range(start[row], end[row] + 1)
        counts = [((start <= s) & (s <= end) & (group == group[row])).sum() for s in span]
        expected.append(np.mean(1 / np.array(counts)))
    np.testing.assert_allclose(uniqueness(start, end, group), expected, rtol=1e-12)
    assert len(uniqueness([], [], [])) == 0


def test_recency_halves():
    np.testing.assert_allclose(recency(np.array([0, 10, 20]), 10), [0.25, 0.5, 1.0])
    assert len(recency(np.empty(0, int), 10)) == 0
