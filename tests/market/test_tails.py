from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import OptimizeResult, fmin
from scipy.stats import genpareto, norm, t

from core.errors import ConfigError, ConvergenceError, DataError
from market import tails
from market.tails import ParetoTail, fit_peaks
from market.volatility import ewma_volatility, standardised_returns

TAIL = ParetoTail(0.02, 0.01, 0.25, 0.05)


@pytest.mark.parametrize(
    ("level", "var", "shortfall"),
    [(0.99, 0.0398140, 0.0597519), (0.995, 0.0511312, 0.0748416), (0.999, 0.0863659, 0.1218212)],
)
def test_peaks_check_values(level, var, shortfall):
    assert TAIL.value_at_risk(level) == pytest.approx(var, abs=5.1e-8)
    assert TAIL.expected_shortfall(level) == pytest.approx(shortfall, abs=5.1e-8)
    # Expected shortfall is the mean of the values at risk beyond, and value at risk the quantile of the law.
    mean, _ = quad(lambda p: TAIL.value_at_risk(1 - p), 0, 1 - level, epsabs=1e-14, epsrel=1e-12)
    assert TAIL.expected_shortfall(level) == pytest.approx(mean / (1 - level), rel=1e-9)
    assert TAIL.value_at_risk(level) == pytest.approx(0.02 + genpareto.isf((1 - level) / 0.05, 0.25, scale=0.01))


def test_the_exponential_law_is_the_limit():
    flat = ParetoTail(1.0, 2.0, 0.0, 0.1)
    assert flat.value_at_risk(0.99) == pytest.approx(1 + 2 * np.log(10), rel=1e-14)
    assert flat.expected_shortfall(0.99) == pytest.approx(3 + 2 * np.log(10), rel=1e-14)
    for shape in (1e-13, -1e-13, 5e-324):
        near = ParetoTail(1.0, 2.0, shape, 0.1)
        assert near.value_at_risk(0.99) == pytest.approx(flat.value_at_risk(0.99), rel=1e-11)
        assert near.expected_shortfall(0.99) == pytest.approx(flat.expected_shortfall(0.99), rel=1e-11)


def test_the_edge_of_the_tail_is_the_threshold():
    assert TAIL.value_at_risk(0.95) == pytest.approx(0.02, abs=1e-12)
    assert TAIL.expected_shortfall(0.95) == pytest.approx(0.02 + 0.01 / 0.75)
    assert ParetoTail(0.0, 1.0, 1.0, 0.1).expected_shortfall(0.99) == np.inf
    with pytest.raises(ConfigError, match=r"from 0\.95 to below 1"):
        TAIL.value_at_risk(0.94)
    with pytest.raises(ConfigError, match="level 1"):
        TAIL.expected_shortfall(1.0)


@settings(deadline=None, max_examples=60)
@given(st.floats(0.01, 100), st.floats(-0.4, 0.9), st.floats(0.951, 0.99999))
def test_a_scaled_law_is_that_of_scaled_losses(factor, shape, level):
    tail = ParetoTail(0.02, 0.01, shape, 0.05)
    assert tail.scaled(factor).value_at_risk(level) == pytest.approx(factor * tail.value_at_risk(level))
    assert tail.scaled(factor).expected_shortfall(level) == pytest.approx(factor * tail.expected_shortfall(level))
    assert tail.expected_shortfall(level) > tail.value_at_risk(level) > 0.02


def _library(excess):
    """Shape and scale by the library's search over both."""
    exact = partial(fmin, xtol=1e-10, ftol=1e-13, maxiter=5000, maxfun=5000)
    shape, _, scale = genpareto.fit(excess / excess.mean(), 0.1, floc=0, scale=1.0, optimizer=exact)
    return shape, scale * excess.mean()


@pytest.mark.parametrize("units", [1.0, 0.0001])
def test_fit_finds_the_maximum(units):
    losses = units * np.random.default_rng(0).standard_t(4, 4000)
    tail = fit_peaks(losses, share=0.1)
    assert tail.exceedance == 0.1
    assert (losses > tail.threshold).sum() == 400
    shape, scale = _library(losses[losses > tail.threshold] - tail.threshold)
    assert tail.shape == pytest.approx(shape, abs=1e-6)
    assert tail.scale == pytest.approx(scale, rel=1e-6)
    assert tail == fit_peaks(losses, threshold=tail.threshold)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.floats(-0.3, 1.5), st.integers(60, 300))
