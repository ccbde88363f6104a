import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from portfolio.drawdown import (
    controlled_exposure,
    cushion_exposure,
    cushion_growth,
    drawdown_factor,
    drawdowns,
)


def _wealth(returns, exposure):
    return np.append(1.0, np.cumprod(1 + exposure * returns))


def test_check_values():
    assert cushion_growth(0.08, 0.2, 0.8) == pytest.approx(0.016)
    assert cushion_exposure(1.0, 1.0, 0.08, 0.2, 0.8) == pytest.approx(2 * 0.2)
    assert cushion_exposure(0.9, 1.0, 0.08, 0.2, 0.8) == pytest.approx(0.2)
    assert cushion_exposure([0.8, 0.7], 1.0, 0.08, 0.2, 0.8).tolist() == [0, 0]
    assert cushion_exposure(3.0, 3.0, 0.08, 0.2, 0.0) == pytest.approx(6.0)  # without a floor, Kelly
    assert drawdown_factor([0, 0.05, 0.1, 0.15, 0.2, 0.3], 0.1, 0.2) == pytest.approx([1, 1, 1, 0.5, 0, 0])
    assert drawdowns([1, 2, 1.5, 3, 3, 2.4]) == pytest.approx([0, 0, 0.25, 0, 0, 0.2])


def test_growth_and_floor_of_simulated_wealth():
    """mu = .08, sigma = .2, floor .8: the wealth grows at .016 a year and never falls below .8 of its peak.

    With C = W - .8 M, ln C + 4 ln M is the log wealth of full Kelly, whose noise is known and taken off. What is left
    is the start at the peak: ln(C / .2 M) ends distributed as -Exp(1), which adds
    1 / 5 + E ln(.8 + .2 exp(-Exp(1))) = .2 - .107426 to ln W.
    """
    rng = np.random.default_rng(11)
    paths, years, steps = 400, 60, 252
    wealth, peak, walk, lowest = np.ones(paths), np.ones(paths), np.zeros(paths), 1.0
    for _ in range(years * steps):
        noise = 0.2 / np.sqrt(steps) * rng.normal(size=paths)
        wealth = wealth + cushion_exposure(wealth, peak, 0.08, 0.2, 0.8) * (0.08 / steps + noise)
        peak = np.maximum(peak, wealth)
        walk += noise
        lowest = min(lowest, float((wealth / peak).min()))
    growth = (np.log(wealth) - 2 * walk / 5 - (0.2 - 0.107426)) / years
    error = growth.std() / np.sqrt(paths)
    assert error < 1.5e-4
    assert growth.mean() == pytest.approx(cushion_growth(0.08, 0.2, 0.8), abs=4 * error)
    assert 0.8 < lowest < 0.81


def _slow(returns, soft, hard, exposure, window):
    wealth, out = [1.0], []
    for move in returns:
        past = wealth if window is None else wealth[-window:]
        fall = 1 - wealth[-1] / max(past)
        factor = 1.0 if fall <= soft else 0.0 if fall >= hard else (hard - fall) / (hard - soft)
        out.append(exposure * factor)
        wealth.append(wealth[-1] * (1 + out[-1] * move))
    return out


returns_lists = st.lists(st.floats(-0.04, 0.06), min_size=1, max_size=80)


@settings(deadline=None)
@given(returns_lists, st.one_of(st.none(), st.integers(1, 20)), st.floats(0.2, 2))
def test_equals_a_plain_loop(returns, window, exposure):
    got = controlled_exposure(returns, 0.05, 0.15, exposure=exposure, window=window)
    assert got == pytest.approx(_slow(returns, 0.05, 0.15, exposure, window), abs=1e-12)


@settings(deadline=None)
@given(returns_lists, st.floats(0, 0.1), st.floats(0.01, 0.2), st.floats(0.1, 3))
def test_the_hard_limit_holds(returns, soft, room, exposure):
    """Where no session loses more than (D_max - D_soft) / L0, the drawdown stays within D_max."""
    moves = np.maximum(returns, -room / exposure)
    held = controlled_exposure(moves, soft, soft + room, exposure=exposure)
    assert drawdowns(_wealth(moves, held)).max() <= soft + room + 1e-12
    assert (held >= 0).all()
    assert (held <= exposure).all()


@settings(deadline=None)
@given(returns_lists, returns_lists)
def test_the_future_changes_nothing(past, future):
    both = controlled_exposure(past + future, 0.02, 0.08)
    assert (both[: len(past)] == controlled_exposure(past, 0.02, 0.08)).all()


def test_a_book_at_the_limit_stays_out_unless_its_peak_is_forgotten():
    moves = np.array([-0.2] + [0.01] * 30)
    assert (controlled_exposure(moves, 0.05, 0.1)[1:] == 0).all()
    back = controlled_exposure(moves, 0.05, 0.1, window=10)
    assert (back[1:10] == 0).all()
    assert (back[10:] == 1).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: drawdowns([]), DataError, "series of positive numbers"),
        (lambda: drawdowns([1, np.nan]), DataError, "series of positive numbers"),
        (lambda: drawdowns([1, 0]), DataError, "series of positive numbers"),
        (lambda: cushion_exposure(2.0, 1.0, 0.1, 0.2, 0.8), DataError, "update the peak"),
        (lambda: cushion_exposure(np.nan, 1.0, 0.1, 0.2, 0.8), DataError, "update the peak"),
        (lambda: cushion_exposure(1.0, 1.0, 0.1, 0.2, 1.0), ConfigError, "floor 1"),
        (lambda: cushion_growth(0.1, 0.2, -0.1), ConfigError, "floor -0"),
        (lambda: drawdown_factor(0.1, 0.2, 0.2), ConfigError, "0 <= soft < hard"),
        (lambda: drawdown_factor(np.nan, 0.1, 0.2), DataError, "not between 0 and 1"),
        (lambda: drawdown_factor(-0.1, 0.1, 0.2), DataError, "not between 0 and 1"),
        (lambda: controlled_exposure([0.1, np.nan], 0.1, 0.2), DataError, "finite numbers"),
        (lambda: controlled_exposure([-0.5], 0.1, 0.2, exposure=2.0), DataError, "session 0 loses the whole wealth"),
        (lambda: controlled_exposure([0.1], 0.1, 0.2, exposure=0.0), ConfigError, "exposure 0"),
        (lambda: controlled_exposure([0.1], 0.1, 0.2, window=0), ConfigError, "window 0"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
