import numpy as np
import pytest
from arch import arch_model
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import genpareto, kurtosis, norm, skew, t

from core.errors import ConfigError, ConvergenceError, DataError
from portfolio.exceedances import coverage
from portfolio.value_at_risk import base, filtered
from portfolio.value_at_risk.base import MODELS, TailRisk, risk_model, value_at_risk, walk_forward
from portfolio.value_at_risk.historical import empirical_risk, tail_weights
from portfolio.value_at_risk.parametric import (
    cornish_fisher_tail,
    degrees_of_freedom,
    normal_tail,
    student_tail,
)

NAMES = (
    "cornish_fisher",
    "filtered_ewma",
    "filtered_garch",
    "historical",
    "normal",
    "peaks_over_threshold",
    "student_t",
)
TEN = np.array([0.01, -0.02, 0.015, -0.03, 0.005, 0.012, -0.011, 0.02, -0.006, -0.017])


def _garch(count, seed, freedom=6.0):
    """Returns with volatility that clusters, and each one's true standard deviation."""
    rng = np.random.default_rng(seed)
    shocks = rng.standard_t(freedom, count) * np.sqrt((freedom - 2) / freedom)
    variance, returns = np.empty(count), np.empty(count)
    last, square = 1e-4, 1e-4
    for i in range(count):
        variance[i] = last = 1.5e-6 + 0.08 * square + 0.905 * last
        returns[i] = np.sqrt(last) * shocks[i]
        square = returns[i] ** 2
    return returns, np.sqrt(variance)


def test_registered():
    assert MODELS.names() == NAMES
    with pytest.raises(ConfigError, match="unknown value-at-risk model 'magic'"):
        value_at_risk(TEN, 0.9, "magic")


# --- values known beforehand ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("got", "var", "es"),
    [
        (normal_tail(0.95), 1.644854, 2.062713),
        (normal_tail(0.975), 1.959964, 2.337803),
        (normal_tail(0.99), 2.326348, 2.665214),
        (student_tail(0.99, 4), 2.649492, 3.691510),
        (student_tail(0.99, 5), 2.606464, 3.448837),
    ],
)
def test_unit_tails(got, var, es):
    assert got == pytest.approx((var, es), abs=6e-7)


def test_cornish_fisher_value():
    assert cornish_fisher_tail(0.99, -0.5, 3.0).var == pytest.approx(3.301284, abs=5e-7)
    assert cornish_fisher_tail(0.95, 0.0, 0.0) == pytest.approx(normal_tail(0.95), rel=1e-12)


def test_filtered_and_plain_history():
    assert value_at_risk(TEN, 0.9, "historical").var == pytest.approx(0.021, abs=1e-12)
    got = value_at_risk(TEN, 0.9, "filtered_ewma")
    assert got.var == pytest.approx(0.0213129, abs=5e-8)
    volatility, forecast = filtered.ewma_of(TEN)
    assert volatility[0] ** 2 == pytest.approx(TEN.var())
    assert forecast == pytest.approx(0.0160660, abs=5e-8)
    assert np.sort(TEN / volatility * forecast)[:2] == pytest.approx([-0.0300876, -0.0203379], abs=5e-8)
    assert got.es == pytest.approx(0.0300876, abs=5e-8)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99, 0.999])
def test_shortfalls_are_means_of_quantiles(level):
    """Each closed form of the ES against the integral of its own VaR over the tail."""
    for tail in (normal_tail, lambda p: student_tail(p, 4.5), lambda p: cornish_fisher_tail(p, -0.4, 2.0)):
        # In v, 1 - p = exp(-v): the tail's end is where the quantile grows.
        mean = quad(lambda v, f=tail: f(-np.expm1(-v)).var * np.exp(-v), -np.log1p(-level), 34, limit=200)[0]
        assert tail(level).es == pytest.approx(mean / (1 - level), rel=1e-6)


# --- the empirical tail --------------------------------------------------------------------------------------


def test_tail_weights():
    losses = np.array([3.0, -1.0, 5.0, 2.0, 4.0])
    assert tail_weights(losses, 0.5) == pytest.approx([0.2, 0, 0.4, 0, 0.4])
    assert tail_weights(losses, 0.8) == pytest.approx([0, 0, 1, 0, 0])
    assert empirical_risk(losses, 0.5) == pytest.approx((3.0, (5 + 4 + 1.5) / 2.5))
    assert tail_weights(np.zeros(4), 0.5) == pytest.approx([0.5, 0.5, 0, 0])


