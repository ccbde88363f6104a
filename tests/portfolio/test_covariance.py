import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf

from core.errors import ConfigError, DataError
from portfolio.covariance.base import ESTIMATORS, estimate, estimate_at, nearest_psd, pairwise
from portfolio.covariance.factors import FactorModel, exposure_factors, principal_factors

NAMES = ("ewma", "ledoit_wolf", "principal", "sample")


def _returns(rows=300, count=8, seed=0, missing=0.0):
    rng = np.random.default_rng(seed)
    market = 0.01 * rng.standard_t(5, size=(rows, 1))
    values = market * rng.uniform(0.5, 1.5, count) + 0.01 * rng.uniform(0.5, 3, count) * rng.normal(size=(rows, count))
    values[rng.random(values.shape) < missing] = np.nan
    return values


def _options(name):
    return {"factors": 2} if name == "principal" else {}


def test_registered():
    assert ESTIMATORS.names() == NAMES


def test_sample_equals_numpy_and_a_plain_loop():
    full = _returns()
    assert estimate(full, "sample") == pytest.approx(np.cov(full, rowvar=False), rel=1e-12)
    holes = _returns(missing=0.2)
    mean = np.nanmean(holes, axis=0)
    got = estimate(holes, "sample")
    for i in range(8):
        for j in range(8):
            both = np.isfinite(holes[:, i]) & np.isfinite(holes[:, j])
            total = sum((holes[t, i] - mean[i]) * (holes[t, j] - mean[j]) for t in np.flatnonzero(both))
            assert got[i, j] == pytest.approx(total / (both.sum() - 1), rel=1e-10)
    assert np.diag(got) == pytest.approx(pd.DataFrame(holes).var().to_numpy(), rel=1e-12)


def test_ewma_equals_a_plain_loop():
    holes = _returns(missing=0.2, seed=3)
    got = estimate(holes, "ewma", half_life=30)
    for i in range(8):
        for j in range(8):
            mass = total = 0.0
            for t in range(300):
                if np.isfinite(holes[t, [i, j]]).all():
                    weight = 2 ** (-(299 - t) / 30)
                    mass += weight
                    total += weight * holes[t, i] * holes[t, j]
            assert got[i, j] == pytest.approx(total / mass, rel=1e-10)


def test_ledoit_wolf_equals_the_library():
    values = _returns(rows=60, count=40)
    spread = values.std(axis=0)
    library = LedoitWolf().fit(values / spread).covariance_
    got = estimate(values, "ledoit_wolf")
    assert got * 59 / 60 == pytest.approx(library * np.outer(spread, spread), rel=1e-10)
    holes = values.copy()
    holes[[3, 7], 5] = np.nan
    assert estimate(holes, "ledoit_wolf") == pytest.approx(estimate(np.delete(values, [3, 7], axis=0), "ledoit_wolf"))


def test_shrinkage_beats_the_sample():
    rng = np.random.default_rng(4)
    root = rng.normal(size=(60, 60)) * 0.3 + 0.5
    truth = root @ root.T / 60 + np.diag(rng.uniform(0.2, 1, 60))
    draws = rng.multivariate_normal(np.zeros(60), truth, size=80)
    got = {name: estimate(draws, name, **_options(name)) for name in NAMES}
    inverse = {name: np.linalg.norm(np.linalg.inv(got[name]) - np.linalg.inv(truth)) for name in NAMES}
    # What an optimiser uses is the inverse, and that of the sample is the worst.
    assert inverse["ledoit_wolf"] < inverse["sample"] / 4
    assert inverse["principal"] < inverse["sample"] / 4
    assert np.linalg.norm(got["principal"] - truth) < np.linalg.norm(got["sample"] - truth)


def test_principal_factors_find_a_planted_factor():
    rng = np.random.default_rng(5)
    betas, own = rng.uniform(0.5, 1.5, 50), rng.uniform(0.5, 1.0, 50)
    values = rng.normal(size=(4000, 1)) * betas + own * rng.normal(size=(4000, 50))
    model = principal_factors(values, 1)
    assert np.abs(model.exposures[:, 0]) == pytest.approx(betas, abs=0.1)
    assert np.sqrt(model.specific) == pytest.approx(own, abs=0.1)
    assert (model.factors == np.eye(1)).all()
    got = model.covariance()
    assert np.diag(got) == pytest.approx(values.var(axis=0, ddof=1))
    assert got == pytest.approx(np.outer(betas, betas) + np.diag(own**2), abs=0.2)
    # All but one component: what is left is small, and with a singular rest the sample itself.
    flat = values[:, :6].copy()
    flat[:, 5] = flat[:, :5].sum(axis=1)
    assert estimate(flat, "principal", factors=5) == pytest.approx(np.cov(flat, rowvar=False))


