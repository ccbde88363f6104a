from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.interpolate import RegularGridInterpolator
from scipy.stats import norm

from core.errors import ConfigError, ConvergenceError
from market.games.convergence import convergence
from market.games.game import Game
from market.games.hjb import solve


class Crowding:
    """Closed form of the trade-crowding game of Cardaliaguet and Lehalle (2018) with equal preferences.

    2 kappa E'' + alpha E' - 2 phi E = 0, E(0) = E0, kappa E'(T) + A E(T) = 0; a player sells at
    (h1 - q h2) / 2 kappa with h1 = 2 kappa mu + h2 E and h2 the solution of its Riccati equation.
    """

    def __init__(self, alpha=0.4, kappa=0.2, phi=0.1, A=2.5, T=5.0, E0=10.0):
        self.alpha, self.kappa, self.phi, self.A, self.T, self.E0 = alpha, kappa, phi, A, T, E0
        self.roots = np.roots([2 * kappa, alpha, -2 * phi])
        last = (kappa * self.roots + A) * np.exp(self.roots * T)
        self.weights = np.linalg.solve([[1, 1], last], [E0, 0])

    def mean(self, t):
        return np.exp(np.multiply.outer(t, self.roots)) @ self.weights

    def rate(self, t):
        return np.exp(np.multiply.outer(t, self.roots)) @ (self.weights * self.roots)

    def h2(self, t):
        c, left = 2 * np.sqrt(self.kappa * self.phi), np.sqrt(self.phi / self.kappa) * (self.T - np.asarray(t))
        ch, sh = np.cosh(left), np.sinh(left)
        return c * (2 * self.A * ch + c * sh) / (c * ch + 2 * self.A * sh)

    def h1(self, t):
        return 2 * self.kappa * self.rate(t) + self.h2(t) * self.mean(t)

    def flat(self, t):
        """Inventory of a player that begins with none."""
        path = solve_ivp(
            lambda s, q: (self.h1(s) - q * self.h2(s)) / (2 * self.kappa),
            (0, self.T),
            [0.0],
            rtol=1e-10,
            dense_output=True,
        )
        return path.sol(np.asarray(t))[0]

    def cost(self):
        """What the crowd pays: kappa int mu^2 + alpha (E0^2 - E_T^2) / 2 + A E_T^2, and with its penalty of risk."""
        t = np.linspace(0, self.T, 200_001)
        paid = self.kappa * np.trapezoid(self.rate(t) ** 2, t) + self.alpha * (self.E0**2 - self.mean(self.T) ** 2) / 2
        paid += self.A * self.mean(self.T) ** 2
        return paid, paid + self.phi * np.trapezoid(self.mean(t) ** 2, t)

    def game(self, sigma, low, high, spread):
        return Game(
            low=low,
            high=high,
            horizon=self.T,
            initial=lambda x: norm.pdf(x, self.E0, spread),
            running=lambda t, x, crowd: self.phi * x**2 - self.alpha * crowd.control * x,
            terminal=lambda t, x, crowd: self.A * x**2,
            control_cost=self.kappa,
            sigma=sigma,
        )


CROWDING = Crowding()
TIMES = [0, 0.5, 1, 2, 3, 5]


def test_the_closed_form_of_trade_crowding():
    assert sorted(CROWDING.roots) == pytest.approx([-1.366025, 0.366025], abs=5e-7)
    assert CROWDING.mean(TIMES) == pytest.approx([10, 5.049886, 2.549409, 0.647835, 0.161572, 0.001455], abs=5e-7)
    rates = [-13.662853, -6.901393, -3.486304, -0.890362, -0.228503, -0.018189]
    assert CROWDING.rate(TIMES) == pytest.approx(rates, abs=5e-7)
    assert CROWDING.h2(TIMES) == pytest.approx([0.283272, 0.283714, 0.284613, 0.290195, 0.314361, 5], abs=5e-7)
    flat = [0, -1.966520, -2.369628, -1.753960, -0.974757, -0.029775]
    assert CROWDING.flat(TIMES) == pytest.approx(flat, abs=5e-7)
    costs = [Crowding(alpha).cost()[0] for alpha in (0, 0.2, 0.4, 0.8)]
    assert costs == pytest.approx([7.158973, 20.027642, 33.667326, 62.247660], abs=5e-6)
    assert CROWDING.cost()[1] == pytest.approx(37.325705, abs=5e-6)


