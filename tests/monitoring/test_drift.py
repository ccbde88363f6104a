"""Distances of distributions: closed forms, scipy, ties, and what one value a session means."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_1samp, norm

from core.errors import DataError
from models.profile import QUANTILES
from monitoring.drift import (
    FEATURES,
    family_drift,
    feature_drift,
    is_shared,
    ks_from_quantiles,
    psi,
    psi_from_quantiles,
    share_outside,
)


def test_index_by_hand():
    # (1/4 - 1/2) ln(1/2) + (3/4 - 1/2) ln(3/2) = ln(3) / 4
    assert psi([0.5, 0.5], [0.25, 0.75]) == pytest.approx(np.log(3) / 4, abs=1e-12)
    assert psi([0.2, 0.3, 0.5], [0.2, 0.3, 0.5]) == 0


shares = st.lists(st.floats(0.01, 1.0), min_size=4, max_size=4).map(lambda v: np.array(v) / sum(v))


@settings(deadline=None)
@given(shares, shares)
def test_index_is_symmetric_and_not_negative(first, second):
    assert psi(first, second) == pytest.approx(psi(second, first), abs=1e-12)
    assert psi(first, second) >= 0


def test_index_of_a_moved_normal_is_the_squared_move():
    # Jeffreys' divergence of two normals of one deviation is the square of what lies between their means.
    levels = np.arange(1, 200) / 200
    sample = np.random.default_rng(4).normal(0.5, 1.0, 200_000)
    assert psi_from_quantiles(sample, levels, norm.ppf(levels)) == pytest.approx(0.25, abs=0.01)


def test_index_over_the_profiles_quantiles_is_that_of_its_bins():
    cuts, sample = norm.ppf(QUANTILES), np.random.default_rng(4).normal(0.3, 1.0, 300_000)
    told = np.diff(norm.cdf(cuts - 0.3), prepend=0.0, append=1.0)
    exact = psi(np.diff(QUANTILES, prepend=0.0, append=1.0), told)
    assert psi_from_quantiles(sample, QUANTILES, cuts) == pytest.approx(exact, abs=2e-3)


def test_noise_of_the_index_is_bins_less_one_over_rows():
    # Under no drift, rows times the index tends to chi-square with (bins - 1) degrees of freedom.
    cuts, rng = norm.ppf(QUANTILES), np.random.default_rng(8)
    found = [2000 * psi_from_quantiles(rng.normal(size=2000), QUANTILES, cuts) for _ in range(200)]
    assert np.mean(found) == pytest.approx(len(QUANTILES), abs=4 * np.sqrt(2 * 7 / 200))


def test_distance_is_scipys():
    rng = np.random.default_rng(3)
    sample = np.sort(rng.normal(0.4, 1.3, 400))
    # Known at every value of the sample, the bound is the distance, less the one step that a tie could hide.
    found = ks_from_quantiles(sample, norm.cdf(sample), sample)
    assert found + 1 / 400 == pytest.approx(ks_1samp(sample, norm.cdf).statistic, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(-2, 2), st.floats(0.3, 3))
def test_distance_is_a_lower_bound_and_order_is_all_that_counts(seed, move, width):
    sample = np.random.default_rng(seed).normal(move, width, 200)
    cuts = norm.ppf(QUANTILES)
    found = ks_from_quantiles(sample, QUANTILES, cuts)
    assert 0 <= found <= ks_1samp(sample, norm.cdf).statistic + 1e-12
    assert found == ks_from_quantiles(np.exp(sample), QUANTILES, np.exp(cuts))
    assert psi_from_quantiles(sample, QUANTILES, cuts) == psi_from_quantiles(np.exp(sample), QUANTILES, np.exp(cuts))


@pytest.mark.parametrize("zeros", [0.3, 0.6, 0.97])
def test_ties_are_no_drift(zeros):
    rng = np.random.default_rng(6)
    training, now = ((rng.random(20_000) > zeros).astype(float) for _ in range(2))
    cuts = np.quantile(training, QUANTILES)
    assert ks_from_quantiles(now, QUANTILES, cuts) < 0.02
    assert np.isnan(psi_from_quantiles(now, QUANTILES, cuts))
    assert ks_from_quantiles(1 - now, QUANTILES, cuts) > 0.09


def test_few_values_say_nothing():
    cuts = norm.ppf(QUANTILES)
    few = np.append(np.zeros(49), np.full(100, np.nan))
    assert np.isnan(psi_from_quantiles(few, QUANTILES, cuts))
    assert np.isnan(ks_from_quantiles(few, QUANTILES, cuts))
    assert np.isnan(share_outside([np.nan], cuts))


def test_share_outside():
    assert share_outside([0.0, 1.0, 2.0, 3.0, np.nan], [1.0, 2.0]) == 0.5


def test_what_all_symbols_share_is_told_apart():
    session = np.repeat(np.arange(3, dtype=np.int32), 4)
    assert is_shared(np.repeat([1.0, np.nan, 3.0], 4), session)
    assert not is_shared(np.arange(12.0), session)
    assert not is_shared(np.array([1.0, 2.0]), np.array([0, 1], dtype=np.int32))


def _drift(shift=0.0, lost=0.0):
    rng = np.random.default_rng(1)
    rows, sessions = 6000, 60
    session = np.repeat(np.arange(sessions, dtype=np.int32), rows // sessions)
    levels = list(QUANTILES)
    features = {
        "momentum": {"coverage": 1.0, "floor": 1.0, "quantiles": norm.ppf(levels).tolist()},
        "vix": {"coverage": 1.0, "floor": 1.0, "quantiles": norm.ppf(levels).tolist()},
        "never": {"coverage": 0.0, "floor": 0.0, "quantiles": []},
    }
    X = np.column_stack([rng.normal(shift, 1, rows), np.repeat(rng.normal(size=sessions), 100), np.full(rows, np.nan)])
    X[: int(lost * rows), 0] = np.nan
    told = {"quantiles": levels, "features": features}
    families = {"momentum": "market", "vix": "macro", "never": "macro"}
    return feature_drift(X.astype(np.float32), session, tuple(features), families, told)


def test_a_table_of_features_and_families():
    found = _drift()
    assert list(found.columns) == FEATURES
    told = found.set_index("feature")
    assert told.loc["momentum", "psi"] < 0.01
    assert told.loc["vix", "shared"]
    assert np.isnan(told.loc["vix", "psi"])
    assert told.loc["vix", "outside"] < 0.1
    assert np.isnan(told.loc["never", "outside"])
    moved = _drift(shift=1.0, lost=0.4).set_index("feature")
    assert moved.loc["momentum", "psi"] > 0.5
    assert moved.loc["momentum", "ks"] == pytest.approx(norm.cdf(0.5) - norm.cdf(-0.5), abs=0.03)
    families = family_drift(_drift(shift=1.0, lost=0.4)).set_index("family")
    assert families.loc["market", "most_moved"] == "momentum"
    assert families.loc["market", "coverage_lost"] == pytest.approx(0.4)
    assert families.loc["macro", "most_moved"] == ""
    assert families.loc["macro", "features"] == 2


def test_nothing_measured_is_an_empty_table():
    assert family_drift(pd.DataFrame(columns=FEATURES)).empty


def test_bad_inputs_are_refused():
    with pytest.raises(DataError, match="positive"):
        psi([0.5, 0.5], [0.0, 1.0])
    with pytest.raises(DataError, match="need one a quantile"):
        ks_from_quantiles([1.0], [0.5], [1.0, 2.0])
    with pytest.raises(DataError, match="ascend"):
        ks_from_quantiles([1.0], [0.6, 0.5], [1.0, 2.0])
    with pytest.raises(DataError, match="lacks 'new'"):
        feature_drift(
            np.zeros((2, 1)), np.zeros(2, dtype=np.int32), ("new",), {"new": "x"}, {"quantiles": [], "features": {}}
        )
