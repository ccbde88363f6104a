import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import linregress, spearmanr, zscore

from core.errors import ConfigError, DataError
from market.rotation import (
    WINDOWS,
    group_spread,
    rank_rotation,
    relative_strength,
    trailing_slope,
    trailing_zscore,
)

CYCLICAL = np.array([True, True, False, False, False])
DEFENSIVE = np.array([False, False, False, True, True])


def _prices(seed=0, rows=200, sectors=5):
    rng = np.random.default_rng(seed)
    returns = rng.normal(0.0003, 0.01, (rows, sectors))
    return 100 * np.exp(returns.cumsum(axis=0)), 50 * np.exp(returns.mean(axis=1).cumsum())


def test_rotation_check_value():
    scores = np.array([[1, 2, 3, 4, 5], [2, 1, 5, 4, 3]])
    assert rank_rotation(scores, lag=1) == pytest.approx([np.nan, 0.5], nan_ok=True)
    assert rank_rotation([[1, 2, 3], [3, 5, 9], [3, 2, 1]], lag=1)[1:].tolist() == [0.0, 2.0]


def test_rotation_equals_spearman():
    rng = np.random.default_rng(1)
    scores = np.round(rng.normal(size=(80, 8)), 1)  # with ties
    scores[rng.random(scores.shape) < 0.15] = np.nan
    got = rank_rotation(scores, lag=21)
    assert np.isnan(got[:21]).all()
    for t in range(21, 80):
        known = np.isfinite(scores[t]) & np.isfinite(scores[t - 21])
        assert got[t] == pytest.approx(1 - spearmanr(scores[t, known], scores[t - 21, known]).statistic)


def test_rotation_where_nothing_can_be_said():
    scores = np.array([[1, 2, 3, np.nan], [1, 2, np.nan, 3], [1, 1, 1, 1], [1, 2, 3, 4]])
    assert np.isnan(rank_rotation(scores, lag=1)).all()
    assert rank_rotation(scores, lag=1, minimum=2)[1] == 0


@settings(deadline=None, max_examples=40)
@given(arrays(np.float64, (6, 5), elements=st.floats(-3, 3)))
def test_rotation_knows_only_the_order(scores):
    got = rank_rotation(scores, lag=2)
    assert np.array_equal(rank_rotation(np.sign(scores) * np.abs(scores) * 8, lag=2), got, equal_nan=True)
    assert ((got[2:] >= 0) & (got[2:] <= 2) | np.isnan(got[2:])).all()
    # The sectors' places do not matter.
    assert rank_rotation(scores[:, ::-1], lag=2) == pytest.approx(got, abs=1e-12, nan_ok=True)


def test_relative_strength():
    prices, market = _prices()
    prices[:50, 2] = np.nan
    got = relative_strength(prices, market)
    assert got == pytest.approx(np.log(prices / market[:, None]), abs=1e-12, nan_ok=True)
    assert relative_strength(np.column_stack([market, 3 * market]), market)[-1] == pytest.approx([0, np.log(3)])
    # A sector's currency or split basis shifts the level and leaves its trend.
    scaled = relative_strength(prices * [1, 7, 1, 0.01, 1], market)
    for trend in (trailing_slope, trailing_zscore):
        assert trend(scaled, 21) == pytest.approx(trend(got, 21), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("window", [2, *WINDOWS])
def test_trends_equal_plain_windows(window):
    values = relative_strength(*_prices(2))
    values[:30, 1] = np.nan
    values[140, 3] = np.nan
    values[150, 4] = np.inf
    slope, z = trailing_slope(values, window), trailing_zscore(values, window)
    for s in range(5):
        for t in range(s, 200, 3):
            part = values[max(0, t - window + 1) : t + 1, s]
            if len(part) < window or not np.isfinite(part).all():
                assert np.isnan(slope[t, s])
                assert np.isnan(z[t, s])
            else:
                assert slope[t, s] == pytest.approx(linregress(np.arange(window), part).slope, rel=1e-9, abs=1e-14)
                assert z[t, s] == pytest.approx(zscore(part, ddof=1)[-1], rel=1e-8, abs=1e-10)


def test_trend_of_a_line():
    line = np.array([0.3 + 0.001 * np.arange(40), np.full(40, 0.1)]).T
    assert trailing_slope(line, 21)[20:] == pytest.approx(np.tile([0.001, 0.0], (20, 1)), abs=1e-15)
    # Of n rows in a line, the last lies (n - 1) / 2 from the mean in deviations of sqrt(n (n + 1) / 12).
    assert trailing_zscore(line, 21)[20:, 0] == pytest.approx(np.full(20, 10 / np.sqrt(21 * 22 / 12)))
    assert np.isnan(trailing_zscore(line, 21)[:, 1]).all()


def test_cyclicals_less_defensives():
    values = np.array([[1.0, 3, 9, 1, 2], [np.nan, 3, 9, 1, np.nan], [np.nan, np.inf, 9, 1, 2]])
    assert group_spread(values, CYCLICAL, DEFENSIVE) == pytest.approx([0.5, 2.0, np.nan], nan_ok=True)
    strength = relative_strength(*_prices(3))
    apart = group_spread(strength, CYCLICAL, DEFENSIVE)[:, None]
    slopes = group_spread(trailing_slope(strength, 63), CYCLICAL, DEFENSIVE)
    assert slopes == pytest.approx(trailing_slope(apart, 63)[:, 0], abs=1e-12, nan_ok=True)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 59), st.floats(0, 0.2))
def test_the_future_changes_nothing(seed, cut, unknown):
    prices, market = _prices(seed, 60, 9)
    prices[np.random.default_rng(seed).random(prices.shape) < unknown] = np.nan
    first = np.arange(9) < 4

    def everything(prices, market):
        strength = relative_strength(prices, market)
        slope, z = trailing_slope(strength, 9), trailing_zscore(strength, 9)
        whole = [strength, slope, z, rank_rotation(slope, 5), group_spread(slope, first, ~first)]
        return np.column_stack(whole)

    whole, alone = everything(prices, market), everything(prices[:cut], market[:cut])
    assert np.array_equal(whole[:cut], alone, equal_nan=True)
    # Nor do rows before the windows.
    low = max(0, cut - 9 - 5)
    late = everything(prices[low:cut], market[low:cut])
    assert np.array_equal(late[-1], alone[-1], equal_nan=True)


def test_refusals():
    prices, market = _prices()
    with pytest.raises(DataError, match="one price a session"):
        relative_strength(prices, market[1:])
    with pytest.raises(DataError, match="zero or negative"):
        relative_strength(prices, market - market[0])
    with pytest.raises(DataError, match="give \\(T, S\\)"):
        trailing_slope(market, 21)
    with pytest.raises(ConfigError, match="window 1"):
        trailing_zscore(prices, 1)
    with pytest.raises(ConfigError, match="lag 0"):
        rank_rotation(prices, lag=0)
    with pytest.raises(ConfigError, match="share no sector"):
        group_spread(prices, CYCLICAL, CYCLICAL)
    with pytest.raises(ConfigError, match="not empty"):
        group_spread(prices, CYCLICAL, np.zeros(5, dtype=bool))
    with pytest.raises(ConfigError, match="of 5 sectors"):
        group_spread(prices, CYCLICAL[:4], DEFENSIVE)