def _crowding_errors(crowd, sigma, solution):
    """Largest errors over time, that of the control where players are and the last penalty is far."""
    mesh, x = solution.mesh, solution.mesh.centres
    # A player's own noise changes neither the crowd's mean nor the control, only the value: by sigma^2/2 int h2.
    noise = sigma**2 / 2 * np.trapezoid(crowd.h2(np.linspace(0, 5, 100_001)), dx=5e-5)
    control = (crowd.h1(mesh.middles)[:, None] - x * crowd.h2(mesh.middles)[:, None]) / (2 * crowd.kappa)
    there = (solution.crowd.density > 0.01 * solution.crowd.density.max()) & (mesh.middles < 4)[:, None]
    return {
        "mean": np.abs(solution.mean - crowd.mean(mesh.times)).max(),
        "rate": np.abs(solution.crowd.control[:, 0] - crowd.rate(mesh.middles)).max(),
        "control": np.abs(solution.control - control)[there].max(),
        "value": abs(np.interp(crowd.E0, x, solution.value[0]) - crowd.cost()[1] - noise),
    }


def test_trade_crowding_with_noise_has_order_2():
    crowd = Crowding(E0=4.0)
    game = crowd.game(sigma=2.0, low=-9.0, high=12.0, spread=1.0)
    found = convergence(lambda n, m: _crowding_errors(crowd, 2.0, solve(game, n, m)), [(70, 210), (140, 420)])
    for name in ("mean", "rate"):
        assert found.orders[name] == pytest.approx([2], abs=0.15), name
    limits = {"mean": 4e-5, "rate": 2e-4, "control": 2e-3, "value": 2e-4}
    assert all(found.errors[name][-1] < limit for name, limit in limits.items())


def test_trade_crowding_without_noise_has_order_1():
    game = CROWDING.game(sigma=0.0, low=-8.0, high=16.0, spread=1.0)
    meshes = [(48, 96), (96, 192), (192, 384)]
    found = convergence(lambda n, m: _crowding_errors(CROWDING, 0.0, solve(game, n, m)), meshes)
    for name in ("mean", "rate", "control", "value"):
        assert found.orders[name] == pytest.approx([1, 1], abs=0.3), name
    limits = {"mean": 0.01, "rate": 0.012, "control": 0.12, "value": 0.2}
    assert all(found.errors[name][-1] < limit for name, limit in limits.items())


def test_the_flat_player_sells_ahead_of_the_crowd():
    solution = solve(CROWDING.game(2.0, -10.0, 18.0, 1.5), 112, 336)
    mesh = solution.mesh
    field = RegularGridInterpolator((mesh.middles, mesh.centres), solution.control, bounds_error=False, fill_value=None)
    path = solve_ivp(lambda t, q: field([[t, q[0]]]), (0, 5), [0.0], t_eval=[0.5, 1, 2, 3], rtol=1e-6, max_step=0.05)
    assert path.y[0] == pytest.approx(CROWDING.flat([0.5, 1, 2, 3]), abs=5e-3)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
def test_trade_crowding_in_daily_units(alpha):
    # Inventory in days of volume, prices in daily volatilities; alpha = 2 couples the players strongly.
    crowd = Crowding(alpha, kappa=3.0, phi=0.15, A=10.0, T=10.0, E0=0.5)
    assert crowd.cost()[0] / 0.5 == pytest.approx({0.0: 0.186833, 1.0: 0.500333, 2.0: 0.837655}[alpha], abs=5e-7)
    solution = solve(crowd.game(0.4, -2.0, 2.5, 0.3), 90, 200)
    assert solution.mean == pytest.approx(crowd.mean(solution.mesh.times), abs=3e-3)
    assert solution.crowd.control[:, 0] == pytest.approx(crowd.rate(solution.mesh.middles), abs=2e-3)


class Bank:
    """Limit of many banks of Carmona, Fouque and Sun (2015) without common noise: a = q = 1, epsilon = 10, c = 0.

    Its control is q (mean - x) + a with a of our game, which completes the square of its cost.
    """

    sigma, spread, centre = 1.0, 0.3, 0.3

    def __init__(self):
        # eta' = 2 (a + q) eta + eta^2 - (epsilon - q^2), eta(T) = c, in closed form: roots of the right-hand side.
        self.low, self.high = -2 - np.sqrt(13), -2 + np.sqrt(13)
        back = solve_ivp(
            lambda t, v: -2 * (2 + self.eta(t)) * v + self.sigma**2,
            (0, 1),
            [self.spread**2],
            rtol=1e-11,
            dense_output=True,
        )
        self.variance = lambda t: back.sol(t)[0]

    def eta(self, t):
        # (eta - high) / (eta - low) grows at the rate high - low.
        ratio = self.high / self.low * np.exp((self.high - self.low) * (np.asarray(t) - 1.0))
        return (self.high - ratio * self.low) / (1 - ratio)

    game = Game(
        low=-3.0,
        high=3.6,
        horizon=1.0,
        initial=lambda x: norm.pdf(x, 0.3, 0.3),
        running=lambda t, x, crowd: 9 / 2 * (crowd.mean - x) ** 2,
        control_cost=0.5,
        sigma=1.0,
        drift=lambda t, x, crowd: 2 * (crowd.mean - x),
    )


