import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from market.volatility import ewma_volatility, filtered_returns, standardised_returns

R = np.array([0.01, -0.02, 0.015, -0.03, 0.005, 0.012, -0.011, 0.02, -0.006, -0.017])


def test_filtered_historical_simulation_check_values():
    sigma = ewma_volatility(R, initial=R.var())
    ahead = ewma_volatility(R, initial=R.var(), ahead=True)
    assert ahead[-1] == pytest.approx(0.0160660, abs=5e-8)
    assert sigma[0] == R.std()
    assert (ahead[:-1] == sigma[1:]).all()
    losses = -filtered_returns(R, sigma, ahead[-1])
    assert np.sort(losses)[-2:] == pytest.approx([0.0203379, 0.0300876], abs=5e-8)
    assert np.quantile(losses, 0.9) == pytest.approx(0.0213129, abs=5e-8)
    assert np.quantile(-R, 0.9) == pytest.approx(0.021, abs=1e-12)


def _slow(r, t, decay, window=None):
    """Forecast for row t as a plain weighted mean of the squares before it."""
    past = r[:t] if window is None else r[max(0, t - window) : t]
    past = past[np.isfinite(past)]
    weights = decay ** np.arange(len(past))[::-1]
    return np.sqrt(np.average(past**2, weights=weights)) if len(past) else np.nan


@pytest.mark.parametrize("window", [None, 25])
def test_equals_plain_weighted_means(window):
    rng = np.random.default_rng(1)
    r = rng.normal(0, 0.02, (120, 3))
    r[rng.random(r.shape) < 0.2] = np.nan
    r[:40, 1] = np.nan
    r[60:, 2] = np.nan
    r[5, 0] = np.inf
    got = ewma_volatility(r, 0.9, minimum=5, window=window)
    for n in range(3):
        for t in range(120):
            known = np.isfinite(r[max(0, t - (window or 120)) : t, n]).sum()
            expected = _slow(r[:, n], t, 0.9, window) if known >= 5 else np.nan
            assert got[t, n] == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_equals_pandas():
    r = np.random.default_rng(2).normal(0, 0.01, 400)
    r[[0, 17, 18, 200]] = np.nan
    mean = pd.Series(r**2).ewm(alpha=0.06, adjust=True, ignore_na=True, min_periods=20).mean()
    assert ewma_volatility(r, ahead=True) == pytest.approx(np.sqrt(mean.to_numpy()), rel=1e-12, nan_ok=True)
    begun = pd.Series(np.append(0.0004, r[~np.isnan(r)] ** 2)).ewm(alpha=0.06, adjust=False).mean()
    got = ewma_volatility(r, initial=0.0004, ahead=True)[~np.isnan(r)]
    assert got == pytest.approx(np.sqrt(begun.to_numpy()[1:]), rel=1e-12)


series = st.lists(st.one_of(st.floats(-0.2, 0.2), st.just(np.nan)), min_size=1, max_size=50)


@settings(deadline=None, max_examples=60)
@given(series, series)
def test_the_future_changes_no_forecast(past, future):
    both = np.array(past + future)
    for kwargs in ({"minimum": 1}, {"initial": 0.01}, {"minimum": 2, "window": 7}):
        for ahead in (False, True):
            alone = ewma_volatility(past, ahead=ahead, **kwargs)
            assert np.array_equal(ewma_volatility(both, ahead=ahead, **kwargs)[: len(past)], alone, equal_nan=True)


def test_a_row_knows_nothing_of_its_own_return():
    changed = R.copy()
    changed[6] = 0.5
    before, after = ewma_volatility(R, minimum=1), ewma_volatility(changed, minimum=1)
    assert np.array_equal(before[:7], after[:7], equal_nan=True)
    assert after[7] > before[7]
    assert ewma_volatility(changed, minimum=1, ahead=True)[6] == after[7]


