import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_bvp

from core.errors import ConfigError, ConvergenceError, DataError
from market.games import collocation, equations
from market.games.entry_exit import STATES, flows, rates, solve, solve_many, stationary

B, C, START = np.array([0, -0.3, -0.1, 0.1]), np.array([0.5, 1, 0.8, 0.4]), np.array([0.4, 0.1, 0.2, 0.3])
STIFF = (
    np.array([0.117, -0.055, 0.206, -0.170]),
    30 * np.array([0.97, 0.79, 0.26, 0.31]),
    np.array([0.02, 0.7, 0.02, 0.26]),
)


def _games(seed, count, states=4, spread=0.3):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(0, spread, (count, states)),
        rng.uniform(0.2, 1.5, (count, states)),
        rng.dirichlet(np.ones(states), count),
    )


def _invariant(b, c, theta, u, switching):
    gaps = np.maximum(u[..., :, None] - u[..., None, :], 0)
    return (b * theta + c * theta**2 / 2).sum(-1) - (theta * (gaps**2).sum(-1)).sum(-1) / (2 * switching)


def test_check_values_of_a_short_horizon():
    found = solve(B, C, START, 2.0, tolerance=1e-9)
    assert len(STATES) == found.theta.shape[1]
    assert found.theta_at(1.0) == pytest.approx([0.297921, 0.278163, 0.228478, 0.195438], abs=6e-7)
    assert found.theta[-1] == pytest.approx([0.275285, 0.318892, 0.234668, 0.171155], abs=6e-7)
    assert found.u[0] == pytest.approx([0.273964, -0.087174, 0.147437, 0.314042], abs=6e-7)
    assert found.invariant == pytest.approx(-0.004340905, abs=6e-10)
    assert found.regret[0] == pytest.approx(0.314042 + 0.087174, abs=2e-6)
    assert found.regret[-1] == 0


def test_check_values_of_a_long_horizon():
    found = solve(B, C, START, 10.0, tolerance=1e-9)
    assert found.theta_at(1.0) == pytest.approx([0.293131, 0.295758, 0.236615, 0.174496], abs=6e-7)
    assert found.theta_at(5.0) == pytest.approx([0.239710, 0.414858, 0.270903, 0.074530], abs=6e-7)
    assert found.invariant == pytest.approx(-0.013320911, abs=6e-10)


def test_the_default_tolerance_is_enough_for_a_signal():
    for horizon in (1.0, 2.0, 10.0):
        fine = solve(B, C, START, horizon, tolerance=1e-9)
        assert np.abs(solve(B, C, START, horizon).theta - fine.theta).max() < 1e-5


def test_long_run():
    shares, level = stationary(B, C)
    assert level == pytest.approx(0.122222, abs=6e-7)
    assert shares == pytest.approx([0.244444, 0.422222, 0.277778, 0.055556], abs=6e-7)
    # Far from both ends of a long game the traders are where nobody wants to move.
    found = solve(B, C, START, 60.0)
    assert found.theta_at(30.0) == pytest.approx(shares, abs=1e-3)
    assert (
        np.abs(found.theta_at(30.0) - shares).max()
        < 0.1 * np.abs(solve(B, C, START, 10.0).theta_at(5.0) - shares).max()
    )


def test_long_run_with_an_empty_state():
    shares, level = stationary([[0.0, 5.0, 0.1], [0.0, 0.0, 0.0]], [1.0, 1.0, 2.0])
    assert shares[0] == pytest.approx([(1 + 0.05) / 1.5, 0, (level[0] - 0.1) / 2])
    assert shares[1] == pytest.approx([0.4, 0.4, 0.2])
    assert level == pytest.approx([0.7, 0.4])
    hole, unknown = stationary([0.0, np.nan], [1.0, 1.0])
    assert np.isnan(hole).all()
    assert np.isnan(unknown)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(2, 6), st.floats(0.01, 3))
def test_in_the_long_run_nobody_gains_by_moving(seed, states, spread):
    b, c, _ = _games(seed, 1, states, spread)
    shares, level = stationary(b, c)
    assert shares.sum() == pytest.approx(1)
    cost = b + c * shares
    assert (cost >= level[:, None] - 1e-9).all()
    assert cost[shares > 0] == pytest.approx(level[0])


