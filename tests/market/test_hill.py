import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from core.errors import ConfigError, DataError
from market.hill import hill, trailing_hill

PARETO = (1 - (np.arange(1, 1001) - 0.5) / 1000) ** (-1 / 3)
"""Mid-point quantiles of a Pareto law of tail index 3."""


@pytest.mark.parametrize(("k", "alpha"), [(20, 2.97776), (100, 2.99543)])
def test_hill_check_values(k, alpha):
    got = hill(PARETO, k=k)
    assert got.alpha == pytest.approx(alpha, abs=5e-6)
    assert got.xi == pytest.approx(1 / alpha, abs=5e-6)
    assert got.alpha_error == pytest.approx(alpha / np.sqrt(k), abs=1e-5)
    assert hill(PARETO, share=k / 1000) == got
    assert got.threshold == np.sort(PARETO)[-k - 1]


def test_a_gaussian_sample():
    # The mean of ln(|x| / u) beyond the 5 % quantile u of |x|, by quadrature, is 1 / 5.998457.
    x = norm.ppf((np.arange(1, 200001) - 0.5) / 200000)
    assert hill(np.abs(x), share=0.05).alpha == pytest.approx(5.998457, rel=1e-3)


def test_unknown_values_are_left_out():
    x = np.random.default_rng(1).standard_t(4, 2000)
    holes = np.insert(x, [0, 5, 5, 900], [np.nan, np.inf, np.nan, -np.inf])
    assert hill(holes, share=0.05) == hill(x, share=0.05)


def test_a_share_of_a_whole_number():
    # 0.29 * 100 is 28.999... in binary.
    assert hill(PARETO[:100], share=0.29).k == 29


def _slow_trailing(x, window, share, minimum):
    out = np.full(len(x), np.nan)
    for row in range(len(x)):
        part = x[max(0, row - window + 1) : row + 1]
        part = np.sort(part[np.isfinite(part)])[::-1]
        k = int(share * len(part) + 1e-9)
        if len(part) >= minimum and k >= 1 and part[k] > 0:
            out[row] = np.log(part[:k]).mean() - np.log(part[k])
    return out


def test_trailing_equals_plain_windows():
    rng = np.random.default_rng(3)
    x = rng.standard_t(3, (300, 3))
    x[rng.random(x.shape) < 0.1] = np.nan
    x[:150, 1] = np.nan
    x[120:220, 2] = np.round(x[120:220, 2])  # ties and zeros
    got = trailing_hill(x, 80, 0.1, minimum=30)
    for n in range(3):
        expected = _slow_trailing(x[:, n], 80, 0.1, 30)
        assert got[:, n] == pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert np.array_equal(trailing_hill(x[:, n], 80, 0.1, minimum=30), got[:, n], equal_nan=True)
    part = x[220:300, 0]
    assert got[299, 0] == pytest.approx(hill(part, share=0.1).xi, rel=1e-12)


sample = st.lists(st.one_of(st.floats(-5, 5), st.sampled_from([0.0, 1.0, np.nan, np.inf])), min_size=1, max_size=60)


@settings(deadline=None, max_examples=60)
@given(sample, st.integers(1, 15), st.floats(0.05, 0.9))
def test_trailing_has_the_bits_of_its_window(x, window, share):
    got = trailing_hill(x, window, share)
    for row in range(len(x)):
        alone = trailing_hill(x[max(0, row - window + 1) : row + 1], window, share)[-1]
        assert np.array_equal(got[row], alone, equal_nan=True)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.floats(1e-6, 1e6))
def test_the_index_is_free_of_scale(seed, factor):
    x = np.random.default_rng(seed).standard_t(3, 200)
    assert hill(factor * x, share=0.1).xi == pytest.approx(hill(x, share=0.1).xi, rel=1e-9)
    assert trailing_hill(factor * x, 50) == pytest.approx(trailing_hill(x, 50), rel=1e-6, abs=1e-9, nan_ok=True)


def test_equal_values_have_no_tail():
    got = hill(np.ones(50), k=5)
    assert (got.xi, got.alpha) == (0.0, np.inf)


def test_refusals():
    for wrong in ({}, {"k": 5, "share": 0.1}):
        with pytest.raises(ConfigError, match="either k or a share"):
            hill(PARETO, **wrong)
    with pytest.raises(ConfigError, match="k 0"):
        hill(PARETO, k=0)
    with pytest.raises(ConfigError, match="share 1"):
        hill(PARETO, share=1.0)
    with pytest.raises(DataError, match="k 1000 with 1000 known values"):
        hill(PARETO, k=1000)
    with pytest.raises(DataError, match="less than one"):
        hill(PARETO[:10], share=0.05)
    with pytest.raises(DataError, match="lower k"):
        hill([3.0, 2.0, 0.0, -1.0], k=2)
    with pytest.raises(ConfigError, match="minimum 30"):
        trailing_hill(PARETO, 20, minimum=30)
    with pytest.raises(DataError, match="give \\(T,\\) or \\(T, N\\)"):
        trailing_hill(PARETO.reshape(10, 10, 10), 5)
