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
    spa,
    trial_variance,
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


def test_only_differences_within_a_layer_are_luck():
    layer, ratios = ["a", "a", "b", "b", "b", "c"], [0.1, 0.2, 0.5, 0.6, np.nan, 0.9]
    assert trial_variance(layer, ratios, 1001) == pytest.approx((2 * 0.05**2 + 2 * 0.05**2) / 2)
    assert trial_variance(layer, ratios, 101) == pytest.approx(0.01)
    assert trial_variance(["a"], [0.3], 101) == pytest.approx(0.01)


def test_a_weak_layer_does_not_make_a_strong_book_look_lucky_nor_a_worthless_one_skilled():
    rng = np.random.default_rng(8)
    layer = np.repeat(["strong", "weak"], 8)
    ratios = np.where(layer == "strong", 0.2, -0.1) + 0.01 * rng.standard_normal(16)
    assert dsr(0.25, 1000, 16, trial_variance(layer, ratios, 1000)) > 0.99
    # of books without skill, not more than one in twenty may pass
    worthless = rng.standard_normal((1000, 400)) * 0.01
    shown = [dsr(row.mean() / row.std(), 1000, 16, trial_variance(layer, ratios, 1000)) for row in worthless.T]
    assert np.mean(np.array(shown) > 0.95) < 0.05


def test_effective_trials():
    assert effective_rank(np.full((10, 10), 0.6) + 0.4 * np.eye(10)) == pytest.approx(4.2394, abs=1e-4)
    same = np.random.default_rng(0).normal(size=(500, 1))
    assert effective_trials(np.hstack([same, 2 * same, np.zeros((500, 1))])) == pytest.approx(1.0)


def _waves():
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
    assert pbo_cscv(_waves(), blocks) == pytest.approx(expected)


def test_pbo_equals_the_slow_way_on_noise():
    returns = np.random.default_rng(1).normal(size=(160, 7))
    assert pbo_cscv(returns, 8) == pytest.approx(_slow_pbo(returns, 8))


def test_pbo_of_one_real_edge_is_low():
    returns = np.random.default_rng(2).normal(size=(800, 10))
    returns[:, 3] += 0.3
    assert pbo_cscv(returns, 16) < 0.05


def test_pbo_refuses_bad_input():
    with pytest.raises(ConfigError, match="even number"):
        pbo_cscv(_waves(), 5)
    with pytest.raises(DataError, match="at least 2 trials"):
        pbo_cscv(_waves()[:, :1], 4)


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


def _slow_spa(returns, block, seed):
    """Hansen's statistic and its bootstrap, book by book and draw by draw."""
    count, books = returns.shape
    means = [sum(returns[:, k]) / count for k in range(books)]
    deviation = []
    for k in range(books):
        gap = returns[:, k] - means[k]
        total = sum(gap * gap) / count
        for lag in range(1, count):
            share = (count - lag) / count * (1 - 1 / block) ** lag + lag / count * (1 - 1 / block) ** (count - lag)
            total += 2 * share * sum(gap[i] * gap[i + lag] for i in range(count - lag)) / count
        deviation.append(np.sqrt(total))
    statistic = max(np.sqrt(count) * means[k] / deviation[k] for k in range(books))
    bound = -np.sqrt(2 * np.log(np.log(count)))
    centres = {
        "lower": [max(mean, 0) for mean in means],
        "consistent": [m if np.sqrt(count) * m / s >= bound else 0 for m, s in zip(means, deviation, strict=True)],
        "upper": means,
    }
    draws = {name: [] for name in centres}
    rng = np.random.default_rng(seed)
    for _ in range(1500):
        rows = np.empty(count, dtype=int)
        for i in range(count):
            fresh = i == 0 or rng.random() < 1 / block
            rows[i] = rng.integers(count) if fresh else (rows[i - 1] + 1) % count
        sample = returns[rows].mean(axis=0)
        for name, centre in centres.items():
            draws[name].append(max(np.sqrt(count) * (sample[k] - centre[k]) / deviation[k] for k in range(books)))
    return [np.mean(np.array(found) > statistic) for found in draws.values()]


def _books(drift, seed=0, count=120):
    """Books of very different size, whose returns of neighbouring days overlap."""
    rng = np.random.default_rng(seed)
    noise = np.apply_along_axis(np.convolve, 0, rng.normal(size=(count + 2, len(drift))), np.ones(3) / 3, "valid")
    return (noise + np.array(drift)) * np.array([0.01, 0.1, 0.001, 1.0])[: len(drift)]


@pytest.mark.parametrize("drift", [[0.1, 0.0, -0.3, 0.0], [0.02, 0.05, -0.9, -0.4]])
def test_spa_equals_the_slow_way(drift):
    returns = _books(drift)
    # Two bootstraps of 1,500 and 2,000 draws: their p-values differ by noise of at most 0.017.
    assert spa(returns, 6, 1) == pytest.approx(_slow_spa(returns, 6, 2), abs=0.055)


def test_spa_finds_a_planted_edge_and_no_other():
    edge = [0.25, 0.0, 0.0, 0.0]
    assert spa(_books(edge, count=400), 12, 1)[1] < 0.01
    assert spa(_books([-0.2] * 4, count=400), 12, 1)[1] > 0.5
    found = [spa(_books([0.0] * 4, seed), 6, 1)[1] < 0.05 for seed in range(10)]
    assert sum(found) <= 2
    scaled = _books(edge) * np.array([1.0, 1.0, 1.0, 1e4])
    assert spa(scaled, 6, 1) == spa(_books(edge), 6, 1)


def test_spa_says_when_it_cannot_tell():
    lower, consistent, upper = spa(_books([0.0, 0.1]), 6, 1)
    assert lower <= consistent <= upper
    gaps = np.vstack([_books([0.0, 0.1]), [[np.nan, 0.5]]])
    assert spa(gaps, 6, 1) == (lower, consistent, upper)
    assert np.isnan(spa(_books([0.0, 0.1])[:11], 6, 1)).all()
    assert np.isnan(spa(np.zeros((100, 2)), 6, 1)).all()
    assert np.isnan(spa(np.empty((100, 0)), 6, 1)).all()
    with pytest.raises(ConfigError, match="at least 1"):
        spa(np.zeros((100, 2)), 0, 1)
    with pytest.raises(DataError, match="one column a book"):
        spa(np.zeros(100), 5, 1)
