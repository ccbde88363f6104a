import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from models.inputs import coverage, gaussian_ranks, rank_fractions, uniform_ranks, zscores


@given(seed=st.integers(0, 1000), rows=st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_rank_fractions_match_pandas(seed, rows):
    rng = np.random.default_rng(seed)
    session = np.sort(rng.integers(0, 5, rows)).astype(np.int32)
    X = rng.integers(0, 6, (rows, 3)).astype(np.float32)
    X[rng.random(X.shape) < 0.2] = np.nan
    grouped = pd.DataFrame(X).groupby(session)
    expected = (grouped.rank() - 0.5) / grouped.transform("count")
    np.testing.assert_allclose(rank_fractions(X, session), expected, rtol=1e-6)


def test_gauss_rank_of_five_values():
    X = np.array([[3.0], [1.0], [2.0], [5.0], [4.0], [np.nan]], dtype=np.float32)
    out = gaussian_ranks(X, np.zeros(6, np.int32))[:, 0]
    np.testing.assert_allclose(out, [0, -1.281552, -0.524401, 1.281552, 0.524401, 0], atol=1e-6)


def test_a_day_alone_has_the_same_bits():
    rng = np.random.default_rng(1)
    session = np.repeat(np.arange(4, dtype=np.int32), 25)
    X = rng.standard_normal((100, 3)).astype(np.float32)
    for transform in (gaussian_ranks, uniform_ranks):
        assert transform(X, session)[50:75].tobytes() == transform(X[50:75], session[50:75]).tobytes()


def test_gaussian_ranks_over_many_chunks():
    session = np.repeat(np.arange(700, dtype=np.int32), 100)
    X = np.random.default_rng(0).standard_normal((70_000, 1)).astype(np.float32)
    out = gaussian_ranks(X, session)
    assert np.isfinite(out).all()
    assert out.max() == pytest.approx(ndtri(0.995), rel=1e-6)


def test_zscores():
    session = np.array([0, 0, 0, 1, 1, 2], dtype=np.int32)
    out = zscores(np.array([1.0, 2.0, np.nan, 0.1, 0.1, 5.0]), session)
    np.testing.assert_array_equal(out, [-1, 1, np.nan, 0, 0, 0])


def test_empty():
    empty = np.empty((0, 2), np.float32)
    assert gaussian_ranks(empty, np.empty(0, np.int32)).shape == (0, 2)
    assert coverage(empty).tolist() == [0, 0]
    assert coverage(np.array([[1, np.nan]])).tolist() == [1, 0]
