import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

from core.errors import ConfigError, DataError
from market.games.systemic import InterbankGame, event_probability, simulate

TEN = InterbankGame(reversion=1, incentive=1, aversion=10, terminal=0, horizon=1, count=10)
LIMIT = InterbankGame(reversion=1, incentive=1, aversion=10, terminal=0, horizon=1)
TIMES = [0.0, 0.5, 0.9]

games = st.builds(
    lambda a, q, more, c, T, N: InterbankGame(a, q, q**2 + more, c, T, N),
    st.floats(0, 3),
    st.floats(0, 3),
    st.floats(0, 20),
    st.floats(0, 5),
    st.floats(0.1, 4),
    st.sampled_from([2, 3, 10, 500, np.inf]),
)


def test_check_values():
    assert TEN.eta(TIMES) == pytest.approx([1.60757544, 1.55269766, 0.72424847], abs=6e-9)
    assert LIMIT.eta(TIMES) == pytest.approx([1.60402661, 1.54986226, 0.72407663], abs=6e-9)
    assert TEN.deviation_variance(1.0) == pytest.approx(0.164345, abs=6e-7)
    assert TEN.deviation_variance(1.0, game=False) == pytest.approx(0.389099, abs=6e-7)
    assert TEN.feedback(0.0) == pytest.approx(1 + 0.9 * 1.60757544, abs=1e-8)


@pytest.mark.parametrize(
    ("count", "rho", "value"),
    [(10, 0, 0.0268567), (10, 0.5, 0.2194916), (50, 0.5, 0.1738932), (np.inf, 0.5, 0.1615133)],
)
def test_event_check_values(count, rho, value):
    assert event_probability(-0.7, 1, 1, rho**2, count) == pytest.approx(value, abs=6e-8)


def test_event_of_a_market():
    correlation = np.array([0.11, 0.28, 0.645, 0.70, np.nan])
    got = event_probability(-0.10, 21, 0.018, correlation, 500)
    assert got[:4] == pytest.approx([0.000288, 0.022301, 0.131379, 0.147511], abs=6e-7)
    assert np.isnan(got[4])


@settings(deadline=None, max_examples=60)
@given(games)
def test_eta_solves_its_equation(game):
    def slope(t, eta):
        return (
            2 * (game.reversion + game.incentive) * eta
            + (1 - game.count**-2.0) * eta**2
            - (game.aversion - game.incentive**2)
        )

    other = solve_ivp(slope, (game.horizon, 0), [game.terminal], rtol=1e-10, atol=1e-12, dense_output=True)
    times = np.linspace(0, game.horizon, 7)
    assert game.eta(times) == pytest.approx(other.sol(times)[0], rel=1e-6, abs=1e-8)
    assert game.eta(game.horizon) == pytest.approx(game.terminal, abs=1e-12)
    assert (game.feedback(times) >= game.incentive).all()


@settings(deadline=None, max_examples=30)
@given(games, st.floats(0.05, 1), st.floats(0, 1))
def test_variance_is_the_integral_of_what_is_kept(game, share, correlation):
    end = share * game.horizon

    def kept(start):
        pull = quad(lambda t: game.reversion + game.feedback(t), start, end, epsabs=1e-11)[0]
        return np.exp(-2 * pull)

    noise = 0.3**2 * (1 - correlation) * (1 - 1 / game.count)
    got = game.deviation_variance(end, 0.3, correlation)
    assert got == pytest.approx(noise * quad(kept, 0, end, epsabs=1e-10)[0], abs=1e-10)
    assert got <= game.deviation_variance(end, 0.3, correlation, game=False) + 1e-12


def test_variance_over_times():
    times = np.array([[0.0, 0.25], [0.5, 1.0]])
    got = TEN.deviation_variance(times)
    assert got.shape == (2, 2)
    assert got[0, 0] == 0
    assert got[1, 1] == TEN.deviation_variance(1.0)


def _best_response(game, steps):
    """The cost to go is P / 2 (M - X_i)^2: dynamic programming in steps of h against N - 1 that play the same."""
    h, N = game.horizon / steps, game.count
    own = 1 - 1 / N
    P = game.terminal
    for _ in range(steps):
        # The others' moves sum to minus their feedback times one's own distance z.
        others = (game.incentive + own * P) / N
        kept = 1 - h * (game.reversion + others)
        # min over alpha = k z of h (k^2 / 2 - q k + eps / 2) + P / 2 (kept - h own k)^2
        k = (game.incentive + P * own * kept) / (1 + h * P * own**2)
        P = 2 * h * (k**2 / 2 - game.incentive * k + game.aversion / 2) + P * (kept - h * own * k) ** 2
    return P


@pytest.mark.parametrize("count", [2, 10, np.inf])
def test_nobody_gains_by_another_control(count):
    game = InterbankGame(1, 1, 10, 0.5, 1, count)
    coarse, fine = _best_response(game, 1000), _best_response(game, 2000)
    assert 2 * fine - coarse == pytest.approx(game.eta(0.0), abs=1e-5)


def test_degenerate_and_extreme_games():
    # Nothing pulls: eta' = (1 - 1/N^2) eta^2.
    still = InterbankGame(0, 0, 0, 2.0, 3.0, 2)
    assert still.eta([0.0, 3.0]) == pytest.approx([2 / (1 + 0.75 * 2 * 3), 2])
    assert InterbankGame(0, 0, 0, 0.0, 3.0).deviation_variance(3.0) == pytest.approx(3.0)
    # Far from the horizon eta is the positive root of its right-hand side, without overflow.
    long = InterbankGame(1, 1, 10, 0, 1e6)
    assert long.eta(0.0) == pytest.approx(-2 + np.sqrt(4 + 9))
    # There the distance has the variance of a stationary Ornstein-Uhlenbeck process.
    assert long.deviation_variance(5e5) == pytest.approx(1 / (2 * (1 + long.feedback(0.0))), rel=1e-9)
    assert long.deviation_variance(5e5, game=False) == pytest.approx(1 / 2, rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.floats(-1, -0.01), st.floats(0.5, 60), st.floats(0.005, 0.1), st.floats(0, 0.95), st.integers(2, 1000))