@pytest.mark.parametrize(
    ("states", "horizon", "switching"), [(2, 3.0, 1.0), (3, 1.0, 0.2), (4, 2.0, 1.0), (4, 4.0, 2.5)]
)
def test_equals_a_general_solver(states, horizon, switching):
    b, c, start = (rows[0] for rows in _games(states, 1, states))

    def slope(_, y):
        theta, u = y[:states], y[states:]
        gaps = np.maximum(u[:, None] - u[None], 0)
        moves = theta[:, None] * gaps / switching
        cost = b[:, None] + c[:, None] * theta - (gaps**2).sum(1) / (2 * switching)
        return np.vstack([moves.sum(0) - moves.sum(1), -cost])

    times = np.linspace(0, horizon, 41)
    guess = np.vstack([np.repeat(start[:, None], 41, 1), (b + c * start)[:, None] * (horizon - times)])
    other = solve_bvp(
        slope, lambda y, z: np.r_[y[:states] - start, z[states:]], times, guess, tol=1e-8, max_nodes=20_000
    )
    assert other.success
    found = solve(b, c, start, horizon, switching=switching, tolerance=1e-9)
    assert found.theta == pytest.approx(other.sol(times)[:states].T, abs=1e-7)
    assert found.u == pytest.approx(other.sol(times)[states:].T, abs=1e-7)


def test_fictitious_play_arrives_at_the_same_shares():
    # Each round everybody answers best to the average of the rounds before; Heun steps on a fine grid.
    count, horizon = 100, 2.0
    h = horizon / count
    average = np.repeat(START[None], count + 1, 0)

    def slope(theta, u):
        return -(B + C * theta) + 0.5 * (np.maximum(u[:, None] - u, 0) ** 2).sum(1)

    for play in range(1, 81):
        u = np.zeros((count + 1, 4))
        for k in range(count, 0, -1):
            first = slope(average[k], u[k])
            u[k - 1] = u[k] - 0.5 * h * (first + slope(average[k - 1], u[k] - h * first))
        theta = average.copy()
        for k in range(count):
            first = flows(theta[k], u[k])
            theta[k + 1] = theta[k] + 0.5 * h * (first + flows(theta[k] + h * first, u[k + 1]))
        average += (theta - average) / (play + 1)
    found = solve(B, C, START, horizon, steps=count)
    assert average == pytest.approx(found.theta, abs=5e-4)
    assert u == pytest.approx(found.u, abs=5e-4)


def test_fifty_thousand_agents_move_as_the_shares_say():
    agents, steps = 50_000, 1000
    found = solve(B, C, START, 10.0, steps=steps)
    jump = rates((found.u[:-1] + found.u[1:]) / 2) * (10.0 / steps)
    rng = np.random.default_rng(11)
    held = np.round(agents * START).astype(int)
    worst = 0.0
    for k in range(steps):
        odds = jump[k].copy()
        odds[np.arange(4), np.arange(4)] = 1 - jump[k].sum(1)
        held = rng.multinomial(held, odds).sum(0)
        worst = max(worst, np.abs(held / agents - found.theta[k + 1]).max())
    assert worst < 0.004


def test_no_single_trader_can_do_better():
    # u is what the best behaviour costs against the crowd; any other costs more.
    found = solve(B, C, START, 2.0, steps=400)
    h = 2.0 / 400

    def cost(rate):
        total = np.zeros(4)
        for k in range(400, 0, -1):
            moved = (rate[k] * (total - total[:, None])).sum(1)
            total = total + h * (B + C * found.theta[k] + 0.5 * (rate[k] ** 2).sum(1) + moved)
        return total

    best = rates(found.u)
    least = cost(best)
    assert least == pytest.approx(found.u[0], abs=2e-3)
    rng = np.random.default_rng(0)
    for other in (0.8 * best, 1.2 * best, best + 0.1 * rng.random((4, 4)), best * rng.uniform(0, 2, best.shape)):
        worse = cost(other) - least
        assert (worse > -1e-5).all()
        assert worse.max() > 1e-3


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(2, 5), st.floats(0.05, 12), st.floats(0.2, 5), st.floats(0.05, 2))
def test_shares_stay_shares_and_the_invariant_holds(seed, states, horizon, switching, spread):
    b, c, start = (rows[0] for rows in _games(seed, 1, states, spread))
    found = solve(b, c, start, horizon, switching=switching)
    assert (found.theta >= 0).all()
    assert found.theta.sum(axis=1) == pytest.approx(np.ones(len(found.times)), abs=1e-12)
    assert found.theta[0] == pytest.approx(start, abs=1e-15)
    assert (found.u[-1] == 0).all()
    held = _invariant(b, c, found.theta, found.u, switching)
    terms = (
        np.maximum((b - b.min()) * found.theta + c * found.theta**2, 0).max()
        + found.regret.max() ** 2 * states / switching
    )
    assert held == pytest.approx(np.full(len(held), found.invariant), abs=2e-5 * terms)
    assert found.drift <= 1e-5
    assert found.flows.sum(axis=1) == pytest.approx(np.zeros(len(held)), abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(-50, 50), st.integers(-8, 8))
