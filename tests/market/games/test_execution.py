from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from core.errors import ConfigError, DataError
from market.games.execution import Program, expected_cost, frontier, trades, trajectory, urgency, variance

PAPER = Program(shares=1e6, horizon=5.0, periods=5, volatility=0.95, permanent=2.5e-7, temporary=2.5e-6, fixed=0.0625)
"""Inputs of table 1 of Almgren and Chriss (2000)."""


def test_numbers_of_the_paper():
    path = trajectory(PAPER, 1e-6)
    assert urgency(PAPER, 1e-6) == pytest.approx(0.607076, abs=5e-7)
    assert path == pytest.approx([1e6, 541955.6, 289854.2, 147897.5, 62141.8, 0], abs=0.05)
    assert expected_cost(PAPER, path) == pytest.approx(911226.99, abs=0.005)
    assert np.sqrt(variance(PAPER, path)) == pytest.approx(603430.67, abs=0.005)


def test_numbers_without_risk_aversion():
    path = trajectory(PAPER, 0.0)
    assert path == pytest.approx([1e6, 8e5, 6e5, 4e5, 2e5, 0], rel=1e-15)
    assert expected_cost(PAPER, path) == pytest.approx(662500, abs=1e-6)
    assert np.sqrt(variance(PAPER, path)) == pytest.approx(1040672.86, abs=0.005)


def _quadratic_program(program, risk_aversion):
    """The path as a bounded least-squares problem: sum of (eta~/tau) n^2 and lambda sigma^2 tau x^2."""
    count = program.periods
    differences = np.eye(count + 1)[:-1] - np.eye(count + 1)[1:]
    trade = np.sqrt(program.slope / program.period) * differences
    risk = np.sqrt(risk_aversion * program.period) * program.volatility * np.eye(count + 1)[1:]
    rows, free = np.vstack([trade, risk]), slice(1, count)
    scale = np.abs(rows).max()
    found = lsq_linear(rows[:, free] / scale, -rows[:, 0] / scale, bounds=(0.0, 1.0), tol=1e-15, lsq_solver="exact")
    return program.shares * np.concatenate([[1.0], found.x, [0.0]])


@pytest.mark.parametrize("risk_aversion", [0.0, 1e-8, 1e-6, 1e-4])
@pytest.mark.parametrize("periods", [2, 5, 40])
def test_the_path_solves_the_quadratic_program(risk_aversion, periods):
    program = replace(PAPER, periods=periods)
    expected = _quadratic_program(program, risk_aversion)
    assert trajectory(program, risk_aversion) == pytest.approx(expected, abs=1e-7 * program.shares)


programs = st.builds(
    Program,
    shares=st.one_of(st.floats(1, 1e7), st.floats(-1e7, -1)),
    horizon=st.floats(0.1, 50),
    periods=st.integers(1, 60),
    volatility=st.floats(0, 5),
    permanent=st.floats(0, 1e-8),
    temporary=st.floats(1e-6, 1e-4),
    fixed=st.floats(0, 1),
)
aversions = st.floats(0, 1e3)


@settings(deadline=None, max_examples=100)
@given(programs, aversions)
def test_path_and_trades_are_one(program, risk_aversion):
    path, sold = trajectory(program, risk_aversion), trades(program, risk_aversion)
    size = abs(program.shares)
    assert (path[0], path[-1]) == (program.shares, 0.0)
    assert -np.diff(path) == pytest.approx(sold, abs=1e-12 * size)
    # Sells all the way, ever more slowly.
    assert (sold * np.sign(program.shares) >= 0).all()
    assert (np.diff(np.abs(sold)) <= 1e-12 * size).all()


@settings(deadline=None, max_examples=60)
@given(programs, st.floats(0, 1e-3), st.integers(0, 2**32 - 1))
def test_no_other_path_is_better(program, risk_aversion, seed):
    best = trajectory(program, risk_aversion)
    other = best.copy()
    other[1:-1] += program.shares * np.random.default_rng(seed).normal(0, 0.01, len(best) - 2)

    # The fixed cost depends on the path only where it turns back, and then never in its favour.
    def cost(path):
        return expected_cost(program, path) + risk_aversion * variance(program, path)

    assert cost(best) <= cost(other) * (1 + 1e-12)