samples = st.lists(st.floats(-0.2, 0.2), min_size=20, max_size=60)
levels = st.sampled_from([0.5, 0.75, 0.9, 0.95])


@settings(deadline=None)
@given(st.integers(0, 10_000), levels, st.integers(20, 60))
def test_historical_shortfall_is_coherent(seed, level, count):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_t(2, size=(2, count)) * 0.01
    if seed % 2:
        a, b = np.round(a, 2), np.round(b, 2)

    def es(returns):
        return value_at_risk(returns, level, "historical").es

    assert es(a + b) <= es(a) + es(b) + 1e-12
    assert es(np.minimum(a, b)) >= es(a) - 1e-12
    assert es(a) == pytest.approx(_by_slices(-a, level), rel=1e-3, abs=1e-4)


def _by_slices(losses, level):
    """The tail cut into many equal slices, each slice the order statistic it falls in."""
    cuts = 1 - (np.arange(6000) + 0.5) / 6000 * (1 - level)
    ordered = np.sort(losses)
    return ordered[(cuts * len(losses)).astype(int)].mean()


# --- what holds for every model ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 100), level=st.sampled_from([0.95, 0.975, 0.99]), factor=st.floats(0.01, 100))
def test_order_and_homogeneity(name, seed, level, factor):
    returns = _garch(400, seed)[0]
    got = value_at_risk(returns, level, name)
    assert 0 < got.var <= got.es
    exact = {"filtered_garch": 5e-3, "peaks_over_threshold": 1e-5, "student_t": 1e-5}.get(name, 1e-10)
    assert value_at_risk(factor * returns, level, name) == pytest.approx((factor * got.var, factor * got.es), rel=exact)
    deeper = value_at_risk(returns, 0.9925, name)
    assert deeper.var > got.var - 1e-12
    assert deeper.es > got.es - 1e-12


@pytest.mark.parametrize("name", ["historical", "normal", "student_t", "cornish_fisher", "filtered_garch"])
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 100), shift=st.floats(-0.02, 0.02))
def test_translation(name, seed, shift):
    returns = _garch(400, seed)[0]
    got, moved = value_at_risk(returns, 0.99, name), value_at_risk(returns + shift, 0.99, name)
    exact = {"filtered_garch": 2e-4, "student_t": 1e-6}.get(name, 1e-12)
    assert moved == pytest.approx((got.var - shift, got.es - shift), abs=exact)


# --- model by model ------------------------------------------------------------------------------------------


def test_parametric_models_by_hand():
    returns = _garch(500, 1)[0]
    mean, spread = returns.mean(), returns.std(ddof=1)
    assert value_at_risk(returns, 0.99, "normal").var == pytest.approx(spread * norm.ppf(0.99) - mean)
    freedom = degrees_of_freedom(returns)
    expected = spread * np.sqrt((freedom - 2) / freedom) * t.ppf(0.99, freedom) - mean
    assert value_at_risk(returns, 0.99, "student_t").var == pytest.approx(expected)
    z, s, k = norm.ppf(0.01), skew(returns), kurtosis(returns)
    q = z + (z**2 - 1) * s / 6 + (z**3 - 3 * z) * k / 24 - (2 * z**3 - 5 * z) * s**2 / 36
    assert value_at_risk(returns, 0.99, "cornish_fisher").var == pytest.approx(-spread * q - mean)


@pytest.mark.parametrize("freedom", [3.0, 5.0, 12.0])
def test_degrees_of_freedom(freedom):
    # Quantiles of the law itself: its likelihood is highest at its own degrees of freedom.
    scale = 0.01 * np.sqrt((freedom - 2) / freedom)
    returns = 0.001 + scale * t.ppf((np.arange(1, 5001) - 0.5) / 5000, freedom)
    assert degrees_of_freedom(returns) == pytest.approx(freedom, rel=0.1)
    grid = np.linspace(2.2, 20, 250)
    scaled = (returns - returns.mean()) / returns.std(ddof=1)
    likelihood = [t.logpdf(scaled, f, scale=np.sqrt((f - 2) / f)).sum() for f in grid]
    assert degrees_of_freedom(returns) == pytest.approx(grid[int(np.argmax(likelihood))], abs=0.08)


