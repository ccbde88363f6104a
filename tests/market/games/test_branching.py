import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from core.errors import DataError
from market.games.branching import extinction, mean, variance

CHECK = (0.3, 0.2, 5, 4.0)


def test_check_values():
    assert mean(*CHECK) == pytest.approx(7.459123, abs=6e-7)
    assert variance(*CHECK) == pytest.approx(18.342906, abs=6e-7)
    assert extinction(*CHECK) == pytest.approx(0.00990626, abs=6e-9)


def test_exact_simulation():
    # Every path draws its next event until its clock passes the end; all paths step together.
    births, deaths, start, end = CHECK
    rng = np.random.default_rng(3)
    count, clock = np.full(100_000, start), np.zeros(100_000)
    live = np.arange(len(count))
    while len(live):
        clock[live] += rng.exponential(1 / ((births + deaths) * count[live]))
        live = live[clock[live] <= end]
        count[live] += np.where(rng.random(len(live)) < births / (births + deaths), 1, -1)
        live = live[count[live] > 0]
    assert count.mean() == pytest.approx(mean(*CHECK), abs=4 * np.sqrt(variance(*CHECK) / len(count)))
    assert count.var() == pytest.approx(variance(*CHECK), rel=0.02)
    lost = extinction(*CHECK)
    assert (count == 0).mean() == pytest.approx(lost, abs=4 * np.sqrt(lost / len(count)))


@pytest.mark.parametrize("rates", [(0.3, 0.2), (0.2, 0.3), (0.25, 0.25), (0.0, 0.4), (0.4, 0.0)])
def test_equals_the_master_equation(rates):
    # One member, at most 200: the law of its descendants by exponentials of the generator.
    b, d = rates
    n = np.arange(200)
    generator = np.diag(-(b + d) * n) + np.diag(b * n[:-1], 1) + np.diag(d * n[1:], -1)
    law = expm(3.0 * generator)[1]
    assert mean(b, d, 1, 3.0) == pytest.approx(law @ n, abs=1e-9)
    assert variance(b, d, 1, 3.0) == pytest.approx(law @ n**2 - (law @ n) ** 2, abs=1e-8)
    assert extinction(b, d, 1, 3.0) == pytest.approx(law[0], abs=1e-10)


@settings(deadline=None, max_examples=80)
@given(st.floats(0.01, 3), st.floats(-1e-9, 1e-9), st.integers(1, 9), st.floats(0, 20))
def test_near_and_at_equal_rates(rate, gap, count, time):
    assert mean(rate, rate, count, time) == count
    assert variance(rate, rate, count, time) == pytest.approx(2 * count * rate * time)
    assert extinction(rate, rate, count, time) == pytest.approx((rate * time / (1 + rate * time)) ** count)
    near = rate + gap
    assert variance(near, rate, count, time) == pytest.approx(variance(rate, rate, count, time), rel=1e-6)
    assert extinction(near, rate, count, time) == pytest.approx(extinction(rate, rate, count, time), rel=1e-6)


@settings(deadline=None, max_examples=80)
@given(st.floats(0, 5), st.floats(0, 5), st.floats(0, 50))
@example(0.5, 3.0, 14.0)
def test_extinction_is_a_probability_that_grows(births, deaths, time):
    now, later = extinction(births, deaths, 3, time), extinction(births, deaths, 3, time + 1)
    assert 0 <= now <= later <= 1
    # Independent members: all three lines end.
    assert now == pytest.approx(extinction(births, deaths, 1, time) ** 3)


def test_for_ever():
    assert extinction(0.3, 0.2, 2, 1e6) == pytest.approx((2 / 3) ** 2)
    assert extinction(0.2, 0.3, 2, 1e6) == 1
    assert extinction(0.3, 0.0, 2, 1e6) == 0


def test_arguments_broadcast():
    got = variance(np.array([[0.3], [0.2]]), 0.2, 5, [0.0, 4.0, 8.0])
    assert got.shape == (2, 3)
    assert got[0, 1] == pytest.approx(18.342906, abs=6e-7)
    assert got[:, 0].tolist() == [0, 0]
    assert extinction(0.3, 0.2, [0, 5], 4.0).tolist()[0] == 1
    assert np.isnan(mean(np.nan, 0.2, 5, 4.0))


@pytest.mark.parametrize("function", [mean, variance, extinction])
@pytest.mark.parametrize(("place", "name"), [*enumerate(["births", "deaths", "count", "time"])])
def test_refusals(function, place, name):
    arguments = [0.3, 0.2, 5, 4.0]
    arguments[place] = -1.0
    with pytest.raises(DataError, match=f"{name} -1.0: give at least 0"):
        function(*arguments)