def test_no_other_law_is_likelier(seed, shape, count):
    excess = genpareto.rvs(shape, scale=0.01, size=count, random_state=seed)
    tail = fit_peaks(excess, threshold=0.0)
    best = genpareto.logpdf(excess, tail.shape, scale=tail.scale).sum()
    for other in (tail.shape - 0.05, tail.shape, tail.shape + 0.05):
        for scale in (0.95 * tail.scale, 1.05 * tail.scale):
            assert genpareto.logpdf(excess, other, scale=scale).sum() < best
    assert best >= genpareto.logpdf(excess, shape, scale=0.01).sum() - 1e-9


def test_a_search_that_stops_early_is_refused(monkeypatch):
    monkeypatch.setattr(tails, "minimize_scalar", lambda *args, bounds, **kwargs: OptimizeResult(x=bounds[0]))
    with pytest.raises(ConvergenceError):
        fit_peaks(np.random.default_rng(0).standard_t(4, 4000), share=0.1)


def test_fit_recovers_a_generalised_pareto_law():
    # The quantiles of the law itself leave no sampling error.
    y = genpareto.ppf((np.arange(1, 20001) - 0.5) / 20000, 0.25, scale=0.01)
    tail = fit_peaks(np.concatenate([0.02 + y, np.zeros(380000)]), threshold=0.02)
    assert (tail.shape, tail.scale) == (pytest.approx(0.25, abs=2e-3), pytest.approx(0.01, rel=2e-3))
    assert tail.exceedance == 0.05


def test_fit_to_students_t():
    losses = t.ppf((np.arange(1, 50001) - 0.5) / 50000, 4)
    tail = fit_peaks(losses, share=0.05)
    assert tail.value_at_risk(0.99) == pytest.approx(t.ppf(0.99, 4), rel=0.01)
    # Expected shortfall of a t law: density at the quantile / (1 - p) * (nu + q^2) / (nu - 1).
    q = t.ppf(0.99, 4)
    assert tail.expected_shortfall(0.99) == pytest.approx(t.pdf(q, 4) / 0.01 * (4 + q * q) / 3, rel=0.01)


def test_unknown_losses_are_left_out():
    losses = np.random.default_rng(1).standard_t(4, 2000)
    holes = np.insert(losses, [0, 5, 5, 900], [np.nan, np.inf, np.nan, -np.inf])
    assert fit_peaks(holes, share=0.1) == fit_peaks(losses, share=0.1)


def test_the_standardised_tail_follows_volatility():
    # Gaussian returns of changing volatility: only standardised is the tail the Gaussian one.
    rng = np.random.default_rng(2)
    sigma = np.exp(0.7 * np.sin(np.arange(20000) / 400)) / 100
    r = sigma * rng.normal(size=20000)
    forecast = ewma_volatility(r)
    z = -standardised_returns(r, forecast)
    tail = fit_peaks(z, share=0.1)
    ahead = ewma_volatility(r, ahead=True)[-1]
    assert tail.scaled(ahead).value_at_risk(0.99) == pytest.approx(ahead * norm.ppf(0.99), rel=0.08)
    raw = fit_peaks(-r, share=0.1)
    assert raw.shape > tail.shape + 0.05
    calm, wild = sigma < np.quantile(sigma, 0.2), sigma > np.quantile(sigma, 0.8)
    broken = [(-r[days] > raw.value_at_risk(0.99)).mean() for days in (calm, wild)]
    held = [(z[days] > tail.value_at_risk(0.99)).mean() for days in (calm, wild)]
    assert broken[0] < 0.001 < 0.02 < broken[1]
    assert held == pytest.approx([0.01, 0.01], abs=0.004)


def test_refusals():
    losses = np.arange(1000) ** 2.0
    with pytest.raises(ConfigError, match="either a threshold or a share"):
        fit_peaks(losses)
    with pytest.raises(ConfigError, match="either a threshold or a share"):
        fit_peaks(losses, threshold=5.0, share=0.1)
    with pytest.raises(DataError, match="29 of 1000 losses exceed"):
        fit_peaks(losses, share=0.029)
    with pytest.raises(DataError, match="all equal"):
        fit_peaks(np.append(np.zeros(100), np.ones(50)), threshold=0.5)
    with pytest.raises(ConvergenceError, match="end at a bound"):
        fit_peaks(np.linspace(0, 1, 500), share=0.5)
    with pytest.raises(ConfigError, match="positive volatility"):
        TAIL.scaled(0.0)


@pytest.mark.parametrize("wrong", [(0.02, 0.0, 0.2, 0.1), (np.nan, 1.0, 0.2, 0.1), (0.02, 1.0, 0.2, 1.5)])
def test_a_law_that_is_none(wrong):
    with pytest.raises(DataError, match="need finite numbers"):
        ParetoTail(*wrong)
