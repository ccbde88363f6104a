from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kurtosis, norm, skew

from core.errors import ConfigError, DataError
from market.stylised import (
    RANGES,
    StylisedFacts,
    autocorrelation,
    leverage_correlation,
    leverage_function,
    stylised_facts,
)


def _garch(seed=0, rows=5000, symbols=30, asymmetry=0.0, degrees=6):
    """Returns and volume of stocks whose variance remembers past squares (and falls, where `asymmetry` is positive)."""
    rng = np.random.default_rng(seed)
    shock = rng.standard_t(degrees, (rows, symbols)) * np.sqrt((degrees - 2) / degrees)
    alpha, persistence, level = 0.07, 0.99, 0.02**2
    variance, r = np.full(symbols, level), np.empty((rows, symbols))
    for t in range(rows):
        r[t] = np.sqrt(variance) * shock[t]
        weight = alpha * (1 - asymmetry + 2 * asymmetry * (r[t] < 0))
        variance = (1 - persistence) * level + (persistence - alpha) * variance + weight * r[t] ** 2
    return r, np.exp(rng.normal(size=r.shape)) * (1 + 50 * np.abs(r))


def test_gaussian_control():
    r = np.random.default_rng(1).normal(0, 0.01, (4000, 40))
    facts = stylised_facts(r, np.random.default_rng(2).uniform(size=r.shape)).stocks
    assert facts.excess_kurtosis == pytest.approx(0, abs=0.05)
    assert facts.skewness == pytest.approx(0, abs=0.03)
    assert facts.hill == pytest.approx(5.9, abs=0.2)
    for name in ("acf_return_1", "acf_absolute_1", "acf_absolute_10", "acf_absolute_100", "leverage"):
        assert getattr(facts, name) == pytest.approx(0, abs=0.01)
    assert facts.volume_correlation == pytest.approx(0, abs=0.01)
    assert set(facts.outside()) == set(RANGES) - {"acf_return_1"}
    assert facts.symbols == 40


def test_hill_of_gaussian_quantiles():
    # The mean of ln(|x| / u) beyond the 5 % quantile u of |x|, by quadrature, is 1 / 5.998457.
    x = norm.ppf((np.arange(1, 100001) - 0.5) / 100000)
    assert stylised_facts(x).stocks.hill == pytest.approx(5.998457, rel=2e-3)


def test_clustered_returns_pass():
    facts = stylised_facts(*_garch()).stocks
    assert facts.outside() == {}
    assert abs(facts.leverage) < 0.02
    assert stylised_facts(_garch()[0]).stocks.volume_correlation is None


def test_leverage_is_seen():
    r, _ = _garch(asymmetry=0.9, degrees=20)
    assert stylised_facts(r).stocks.leverage < -0.03
    assert stylised_facts(-r).stocks.leverage > 0.03
    # Volatility that falls raise later: no effect at all before the return.
    later, earlier = np.median(leverage_correlation(r), axis=1), np.median(leverage_correlation(r[::-1]), axis=1)
    assert (later < -0.025).all()
    assert (np.abs(earlier) < 0.02).all()
    assert (np.median(leverage_function(r), axis=1) < 0).all()


def test_large_losses_are_skewness():
    r = np.random.default_rng(3).exponential(0.01, (3000, 5))
    assert stylised_facts(-r).stocks.skewness == pytest.approx(-2, abs=0.2)
    assert stylised_facts(r).stocks.skewness == pytest.approx(2, abs=0.2)


def _slow(r, v):
    """Facts of one symbol by plain loops over its sessions."""
    known = [x for x in r if np.isfinite(x)]
    out = {"excess_kurtosis": kurtosis(known), "skewness": skew(known)}
    top = sorted(np.abs(known))[::-1]
    k = int(0.05 * len(known))
    out["hill"] = 1 / np.mean([np.log(x / top[k]) for x in top[:k]])

    def acf(x, lag):
        mean, var = np.nanmean(x), np.nanvar(x)
        pairs = [(x[t] - mean) * (x[t + lag] - mean) for t in range(len(x) - lag)]
        return np.nanmean(pairs) / var

    r = np.where(np.isfinite(r), r, np.nan)
    out["acf_return_1"] = acf(r, 1)
    out |= {f"acf_absolute_{lag}": acf(np.abs(r), lag) for lag in (1, 10, 100)}

    def corr(pairs):
        return np.corrcoef([p for p in pairs if np.isfinite(p).all()], rowvar=False)[0, 1]

    out["leverage"] = np.mean([corr([(r[t], r[t + i] ** 2) for t in range(len(r) - i)]) for i in range(1, 11)])
    out["volume_correlation"] = corr(list(zip(np.abs(r), v, strict=True)))
    return out


def test_equals_plain_loops():
    r, v = _garch(5, 600, 5)
    rng = np.random.default_rng(5)
    r[rng.random(r.shape) < 0.1] = np.nan  # halts
    v[rng.random(r.shape) < 0.1] = np.nan
    r[:200, 0] = np.nan  # listed late
    r[350:, 1] = np.nan  # delisted
    r[7, 2] = np.inf
    r[:400, 3] = np.nan  # too short to measure
    report = stylised_facts(r, v, r[:, 4], market_volume=v[:, 4])
    each = [_slow(r[:, n], v[:, n]) for n in (0, 1, 2, 4)]
    assert report.stocks.symbols == 4
    assert report.market.symbols == 1
    for name in each[0]:
        assert getattr(report.stocks, name) == pytest.approx(np.median([facts[name] for facts in each]), rel=1e-9)
        assert getattr(report.market, name) == pytest.approx(each[3][name], rel=1e-9)