def test_thin_tails_are_all_but_normal():
    returns = norm.ppf((np.arange(1, 2001) - 0.5) / 2000)
    assert degrees_of_freedom(returns) > 100
    assert value_at_risk(returns, 0.99, "student_t") == pytest.approx(value_at_risk(returns, 0.99, "normal"), rel=0.01)


def _rises(skewness, excess, level):
    """Whether the expansion rises all through the lower tail, by looking."""
    z = np.linspace(norm.ppf((1 - level) / 10_000), norm.ppf(1 - level), 20_001)
    w = (
        z
        + (z**2 - 1) * skewness / 6
        + (z**3 - 3 * z) * excess / 24
        - (2 * z**3 - 5 * z) * skewness**2 / 36
    )  # fmt: skip
    return bool((np.diff(w) > 0).all())


@settings(deadline=None, max_examples=80)
@given(st.floats(-2, 2), st.floats(-1, 12), st.sampled_from([0.5, 0.9, 0.99]))
def test_cornish_fisher_domain(skewness, excess, level):
    # Not on the edge itself, where a grid cannot tell.
    inside = {_rises(skewness * f, excess * g, level) for f in (0.99, 1.01) for g in (0.99, 1.01)}
    if inside == {True}:
        got = cornish_fisher_tail(level, skewness, excess)
        assert got.es >= got.var
    elif inside == {False}:
        with pytest.raises(DataError, match="outside the domain of the Cornish-Fisher expansion"):
            cornish_fisher_tail(level, skewness, excess)


def test_an_expansion_that_dips_inside_the_tail():
    # Rising at both ends of the tail, falling around z = -2.3.
    assert not _rises(2.0, 6.5, 0.5)
    with pytest.raises(DataError, match=r"skewness 2 and excess kurtosis 6\.5 lie outside"):
        cornish_fisher_tail(0.5, 2.0, 6.5)


def test_filtered_garch_equals_the_library():
    returns = _garch(800, 3)[0]
    fitted = arch_model(100 * returns, mean="Constant", vol="GARCH", p=1, q=1).fit(disp="off")
    ahead = fitted.forecast(horizon=1)
    sigma, mean = np.sqrt(ahead.variance.to_numpy()[-1, 0]), fitted.params["mu"]
    losses = -(mean + sigma * (100 * returns - mean) / fitted.conditional_volatility) / 100
    assert value_at_risk(returns, 0.99, "filtered_garch").var == pytest.approx(np.quantile(losses, 0.99), rel=2e-3)


def test_a_garch_fit_that_fails_is_refused(monkeypatch):
    real, starts = filtered.arch_model, []

    def stubborn(*args, **kwargs):
        model = real(*args, **kwargs)
        fit = model.fit

        def attempt(**options):
            starts.append(options["starting_values"])
            result = fit(**{**options, "options": {"maxiter": 1}})
            return result if len(starts) < 3 else fit(**options)

        model.fit = attempt
        return model

    monkeypatch.setattr(filtered, "arch_model", stubborn)
    returns = _garch(400, 4)[0]
    with pytest.raises(ConvergenceError, match=r"did not converge .*use the model 'filtered_ewma'"):
        value_at_risk(returns, 0.99, "filtered_garch")
    assert len(starts) == 2
    assert starts[0] is None
    assert np.isfinite(value_at_risk(returns, 0.99, "filtered_garch")).all()


def test_peaks_over_threshold_by_hand():
    returns = _garch(1000, 5)[0]
    variance, z = returns.var(), []
    for r in returns:
        z.append(-r / np.sqrt(variance))
        variance = 0.94 * variance + 0.06 * r * r
    ordered = np.sort(z)[::-1]
    threshold, excess = ordered[100], ordered[:100] - ordered[100]
    shape, _, scale = genpareto.fit(excess, floc=0)
    var = threshold + scale / shape * ((0.01 / 0.1) ** -shape - 1)
    es = (var + scale - shape * threshold) / (1 - shape)
    got = value_at_risk(returns, 0.99, "peaks_over_threshold")
    assert got == pytest.approx((np.sqrt(variance) * var, np.sqrt(variance) * es), rel=1e-3)
    with pytest.raises(ConfigError, match="outside the tail"):
        value_at_risk(returns, 0.85, "peaks_over_threshold")


def test_filters_follow_the_volatility():
    """The forecast of a filter moves with the true volatility; that of plain history hardly does."""
    returns, true = _garch(900, 6)
    moves = {}
    for name in ("historical", "filtered_ewma", "peaks_over_threshold"):
        var = walk_forward(returns, 0.99, name, window=500).var
        moves[name] = np.corrcoef(np.log(var[500:]), np.log(true[500:]))[0, 1]
    assert moves["filtered_ewma"] > 0.85
    assert moves["peaks_over_threshold"] > 0.85
    assert moves["historical"] < 0.6


