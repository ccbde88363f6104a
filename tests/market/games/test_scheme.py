from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from core.errors import ConfigError
from market.games.convergence import convergence
from market.games.scheme import Mesh, density_residual, solve_density, solve_value, value_residual

seeds = st.integers(0, 2**32 - 1)
thetas = st.sampled_from([0.5, 0.7, 1.0])
sigmas = st.sampled_from([0.0, 0.3, 2.0])


def _problem(seed, theta, cells=7, steps=4):
    """A mesh and rough random fields, convex nowhere in particular."""
    rng = np.random.default_rng(seed)
    mesh = Mesh(-1.0, 2.0, cells, 0.8, steps, theta)
    cost, drift = rng.normal(0, 2, (steps, cells)), rng.normal(0, 1, (steps, cells))
    return mesh, rng.normal(0, 1, cells), cost, drift, rng.uniform(0.2, 2)


def _generator(velocity, sigma, h):
    """Dense generator, told from the differences that it stands for and not from its rates."""
    n = len(velocity)
    A = np.zeros((n, n))
    for i, v in enumerate(velocity):
        row = {}
        if abs(v) * h <= sigma**2:
            row[i + 1] = sigma**2 / (2 * h**2) + v / (2 * h)
            row[i - 1] = sigma**2 / (2 * h**2) - v / (2 * h)
        elif v > 0:
            row[i + 1] = v / h
        else:
            row[i - 1] = -v / h
        for j, rate in row.items():
            if 0 <= j < n:
                A[i, j] += rate
                A[i, i] -= rate
    return A


@settings(deadline=None, max_examples=25)
@given(seeds, thetas, sigmas)
def test_value_and_density_solve_the_equations(seed, theta, sigma):
    mesh, terminal, cost, drift, kappa = _problem(seed, theta)
    value, control = solve_value(mesh, terminal, cost, drift, kappa, sigma)
    start = np.random.default_rng(seed).uniform(0, 1, mesh.cells)
    density, within = solve_density(mesh, start, drift + control, sigma)
    assert (value[-1] == terminal).all()
    assert (density[0] == start).all()
    for n in range(mesh.steps):
        A = _generator(drift[n] + control[n], sigma, mesh.width)
        mixed = theta * value[n] + (1 - theta) * value[n + 1]
        least = A @ mixed + kappa * control[n] ** 2
        assert (value[n + 1] - value[n]) / mesh.step + least + cost[n] == pytest.approx(0, abs=1e-8)
        assert within[n] == pytest.approx(theta * density[n + 1] + (1 - theta) * density[n], abs=1e-12)
        assert (density[n + 1] - density[n]) / mesh.step == pytest.approx(A.T @ within[n], abs=1e-9)
        # No control on a fine grid charges less than the one that was chosen.
        for a in np.linspace(-10, 10, 41):
            other = _generator(drift[n] + a, sigma, mesh.width) @ mixed + kappa * a**2
            assert (least <= other + 1e-8).all()
    assert value_residual(mesh, value, cost, drift, kappa, sigma) == pytest.approx(0, abs=1e-8)
    assert density_residual(mesh, density, drift + control, sigma) == pytest.approx(0, abs=1e-9)


def test_residuals_tell_a_wrong_solution():
    mesh, terminal, cost, drift, kappa = _problem(1, 0.5)
    value, control = solve_value(mesh, terminal, cost, drift, kappa, 0.3)
    density, _ = solve_density(mesh, np.ones(mesh.cells) / 3, drift + control, 0.3)
    value[2, 4] += 1e-3
    density[2, 4] += 1e-3
    assert np.abs(value_residual(mesh, value, cost, drift, kappa, 0.3)).max() > 1e-3
    assert np.abs(density_residual(mesh, density, drift + control, 0.3)).max() > 1e-3