BANK = Bank()


def _bank_errors(solution):
    mesh, x = solution.mesh, solution.mesh.centres
    near = np.abs(x - 0.3) < 1
    curvature = [2 * np.polyfit(x[near], solution.value[k * mesh.steps // 10, near], 2)[0] for k in (0, 5, 9)]
    variance = ((x - solution.mean[:, None]) ** 2 * solution.density).sum(axis=1) * mesh.width
    return {
        "eta": np.abs(curvature - BANK.eta([0, 0.5, 0.9])).max(),
        "variance": np.abs(variance - BANK.variance(mesh.times)).max(),
        "density": np.abs(solution.density[-1] - norm.pdf(x, 0.3, np.sqrt(BANK.variance(1.0)))).max(),
        "mean": np.abs(solution.mean - 0.3).max(),
    }


def test_systemic_risk():
    assert BANK.eta([0, 0.5, 0.9]) == pytest.approx([1.60402661, 1.54986226, 0.72407663], abs=5e-9)
    found = convergence(lambda n, m: _bank_errors(solve(BANK.game, n, m)), [(50, 50), (100, 100), (200, 200)])
    for name in ("eta", "variance", "density"):
        assert found.orders[name] == pytest.approx([2, 2], abs=0.1), name
    assert found.errors["eta"][-1] < 4e-5
    assert found.errors["variance"][-1] < 3e-6
    # The drift and the control are both towards the mean, which therefore stays.
    assert found.errors["mean"].max() < 1e-9


def test_implicit_steps_have_order_1():
    found = convergence(lambda n, m: _bank_errors(solve(BANK.game, n, m, theta=1.0)), [(50, 50), (100, 100)])
    for name in ("eta", "variance"):
        assert found.orders[name] == pytest.approx(1, abs=0.15), name


def test_linear_quadratic_control_makes_an_ornstein_uhlenbeck_process():
    # With running x^2 and terminal x^2, kappa = 1, the value is x^2 + sigma^2 (T - t): dX = -X dt + sigma dW.
    game = Game(
        low=-4.0,
        high=4.5,
        horizon=1.0,
        initial=lambda x: norm.pdf(x, 1, 0.4),
        running=lambda t, x, crowd: x**2,
        terminal=lambda t, x, crowd: x**2,
        control_cost=1.0,
        sigma=0.8,
    )

    def errors(cells, steps):
        solution = solve(game, cells, steps)
        t, x = solution.mesh.times[:, None], solution.mesh.centres
        variance = 0.16 * np.exp(-2 * t) + 0.64 / 2 * (1 - np.exp(-2 * t))
        near = np.abs(x) < 1.5
        return {
            "density": np.abs(solution.density - norm.pdf(x, np.exp(-t), np.sqrt(variance))).max(),
            "value": np.abs(solution.value - x**2 - 0.64 * (1 - t))[:, near].max(),
        }

    found = convergence(errors, [(85, 40), (170, 80), (340, 160)])
    assert found.orders["density"] == pytest.approx([2, 2], abs=0.1)
    assert found.errors["density"][-1] < 1e-3
    # Central differences and the midpoint step are exact for a parabola that moves at a constant rate.
    assert found.errors["value"].max() < 1e-8


def test_players_that_avoid_each_other():
    # Cost x^2 + log m / 2: with eta = 1 and variance 1/2 the Gaussian crowd stays as it is, and u = x^2 / 2 + const.
    game = Game(
        low=-3.5,
        high=3.5,
        horizon=2.0,
        initial=lambda x: norm.pdf(x, 0, np.sqrt(0.5)),
        running=lambda t, x, crowd: x**2 + 0.5 * np.log(np.maximum(crowd.density, 1e-300)),
        terminal=lambda t, x, crowd: x**2 / 2,
        control_cost=0.5,
        sigma=1.0,
    )

    def errors(cells, steps):
        solution = solve(game, cells, steps)
        assert solution.iterations > 1
        return {"density": np.abs(solution.density - norm.pdf(solution.mesh.centres, 0, np.sqrt(0.5))).max()}

    found = convergence(errors, [(50, 50), (100, 100), (200, 200)])
    assert found.orders["density"] == pytest.approx([1.9, 1.9], abs=0.25)
    assert found.errors["density"][-1] < 1e-4


def test_terminal_cost_sees_the_crowd_at_the_horizon():
    # All want to end at 1 beyond the others: a = -(x - mean_T - 1) / (1 + T - t). Then the mean has a constant speed v
    # with v (1 + T) = mean_T + 1 - mean_0 = v T + 1.
    game = Game(
        low=-3.0,
        high=6.0,
        horizon=1.0,
        initial=lambda x: norm.pdf(x, 0.5, 0.3),
        running=lambda t, x, crowd: 0.0,
        terminal=lambda t, x, crowd: (x - crowd.mean - 1) ** 2 / 2,
        sigma=0.5,
    )
    solution = solve(game, 180, 50)
    assert solution.mean == pytest.approx(0.5 + solution.mesh.times, abs=1e-4)
    assert solution.crowd.control == pytest.approx(1.0, abs=1e-4)


def test_a_solution_says_how_good_it_is():
    solution = solve(BANK.game, 60, 40, tolerance=1e-9)
    assert solution.error <= 1e-9
    assert solution.mass_error < 1e-12
    assert solution.wall_mass < 1e-12
    assert solution.density.min() > -1e-12
    assert solution.density.sum(axis=1) * solution.mesh.width == pytest.approx(np.ones(41))
    assert solution.value.shape == solution.density.shape == (41, 60)
    assert solution.control.shape == solution.crowd.density.shape == (40, 60)


def test_the_way_to_the_crowd_does_not_change_it():
    game = CROWDING.game(0.0, -8.0, 16.0, 1.0)
    fast = solve(game, 48, 96)
    damped = solve(game, 48, 96, depth=0, mixing=0.5)
    assert damped.iterations > fast.iterations
    assert damped.mean == pytest.approx(fast.mean, abs=1e-6)


def test_no_crowd_is_no_solution():
    game = CROWDING.game(0.0, -8.0, 16.0, 1.0)
    with pytest.raises(ConvergenceError, match=r"after 2 best responses the residual of the value is \d.*lower mixing"):
        solve(game, 48, 48, iterations=2)


def test_best_responses_that_overshoot():
    # alpha below 0: who sells with the others loses, so each response to a crowd in haste is a crowd that waits.
    crowd = Crowding(alpha=-1.0, E0=4.0)
    game = crowd.game(2.0, -10.0, 14.0, 1.0)
    with pytest.raises(ConvergenceError, match=r"after 60 best responses .* raise depth \(0\)"):
        solve(game, 80, 240, depth=0, iterations=60)
    solution = solve(game, 80, 240, iterations=60)
    assert solution.mean == pytest.approx(crowd.mean(solution.mesh.times), abs=2e-3)


def test_steps_too_long_for_the_midpoint():
    game = CROWDING.game(1.0, -8.0, 18.0, 1.0)
    with pytest.raises(ConvergenceError, match=r"too long for theta 0\.5: take more steps, or theta 1"):
        solve(game, 20, 20)
    assert solve(game, 20, 20, theta=1.0).density.min() >= 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"control_cost": 0.0}, "need a positive cost"),
        ({"sigma": -1.0}, "sigma of at least 0"),
        ({"low": 4.0}, "need low < high"),
        ({"initial": lambda x: x}, "is no density there"),
        ({"initial": lambda x: 0 * x}, "not 0 everywhere"),
        ({"initial": lambda x: np.ones(3)}, r"shape \(3,\) for 20 cells"),
        ({"running": lambda t, x, crowd: np.ones(3)}, r"running has shape \(3,\): it must broadcast to \(10, 20\)"),
        ({"terminal": lambda t, x, crowd: np.ones(3)}, r"terminal has shape \(3,\): it must broadcast to \(1, 20\)"),
        ({"drift": lambda t, x, crowd: np.where(t > 0.5, np.nan, x)}, r"drift is nan at time 0.55, state -2.835"),
    ],
)
def test_a_game_that_is_none(change, message):
    with pytest.raises(ConfigError, match=message):
        solve(replace(BANK.game, **change), 20, 10)


def test_refused_parameters():
    for change in ({"tolerance": 0.0}, {"iterations": 0}):
        with pytest.raises(ConfigError, match="need both positive"):
            solve(BANK.game, 20, 10, **change)
    for change in ({"depth": -1}, {"mixing": 0.0}, {"mixing": 1.1}):
        with pytest.raises(ConfigError, match="0 < mixing <= 1"):
            solve(BANK.game, 20, 10, **change)
    with pytest.raises(ConfigError, match="theta"):
        solve(BANK.game, 20, 10, theta=0.3)
