import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from portfolio.contributions import (
    effective_number,
    factor_contributions,
    factor_exposures,
    sector_exposures,
    shortfall_contributions,
    volatility_contributions,
)
from portfolio.covariance.factors import FactorModel
from portfolio.value_at_risk.base import value_at_risk

SIGMA = np.array([[0.01, 0.004, 0.015], [0.004, 0.04, 0.006], [0.015, 0.006, 0.09]])


def _slope(risk, weights, step=1e-6):
    """Central differences of a risk in each weight."""
    moves = step * np.eye(len(weights))
    return np.array([(risk(weights + m) - risk(weights - m)) / (2 * step) for m in moves])


def _volatility(w):
    return float(np.sqrt(w @ SIGMA @ w))


weights3 = st.lists(st.floats(-1, 1), min_size=3, max_size=3).map(np.array).filter(lambda w: np.abs(w).sum() > 0.1)


@settings(deadline=None)
@given(weights3)
def test_volatility_in_parts(w):
    got = volatility_contributions(w, SIGMA)
    assert got.total == pytest.approx(_volatility(w))
    assert got.component.sum() == pytest.approx(got.total)
    assert got.share.sum() == pytest.approx(1)
    assert got.marginal == pytest.approx(_slope(_volatility, w), abs=1e-6)
    assert got.component == pytest.approx(w * got.marginal)


def test_risk_parity_has_equal_parts():
    got = volatility_contributions([0.514507, 0.304644, 0.180849], SIGMA)
    assert got.share == pytest.approx(np.full(3, 1 / 3), abs=5e-6)
    hedge = volatility_contributions([1.0, -0.5], [[0.04, 0.03], [0.03, 0.04]])
    assert hedge.component[1] < 0 < hedge.component[0]


def test_a_book_without_volatility():
    singular = np.outer([1.0, 2.0], [1.0, 2.0])
    for w in ([0.0, 0.0], [2.0, -1.0], [0.2, -0.1]):
        got = volatility_contributions(w, singular)
        assert got.total == 0
        assert (got.component == 0).all()
        assert np.isnan(got.share).all()


@settings(deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.5, 0.9, 0.95, 0.975, 0.983]))
def test_shortfall_in_parts(seed, level):
    rng = np.random.default_rng(seed)
    scenarios, w = 0.02 * rng.standard_t(4, size=(120, 5)), rng.normal(size=5)
    got = shortfall_contributions(w, scenarios, level)
    assert got.total == pytest.approx(value_at_risk(scenarios @ w, level, "historical").es, rel=1e-12)
    assert got.component.sum() == pytest.approx(got.total, rel=1e-12)

    def shortfall(weights):
        return value_at_risk(scenarios @ weights, level, "historical").es

    # Scenarios do not change places under so small a step.
    assert got.marginal == pytest.approx(_slope(shortfall, w, 1e-9), abs=1e-5)


def test_shortfall_by_hand():
    scenarios = np.array([[-0.10, 0.02], [0.01, -0.08], [0.02, 0.01], [-0.03, -0.01], [0.05, 0.05]])
    # Book at one half each: -.04, -.035, .015, -.02, .05; the worst two and a half of five.
    got = shortfall_contributions([0.5, 0.5], scenarios, 0.5)
    assert got.total == pytest.approx((0.04 + 0.035 + 0.5 * 0.02) / 2.5)
    assert got.marginal == pytest.approx([(0.10 - 0.01 + 0.015) / 2.5, (-0.02 + 0.08 + 0.005) / 2.5])


def test_volatility_by_factor():
    rng = np.random.default_rng(2)
    root = rng.normal(size=(3, 3))
    model = FactorModel(rng.normal(size=(20, 3)), root @ root.T, rng.uniform(0.1, 1, 20))
    w = rng.normal(size=20)
    got = factor_contributions(w, model)
    whole = volatility_contributions(w, model.covariance())
    assert got.total == pytest.approx(whole.total)
    assert got.component.sum() == pytest.approx(got.total)
    assert got.component[-1] == pytest.approx((w**2 @ model.specific) / got.total)

    def risk(exposure):
        return float(np.sqrt(exposure @ model.factors @ exposure + w**2 @ model.specific))

    assert got.marginal[:-1] == pytest.approx(_slope(risk, model.exposures.T @ w), abs=1e-6)
    assert factor_contributions(np.zeros(20), model).total == 0


def test_effective_number():
    assert effective_number([0.25] * 4) == pytest.approx(4)
    assert effective_number([0.5, -0.5]) == pytest.approx(2)
    assert effective_number([0.5, 0.3, 0.2]) == pytest.approx(1 / 0.38)
    assert effective_number([0.0, 0.0]) == 0


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.floats(0.1, 10))
def test_effective_number_is_between_one_and_all(weights, factor):
    w = np.array([0.0 if abs(x) < 1e-6 else x for x in weights])
    got = effective_number(w)
    assert got == pytest.approx(effective_number(factor * w))
    if w.any():
        assert 1 - 1e-12 <= got <= np.count_nonzero(w) + 1e-9


def test_exposures():
    exposures = np.array([[1.0, 0.5], [2.0, -1.0], [np.nan, np.nan]])
    assert factor_exposures([0.5, -0.25, 0.0], exposures) == pytest.approx([0, 0.5])
    got = sector_exposures([0.5, -0.2, 0.1, -0.4, 0.0], np.array([3, 3, -1, 7, 8]))
    assert got.sectors.tolist() == [-1, 3, 7, 8]
    assert got.net == pytest.approx([0.1, 0.3, -0.4, 0])
    assert got.gross == pytest.approx([0.1, 0.7, 0.4, 0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: volatility_contributions([np.nan, 1], np.eye(2)), DataError, "finite fractions"),
        (lambda: volatility_contributions([1, 1], np.eye(3)), DataError, r"covariance \(3, 3\) for 2 columns"),
        (lambda: volatility_contributions([1, 1], [[1, np.nan], [0, 1]]), DataError, r"covariance\[0, 1\] is nan"),
        (lambda: volatility_contributions([1, -1], [[1, 2], [2, 1]]), DataError, "negative variance"),
        (lambda: shortfall_contributions([1, 1], np.ones((5, 2)), 0.99), DataError, "give 100 or more"),
        (lambda: shortfall_contributions([1, 1], np.ones((5, 2)), 0.1), ConfigError, r"level 0\.1"),
        (lambda: shortfall_contributions([1, 1], [[1, np.inf]], 0.5), DataError, r"scenarios\[0, 1\] is inf"),
        (lambda: factor_exposures([1, 1], [[1.0], [np.nan]]), DataError, r"exposures\[1, 0\] is nan"),
        (lambda: factor_exposures([1, 1], [1.0, 2.0]), DataError, r"give \(N, K\)"),
        (lambda: sector_exposures([1, 1], ["a", "b"]), DataError, "integer codes"),
        (lambda: effective_number([[1.0]]), DataError, "finite fractions"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
