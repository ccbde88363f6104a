import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from market.dispersion import average_correlation, cross_dispersion


def _returns(seed=0, rows=150, members=6, loading=0.6):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(rows, 1))
    own = rng.normal(size=(rows, members))
    return rng.uniform(0.005, 0.03, members) * (np.sqrt(loading) * common + np.sqrt(1 - loading) * own)


def test_dispersion_by_hand():
    got = cross_dispersion([[0.01, 0.02, 0.03], [0.01, np.nan, 0.03], [0.02, 0.02, 0.02]])
    assert got == pytest.approx([0.01 * np.sqrt(2 / 3), np.nan, 0.0], nan_ok=True)
    assert cross_dispersion([[0.01, np.nan, 0.03]], minimum=2) == pytest.approx([0.01])


def test_dispersion_equals_numpy():
    r = _returns(1)
    r[np.random.default_rng(1).random(r.shape) < 0.2] = np.nan
    expected = np.where(np.isfinite(r).sum(axis=1) >= 4, np.nanstd(r, axis=1), np.nan)
    assert np.isnan(expected).any()
    assert cross_dispersion(r, minimum=4) == pytest.approx(expected, rel=1e-10, nan_ok=True)


def test_two_members_have_their_own_correlation():
    r = _returns(2, members=2)
    for weights in (None, [0.2, 0.8], [3.0, 1.0]):
        got = average_correlation(r, 60, weights)
        assert np.isnan(got[:59]).all()
        for t in range(59, 150):
            assert got[t] == pytest.approx(np.corrcoef(r[t - 59 : t + 1].T)[0, 1], rel=1e-9)


def _slow(part, w):
    """Weighted mean over all pairs of the matrix of correlations."""
    keep = np.isfinite(part).all(axis=0) & (w > 0)
    corr, s, w = np.corrcoef(part[:, keep].T), part[:, keep].std(axis=0), w[keep]
    total = mass = 0.0
    for i in range(keep.sum()):
        for j in range(keep.sum()):
            if i != j:
                total += w[i] * w[j] * s[i] * s[j] * corr[i, j]
                mass += w[i] * w[j] * s[i] * s[j]
    return total / mass


def test_average_equals_the_mean_over_pairs():
    r = _returns(3)
    r[:70, 1] = np.nan
    r[100, 4] = np.inf
    weights = np.random.default_rng(3).uniform(0, 2, r.shape)
    weights[:, 2] = 0.0
    got = average_correlation(r, 30, weights)
    for t in range(29, 150):
        assert got[t] == pytest.approx(_slow(r[t - 29 : t + 1], weights[t]), rel=1e-9)
    fixed = average_correlation(r, 30, weights[0])
    assert fixed[80] == pytest.approx(_slow(r[51:81], weights[0]), rel=1e-9)


def test_average_of_known_correlation():
    got = average_correlation(_returns(4, 20000, 5, 0.3), 20000)[-1]
    assert got == pytest.approx(0.3, abs=0.015)
    together = np.random.default_rng(0).normal(size=(50, 1)) * [1, 2, 5]
    assert average_correlation(together, 50)[-1] == pytest.approx(1.0)


def test_nothing_to_compare():
    r = _returns(5, 40, 3)
    r[:, 1:] = [0.01, np.nan]
    assert np.isnan(average_correlation(r, 20)).all()  # one moves, one stands still, one is unknown
    assert np.isnan(average_correlation(_returns(5, 40, 3), 20, [1.0, 0.0, 0.0])).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 49), st.floats(0, 0.1))
def test_the_future_changes_nothing(seed, cut, unknown):
    r = _returns(seed, 50, 9)
    r[np.random.default_rng(seed).random(r.shape) < unknown] = np.nan
    for values in (cross_dispersion, lambda x: average_correlation(x, 10)):
        alone = values(r[:cut])
        assert np.array_equal(values(r)[:cut], alone, equal_nan=True)
        late = values(r[max(0, cut - 10) : cut])
        assert np.array_equal(late[-1], alone[-1], equal_nan=True)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.001, 1000))
def test_scale(seed, factor):
    r = _returns(seed, 40, 4)
    assert average_correlation(factor * r, 20) == pytest.approx(average_correlation(r, 20), nan_ok=True)
    assert cross_dispersion(factor * r) == pytest.approx(factor * cross_dispersion(r))


def test_refusals():
    r = _returns()
    with pytest.raises(ConfigError, match="window 1"):
        average_correlation(r, 1)
    with pytest.raises(ConfigError, match="minimum 1"):
        cross_dispersion(r, 1)
    with pytest.raises(DataError, match="give \\(T, S\\)"):
        cross_dispersion(r[0])
    with pytest.raises(DataError, match="\\(S,\\) or \\(T, S\\)"):
        average_correlation(r, 20, np.ones(3))
    with pytest.raises(DataError, match="negative or unknown"):
        average_correlation(r, 20, [1, 1, 1, 1, 1, -1])
