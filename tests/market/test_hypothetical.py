import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from core.errors import ConfigError, DataError
from market.catalogue import Scenario
from market.hypothetical import correlation_stress, reverse_stress, stress_grid
from market.scenarios import Book, stress

seeds = st.integers(0, 10_000)


def _covariance(rng, count, rank=None):
    loadings = rng.normal(size=(count, rank or count + 3))
    return 1e-4 * loadings @ loadings.T


def _book(rng, count=6, factors=3):
    names = [f"F{k}" for k in range(factors)]
    return Book(
        [f"S{i}" for i in range(count)], rng.normal(0, 0.3, count), rng.uniform(0.5, 1.5, count),
        rng.normal(size=(count, factors)), names, [""] * count, rng.normal(0, 0.02, count),
    )  # fmt: skip


# --- correlations --------------------------------------------------------------------------------------------


def test_one_correlation_by_hand():
    # Half each, 20 % and 10 %: at .7 the variance is .25 (.04 + .01 + 2 .7 .02) = .0195; uncorrelated, .0125.
    book = Book(["A", "B"], [0.5, 0.5], [1, 1], np.zeros((2, 0)), [], ["", ""], [0, 0])
    got = correlation_stress(book, np.diag([0.04, 0.01]))
    assert (got.before**2, got.after**2) == pytest.approx((0.0125, 0.0195))
    assert correlation_stress(book, np.diag([0.04, 0.01]), 0.7, multiplier=3).after == pytest.approx(3 * got.after)
    # Equal risks: s sqrt((1 + (N - 1) rho) / N).
    n = 50
    book = Book(range(n), np.full(n, 1 / n), np.ones(n), np.zeros((n, 0)), [], [""] * n, np.zeros(n))
    got = correlation_stress(book, 0.02**2 * np.eye(n))
    assert got == pytest.approx((0.02 / np.sqrt(n), 0.02 * np.sqrt((1 + 49 * 0.7) / n)))


@settings(deadline=None, max_examples=60)
@given(seeds, st.floats(0, 1))
def test_equals_the_whole_matrix_which_is_a_covariance(seed, rho):
    rng = np.random.default_rng(seed)
    book, covariance = _book(rng), _covariance(rng, 6)
    s = np.sqrt(np.diag(covariance))
    matrix = np.outer(s, s) * np.where(np.eye(6, dtype=bool), 1.0, rho)
    assert np.linalg.eigvalsh(matrix)[0] > -1e-15
    got = correlation_stress(book, covariance, rho)
    assert got.after == pytest.approx(np.sqrt(max(book.weights @ matrix @ book.weights, 0)), abs=1e-9)
    assert got.before == pytest.approx(np.sqrt(book.weights @ covariance @ book.weights), abs=1e-12)
    # Set to what they are, correlations change nothing.
    assert correlation_stress(book, matrix, rho).before == pytest.approx(got.after, abs=1e-7)
    short = dataclasses.replace(book, weights=-book.weights)
    assert correlation_stress(short, covariance, rho) == pytest.approx(got)


def test_longs_that_correlate_are_riskier_and_a_hedge_is_not():
    rng = np.random.default_rng(0)
    book = dataclasses.replace(_book(rng), weights=np.full(6, 1 / 6))
    levels = [correlation_stress(book, np.eye(6), rho).after for rho in (0.0, 0.3, 0.7, 1.0)]
    assert levels == sorted(levels)
    assert levels[-1] == pytest.approx(1)  # the weighted mean of the deviations
    hedged = dataclasses.replace(book, weights=np.array([1, -1, 1, -1, 1, -1]) / 6)
    assert correlation_stress(hedged, np.eye(6)).after < correlation_stress(hedged, np.eye(6)).before
    assert correlation_stress(hedged, np.eye(6), 1.0).after == 0
    assert correlation_stress(dataclasses.replace(book, weights=np.zeros(6)), np.eye(6)) == (0, 0)