def test_principal_factors_of_pairs_explain_no_more_than_there_is():
    """Three symbols, seen two at a time, whose correlations no three symbols can have."""
    rng = np.random.default_rng(8)
    steps = rng.normal(size=(90, 1)) * np.array([1.0, 1.0, 2.0])
    steps[60:, 2] *= -1
    steps[:30, 2], steps[30:60, 0], steps[60:, 1] = np.nan, np.nan, np.nan
    spread = np.nanstd(steps, axis=0, ddof=1)
    model = principal_factors(steps, 2)
    assert np.diag(model.covariance()) == pytest.approx(spread**2)
    assert (model.specific >= 0).all()


def test_given_exposures():
    rng = np.random.default_rng(6)
    days, count = 3000, 30
    steps = rng.normal(size=(days, count, 2))
    root = np.array([[0.01, 0.0], [0.004, 0.008]])
    earned, own = rng.normal(size=(days, 2)) @ root.T, rng.uniform(0.01, 0.02, count)
    values = np.einsum("tnk,tk->tn", steps, earned) + own * rng.normal(size=(days, count))
    values[rng.random(values.shape) < 0.1] = np.nan
    steps[np.isnan(values)] = np.nan
    now = rng.normal(size=(count, 2))
    model = exposure_factors(values, steps, now)
    assert model.factors == pytest.approx(root @ root.T, abs=1.5e-5)
    assert np.sqrt(model.specific) == pytest.approx(own, rel=0.1)
    assert model.covariance() == pytest.approx(now @ model.factors @ now.T + np.diag(model.specific))
    # By normal equations, one session at a time.
    for t in (0, 1, 2999):
        seen = np.isfinite(values[t])
        design = steps[t, seen]
        one = np.linalg.solve(design.T @ design, design.T @ values[t, seen])
        assert np.abs(one - earned[t]).max() < 0.02
    fixed = exposure_factors(values, now)
    assert (fixed.exposures == now).all()
    assert fixed.factors.shape == (2, 2)


def test_one_given_factor_without_noise():
    rng = np.random.default_rng(8)
    earned, betas = rng.normal(size=50), np.array([[1.0], [2.0], [-1.0]])
    model = exposure_factors(earned[:, None] * betas[:, 0], betas)
    assert model.factors == pytest.approx(np.array([[earned.var(ddof=1)]]))
    assert model.specific == pytest.approx(np.zeros(3), abs=1e-25)


def _is_psd(matrix):
    scale = np.sqrt(np.diag(matrix))
    units = np.where(scale > 0, scale, 1)
    least = np.linalg.eigvalsh(matrix / np.outer(units, units))[0]
    return least > -1e-12 and (matrix == matrix.T).all()


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(NAMES), st.integers(0, 10_000), st.integers(3, 40), st.floats(0, 0.3), st.booleans(), st.booleans()
)
def test_positive_semi_definite(name, seed, count, missing, twin, halted):
    """Few rows, gaps, symbols that repeat each other, and symbols that never move."""
    values = _returns(80, count, seed, missing if name != "ledoit_wolf" else 0.0)
    if twin:
        values[:, 1] = -2 * values[:, 0]
    if halted:
        values[:, 2] = 0.0
    got = estimate(values, name, **_options(name))
    assert np.isfinite(got).all()
    assert _is_psd(got)
    order = np.random.default_rng(seed).permutation(count)
    assert estimate(values[:, order], name, **_options(name)) == pytest.approx(got[np.ix_(order, order)], abs=1e-14)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(NAMES), st.integers(0, 1000))
def test_units_and_causality(name, seed):
    values = _returns(120, 5, seed)
    got = estimate_at(values, 79, name, window=60, **_options(name))
    assert (got == estimate(values[20:80], name, **_options(name))).all()
    changed = values.copy()
    changed[80:], changed[:20] = np.nan, 99.0
    assert (got == estimate_at(changed, 79, name, window=60, **_options(name))).all()
    units = np.array([1.0, 2.0, 0.5, 4.0, 0.125])
    scaled = estimate_at(values * units, 79, name, window=60, **_options(name))
    assert scaled == pytest.approx(got * np.outer(units, units), rel=1e-9, abs=1e-16)