@settings(deadline=None, max_examples=40)
@given(seeds, thetas, sigmas)
def test_the_value_is_what_the_crowd_pays(seed, theta, sigma):
    # Exact, mesh by mesh, only because the two schemes are each other's adjoint.
    mesh, terminal, cost, drift, kappa = _problem(seed, theta, cells=30, steps=20)
    value, control = solve_value(mesh, terminal, cost, drift, kappa, sigma)
    start = np.random.default_rng(seed).uniform(0, 1, mesh.cells)
    density, within = solve_density(mesh, start, drift + control, sigma)
    paid = (within * (cost + kappa * control**2)).sum() * mesh.step + density[-1] @ terminal
    assert value[0] @ density[0] == pytest.approx(paid, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(seeds, thetas, sigmas, st.floats(0.1, 300))
def test_mass_stays_and_the_implicit_step_is_never_negative(seed, theta, sigma, speed):
    rng = np.random.default_rng(seed)
    mesh = Mesh(0.0, 1.0, 40, 1.0, 15, theta)
    start = rng.uniform(0, 1, 40) * (rng.uniform(0, 1, 40) > 0.7)
    density, within = solve_density(mesh, start, rng.normal(0, speed, (15, 40)), sigma)
    assert density.sum(axis=1) == pytest.approx(np.full(16, start.sum()), rel=1e-12 if theta == 1 else 1e-10)
    if theta == 1.0:
        assert (density >= 0).all()
        assert (within >= 0).all()


@settings(deadline=None, max_examples=30)
@given(seeds, sigmas)
def test_midpoint_steps_are_not_negative_where_they_are_short(seed, sigma):
    rng = np.random.default_rng(seed)
    velocity = rng.normal(0, 3, (200, 40))
    mesh = Mesh(0.0, 2.0, 40, 1.0, 200, 0.5)
    # The most that leaves a cell per unit of time.
    rate = max(sigma**2 / mesh.width**2, np.abs(velocity).max() / mesh.width)
    mesh = replace(mesh, horizon=min(1.0, 200 * 1.99 / rate))
    start = rng.uniform(0, 1, 40) * (rng.uniform(0, 1, 40) > 0.7)
    assert (solve_density(mesh, start, velocity, sigma)[0] >= -1e-15).all()


@settings(deadline=None, max_examples=40)
@given(seeds, sigmas)
def test_who_faces_higher_costs_pays_more(seed, sigma):
    mesh, terminal, cost, drift, kappa = _problem(seed, 1.0)
    rng = np.random.default_rng(seed)
    low, _ = solve_value(mesh, terminal, cost, drift, kappa, sigma)
    dearer = terminal + rng.uniform(0, 1, mesh.cells), cost + rng.uniform(0, 1, cost.shape)
    high, _ = solve_value(mesh, *dearer, drift, kappa, sigma)
    assert (low <= high + 1e-9).all()


def test_walls():
    mesh = Mesh(0.0, 1.0, 20, 50.0, 400, 1.0)
    # Drift to the upper wall against diffusion: the density settles at exp(2 v x / sigma^2).
    velocity = np.full((400, 20), 0.4)
    density, _ = solve_density(mesh, np.ones(20), velocity, 0.8)
    expected = np.exp(2 * 0.4 * mesh.centres / 0.64)
    assert density[-1] == pytest.approx(expected / expected.mean(), rel=3e-4)
    # Costs that are the same everywhere: nobody moves, and a wall costs nothing.
    value, control = solve_value(mesh, np.full(20, 2.0), np.full((400, 20), 0.1), np.zeros((400, 20)), 0.5, 0.8)
    assert value[0] == pytest.approx(2.0 + 0.1 * 50)
    assert control == pytest.approx(0, abs=1e-9)


def _ornstein_uhlenbeck(sigma, theta):
    """Errors of density and mean for dX = -2 X dt + sigma dW from N(1, .3^2), at T = 1/2, against the Gaussian."""

    def measure(cells, steps):
        mesh = Mesh(-3.0, 3.0, cells, 0.5, steps, theta)
        start = norm.pdf(mesh.centres, 1, 0.3)
        density, _ = solve_density(mesh, start, np.broadcast_to(-2 * mesh.centres, (steps, cells)).copy(), sigma)
        mean, spread = np.exp(-1), np.sqrt(0.09 * np.exp(-2) + sigma**2 * (1 - np.exp(-2)) / 4)
        exact = norm.pdf(mesh.centres, mean, spread)
        return {
            "density": np.abs(density[-1] - exact).sum() * mesh.width,
            "mean": abs(density[-1] @ mesh.centres * mesh.width - mean),
        }

    return measure


def test_ornstein_uhlenbeck_has_order_2():
    found = convergence(_ornstein_uhlenbeck(0.8, 0.5), [(60, 30), (120, 60), (240, 120)])
    assert found.errors["density"][-1] < 5e-4
    assert found.orders["density"] == pytest.approx([2, 2], abs=0.1)
    assert found.orders["mean"] == pytest.approx([2, 2], abs=0.1)


def test_ornstein_uhlenbeck_without_noise_has_order_1():
    # Upwind spreads the density, to first order; the mean moves at the exact rate.
    found = convergence(_ornstein_uhlenbeck(0.0, 0.5), [(400, 200), (800, 400), (1600, 800)])
    assert found.orders["density"] == pytest.approx([1, 1], abs=0.2)
    assert found.orders["mean"] == pytest.approx([2, 2], abs=0.1)


def test_implicit_steps_have_order_1():
    found = convergence(_ornstein_uhlenbeck(0.8, 1.0), [(60, 30), (120, 60), (240, 120)])
    assert found.orders["density"] == pytest.approx([1, 1], abs=0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"high": -2.0}, "need low < high"),
        ({"low": -np.inf}, "all finite"),
        ({"horizon": 0.0}, "a positive horizon"),
        ({"cells": 2}, "need 3 cells"),
        ({"steps": 0}, "a step"),
        ({"theta": 0.4}, "from 1/2 to 1"),
        ({"theta": 1.1}, "from 1/2 to 1"),
    ],
)
def test_a_mesh_that_is_none(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(Mesh(-1.0, 1.0, 10, 1.0, 10), **change)
