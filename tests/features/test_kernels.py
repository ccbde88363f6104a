"""Kernels against pandas, against a naive oracle, and against the promises of their docstrings."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from features import kernels as k

RNG = np.random.default_rng(7)
X = RNG.normal(size=(90, 70))
X[RNG.random(X.shape) < 0.15] = np.nan
X[:30, 3] = np.nan
X[:, 4] = np.nan
X[:, 5] = np.round(X[:, 5])
X[:, 6] = 0.1
Y = RNG.normal(size=X.shape) + 0.5 * np.nan_to_num(X)
Y[RNG.random(X.shape) < 0.1] = np.nan
MASK = RNG.random(X.shape) < 0.8
GROUP = np.arange(70) % 4 - 1


def slope(w):
    time = np.arange(len(w), dtype=float)[~np.isnan(w)]
    return np.polyfit(time, w[~np.isnan(w)], 1)[0] if len(time) > 1 else np.nan


def residual_std(x, y):
    both = ~np.isnan(x) & ~np.isnan(y)
    x, y = x[both], y[both]
    fit = np.polyfit(x, y, 1)
    return np.sqrt(((y - np.polyval(fit, x)) ** 2).sum() / (len(x) - 2))


def residual(w):
    time = np.arange(len(w), dtype=float)
    there = ~np.isnan(w)
    return w[-1] - np.polyval(np.polyfit(time[there], w[there], 1), time[-1]) if there.sum() > 1 else np.nan


def r2(w):
    there = ~np.isnan(w)
    return stats.pearsonr(np.arange(len(w))[there], w[there])[0] ** 2 if there.sum() > 1 else np.nan


def faded(w):
    weight = 0.5 ** (np.arange(len(w))[::-1] / 4.0)
    return np.nansum(w * weight) / weight[~np.isnan(w)].sum()


def ramped(w):
    return np.nansum(w * np.arange(200, 200 - len(w), -1)[::-1])


ONE = {
    "ewm_mean": (lambda x, w, m: k.rolling_ewm_mean(x, w, 4.0, m), faded),
    "weighted_sum": (lambda x, w, m: k.rolling_weighted_sum(x, np.arange(200, 200 - w, -1), m), ramped),
    "residual": (lambda x, w, m: k.rolling_residual(x, w, m), residual),
    "sum": (lambda x, w, m: k.rolling_sum(x, w, m), np.nansum),
    "mean": (lambda x, w, m: k.rolling_mean(x, w, m), np.nanmean),
    "std": (lambda x, w, m: k.rolling_std(x, w, m), lambda v: np.nanstd(v, ddof=1)),
    "min": (lambda x, w, m: k.rolling_min(x, w, m), np.nanmin),
    "max": (lambda x, w, m: k.rolling_max(x, w, m), np.nanmax),
    "median": (lambda x, w, m: k.rolling_median(x, w, m), np.nanmedian),
    "quantile": (lambda x, w, m: k.rolling_quantile(x, w, 0.3, m), lambda v: np.nanquantile(v, 0.3)),
    "argmax": (lambda x, w, m: k.rolling_argmax(x, w, m), lambda v: np.nanargmax(v[::-1])),
    "argmin": (lambda x, w, m: k.rolling_argmin(x, w, m), lambda v: np.nanargmin(v[::-1])),
    "top_mean": (lambda x, w, m: k.rolling_top_mean(x, w, 3, m), lambda v: np.sort(v[~np.isnan(v)])[-3:].mean()),
    "slope": (lambda x, w, m: k.rolling_slope(x, w, m), slope),
}
TWO = {
    "corr": (k.rolling_corr, lambda a, b: stats.pearsonr(a, b)[0]),
    "beta": (k.rolling_beta, lambda a, b: np.polyfit(a, b, 1)[0]),
    "residual_std": (k.rolling_residual_std, residual_std),
}


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize(("window", "least"), [(12, 5), (3, 3), (200, 20)])
def test_rolling_equals_the_naive_loop(name, window, least):
    fast, naive = ONE[name]
    expected = np.full(X.shape, np.nan)
    for t, j in np.ndindex(X.shape):
        seen = X[max(0, t - window + 1) : t + 1, j]
        if (~np.isnan(seen)).sum() >= least:
            expected[t, j] = naive(seen)
    np.testing.assert_allclose(fast(X, window, least), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", TWO)
def test_pairs_equal_the_naive_loop(name):
    fast, naive = TWO[name]
    window, least = 20, 8
    result = fast(X, Y, window, least)
    for t, j in np.ndindex(X.shape):
        a, b = X[max(0, t - window + 1) : t + 1, j], Y[max(0, t - window + 1) : t + 1, j]
        both = ~np.isnan(a) & ~np.isnan(b)
        if both.sum() < least or j == 6:
            assert np.isnan(result[t, j])
        else:
            assert result[t, j] == pytest.approx(naive(a[both], b[both]), rel=1e-9, abs=1e-12)


def test_r2_is_the_squared_correlation_with_time():
    found = k.rolling_r2(X, 20, 8)
    for t, j in np.ndindex(X.shape):
        seen = X[max(0, t - 19) : t + 1, j]
        if (~np.isnan(seen)).sum() < 8 or j == 6:
            assert np.isnan(found[t, j])
        else:
            assert found[t, j] == pytest.approx(r2(seen), rel=1e-9, abs=1e-12)


def test_thirty_years_do_not_drift():
    """After 7,560 sessions at levels that change by six orders, the last windows are still right to the last digits."""
    rng = np.random.default_rng(1)
    scale = 10.0 ** np.linspace(6, 0, 7560)[:, None]
    x = scale * (1000.0 + rng.normal(size=(7560, 3)))
    x[rng.random(x.shape) < 0.02] = np.nan
    y = scale * rng.normal(size=x.shape)
    for window in (5, 21, 63, 252):
        seen, beside = x[-window:], y[-window:]
        both = ~np.isnan(seen)
        for j in range(3):
            a, b = seen[both[:, j], j], beside[both[:, j], j]
            exact = {
                "sum": (k.rolling_sum(x, window, 3), np.sum(a)),
                "mean": (k.rolling_mean(x, window, 3), np.mean(a)),
                "std": (k.rolling_std(x, window, 3), np.std(a, ddof=1)),
                "corr": (k.rolling_corr(x, y, window, 3), np.corrcoef(a, b)[0, 1]),
                "slope": (k.rolling_slope(x, window, 3), slope(seen[:, j])),
                "quantile": (k.rolling_quantile(x, window, 0.2, 3), np.quantile(a, 0.2)),
            }
            for name, (values, expected) in exact.items():
                assert values[-1, j] == pytest.approx(expected, rel=1e-9), (name, window)


def test_float32_in_float32_out_with_sums_in_float64():
    x = (1e4 + RNG.normal(size=(400, 5))).astype(np.float32)
    for compute in (k.rolling_std, k.rolling_mean, k.rolling_max, k.rolling_slope, k.rolling_median):
        narrow, wide = compute(x, 60), compute(x.astype(np.float64), 60)
        assert narrow.dtype == np.float32
        np.testing.assert_allclose(narrow, wide, rtol=1e-6)


def test_constant_windows_have_no_spread():
    flat = np.full((10, 1), 0.1)
    assert (k.rolling_std(flat, 5)[4:] == 0).all()
    assert np.isnan(k.rolling_skew(flat, 5)).all()
    assert np.isnan(k.rolling_corr(flat, X[:10, :1], 5, 2)).all()
    assert np.isnan(k.zscore(np.full((1, 5), 0.1), np.ones((1, 5), bool))).all()


def test_skew_and_rank():
    frame = pd.DataFrame(X[:, :3])
    expected = frame.rolling(30, 10).apply(lambda v: stats.skew(v.dropna()), raw=False)
    np.testing.assert_allclose(k.rolling_skew(X[:, :3], 30, 10), expected, rtol=1e-9)
    share = (frame.rolling(15, 5).rank() - 0.5) / frame.rolling(15, 1).count()
    np.testing.assert_allclose(k.rolling_rank(X[:, :3], 15, 5), share, rtol=1e-12)


def test_max_of_bali_cakici_whitelaw():
    r = np.array([0.01, -0.02, 0.05, 0.03, -0.01, 0.04, 0.02, 0.0, 0.06, -0.03])[:, None]
    assert k.rolling_top_mean(r, 10, 1)[-1, 0] == pytest.approx(0.06)
    assert k.rolling_top_mean(r, 10, 5)[-1, 0] == pytest.approx(0.04)


WINDOWED = {
    **{name: (lambda x, f=fast: f(x, 12, 4)) for name, (fast, _) in ONE.items()},
    **{name: (lambda x, f=fast: f(x, np.ascontiguousarray(x[:, ::-1]), 12, 4)) for name, (fast, _) in TWO.items()},
    "skew": lambda x: k.rolling_skew(x, 12, 4),
    "rank": lambda x: k.rolling_rank(x, 12, 4),
    "count": lambda x: k.rolling_count(x, 12),
    "change": lambda x: k.change(np.abs(x), 11),
}


@pytest.mark.parametrize("name", WINDOWED)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_bits_depend_on_the_window_alone(name, data):
    element = st.one_of(st.just(np.nan), st.floats(-1e6, 1e6, width=32), st.floats(0, 1e-3))
    x = data.draw(arrays(np.float64, (20, 3), elements=element))
    compute = WINDOWED[name]
    full = compute(x)
    for t in (11, 15, 19):
        alone = compute(x[t - 11 : t + 1])[-1]
        prefix = compute(x[: t + 1])[-1]
        assert alone.tobytes() == full[t].tobytes() == prefix.tobytes()


def test_threads_and_blocks_do_not_change_bits(monkeypatch):
    wide = RNG.normal(size=(150, 300))
    wide[RNG.random(wide.shape) < 0.1] = np.nan

    def everything():
        held = wide > -2
        return [
            *(f(wide) for f in WINDOWED.values()),
            *(f(wide, held) for f in (k.rank, k.zscore, k.winsorise, k.row_mean)),
        ]

    results = []
    for count in ("1", "2", "5"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", count)
        results.append([values.tobytes() for values in everything()])
    assert results[0] == results[1] == results[2]
    narrow = k.rolling_std(np.ascontiguousarray(wide[:, 100:101]), 12, 4)
    assert narrow.tobytes() == k.rolling_std(wide, 12, 4)[:, 100:101].tobytes()


def test_shift_never_looks_ahead():
    assert np.isnan(k.shift(X, 5)[:5]).all()
    np.testing.assert_array_equal(k.shift(X, 5)[5:], X[:-5])
    assert np.isnan(k.shift(X, 500)).all()
    with pytest.raises(ValueError, match="look ahead"):
        k.shift(X, -1)


def test_bad_arguments():
    with pytest.raises(ValueError, match="min_count"):
        k.rolling_mean(X, 5, 6)
    with pytest.raises(ValueError, match="different shapes"):
        k.rolling_corr(X, Y[:5], 5)
    with pytest.raises(ValueError, match="level"):
        k.rolling_quantile(X, 5, 1.5)
    with pytest.raises(ValueError, match=r"\(T, N\)"):
        k.rolling_mean(X[0], 5)
    with pytest.raises(ValueError, match="half_life"):
        k.rolling_ewm_mean(X, 5, 0.0)
    with pytest.raises(ValueError, match="weights"):
        k.rolling_weighted_sum(X, [])
    with pytest.raises(ValueError, match="min_count"):
        k.rolling_weighted_sum(X, [1.0, 2.0], 3)
    with pytest.raises(ValueError, match="share"):
        k.winsorise(X, MASK, 0.5)


def test_gauss_rank_of_five():
    row = np.array([[3.0, 1.0, 2.0, 5.0, 4.0]])
    expected = [0.0, -1.281552, -0.524401, 1.281552, 0.524401]
    np.testing.assert_allclose(k.gauss_rank(row, np.ones((1, 5), bool))[0], expected, atol=1e-6)


def test_rows_against_pandas():
    frame = pd.DataFrame(np.where(MASK, X, np.nan))
    count = frame.count(axis=1)
    np.testing.assert_allclose(k.rank(X, MASK), (frame.rank(axis=1) - 0.5).div(count, axis=0))
    z = frame.sub(frame.mean(axis=1), axis=0).div(frame.std(axis=1), axis=0)
    np.testing.assert_allclose(k.zscore(X, MASK), z, rtol=1e-9, atol=1e-12)
    low, high = frame.quantile(0.05, axis=1), frame.quantile(0.95, axis=1)
    np.testing.assert_allclose(k.winsorise(X, MASK, 0.05), frame.clip(low, high, axis=0), rtol=1e-12)
    np.testing.assert_allclose(k.row_mean(X, MASK), frame.mean(axis=1))


def test_demean_by_group_falls_back_to_all():
    x = np.array([[1.0, 2.0, 3.0, 10.0, 11.0, 7.0, np.nan]])
    mask = np.ones(x.shape, bool)
    group = np.array([0, 0, 0, 1, 1, -1, 0])
    overall = (1 + 2 + 3 + 10 + 11 + 7) / 6
    expected = [[-1, 0, 1, 10 - overall, 11 - overall, 7 - overall, np.nan]]
    np.testing.assert_allclose(k.demean(x, mask, group), expected)
    np.testing.assert_allclose(k.demean(x, mask), x - overall)
    assert np.isnan(k.demean(x, np.zeros_like(mask), group)).all()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_rows_do_not_depend_on_symbol_order(data):
    element = st.one_of(st.just(np.nan), st.floats(-1e8, 1e8, width=32), st.sampled_from([0.1, 0.2]))
    x = data.draw(arrays(np.float64, (2, 9), elements=element))
    mask = data.draw(arrays(np.bool_, (2, 9)))
    order = np.array(data.draw(st.permutations(range(9))))
    group = np.array([0, 0, 0, 1, 1, 1, 1, 2, -1])
    for compute in (k.rank, k.gauss_rank, k.zscore, k.winsorise):
        assert compute(x, mask)[:, order].tobytes() == compute(x[:, order], mask[:, order]).tobytes()
    mixed = k.demean(x[:, order], mask[:, order], group[order])
    assert k.demean(x, mask, group)[:, order].tobytes() == mixed.tobytes()
    assert k.row_mean(x, mask).tobytes() == k.row_mean(x[:, order], mask[:, order]).tobytes()


CHILD = """
import time, numpy as np
from features import kernels as k
from features.kernels import rolling
x = np.random.default_rng(0).normal(size=(300, 130))
k.rolling_std(x, 20); k.rank(x, x > -1)
print(sum(rolling._moment.stats.cache_hits.values()), sum(rolling._moment.stats.cache_misses.values()))
"""


@pytest.mark.slow
def test_compiled_kernels_are_kept_on_disk(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    counts = [subprocess.check_output([sys.executable, "-c", CHILD], env=environment, text=True) for _ in range(2)]
    assert [text.split() for text in counts] == [["0", "1"], ["1", "0"]]