def test_nearest_psd():
    broken = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    assert np.linalg.eigvalsh(broken)[0] < -0.5
    scale = np.diag([1.0, 2.0, 3.0])
    got = nearest_psd(scale @ broken @ scale)
    assert _is_psd(got)
    assert np.diag(got) == pytest.approx([1, 4, 9])
    # Eigenvalues (1.9, 1.9, -.8) clip to (1.9, 1.9, 0): correlations of one half.
    assert got / np.outer([1, 2, 3], [1, 2, 3]) == pytest.approx(
        np.array([[1, 0.5, -0.5], [0.5, 1, 0.5], [-0.5, 0.5, 1]])
    )
    sound = np.array([[2.0, 1.0], [1.0, 3.0]])
    assert (nearest_psd(sound) == sound).all()
    # No variance, no covariance.
    assert (nearest_psd(np.array([[0.0, 1.0], [1.0, 1.0]]))[0] == 0).all()
    with pytest.raises(DataError, match="variance is negative"):
        nearest_psd(np.diag([1.0, -1.0]))


def test_gaps_that_break_a_pairwise_matrix_are_repaired():
    rng = np.random.default_rng(9)
    common = rng.normal(size=90)
    values = np.full((90, 3), np.nan)
    values[:60, 0], values[:60, 1] = common[:60], common[:60] + 0.05 * rng.normal(size=60)
    values[30:, 2] = -common[30:]
    values[30:60, 1] = np.nan
    values[60:, 1] = common[60:] * -1 + 0.05 * rng.normal(size=30)
    values[10:40, 2] = np.nan
    values[:10, 2] = common[:10]
    assert np.linalg.eigvalsh(pairwise(values, np.ones(90), centred=True, minimum=10)[0])[0] < -0.1
    assert _is_psd(estimate(values, "sample"))


GOOD = _returns()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: estimate(GOOD, "wishful"), ConfigError, "unknown covariance estimator 'wishful'"),
        (lambda: estimate(GOOD, "sample", half_life=3), ConfigError, "sample has no option 'half_life'.*none"),
        (lambda: estimate(GOOD, "ewma", window=3), ConfigError, "choose from half_life"),
        (lambda: estimate(GOOD, "ewma", half_life=0), ConfigError, "half-life 0"),
        (lambda: estimate(GOOD, "principal", factors=8), ConfigError, "fewer than symbols"),
        (lambda: estimate(GOOD, "principal", factors=1.5), ConfigError, "choose a whole number"),
        (lambda: estimate(GOOD[:, 0], "sample"), DataError, r"give \(T, N\)"),
        (lambda: estimate(GOOD[:19], "sample"), DataError, "8 of 8 symbols have fewer than 20"),
        (lambda: estimate(np.where(GOOD[5, 2] == GOOD, np.inf, GOOD), "ewma"), DataError, "symbol 2 at row 5 is inf"),
        (lambda: estimate_at(GOOD, 100, "sample", window=102), DataError, "session 100 of 300 with a window of 102"),
        (lambda: estimate_at(GOOD, 300, "sample"), DataError, "session 300 of 300"),
        (lambda: estimate_at(GOOD, 100, "sample", window=5), DataError, "window of at least 20"),
        (lambda: FactorModel(np.ones((3, 2)), np.eye(3), np.ones(3)), DataError, "do not belong together"),
        (lambda: FactorModel(np.ones((3, 2)), np.eye(2), -np.ones(3)), DataError, "variance of a factor model is neg"),
        (lambda: FactorModel(np.ones((3, 2)), -np.eye(2), np.ones(3)), DataError, "variance of a factor model is neg"),
        (lambda: FactorModel(np.full((3, 2), np.nan), np.eye(2), np.ones(3)), DataError, "not finite"),
        (lambda: exposure_factors(GOOD, np.ones((7, 2))), DataError, r"\(T, N\) and \(N, K\)"),
        (lambda: exposure_factors(GOOD, np.ones((8, 2))), DataError, "do not tell 2 factors apart"),
        (lambda: exposure_factors(GOOD, np.full((8, 1), np.nan)), DataError, "return without exposures"),
        (lambda: exposure_factors(GOOD[:10], np.ones((8, 1))), DataError, "symbol 0 has fewer than 20"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_gaps_refused():
    apart = _returns(100, 3)
    apart[:50, 0], apart[45:, 2] = np.nan, np.nan
    with pytest.raises(DataError, match="symbols 0 and 2 have 0 returns in common"):
        estimate(apart, "sample")
    with pytest.raises(DataError, match=r"0 of 100 sessions .* leave out symbol 2, which lacks 55"):
        estimate(apart, "ledoit_wolf")