def test_event_is_likelier_the_more_is_shared(level, horizon, volatility, correlation, count):
    now = event_probability(level, horizon, volatility, correlation, count)
    assert 0 <= now <= event_probability(level, horizon, volatility, correlation + 0.05, count) <= 1
    assert event_probability(level, horizon, volatility, correlation, np.inf) <= now
    assert now <= event_probability(level, 2 * horizon, volatility, correlation, count)
    # The mean of members that move as one is a member.
    alone = event_probability(level, horizon, volatility, 1.0, count)
    assert alone == pytest.approx(event_probability(level, horizon, volatility, 1.0))


def test_event_has_each_sessions_bits():
    rng = np.random.default_rng(0)
    correlation, volatility = rng.random(101), rng.uniform(0.005, 0.03, 101)
    whole = event_probability(-0.1, 21, volatility, correlation, 500)
    for cut in (1, 7, 50, 100):
        assert (event_probability(-0.1, 21, volatility[:cut], correlation[:cut], 500) == whole[:cut]).all()


def test_members_that_cancel():
    assert event_probability(-0.1, 21, 0.02, -1 / 9, 10) == pytest.approx(0, abs=1e-12)
    assert event_probability(-0.1, 21, 0.0, 0.5, 10) == 0


def test_the_game_trades_single_falls_for_joint_ones():
    falls = {play: simulate(TEN, -0.7, 1, 0, paths=8_000, steps=100, seed=1, play=play) for play in (True, False)}
    single = {play: fall.members.mean() for play, fall in falls.items()}
    joint = {play: (fall.members.sum(axis=1) >= 8).mean() for play, fall in falls.items()}
    assert single[False] == pytest.approx(0.462, abs=0.015)
    assert single[True] == pytest.approx(0.399, abs=0.015)
    assert joint[False] == pytest.approx(0.068, abs=0.011)
    assert joint[True] == pytest.approx(0.108, abs=0.013)
    # The mean is the same path for path: what all do for it cancels.
    assert (falls[True].mean == falls[False].mean).mean() > 0.9999
    assert falls[True].mean.mean() == pytest.approx(0.0268567, abs=4 * np.sqrt(0.0268567 / 8_000))
    for play, fall in falls.items():
        assert fall.deviation.var() == pytest.approx(TEN.deviation_variance(1.0, game=play), rel=0.025)


def test_common_noise_brings_all_down():
    fall = simulate(TEN, -0.7, 1, 0.25, paths=8_000, steps=100, seed=2)
    assert fall.mean.mean() == pytest.approx(0.2194916, abs=4 * np.sqrt(0.2194916 * 0.78 / 8_000))
    assert fall.deviation.var() == pytest.approx(TEN.deviation_variance(1.0, 1.0, 0.25), rel=0.02)
    again = simulate(TEN, -0.7, 1, 0.25, paths=8_000, steps=100, seed=2)
    assert (again.deviation == fall.deviation).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reversion": -1.0}, "reversion -1.0"),
        ({"incentive": -1.0}, "incentive -1.0"),
        ({"aversion": 0.5}, "aversion 0.5: choose a finite one of 1.0 or more"),
        ({"aversion": np.nan}, "aversion nan"),
        ({"terminal": np.inf}, "terminal inf"),
        ({"horizon": 0.0}, "finite horizon above 0"),
        ({"count": 1}, "count of at least 2"),
    ],
)
def test_a_game_that_is_none(change, message):
    parts = {"reversion": 1.0, "incentive": 1.0, "aversion": 10.0, "terminal": 0.0, "horizon": 1.0, "count": 10}
    with pytest.raises(ConfigError, match=message):
        InterbankGame(**{**parts, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": 0.1}, "level 0.1: give one that is below 0"),
        ({"horizon": 0}, "horizon 0.0: give one that is above 0"),
        ({"volatility": -0.1}, "volatility -0.1: give one that is at least 0"),
        ({"correlation": 1.2}, "correlation 1.2: give one that is from -1 / \\(count - 1\\) to 1"),
        ({"correlation": -0.2}, "below -1 / \\(count - 1\\): give an average over the same members"),
        ({"count": 1}, "count 1.0: give one that is at least 2"),
    ],
)
def test_an_event_that_is_none(change, message):
    with pytest.raises(DataError, match=message):
        event_probability(
            **{"level": -0.1, "horizon": 21, "volatility": 0.02, "correlation": 0.3, "count": 10, **change}
        )


def test_refusals():
    with pytest.raises(DataError, match="give times from 0 to the horizon 1"):
        TEN.eta([0.0, 1.1])
    with pytest.raises(DataError, match="give times"):
        TEN.deviation_variance(np.nan)
    with pytest.raises(DataError, match=r"correlation 1.5"):
        TEN.deviation_variance(1.0, 1.0, 1.5)
    with pytest.raises(DataError, match=r"volatility -1.0"):
        simulate(TEN, -0.7, -1.0, 0.0, paths=1, steps=1, seed=0)
    with pytest.raises(ConfigError, match="count inf"):
        simulate(LIMIT, -0.7, 1.0, 0.0, paths=1, steps=1, seed=0)
    with pytest.raises(ConfigError, match="paths 0"):
        simulate(TEN, -0.7, 1.0, 0.0, paths=0, steps=1, seed=0)