def test_what_changes_no_choice(seed, common, power):
    b, c, start = (rows[0] for rows in _games(seed, 1))
    found = solve(b, c, start, 3.0, tolerance=1e-8)
    # A cost that all states bear is paid, and moves nobody.
    shifted = solve(b + common, c, start, 3.0, tolerance=1e-8)
    assert shifted.theta == pytest.approx(found.theta, abs=1e-9)
    assert shifted.u == pytest.approx(found.u + common * (3.0 - found.times)[:, None], abs=1e-7)
    assert shifted.invariant == pytest.approx(found.invariant + common, abs=1e-9)
    # Costs in another currency, of a factor that is exact.
    scaled = solve(2.0**power * b, 2.0**power * c, start, 3.0, switching=2.0**power, tolerance=1e-8)
    assert (scaled.theta == found.theta).all()
    assert (scaled.u == 2.0**power * found.u).all()
    # States in another order.
    order = [2, 0, 3, 1]
    turned = solve(b[order], c[order], start[order], 3.0, tolerance=1e-8)
    assert turned.theta == pytest.approx(found.theta[:, order], abs=1e-8)


def test_a_game_has_the_same_bits_in_any_company():
    # Some of these games need finer meshes, and one the continuation.
    b, c, start = _games(3, 60, spread=1.0)
    b[7], c[7], start[7] = STIFF
    b[20, 1] = start[31, 0] = c[40, 2] = np.nan
    b[41, 0] = np.inf
    whole = solve_many(b, c, start, 8.0)
    parts = ("theta", "u", "invariant", "drift", "flows", "regret")
    for low, high in ((0, 1), (0, 17), (7, 8), (5, 59), (30, 42)):
        part = solve_many(b[low:high], c[low:high], start[low:high], 8.0)
        for name in parts:
            assert np.array_equal(getattr(part, name), getattr(whole, name)[low:high], equal_nan=True), name
        assert np.array_equal(part.theta_at(1.7), whole.theta_at(1.7)[low:high], equal_nan=True)
    back = solve_many(b[::-1], c[::-1], start[::-1], 8.0)
    assert np.array_equal(back.theta[::-1], whole.theta, equal_nan=True)
    for row in (0, 7, 33):
        alone = solve(b[row], c[row], start[row], 8.0)
        assert all((getattr(alone, name) == getattr(whole, name)[row]).all() for name in parts)
    lost = np.isnan(whole.theta).all(axis=(1, 2)) & np.isnan(whole.u).all(axis=(1, 2)) & np.isnan(whole.invariant)
    assert np.flatnonzero(lost).tolist() == [20, 31, 40, 41]
    assert np.isfinite(whole.theta[~lost]).all()


def test_no_games():
    assert solve_many(np.empty((0, 4)), C, np.empty((0, 4)), 1.0).theta.shape == (0, 41, 4)


def test_crowding_of_all_games_or_of_each():
    b, c, start = _games(5, 3)
    together = solve_many(b, c[0], start, 1.0)
    assert (together.theta == solve_many(b, np.repeat(c[:1], 3, 0), start, 1.0).theta).all()


def test_an_empty_state_fills():
    found = solve(B, C, [1.0, 0.0, 0.0, 0.0], 2.0)
    assert found.flows[0] == pytest.approx([-found.flows[0, 1:].sum(), *found.flows[0, 1:]])
    assert (found.flows[0, 1:3] > 0).all()
    assert (found.theta[1:, 1:3] > 0).all()


def test_between_the_points_of_the_mesh():
    coarse, fine = solve(B, C, START, 2.0, steps=20, tolerance=1e-9), solve(B, C, START, 2.0, steps=640)
    for k in (0, 1, 17, 333, 639, 640):
        assert coarse.theta_at(fine.times[k]) == pytest.approx(fine.theta[k], abs=5e-7)


