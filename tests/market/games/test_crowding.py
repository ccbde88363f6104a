"""The game of trade crowding: check values, the equations themselves, quadrature, a solver in steps of time."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_bvp, solve_ivp

from core.errors import ConfigError, ConvergenceError
from market.games.crowding import CrowdingGame
from market.games.crowding_steps import best_reply, solve_steps

PAPER = CrowdingGame(alpha=0.4, kappa=0.2, phi=0.1, terminal=2.5, horizon=5.0)
TIMES = np.array([0, 0.5, 1, 2, 3, 5])
DAILY = {"kappa": 3.0, "phi": 0.15, "terminal": 10.0, "horizon": 10.0}

games = st.builds(
    CrowdingGame,
    alpha=st.just(0.0) | st.floats(1e-9, 5),
    kappa=st.floats(0.05, 5),
    phi=st.just(0.0) | st.floats(1e-9, 5),
    terminal=st.floats(0.1, 20),
    horizon=st.floats(0.1, 30),
)


# --- check values --------------------------------------------------------------------------------------------


def test_roots():
    np.testing.assert_allclose(PAPER.roots, (0.366025, -1.366025), atol=5e-7)


@pytest.mark.parametrize(("name", "expected"), [
    ("inventory", [10, 5.049886, 2.549409, 0.647835, 0.161572, 0.001455]),
    ("rate", [-13.662853, -6.901393, -3.486304, -0.890362, -0.228503, -0.018189]),
])  # fmt: skip
def test_crowd(name, expected):
    np.testing.assert_allclose(getattr(PAPER, name)(10.0, TIMES), expected, atol=5.1e-7)


def test_urgency():
    np.testing.assert_allclose(PAPER.urgency(TIMES), [0.283272, 0.283714, 0.284613, 0.290195, 0.314361, 5], atol=5.1e-7)


def test_a_flat_trader_sells_ahead_of_the_crowd():
    expected = [0, -1.966520, -2.369628, -1.753960, -0.974757, -0.029775]
    np.testing.assert_allclose(PAPER.trader(0.0, 10.0, TIMES), expected, atol=5.1e-7)


def test_costs():
    game = replace(PAPER, alpha=np.array([0.0, 0.2, 0.4, 0.8]))
    np.testing.assert_allclose(game.cost(10.0), [7.158973, 20.027642, 33.667326, 62.247660], atol=5.1e-7)


def test_cost_and_aversion_are_the_value_function():
    def h1(t):
        return 2 * PAPER.kappa * PAPER.rate(10.0, t) + PAPER.urgency(t) * PAPER.inventory(10.0, t)

    spent = PAPER.cost(10.0) + PAPER.phi * quad(lambda t: PAPER.inventory(10.0, t) ** 2, 0, 5, epsabs=1e-11)[0]
    h0 = quad(lambda t: h1(t) ** 2 / (4 * PAPER.kappa), 0, 5, epsabs=1e-11)[0]
    assert spent == pytest.approx(37.325705, abs=5.1e-7)
    assert spent == pytest.approx(0.5 * PAPER.urgency(0.0) * 100 - h1(0.0) * 10 - h0, abs=1e-8)


@pytest.mark.parametrize(("alpha", "cost", "drift", "half_life"), [
    (0.0, 0.186833, 0.0, 2.9727), (1.0, 0.500333, -0.497246, 2.1128), (2.0, 0.837655, -0.998114, 1.5459),
])  # fmt: skip
def test_daily_units(alpha, cost, drift, half_life):
    game = CrowdingGame(alpha=alpha, **DAILY)
    # The values are costs per inventory, C / |E0|.
    assert game.cost(0.5) / 0.5 == pytest.approx(cost, abs=5.1e-7)
    assert game.drift(0.5) == pytest.approx(drift, abs=5.1e-7)
    assert game.half_life == pytest.approx(half_life, abs=5.1e-5)


def test_daily_stress():
    game = CrowdingGame(alpha=1.0, **DAILY)
    stressed = game.stressed().cost(2 * 0.5) / (2 * 0.5)
    assert stressed == pytest.approx(1.120428, abs=5.1e-7)
    assert game.fragility() == pytest.approx(2 * stressed / (game.cost(0.5) / 0.5), rel=1e-12)
    assert game.multiplier() == pytest.approx(0.500333 / 0.186833, rel=5e-6)


# --- the equations -------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(games, st.floats(0, 1))
def test_the_path_solves_its_equation(game, share):
    t, T = share * game.horizon, game.horizon
    up, down = game.roots
    for root in (up, down):
        residual = 2 * game.kappa * root**2 + game.alpha * root - 2 * game.phi
        assert abs(residual) <= 1e-12 * (game.phi + game.alpha**2 / game.kappa + 1e-12)
    assert game.inventory(1.0, 0.0) == pytest.approx(1.0, rel=1e-13)
    assert game.kappa * game.rate(1.0, T) + game.terminal * game.inventory(1.0, T) == pytest.approx(0, abs=1e-12)
    # Once integrated: 2 kappa (mu(t) - mu(0)) + alpha (E(t) - E0) = 2 phi int E.
    path = [(game.rate(1.0, at), game.inventory(1.0, at)) for at in (0.0, t)]
    whole = 2 * game.phi * _integral(lambda at: game.inventory(1.0, at), float(t))
    change = 2 * game.kappa * (path[1][0] - path[0][0]) + game.alpha * (path[1][1] - path[0][1])
    assert change == pytest.approx(whole, rel=1e-9, abs=1e-10)


def _integral(function, stop):
    """From 0, by Gauss-Legendre over pieces that are shortest near 0, where the path is steep."""
    knots = np.append(0.0, np.geomspace(1e-4, 1, 16)) * stop
    nodes, weights = np.polynomial.legendre.leggauss(40)
    half = np.diff(knots)[:, None] / 2
    return float((half * weights * function(knots[:-1, None] + half * (nodes + 1))).sum())


@settings(deadline=None, max_examples=60)
@given(games)
def test_cost_is_that_of_the_path(game):
    left = game.inventory(1.0, game.horizon)
    spent = game.kappa * _integral(lambda at: game.rate(1.0, at) ** 2, float(game.horizon))
    expected = spent + game.alpha * (1 - left**2) / 2 + game.terminal * left**2
    assert game.cost(1.0) == pytest.approx(float(expected), rel=1e-9)


def test_path_equals_a_boundary_value_solver():
    k, a, phi, A, T = PAPER.kappa, PAPER.alpha, PAPER.phi, PAPER.terminal, PAPER.horizon
    found = solve_bvp(
        lambda t, y: [y[1], (2 * phi * y[0] - a * y[1]) / (2 * k)],
        lambda y0, yT: [y0[0] - 10, k * yT[1] + A * yT[0]],
        np.linspace(0, T, 200), np.ones((2, 200)), tol=1e-10, max_nodes=50_000,
    )  # fmt: skip
    assert found.success
    np.testing.assert_allclose(found.sol(TIMES), [PAPER.inventory(10, TIMES), PAPER.rate(10, TIMES)], atol=1e-8)


@settings(deadline=None, max_examples=30)
@given(games)
def test_urgency_solves_its_equation(game):
    k, phi = float(game.kappa), float(game.phi)
    T = float(game.horizon)
    found = solve_ivp(
        lambda _, h: (4 * k * phi - h**2) / (2 * k), (0, T), [2 * float(game.terminal)], rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(game.urgency(T - found.t), found.y[0], rtol=1e-7, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(games, st.floats(-3, 3))
def test_a_trader_follows_the_best_reply(game, own):
    k = float(game.kappa)

    def slope(t, q):
        return game.rate(1.0, t) + game.urgency(t) / (2 * k) * (game.inventory(1.0, t) - q)

    times = np.linspace(0, float(game.horizon), 5)
    found = solve_ivp(slope, (0, times[-1]), [own], t_eval=times, method="LSODA", rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(game.trader(own, 1.0, times), found.y[0], atol=1e-6)
    np.testing.assert_allclose(game.trader(1.0, 1.0, times), game.inventory(1.0, times), rtol=1e-12)


# --- what depends on what ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(games, st.floats(0.01, 50))
def test_drift_is_linear_and_cost_quadratic_in_the_inventory(game, initial):
    assert game.drift(-initial) == pytest.approx(-initial * game.drift(1.0), rel=1e-12)
    assert game.cost(-initial) == pytest.approx(initial**2 * game.cost(1.0), rel=1e-12)
    if np.isfinite(game.half_life):
        assert game.inventory(initial, game.half_life) == pytest.approx(initial / 2, rel=1e-9)
    else:
        assert game.inventory(initial, game.horizon) > initial / 2
    assert game.multiplier() == pytest.approx(
        game.cost(initial) / replace(game, alpha=np.array(0.0)).cost(initial), rel=1e-12
    )


@settings(deadline=None, max_examples=50)
@given(games)
def test_a_crowd_unwinds_steadily_and_impact_makes_it_dearer(game):
    path = game.inventory(1.0, np.linspace(0, float(game.horizon), 50))
    assert (np.diff(path) <= 0).all()
    assert (path >= 0).all()
    more = replace(game, alpha=game.alpha + 0.5)
    assert more.cost(1.0) > game.cost(1.0)
    assert game.multiplier() >= 1 - 1e-12
    assert game.fragility() >= 4 - 1e-12


def test_half_life_without_impact_is_known():
    game = CrowdingGame(0.0, 2.0, 0.5, 1.0, 400.0)
    assert game.half_life == pytest.approx(math.log(2) / 0.5, rel=1e-12)
    assert CrowdingGame(0.0, 1.0, 0.0, 3.0, 2.0).half_life == pytest.approx(0.5 * (1 + 3 * 2) / 3, rel=1e-12)


def test_half_life_is_infinite_where_most_is_left():
    assert CrowdingGame(0.0, 5.0, 0.0, 0.1, 1.0).half_life == np.inf


# --- safe numbers --------------------------------------------------------------------------------------------


def test_a_long_horizon_does_not_overflow():
    with np.errstate(all="raise", under="ignore"):
        game = CrowdingGame(alpha=np.array([0.0, 1.0, 50.0]), kappa=0.01, phi=5.0, terminal=1.0, horizon=1e5)
        out = [game.cost(1.0), game.half_life, game.multiplier(), game.fragility(), game.urgency(0.0)]
        out += [game.inventory(1.0, 1.0), game.rate(1.0, 1.0), game.trader(0.0, 1.0, 1.0)]
    assert all(np.isfinite(values).all() for values in out)
    np.testing.assert_allclose(game.cost(1.0)[0], math.sqrt(0.01 * 5) / 2, rtol=1e-12)  # kappa r^2 / (2 r)


@pytest.mark.parametrize("terminal", [0.0, 0.05, 2.5])
def test_no_aversion_and_no_impact_are_limits(terminal):
    base = replace(PAPER, terminal=np.array(terminal))
    for name in ("alpha", "phi"):
        exact, near = replace(base, **{name: np.array(0.0)}), replace(base, **{name: np.array(1e-12)})
        for method in ("inventory", "rate", "trader"):
            arguments = (10.0, TIMES) if method != "trader" else (0.0, 10.0, TIMES)
            np.testing.assert_allclose(
                getattr(exact, method)(*arguments), getattr(near, method)(*arguments), rtol=1e-6, atol=1e-8
            )
        np.testing.assert_allclose(exact.cost(1.0), near.cost(1.0), rtol=1e-6, atol=1e-8)


def test_neither_aversion_nor_impact():
    game = CrowdingGame(0.0, 0.2, 0.0, 2.5, 5.0)
    straight = 10 * (1 - 2.5 * TIMES / (0.2 + 2.5 * 5))
    np.testing.assert_allclose(game.inventory(10.0, TIMES), straight, rtol=1e-12)
    idle = CrowdingGame(np.array([0.0, 1.0]), 0.2, 0.0, 0.0, 5.0)
    np.testing.assert_array_equal(idle.rate(1.0, 2.0), 0.0)
    np.testing.assert_array_equal(idle.cost(1.0), 0.0)
    assert np.isnan(idle.multiplier()).all()
    assert np.isnan(idle.fragility()).all()


def test_arrays_equal_scalars_and_unknown_stays_unknown():
    rng = np.random.default_rng(0)
    alpha, kappa, initial = rng.uniform(0, 3, (7, 5)), rng.uniform(0.5, 4, (1, 5)), rng.normal(size=(7, 5))
    alpha[2, 3] = np.nan
    kappa[0, 4] = np.nan
    game = CrowdingGame(alpha, kappa, 0.15, 10.0, 10.0)
    got = [game.cost(initial), game.drift(initial), game.half_life, game.multiplier(), game.fragility()]
    for row, col in np.ndindex(7, 5):
        one = CrowdingGame(alpha[row, col], kappa[0, col], 0.15, 10.0, 10.0)
        own = initial[row, col]
        expected = [one.cost(own), one.drift(own), one.half_life, one.multiplier(), one.fragility()]
        np.testing.assert_allclose([values[row, col] for values in got], expected, rtol=1e-13)
        assert np.isnan(expected).all() == ((row, col) == (2, 3) or col == 4)


@pytest.mark.parametrize(("name", "value"), [
    ("alpha", -0.1), ("kappa", 0.0), ("phi", -1.0), ("terminal", np.inf), ("horizon", -1.0),
    ("kappa", [1.0, -1.0]),
])  # fmt: skip
def test_bad_parameters_are_named(name, value):
    with pytest.raises(ConfigError, match=name):
        replace(PAPER, **{name: np.array(value)})


def test_shapes_must_broadcast():
    with pytest.raises(ConfigError, match="broadcast"):
        CrowdingGame(np.zeros(3), np.ones(4), 0.1, 1.0, 1.0)


# --- in steps of time ----------------------------------------------------------------------------------------


def _in_steps(steps, **more):
    return solve_steps(10.0, 0.1, 2.5, alpha=0.4, kappa=0.2, horizon=5.0, steps=steps, **more)


def test_steps_reach_the_closed_form_at_the_second_order():
    errors = []
    for steps in (50, 100, 200, 400):
        found = _in_steps(steps)
        errors.append(np.abs(found.crowd - PAPER.inventory(10.0, found.time)).max())
    assert errors[-1] < 5e-5
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4.0, atol=0.02)
    middle = (found.time[1:] + found.time[:-1]) / 2
    np.testing.assert_allclose(found.rates, PAPER.rate(10.0, middle), atol=5e-4)


def test_a_flat_trader_in_steps():
    found = _in_steps(400)
    reply = best_reply(found.rates, 0.0, 0.4, 0.2, 0.1, 2.5, 5.0)
    np.testing.assert_allclose(reply, PAPER.trader(0.0, 10.0, found.time), atol=1e-4)


@settings(deadline=None, max_examples=25)
@given(st.floats(0, 3), st.floats(0.3, 3), st.just(0.0) | st.floats(0.01, 2), st.floats(0.1, 10), st.floats(0.5, 10))
def test_steps_agree_with_the_closed_form(alpha, kappa, phi, terminal, horizon):
    game = CrowdingGame(alpha, kappa, phi, terminal, horizon)
    errors = []
    for steps in (200, 400):
        found = solve_steps(1.0, phi, terminal, alpha=alpha, kappa=kappa, horizon=horizon, steps=steps)
        errors.append(np.abs(found.crowd - game.inventory(1.0, found.time)).max())
    assert errors[1] < 0.02
    assert errors[1] < 0.3 * errors[0] + 1e-9


def _gain(path, rates, alpha, kappa, phi, terminal, step):
    """What a trader maximises, straight from cash and price."""
    price, cash = 0.0, 0.0
    aversion = 0.0
    for n, mean in enumerate(rates):
        v = (path[n + 1] - path[n]) / step
        cash -= step * (v * (price + alpha * mean * step / 2) + kappa * v**2)
        aversion += phi * step * (path[n] ** 2 + path[n + 1] ** 2) / 2
        price += alpha * mean * step
    return cash + path[-1] * (price - terminal * path[-1]) - aversion


def test_no_group_would_change():
    held, aversion, final, weights = [4.0, -1.0, 0.0], [0.1, 0.4, 0.05], [2.5, 1.0, 0.5], [1.0, 2.0, 3.0]
    found = solve_steps(held, aversion, final, alpha=0.8, kappa=0.2, horizon=5.0, weights=weights, steps=40)
    np.testing.assert_allclose(found.crowd, np.average(found.inventories, axis=0, weights=weights), atol=1e-11)
    np.testing.assert_allclose(found.rates, np.diff(found.crowd) / 0.125, rtol=1e-12)
    rng = np.random.default_rng(1)
    for group in range(3):
        terms = (found.rates, 0.8, 0.2, aversion[group], final[group], 0.125)
        best = _gain(found.inventories[group], *terms)
        for size in (1e-3, 0.1, 1.0):
            other = found.inventories[group] + size * np.append(0.0, rng.normal(size=40))
            assert _gain(other, *terms) < best


def test_equal_groups_are_one_crowd():
    one = _in_steps(60)
    many = solve_steps([20.0, 0.0], 0.1, 2.5, alpha=0.4, kappa=0.2, horizon=5.0, steps=60)
    np.testing.assert_allclose(many.crowd, one.crowd, atol=1e-10)
    np.testing.assert_allclose(many.inventories[1], best_reply(one.rates, 0.0, 0.4, 0.2, 0.1, 2.5, 5.0), atol=1e-10)


def test_plain_replies_may_not_settle():
    hard = {"alpha": 2.0, "kappa": 0.2, "horizon": 10.0, "steps": 50}
    with pytest.raises(ConvergenceError, match="longer memory"):
        solve_steps(1.0, 0.01, 1.0, memory=0, iterations=100, **hard)
    found = solve_steps(1.0, 0.01, 1.0, **hard)
    assert found.iterations < 100


@pytest.mark.parametrize(("change", "text"), [
    ({"kappa": 0.0}, "kappa 0"), ({"alpha": -1.0}, "alpha -1"), ({"horizon": math.nan}, "not finite"),
    ({"steps": 0}, "steps 0"), ({"weights": [0.0, 0.0]}, "weights sum to 0"), ({"weights": [1, 1, 1]}, "length"),
    ({"memory": -1}, "memory -1"),
])  # fmt: skip
def test_bad_steps_are_refused(change, text):
    given_ = {"alpha": 0.4, "kappa": 0.2, "horizon": 5.0, **change}
    with pytest.raises(ConfigError, match=text):
        solve_steps([1.0, 2.0], 0.1, 2.5, **given_)