def test_rounding_below_zero_is_no_error():
    # Stocks that are one stock, and a book that is flat in it but for the last digits.
    covariance, signs = np.full((6, 6), 0.1), []
    for seed in range(50):
        book = _book(np.random.default_rng(seed))
        flat = dataclasses.replace(book, weights=book.weights - book.weights.mean())
        signs.append(np.sign(flat.weights @ covariance @ flat.weights))
        assert correlation_stress(flat, covariance).before == pytest.approx(0, abs=1e-8)
    assert -1 in signs


# --- grid ----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(seeds)
def test_the_grid_is_a_scenario_at_each_point(seed):
    rng = np.random.default_rng(seed)
    book, covariance = _book(rng), _covariance(rng, 6)
    markets, multipliers = np.array([-0.9, -0.2, 0.0, 0.3]), np.array([0.0, 1.0, 2.5])
    got = stress_grid(book, covariance, markets, multipliers, crowd=1.5)
    assert got.gains.shape == (4, 3)
    for m, market in enumerate(markets):
        for v, times in enumerate(multipliers):
            scenario = Scenario("x", "X", float(market), crowd=1.5 * times)
            assert got.gains[m, v] == pytest.approx(stress(book, scenario).total, abs=1e-12)
    assert got.volatility == pytest.approx(multipliers * np.sqrt(book.weights @ covariance @ book.weights))
    short = stress_grid(dataclasses.replace(book, weights=-book.weights), covariance, markets, multipliers, crowd=1.5)
    assert short.gains == pytest.approx(-got.gains)


def test_the_grid_refuses():
    book = _book(np.random.default_rng(0))
    for markets, multipliers, message in [
        ([-1.5], [1.0], "need moves >= -1"),
        ([0.1], [-1.0], "multipliers >= 0"),
        ([np.nan], [1.0], "finite market moves"),
        (0.1, [1.0], "need lists of finite"),
    ]:
        with pytest.raises(ConfigError, match=message):
            stress_grid(book, np.eye(6), markets, multipliers)


# --- reverse stress ------------------------------------------------------------------------------------------


def test_reverse_stress_by_hand():
    # Market alone, beta 1.5, deviation 10 %: to lose 30 % it falls by 20 %, two deviations.
    book = Book(["A"], [1.0], [1.5], np.zeros((1, 0)), [], [""], [0])
    got = reverse_stress(book, [[0.01]], 0.3)
    assert got.shock == pytest.approx([-0.2])
    assert got.distance == pytest.approx(2.0)
    # Two uncorrelated factors, loadings 3 and 4 on deviations of .1: along (3, 4), L / (5 * .1).
    book = Book(["A"], [1.0], [3.0], [[4.0]], ["value"], [""], [0])
    got = reverse_stress(book, 0.01 * np.eye(2), 0.5)
    assert got.shock == pytest.approx([-0.06, -0.08])
    assert got.distance == pytest.approx(1.0)


@settings(deadline=None, max_examples=60)
@given(seeds, st.floats(0.01, 0.9))
def test_no_likelier_shock_loses_as_much(seed, loss):
    rng = np.random.default_rng(seed)
    book, covariance = _book(rng), _covariance(rng, 4)
    got, b, inverse = reverse_stress(book, covariance, loss), book.loadings(), np.linalg.inv(covariance)
    assert b @ got.shock == pytest.approx(-loss)
    assert got.shock @ inverse @ got.shock == pytest.approx(got.distance**2)
    # Any other shock that loses as much: this one plus what the book does not feel.
    for other in rng.normal(0, np.abs(got.shock).max(), (20, 4)):
        shock = got.shock + other - b * (b @ other) / (b @ b)
        assert b @ shock == pytest.approx(-loss)
        assert shock @ inverse @ shock >= got.distance**2 * (1 - 1e-9)


