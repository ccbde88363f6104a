import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DataError
from portfolio.covariance.form import Covariance


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 10), st.floats(-4, 0))
def test_a_matrix_and_its_form_are_the_same(seed, count, rank, magnitude):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(count, rank)) * 10**magnitude
    matrix, w = root @ root.T, rng.normal(size=count)
    form = Covariance.of(matrix)
    assert form.matrix() == pytest.approx(matrix, abs=1e-9 * np.abs(matrix).max())
    assert form.variance(w) == pytest.approx(w @ matrix @ w, rel=1e-7, abs=1e-9 * np.abs(matrix).max())
    assert form.volatility() == pytest.approx(np.sqrt(np.diag(matrix)), rel=1e-6)
    assert form.loadings.shape[1] <= min(count, rank)
    deviation = np.sqrt(np.diag(matrix))
    assert form.correlation() == pytest.approx(matrix / np.outer(deviation, deviation), abs=1e-6)


def test_a_factor_model():
    exposures = np.array([[1.0, 0.0], [1.0, 1.0], [0.5, -1.0]])
    factors, specific = np.array([[0.04, 0.01], [0.01, 0.02]]), np.array([0.01, 0.02, 0.03])
    model = Covariance.factor_model(exposures, factors, specific)
    expected = exposures @ factors @ exposures.T + np.diag(specific)
    assert model.matrix() == pytest.approx(expected)
    w = np.array([0.5, -0.2, 0.1])
    assert model.variance(w) == pytest.approx(w @ expected @ w)
    assert len(model) == 3


def test_what_never_moves():
    still = Covariance.of(np.diag([0.0, 1.0]))
    assert still.volatility().tolist() == [0.0, 1.0]
    assert still.correlation().tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert Covariance.of(np.zeros((2, 2))).variance(np.ones(2)) == 0.0


def test_refusals():
    with pytest.raises(DataError, match="give a square matrix"):
        Covariance.of(np.zeros((2, 3)))
    with pytest.raises(DataError, match="row 1 is not finite"):
        Covariance.of(np.array([[1.0, 0.0], [0.0, np.nan]]))
    with pytest.raises(DataError, match="not symmetric"):
        Covariance.of(np.array([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(DataError, match="eigenvalue -1 is negative: shrink"):
        Covariance.of(np.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(DataError, match="do not belong together"):
        Covariance(np.zeros((2, 1)), np.zeros(3))
    with pytest.raises(DataError, match="symbol 1 has"):
        Covariance(np.zeros((2, 1)), np.array([1.0, -1.0]))