def test_leverage_function_by_hand():
    # Returns 2, -1, -1 have mean 0 and <r^2> = 2; at lag 1 <r_{t+1}^2 r_t> = (1 * 2 + 1 * -1) / 2.
    assert leverage_function([2.0, -1.0, -1.0], (1,)) == pytest.approx(np.array([[0.5 / 4]]))
    r = np.random.default_rng(6).normal(0, 0.01, (500, 2))
    assert leverage_function(3 * r) == pytest.approx(leverage_function(r) / 3)


def test_autocorrelation_of_an_autoregression():
    rng = np.random.default_rng(7)
    x = np.zeros(20000)
    for t in range(1, len(x)):
        x[t] = 0.5 * x[t - 1] + rng.normal()
    whole = autocorrelation(x, (1, 2))[:, 0]
    assert whole == pytest.approx([0.5, 0.25], abs=0.02)
    # Pairs lost at random leave it.
    x[rng.random(len(x)) < 0.4] = np.nan
    assert autocorrelation(x, (1, 2))[:, 0] == pytest.approx(whole, abs=0.03)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.floats(1e-4, 1e4), st.floats(0, 0.3))
def test_facts_are_free_of_scale_and_order(seed, factor, unknown):
    rng = np.random.default_rng(seed)
    r, v = rng.standard_t(4, (300, 3)) / 100, rng.uniform(1, 2, (300, 3))
    r[rng.random(r.shape) < unknown] = np.nan
    facts = asdict(stylised_facts(r, v, minimum=100).stocks)
    scaled = asdict(stylised_facts(r * factor * [1, 2, 3], 7 * v, minimum=100).stocks)
    turned = asdict(stylised_facts(r[:, ::-1], v[:, ::-1], minimum=100).stocks)
    for name, value in facts.items():
        assert scaled[name] == pytest.approx(value, rel=1e-7, abs=1e-9)
        assert turned[name] == pytest.approx(value, rel=1e-9, abs=1e-12)


def test_a_symbol_that_never_moves_tells_nothing():
    r, v = _garch(8, 400, 2)
    still = np.column_stack([r, np.zeros(400), np.full(400, 0.001)])  # whose mean is not 0.001 in binary
    facts = stylised_facts(still, np.column_stack([v, v])).stocks
    moving = stylised_facts(r, v).stocks
    assert facts.symbols == 4
    for name in ("excess_kurtosis", "acf_return_1", "leverage", "volume_correlation"):
        assert getattr(facts, name) == getattr(moving, name)
    # Nothing measured is nothing passed.
    assert set(stylised_facts(np.zeros(300)).stocks.outside()) == set(RANGES) - {"volume_correlation"}


def test_ranges():
    inside = StylisedFacts(10.6, -0.2, 2.89, -0.08, 0.28, 0.29, 0.10, -0.1, 0.21, 1)
    assert inside.outside() == {}
    ends = {name: low for name, (low, _) in RANGES.items()}
    assert replace(inside, **ends).outside() == {}
    for name, (low, high) in RANGES.items():
        for value in (low - 0.01, high + 0.01, np.nan):
            if value == np.inf:
                continue
            assert list(replace(inside, **{name: value}).outside()) == [name]
    assert inside.outside({"leverage": (-1.0, -0.2)}) == {"leverage": -0.1}
    assert replace(inside, volume_correlation=None).outside() == {}
    with pytest.raises(ConfigError, match="range kurt "):
        inside.outside({"kurt": (0.0, 1.0)})
    with pytest.raises(ConfigError, match="lower end first"):
        inside.outside({"hill": (4.0, 2.0)})


def test_check_values_of_the_reference_markets_lie_inside():
    for values in ((1.79, 3.82, 0.004, 0.16, 0.14, 0.06, 0.90), (10.6, 2.89, -0.08, 0.28, 0.29, 0.10, 0.21)):
        facts = dict(zip(RANGES, values, strict=True))
        assert StylisedFacts(**facts, skewness=0.0, leverage=0.0, symbols=1).outside() == {}


def test_refusals():
    r, v = _garch(9, 300, 2)
    with pytest.raises(DataError, match="at most 300 known returns a symbol, 301 are needed"):
        stylised_facts(r, minimum=301)
    with pytest.raises(ConfigError, match="minimum 19: choose at least 20"):
        stylised_facts(r, minimum=19)
    with pytest.raises(DataError, match="arrays of one shape"):
        stylised_facts(r, v[:, :1])
    with pytest.raises(DataError, match=r"market \(300, 2\)"):
        stylised_facts(r, market=r)
    with pytest.raises(ConfigError, match="give both"):
        stylised_facts(r, market_volume=v[:, 0])
    with pytest.raises(DataError, match="give \\(T, N\\) or"):
        stylised_facts(np.zeros((3, 3, 3)))
    with pytest.raises(ConfigError, match="lags"):
        autocorrelation(r, ())
    with pytest.raises(ConfigError, match="lags"):
        leverage_function(r, (0, 1))