def test_the_rule_is_of_order_four():
    fine = solve(B, C, START, 2.0, steps=320, tolerance=1.0).theta
    errors = [
        np.abs(solve(B, C, START, 2.0, steps=n, tolerance=1.0).theta - fine[:: 320 // n]).max() for n in (10, 20, 40)
    ]
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(16, rel=0.2)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_the_jacobian_is_the_derivative(seed):
    rng = np.random.default_rng(seed)
    b, c, y = rng.normal(size=3), rng.random(3), np.r_[rng.dirichlet(np.ones(3)), rng.normal(size=3)]
    jacobian, low, high = np.empty((6, 6)), np.empty(6), np.empty(6)
    equations.field_jacobian(c, y, jacobian)
    gaps = y[3:, None] - y[3:]
    if np.abs(gaps[~np.eye(3, dtype=bool)]).min() < 1e-5:
        return
    for j in range(6):
        h = 1e-6 * (np.arange(6) == j)
        equations.field(b, c, y - h, low)
        equations.field(b, c, y + h, high)
        assert jacobian[:, j] == pytest.approx((high - low) / 2e-6, abs=1e-7)


def test_the_two_sweeps_solve_the_linear_equations():
    rng = np.random.default_rng(2)
    b, c, count = rng.random(3), rng.random(3), 5
    y = np.concatenate([rng.dirichlet(np.ones(3), count + 1), rng.normal(size=(count + 1, 3))], axis=1)
    f, residual, step = np.empty_like(y), np.empty((count, 6)), np.empty_like(y)

    def errors(at):
        collocation._residuals(b, c, 1.5, at, f, residual)
        return residual.copy()

    # All but theta(0) and v(T) are free; a column at a time by central differences.
    free = np.ones(y.shape, dtype=bool)
    free[0, :3] = free[-1, 3:] = False
    columns = []
    for place in np.argwhere(free):
        h = np.zeros_like(y)
        h[tuple(place)] = 1e-6
        columns.append(((errors(y + h) - errors(y - h)) / 2e-6).ravel())
    dense = np.zeros_like(y)
    dense[free] = np.linalg.solve(np.array(columns).T, -errors(y).ravel())
    collocation._newton_step(b, c, 1.5, y, f, np.empty((count + 1, 6, 6)), residual, step)
    assert step == pytest.approx(dense, abs=1e-6)


def test_where_newton_stalls_shorter_horizons_lead_on():
    b, c, start = STIFF
    b = b - b.min()
    y = np.empty((41, 8))
    collocation._guess(b, c, start, 100.0, y)
    assert not collocation._newton(b, c, 100.0, y)
    assert collocation._continued(b, c, start, 100.0, y, False)
    found = solve(b, c, start, 100.0, tolerance=1e-5)
    assert found.theta_at(50.0) == pytest.approx(stationary(b, c)[0], abs=1e-3)


def test_no_solution_is_an_error_and_not_an_answer():
    b, c, start = _games(8, 5)
    with pytest.raises(
        ConvergenceError, match=r"game 0 of 5: the invariant drifts by .* on 5 steps: shorten the horizon"
    ):
        solve_many(b, c, start, 10.0, steps=5, halvings=0, tolerance=1e-9)
    b[:2] = np.nan
    with pytest.raises(ConvergenceError, match="game 2 of 5"):
        solve_many(b, c, start, 10.0, steps=5, halvings=0, tolerance=1e-9)
    with pytest.raises(ConvergenceError, match="Newton's method finds no solution on 2 steps"):
        solve(*STIFF, 1e6, steps=2, halvings=0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"horizon": 0.0}, ConfigError, "horizon 0.0"),
        ({"horizon": np.inf}, ConfigError, "need a finite horizon"),
        ({"switching": -1.0}, ConfigError, "switching -1.0"),
        ({"steps": 0}, ConfigError, "steps of at least 1"),
        ({"halvings": -1}, ConfigError, "halvings of at least 0"),
        ({"tolerance": 0.0}, ConfigError, "tolerance above 0"),
        ({"c": [1.0, 1.0, 0.0, 1.0]}, ConfigError, "crowding 0.0: choose c above 0"),
        ({"c": np.ones(3)}, DataError, r"c of shape \(3,\): give \(4,\) or \(1, 4\)"),
        ({"b": np.zeros(3)}, DataError, "give \\(M, K\\) each"),
        ({"theta0": [0.5, 0.6, 0.0, -0.1]}, DataError, "theta0 of game 0 is .*shares of at least 0 that sum to 1"),
        ({"theta0": [0.5, 0.4, 0.0, 0.0]}, DataError, "sum to 1"),
        ({"b": [0.0, np.nan, 0.0, 0.0]}, DataError, "three finite rows"),
        ({"theta0": START[None]}, DataError, "three finite rows"),
    ],
)
def test_refusals(change, error, message):
    arguments = {"b": B, "c": C, "theta0": START, "horizon": 1.0, **change}
    with pytest.raises(error, match=message):
        solve(**arguments)


def test_times_outside_the_horizon():
    with pytest.raises(ConfigError, match=r"time 1.5: choose one from 0 to the horizon 1.0"):
        solve(B, C, START, 1.0).theta_at(1.5)
    with pytest.raises(ConfigError, match="choose c above 0"):
        stationary(B, -C)