# --- day by day ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_walk_forward_knows_only_the_past(name):
    returns = _garch(430, 7)[0]
    got = walk_forward(returns, 0.95, name, window=400)
    assert np.isnan(got.var[:400]).all()
    assert np.isnan(got.es[:400]).all()
    for day in (400, 411, 429):
        assert (got.var[day], got.es[day]) == value_at_risk(returns[day - 400 : day], 0.95, name)
    changed = returns.copy()
    changed[410:] = 2 * returns[:20]
    again = walk_forward(changed, 0.95, name, window=400)
    assert (again.var[400:411] == got.var[400:411]).all()
    assert again.var[411] != got.var[411] or name == "historical"


def test_expanding():
    returns = _garch(300, 8)[0]
    got = walk_forward(returns, 0.95, "historical", window=100, expanding=True)
    assert np.isfinite(got.var).sum() == 200
    assert (got.var[299], got.es[299]) == value_at_risk(returns[:299], 0.95, "historical")


def test_forecasts_of_filters_keep_their_promise():
    """Ten years of clustered volatility: filtered history is right, normal returns are not."""
    returns = _garch(3000, 0)[0]
    got = {
        name: coverage(returns, walk_forward(returns, 0.99, name, window=500).var, 0.99)
        for name in ("filtered_ewma", "normal")
    }
    assert got["filtered_ewma"].conditional.p_value > 0.05
    assert got["normal"].unconditional.p_value < 0.01


# --- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_model_refuses(name):
    returns = _garch(400, 9)[0]
    hole = returns.copy()
    hole[[5, 8]] = np.nan, np.inf
    with pytest.raises(DataError, match="2 of 400 returns are not finite, first number 5"):
        value_at_risk(hole, 0.99, name)
    with pytest.raises(DataError, match=r"give a longer history|give 100 or more"):
        value_at_risk(returns[:9], 0.99, name)
    with pytest.raises(DataError, match=r"give one series \(T,\)"):
        value_at_risk(returns[:, None], 0.99, name)
    for level in (0.01, 1.0, np.nan):
        with pytest.raises(ConfigError, match="choose a confidence"):
            value_at_risk(returns, level, name)
    if name not in ("historical", "normal"):
        for still in (0.0, 0.001):
            with pytest.raises(DataError, match="never vary: use the model 'historical'"):
                value_at_risk(np.full(400, still), 0.99, name)


def test_too_short_for_the_level():
    with pytest.raises(DataError, match=r"99 losses leave none beyond a level of 0\.99: give 100 or more"):
        value_at_risk(np.arange(99.0), 0.99, "historical")
    assert value_at_risk(-np.arange(100.0), 0.99, "historical").es == 99
    with pytest.raises(DataError, match="more than 2 for a variance"):
        student_tail(0.99, 2.0)


def test_walk_forward_refuses():
    returns = _garch(300, 9)[0]
    with pytest.raises(DataError, match="longer than the window"):
        walk_forward(returns, 0.95, "historical", window=300)
    with pytest.raises(ConfigError, match="window 0"):
        walk_forward(returns, 0.95, "historical", window=0)
    returns[280] = np.nan
    with pytest.raises(DataError, match=r"not finite.*\(forecast of session 281\)"):
        walk_forward(returns, 0.95, "historical", window=100)


def test_a_tail_without_a_mean_is_refused():
    rng = np.random.default_rng(1)
    wild = rng.normal(size=3000)
    wild[rng.random(3000) < 0.05] *= 50
    with pytest.raises((DataError, ConvergenceError)):
        value_at_risk(np.sign(wild) * np.abs(wild) ** 6, 0.99, "peaks_over_threshold")


def test_a_result_that_is_none_is_refused(monkeypatch):
    monkeypatch.setattr(base, "MODELS", base.Registry("value-at-risk model", "portfolio.value_at_risk"))
    for name, risk in (("upside_down", TailRisk(2.0, 1.0)), ("endless", TailRisk(1.0, np.inf))):
        model = risk_model(name)(lambda returns, level, risk=risk: risk)
        with pytest.raises(ConvergenceError, match=f"{name} gives VaR"):
            model(np.arange(30.0), 0.9)
