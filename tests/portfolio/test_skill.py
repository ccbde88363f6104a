import numpy as np
import pytest

from portfolio.skill import forecasts


def test_alpha_is_volatility_times_skill_times_score():
    rng = np.random.default_rng(0)
    skill, draws = 0.1, 200_000
    score = rng.normal(size=draws)
    outcome = 0.02 * (skill * score + np.sqrt(1 - skill**2) * rng.normal(size=draws))
    returns = rng.normal(0, 0.02 / np.sqrt(5), (70, 2))
    told, wrong = forecasts(np.tile([1.0, -2.0], (70, 1)), returns, 5, skill)
    spread = returns[-63:].std(axis=0, ddof=1) * np.sqrt(5)
    assert told[-1] == pytest.approx(skill * spread * [1.0, -2.0])
    near = np.abs(score - 1.0) < 0.05
    assert wrong[-1, 0] == pytest.approx((outcome[near] < 0).mean(), abs=0.01)
    assert wrong[-1, 1] < wrong[-1, 0] < 0.5
    assert np.isnan(told[:20]).all()
