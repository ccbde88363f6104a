"""Page's cumulative sum: by hand, and run lengths against the integral equation that they solve."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from core.errors import ConfigError, DataError
from monitoring.cusum import average_run_length, control_limit, cusum, resample


def test_by_hand():
    # m0 - k = 0.01: S gains 0.01 less the rank IC, and never falls below nothing.
    found = cusum([0.01, -0.02, 0.05, -0.03, np.nan, 0.0], mean=0.02, slack=0.01)
    np.testing.assert_allclose(found, [0.0, 0.03, 0.0, 0.04, 0.04, 0.05], atol=1e-15)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.floats(-1, 1), st.just(np.nan)), max_size=60), st.floats(-0.2, 0.2), st.floats(0.0, 0.2))
def test_equals_the_recursion_and_never_looks_ahead(values, mean, slack):
    found, total = cusum(values, mean, slack), 0.0
    assert len(found) == len(values)
    for t, value in enumerate(values):
        total = total if np.isnan(value) else max(0.0, total + mean - slack - value)
        assert found[t] == pytest.approx(total, abs=1e-12)
    half = len(values) // 2
    assert (cusum(values[:half], mean, slack) == found[:half]).all()


def test_a_higher_rank_ic_never_raises_the_sum():
    values = np.random.default_rng(1).normal(0.0, 0.1, 200)
    assert (cusum(values + 0.01, 0.03, 0.015) <= cusum(values, 0.03, 0.015)).all()


def _exact(slack, limit, shift, nodes=60):
    """ARL from a start at zero, by Gauss-Legendre quadrature of Page's integral equation, normal values.

    L(u) = 1 + L(0) P(Y <= -u) + int_0^h L(x) f(x - u) dx, with Y = shift - slack + Z the step of S.
    """
    x, w = np.polynomial.legendre.leggauss(nodes)
    x, w = (x + 1) * limit / 2, w * limit / 2
    points, step = np.append(0.0, x), shift - slack
    kernel = norm.pdf(x[None, :] - points[:, None] - step) * w
    system = np.eye(nodes + 1) - np.hstack([norm.cdf(-points - step)[:, None], kernel])
    return np.linalg.solve(system, np.ones(nodes + 1))[0]


@pytest.mark.parametrize(
    ("limit", "shift", "published"), [(4.0, 1.0, 8.38), (5.0, 1.0, 10.4), (4.0, 2.0, 3.34), (5.0, 2.0, 4.01)]
)
def test_the_oracle_has_the_published_run_lengths(limit, shift, published):
    # Montgomery, Introduction to Statistical Quality Control, table of tabular CUSUM with k = 1/2.
    assert _exact(0.5, limit, shift) == pytest.approx(published, abs=0.05 if published > 10 else 0.006)


def test_the_oracle_without_a_shift():
    # The two-sided chart has half the run length of one side: 168 and 465 in the same table.
    assert _exact(0.5, 4.0, 0.0) / 2 == pytest.approx(168, rel=3e-3)
    assert _exact(0.5, 5.0, 0.0) / 2 == pytest.approx(465, rel=3e-3)


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0])
def test_run_lengths_are_those_of_the_integral_equation(shift):
    exact = _exact(0.5, 3.0, shift)
    # A rank IC below expectation by `shift` deviations.
    paths = 2.0 - shift + np.random.default_rng(7).normal(size=(2000, int(12 * exact)))
    found, error = average_run_length(paths, mean=2.0, slack=0.5, limit=3.0)
    assert found == pytest.approx(exact, abs=4 * error)
    assert error < 0.04 * exact


def test_the_limit_has_the_run_length_asked_for():
    exact = _exact(0.5, 3.0, 0.0)
    paths = np.random.default_rng(3).normal(size=(2000, int(11 * exact)))
    limit = control_limit(paths, 0.0, 0.5, exact)
    assert limit == pytest.approx(3.0, abs=0.1)
    assert average_run_length(paths, 0.0, 0.5, limit)[0] == pytest.approx(exact, rel=1e-3)
    assert average_run_length(paths, 0.0, 0.5, limit * (1 - 1e-9))[0] < exact


def test_overlap_needs_a_higher_limit():
    rng = np.random.default_rng(5)
    plain = rng.normal(size=(400, 3000))
    overlapping = sum(np.roll(plain, lag, axis=1) for lag in range(5)) / np.sqrt(5)
    assert control_limit(overlapping, 0.0, 0.5, 250) > 1.5 * control_limit(plain, 0.0, 0.5, 250)


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 12), st.integers(0, 1000))
def test_blocks_stay_together(block, seed):
    series = np.append(np.arange(50.0), np.nan)
    found = resample(series, 3, 40, block, seed)
    assert found.shape == (3, 40)
    inside = np.arange(1, 40) % block != 0
    assert (np.diff(found, axis=1)[:, inside] % 50 == 1).all()
    assert (found == resample(series, 3, 40, block, seed)).all()


def test_resampled_paths_keep_mean_and_dependence():
    rng = np.random.default_rng(2)
    noise = rng.normal(size=1005)
    series = 0.03 + 0.1 * sum(noise[lag : lag + 1000] for lag in range(5)) / np.sqrt(5)
    paths = resample(series, 200, 2000, 24, 1)
    assert paths.mean() == pytest.approx(series.mean(), abs=0.003)
    told = np.corrcoef(paths[:, 1:].ravel(), paths[:, :-1].ravel())[0, 1]
    assert told == pytest.approx(np.corrcoef(series[1:], series[:-1])[0, 1], abs=0.06)


def test_bad_inputs_are_refused():
    with pytest.raises(DataError, match="30 days of expected rank IC, 48 are needed"):
        resample(np.zeros(30), 2, 10, 24, 0)
    with pytest.raises(DataError, match="at least 10 times"):
        control_limit(np.zeros((5, 99)), 0.0, 0.1, 10)
    with pytest.raises(ConfigError, match="at least 2 sessions"):
        control_limit(np.zeros((5, 99)), 0.0, 0.1, 1)
    with pytest.raises(DataError, match="finite"):
        average_run_length(np.full((2, 5), np.nan), 0.0, 0.1, 1.0)