def test_small_risk_aversion_keeps_its_digits():
    # To first order in k^2 the path is linear + k^2 times a cubic: x/X = s - k^2 T^2 s (1 - s^2) / 6, s = 1 - t/T.
    left = 1 - np.arange(6) / 5
    for aversion in (1e-9, 1e-12, 1e-14):
        k = urgency(PAPER, aversion)
        assert k == pytest.approx(PAPER.volatility * np.sqrt(aversion / PAPER.slope), rel=1e-3)
        bend = (trajectory(PAPER, aversion) / PAPER.shares - left)[1:-1] / (k * PAPER.horizon) ** 2
        expected = -(left * (1 - left**2) / 6)[1:-1]
        assert bend == pytest.approx(expected, rel=0.002, abs=1e-15 / (k * PAPER.horizon) ** 2)
        sold = trades(PAPER, aversion)
        assert sold.sum() == pytest.approx(PAPER.shares, rel=1e-14)
    for tiny in (5e-324, 1e-300, 1e-30, 1e-21):
        assert trajectory(PAPER, tiny) == pytest.approx(trajectory(PAPER, 0.0), rel=1e-14)
        assert trades(PAPER, tiny) == pytest.approx(trades(PAPER, 0.0), rel=1e-14)


def test_great_risk_aversion_sells_at_once():
    path = trajectory(replace(PAPER, periods=5000, horizon=5000.0), 1e6)
    assert np.isfinite(path).all()
    assert path[1] < 1e-9 * path[0]
    assert trades(PAPER, 1e6)[0] == pytest.approx(PAPER.shares, rel=1e-9)


def test_frontier_falls_and_is_convex():
    curve = frontier(PAPER, np.concatenate([[0.0], np.geomspace(1e-9, 1e-3, 200)]))
    assert (np.diff(curve.cost) > 0).all()
    assert (np.diff(curve.variance) < 0).all()
    # The slope of the frontier is minus the risk aversion, so each chord lies between its ends.
    slope = -np.diff(curve.cost) / np.diff(curve.variance)
    assert (slope > curve.risk_aversion[:-1]).all()
    assert (slope < curve.risk_aversion[1:]).all()
    assert curve.cost[0] == pytest.approx(662500)


def test_cost_of_any_path():
    # By hand: 100 shares sold 70, then 40 too many bought back 10.
    program = Program(100.0, 3.0, 3, 2.0, 0.01, 0.5, 0.1)
    path = [100.0, 30.0, -10.0, 0.0]
    assert expected_cost(program, path) == pytest.approx(50 + 0.1 * 120 + 0.495 * (4900 + 1600 + 100))
    assert variance(program, path) == pytest.approx(4 * (900 + 100))
    one = Program(100.0, 1.0, 1, 2.0, 0.01, 0.5)
    assert (trades(one, 1.0).tolist(), variance(one, trajectory(one, 1.0))) == ([pytest.approx(100.0)], 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shares": np.nan}, "shares nan: give a finite number"),
        ({"horizon": 0.0}, "need a positive horizon"),
        ({"periods": 0}, "need a positive horizon, a period"),
        ({"volatility": -1.0}, "nothing below 0"),
        ({"permanent": -1e-9}, "nothing below 0"),
        ({"permanent": 5e-6}, "give more periods or a larger temporary impact"),
        ({"temporary": 0.0}, "does not exceed permanent"),
    ],
)
def test_a_program_that_is_none(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(PAPER, **change)


def test_refusals():
    for aversion in (-1e-9, np.nan, np.inf):
        with pytest.raises(ConfigError, match="choose a finite one of at least 0"):
            trajectory(PAPER, aversion)
    with pytest.raises(DataError, match=r"shape \(5,\): give \(6,\)"):
        expected_cost(PAPER, np.linspace(1e6, 0, 5))
    with pytest.raises(DataError, match=r"they must go from 1000000\.0 to 0"):
        variance(PAPER, np.linspace(1e6, 1, 6))