@settings(deadline=None, max_examples=40)
@given(series, st.integers(1, 9))
def test_a_window_has_the_bits_of_its_rows_alone(r, window):
    got = ewma_volatility(r, minimum=1, window=window, ahead=True)
    for t in range(len(r)):
        alone = ewma_volatility(r[max(0, t - window + 1) : t + 1], minimum=1, window=window, ahead=True)[-1]
        assert np.array_equal(got[t], alone, equal_nan=True)


def test_columns_are_apart():
    r = np.random.default_rng(3).normal(size=(60, 4))
    r[:30, 2] = np.nan
    start = np.array([0.1, 0.2, 0.3, 0.4])
    together = ewma_volatility(r, initial=start)
    for n in range(4):
        assert np.array_equal(together[:, n], ewma_volatility(r[:, n], initial=start[n]))
    assert (together[:31, 2] == np.sqrt(0.3)).all()  # it waits for the first return


def test_a_halt_leaves_the_forecast():
    r = np.concatenate([R, np.full(5, np.nan), R])
    got = ewma_volatility(r, minimum=1)
    assert (got[10:16] == got[10]).all()
    assert np.array_equal(ewma_volatility(np.append(R, R), minimum=1)[10:], got[15:])
    # A window forgets what lies before it.
    assert np.isnan(ewma_volatility(r, minimum=1, window=4)[14])


def test_standardised_returns_have_unit_variance():
    rng = np.random.default_rng(4)
    sigma = np.repeat([0.01, 0.04, 0.01, 0.02], 2000)
    r = sigma * rng.normal(size=8000)
    z = standardised_returns(r, ewma_volatility(r))
    assert np.isnan(z[:20]).all()
    assert np.nanstd(z) == pytest.approx(1.0, abs=0.05)
    assert np.nanmean(z**4) / np.nanmean(z**2) ** 2 < 4.2 < np.mean(r**4) / np.mean(r**2) ** 2


def test_standardised_where_nothing_is_known():
    got = standardised_returns([0.01, np.nan, 0.02, 0.0, np.inf], [0.02, 0.02, np.nan, 0.0, 0.01])
    assert got == pytest.approx([0.5, np.nan, np.nan, np.nan, np.nan], nan_ok=True)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-0.2, 0.2).filter(lambda x: x == 0 or abs(x) > 1e-6), min_size=3, max_size=40))
def test_filtered_returns_scale_with_returns(r):
    r = np.array(r)
    sigma, ahead = ewma_volatility(r, minimum=1), ewma_volatility(r, minimum=1, ahead=True)[-1]
    double = filtered_returns(2 * r, ewma_volatility(2 * r, minimum=1), 2 * ahead)
    assert double == pytest.approx(2 * filtered_returns(r, sigma, ahead), nan_ok=True)


def test_refusals():
    with pytest.raises(ConfigError, match="decay 1"):
        ewma_volatility(R, 1.0)
    with pytest.raises(ConfigError, match="window 5"):
        ewma_volatility(R, minimum=6, window=5)
    with pytest.raises(ConfigError, match="give one"):
        ewma_volatility(R, initial=0.1, window=5)
    with pytest.raises(DataError, match="give \\(T,\\) or \\(T, N\\)"):
        ewma_volatility(np.zeros((2, 2, 2)))
    with pytest.raises(DataError, match="negative or unknown"):
        ewma_volatility(R, initial=-1.0)
    with pytest.raises(DataError, match="one for each of 1 columns"):
        ewma_volatility(R, initial=[0.1, 0.2])
    with pytest.raises(DataError, match="one shape"):
        standardised_returns(R, R[:, None])
    with pytest.raises(DataError, match="negative standard deviation"):
        standardised_returns(R, R)
    with pytest.raises(DataError, match="negative forecast"):
        filtered_returns(R, np.abs(R), -0.1)
    with pytest.raises(DataError, match="one a column"):
        filtered_returns(R, np.abs(R), [0.1, 0.2])