def test_equals_a_numerical_search():
    rng = np.random.default_rng(7)
    book, covariance = _book(rng), 1e4 * _covariance(rng, 4)
    inverse, b = np.linalg.inv(covariance), book.loadings()
    found = minimize(
        lambda f: f @ inverse @ f, np.zeros(4), jac=lambda f: 2 * inverse @ f, method="SLSQP",
        constraints={"type": "eq", "fun": lambda f: b @ f + 0.5, "jac": lambda f: b}, options={"ftol": 1e-14},
    )  # fmt: skip
    got = reverse_stress(book, covariance, 0.5)
    assert got.shock == pytest.approx(found.x, abs=1e-6)
    assert got.distance**2 == pytest.approx(found.fun, rel=1e-6)


def test_the_shock_loses_the_amount_as_a_scenario():
    rng = np.random.default_rng(2)
    book = _book(rng)
    shock = reverse_stress(book, _covariance(rng, 4), 0.05).shock
    factors = dict(zip(book.factors, shock[1:].tolist(), strict=True))
    assert stress(book, Scenario("r", "Reverse", float(shock[0]), factors=factors, crowd=0)).total == pytest.approx(
        -0.05
    )


def test_a_covariance_without_inverse():
    # Two factors that are one: the shock moves both by the same.
    book = Book(["A"], [1.0], [1.0], [[1.0]], ["value"], [""], [0])
    got = reverse_stress(book, np.full((2, 2), 0.04), 0.2)
    assert (got.shock.tolist(), got.distance) == (pytest.approx([-0.1, -0.1]), pytest.approx(0.5))


def test_a_hedged_book_has_no_reverse_stress():
    hedged = Book(["A", "B", "C"], [0.1, 0.2, -0.3], [0.7] * 3, np.full((3, 1), 0.1), ["value"], [""] * 3, [0] * 3)
    assert np.abs(hedged.loadings()).max() > 0  # but for rounding
    with pytest.raises(DataError, match="the book is hedged against market and factors"):
        reverse_stress(hedged, np.eye(2), 0.1)
    with pytest.raises(DataError, match="no move of them loses anything"):
        reverse_stress(dataclasses.replace(hedged, weights=np.zeros(3)), np.eye(2), 0.1)


@pytest.mark.parametrize("loss", [0.0, -0.1, np.nan, np.inf])
def test_a_loss_that_is_none(loss):
    with pytest.raises(ConfigError, match="give a positive fraction of equity"):
        reverse_stress(_book(np.random.default_rng(0)), np.eye(4), loss)


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (np.eye(5), r"covariance \(5, 5\): need \(6, 6\)"),
        (np.diag([1, 1, np.nan, 1, 1, 1.0]), "covariance: of S2 not finite"),
        (
            np.where((np.arange(6) == 2) | (np.arange(6) == 2)[:, None], np.nan, np.eye(6)),
            "covariance: of S2 not finite",
        ),
        (np.eye(6) + np.eye(6, k=1) / 10, "not symmetric: average it"),
        (np.full((6, 6), 2.0) - np.eye(6), "negative variance: clip its eigenvalues"),
        (-np.eye(6), "negative variance"),
    ],
)
def test_a_covariance_that_is_none(covariance, message):
    book = _book(np.random.default_rng(0))
    with pytest.raises(DataError, match=message):
        correlation_stress(book, covariance)
    with pytest.raises(DataError, match=message):
        stress_grid(book, covariance, [0.1], [1.0])


@pytest.mark.parametrize(("rho", "times"), [(-0.1, 1.0), (1.1, 1.0), (np.nan, 1.0), (0.7, -1.0), (0.7, np.inf)])
def test_a_correlation_that_is_none(rho, times):
    with pytest.raises(ConfigError, match="need 0 to 1, and at least 0"):
        correlation_stress(_book(np.random.default_rng(0)), np.eye(6), rho, multiplier=times)
