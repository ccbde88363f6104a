import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from portfolio.sizing import confidence_factor, fall_probability, growth_kept, kelly, position_size


def test_check_values():
    assert kelly(0.08, 0.2) == pytest.approx(2.0)
    assert kelly(0.08, 0.2, 0.1) == pytest.approx(0.08 / 0.05)
    assert growth_kept([0.25, 0.5, 1, 2]) == pytest.approx([0.4375, 0.75, 1, 0])
    assert fall_probability(0.5, [0.5, 1]) == pytest.approx([0.125, 0.5])
    assert confidence_factor([0.3, 0.45, 0.5, 0.7, 0]) == pytest.approx([0.4, 0.1, 0, 0, 1])


@settings(deadline=None)
@given(st.floats(-0.5, 0.5), st.floats(0.05, 1), st.floats(0.01, 2))
def test_growth_is_highest_at_the_kelly_stake(mean, volatility, c):
    def growth(stake):
        return mean * stake - volatility**2 * stake**2 / 2

    best = kelly(mean, volatility)
    assert growth(c * best) == pytest.approx(growth_kept(c) * growth(best), abs=1e-12)
    assert growth(best) >= growth(1.01 * best) - 1e-15
    assert growth(best) >= growth(0.99 * best) - 1e-15


@pytest.mark.parametrize(("c", "expected"), [(0.5, 0.125), (1.0, 0.5)])
def test_falls_of_simulated_wealth(c, expected):
    """Logarithm of the wealth at a fraction c of Kelly: drift and variance from mu = .08, sigma = .2.

    Between two times its lowest value is drawn from the law of a Brownian bridge, so that the step does no harm.
    """
    rng = np.random.default_rng(7)
    mean, volatility = 0.08, 0.2
    stake = float(c * kelly(mean, volatility))
    paths, step = 20_000, 1.0
    log, fallen = np.zeros(paths), np.zeros(paths, dtype=bool)
    drift, spread = stake * mean - (stake * volatility) ** 2 / 2, stake * volatility
    for _ in range(400):
        new = log + drift * step + spread * np.sqrt(step) * rng.normal(size=paths)
        reach = -2 * spread**2 * step * np.log(rng.random(paths))
        fallen |= (log + new - np.sqrt((new - log) ** 2 + reach)) / 2 <= np.log(0.5)
        log = new
    assert fallen.mean() == pytest.approx(expected, abs=0.012)
    assert fall_probability(0.5, c) == pytest.approx(expected)


def test_the_error_of_the_mean_is_more_variance():
    """The stake that does best over a normal belief about the mean is mu / (sigma^2 + s^2), for small stakes."""
    rng = np.random.default_rng(3)
    beliefs = 0.002 + 0.02 * rng.normal(size=400_000)
    outcomes = beliefs + 0.01 * rng.normal(size=beliefs.size)
    outcomes += 0.002 - outcomes.mean()
    stakes = np.linspace(0, 8, 81)
    growth = [np.log1p(f * outcomes).mean() if (f * outcomes > -1).all() else -np.inf for f in stakes]
    assert stakes[int(np.argmax(growth))] == pytest.approx(kelly(0.002, 0.01, 0.02), rel=0.05)


@settings(deadline=None)
@given(st.floats(-1, 1), st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1), st.floats(0, 1))
def test_composed_size(mean, volatility, error, p_wrong, fraction, brake):
    got = float(position_size(mean, volatility, error=error, p_wrong=p_wrong, fraction=fraction, drawdown_factor=brake))
    expected = fraction * mean / (volatility**2 + error**2) * max(0, 1 - 2 * p_wrong) * brake
    assert got == pytest.approx(expected, rel=1e-12)
    assert abs(got) <= abs(fraction * float(kelly(mean, volatility))) * (1 + 1e-12)


def test_arrays_broadcast():
    got = position_size([[0.08], [-0.04]], [0.2, 0.4], p_wrong=[0.3, 0.5])
    assert got == pytest.approx(np.array([[0.4, 0], [-0.2, 0]]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kelly(np.nan, 0.2), DataError, "mean has a value that is not finite"),
        (lambda: kelly(0.1, [0.2, 0.0]), DataError, r"volatility 0\.0: need > 0"),
        (lambda: kelly(0.1, 0.2, -1), DataError, "standard error, >= 0"),
        (lambda: growth_kept(-0.1), ConfigError, "choose >= 0"),
        (lambda: fall_probability(0, 0.5), ConfigError, "share of the start"),
        (lambda: fall_probability(0.5, 2), ConfigError, "between 0 and 2"),
        (lambda: confidence_factor(1.1), DataError, "give probabilities"),
        (lambda: position_size(0.1, 0.2, fraction=1.5), ConfigError, r"fraction 1\.5"),
        (lambda: position_size(0.1, 0.2, drawdown_factor=1.5), DataError, "factors from 0 to 1"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
