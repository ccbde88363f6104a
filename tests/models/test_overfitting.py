from itertools import combinations

import numpy as np
import pytest
from scipy.stats import rankdata

from core.errors import ConfigError, DataError
from models.overfitting import (
    dsr,
    effective_rank,
    effective_trials,
    expected_max_sharpe,
    min_btl,
    min_trl,
    moments,
    pbo_cscv,
    psr,
    sharpe,
)

DAILY = 2.5 / np.sqrt(250)


@pytest.mark.parametrize(("skewness", "kurt", "expected"), [(0, 3, 0.981243), (-2.448, 10.164, 0.912709)])
def test_psr(skewness, kurt, expected):
    assert psr(0.036 / 0.079, 24, skewness, kurt) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("trials", "skewness", "kurt", "expected"),
    [(100, -3, 10, 0.900397), (46, -3, 10, 0.950502), (88, 0, 3, 0.950491)],
)
def test_dsr(trials, skewness, kurt, expected):
    assert dsr(DAILY, 1250, trials, 0.5 / 250, skewness, kurt) == pytest.approx(expected, abs=1e-6)


def test_benchmark_of_the_deflated_ratio():
    assert np.sqrt(0.5 / 250) * expected_max_sharpe(100) == pytest.approx(0.113172, abs=1e-6)


@pytest.mark.parametrize(
    ("periods", "skewness", "kurt", "years"),
    [(252, 0, 3, 2.7310), (52, 0, 3, 2.8288), (12, 0, 3, 3.2398), (12, -0.72, 5.78, 4.9913)],
)
def test_min_trl(periods, skewness, kurt, years):
    got = min_trl(2 / np.sqrt(periods), 1 / np.sqrt(periods), skewness, kurt) / periods
    assert got == pytest.approx(years, abs=1e-4)


def test_min_trl_without_an_edge():
    assert min_trl(0.01, 0.02) == np.inf
    assert np.isnan(min_trl(np.nan))


@pytest.mark.parametrize(("trials", "expected"), [(10, 1.5746), (100, 2.5306), (1000, 3.2551), (1, 0.0), (0, 0.0)])
def test_expected_max_sharpe(trials, expected):
    assert expected_max_sharpe(trials) == pytest.approx(expected, abs=1e-4)


def test_min_btl():
    assert min_btl(45) == pytest.approx(4.998, abs=1e-3)


def test_effective_trials():
    assert effective_rank(np.full((10, 10), 0.6) + 0.4 * np.eye(10)) == pytest.approx(4.2394, abs=1e-4)
    same = np.random.default_rng(0).normal(size=(500, 1))
    assert effective_trials(np.hstack([same, 2 * same, np.zeros((500, 1))])) == pytest.approx(1.0)


def _sheet():
    t, n = np.arange(1, 65)[:, None], np.arange(1, 7)[None, :]
    return 0.01 * np.sin(t * n**1.5) + 0.001 * np.cos(n)


def _slow_pbo(returns, blocks):
    parts = np.array_split(np.arange(len(returns)), blocks)
    logits = []
    for half in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[b] for b in half])
        outside = np.setdiff1d(np.arange(len(returns)), inside)
        best = np.argmax(returns[inside].mean(axis=0) / returns[inside].std(axis=0, ddof=1))
        rank = rankdata(returns[outside].mean(axis=0) / returns[outside].std(axis=0, ddof=1))[best]
        logits.append(np.log(rank / (returns.shape[1] + 1 - rank)))
    return np.mean(np.array(logits) <= 0)


@pytest.mark.parametrize(("blocks", "expected"), [(4, 1 / 6), (8, 4 / 70)])
def test_pbo(blocks, expected):
    assert pbo_cscv(_sheet(), blocks) == pytest.approx(expected)


def test_pbo_equals_the_slow_way_on_noise():
    returns = np.random.default_rng(1).normal(size=(160, 7))
    assert pbo_cscv(returns, 8) == pytest.approx(_slow_pbo(returns, 8))


def test_pbo_of_one_real_edge_is_low():
    returns = np.random.default_rng(2).normal(size=(800, 10))
    returns[:, 3] += 0.3
    assert pbo_cscv(returns, 16) < 0.05


def test_pbo_refuses_bad_input():
    with pytest.raises(ConfigError, match="even number"):
        pbo_cscv(_sheet(), 5)
    with pytest.raises(DataError, match="at least 2 trials"):
        pbo_cscv(_sheet()[:, :1], 4)


def test_sharpe_of_overlapping_returns_needs_lags():
    rng = np.random.default_rng(4)
    daily = 0.05 + rng.normal(size=40_000)
    overlapping = np.convolve(daily, np.ones(5) / 5, "valid")
    assert sharpe(overlapping) == pytest.approx(0.05 * np.sqrt(5), rel=0.2)
    assert sharpe(overlapping, lags=40) == pytest.approx(0.05, rel=0.2)
    assert sharpe(daily) == pytest.approx(daily.mean() / daily.std(ddof=1))


def test_moments_of_a_flat_series():
    ratio, _, _, periods = moments(np.zeros(10))
    assert np.isnan(ratio)
    assert periods == 10
    assert np.isnan(psr(ratio, periods))
