import json

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from models.conformal import Calibrator, aci, conformal_walk, p_wrong, residual_bounds

RESIDUALS = np.array([-0.03, -0.02, -0.015, -0.01, -0.004, 0, 0.005, 0.012, 0.02, 0.04])


def test_p_wrong_check_row():
    got = p_wrong([0.012, 0.025, 0.005, 0.05, -0.01, 0.0, np.nan], RESIDUALS)
    np.testing.assert_allclose(got[:5], np.array([4, 2, 5, 1, 4]) / 11)
    assert got[5] == 0.5
    assert np.isnan(got[6])


def test_bounds_are_order_statistics():
    residuals = np.arange(1.0, 20.0)
    assert residual_bounds(residuals, 0.1) == (1.0, 19.0)
    assert residual_bounds(residuals, 0.2) == (2.0, 18.0)
    assert residual_bounds(residuals, 0.05) == (-np.inf, np.inf)
    assert residual_bounds(residuals, -0.1) == (-np.inf, np.inf)
    assert np.isnan(residual_bounds(residuals, 1.0)).all()


def test_aci_trace():
    got = aci(0.1, [0, 0, 1, 0, 1, 1, 0], gamma=0.05)
    np.testing.assert_allclose(got, [0.105, 0.11, 0.065, 0.07, 0.025, -0.02, -0.015], atol=1e-12)
    np.testing.assert_allclose(aci(0.1, [np.nan, 0], gamma=0.05), [0.1, 0.105])


def test_aci_bound_of_gibbs_and_candes():
    rng = np.random.default_rng(3)
    alpha, gamma, current, errors = 0.1, 0.02, 0.1, []
    volatility = np.where(np.arange(4750) // 500 % 2, 3.0, 1.0)
    past = list(np.abs(rng.normal(size=250)))
    for v in volatility:
        value = abs(rng.normal() * v)
        inside = current <= 0 or (current < 1 and value <= np.quantile(past[-250:], 1 - current))
        errors.append(0.0 if inside else 1.0)
        current = aci(alpha, errors[-1:], gamma, current)[-1]
        past.append(value)
    assert abs(np.mean(errors) - alpha) <= 0.009684


def _market(days=700, names=40, seed=0):
    """Heavy-tailed residuals whose volatility jumps, and a scale that follows it with an error."""
    rng = np.random.default_rng(seed)
    session = np.repeat(np.arange(days), names)
    sigma = np.where(session // 150 % 2, 3.0, 1.0) * 0.02
    pred = 0.2 * sigma * rng.normal(size=len(session))
    outcome = pred + sigma * rng.standard_t(4, len(session))
    scale = sigma * np.exp(0.1 * rng.normal(size=len(session)))
    return pred, outcome, scale, session


def test_walk_covers_and_p_wrong_is_calibrated():
    pred, outcome, scale, session = _market()
    walk = conformal_walk(pred, outcome, scale, session, horizon=5, level=0.9, window_sessions=250)
    known = np.isfinite(walk.p_wrong)
    inside = (outcome >= walk.low) & (outcome <= walk.high)
    assert inside[known].mean() == pytest.approx(0.9, abs=0.01)
    assert walk.p_wrong[known].mean() == pytest.approx((pred * outcome < 0)[known].mean(), abs=0.01)
    assert known.mean() > 0.97


def test_adaptive_level_helps_where_the_scale_is_blind():
    pred, outcome, _, session = _market(days=1500)
    blind = np.ones(len(pred))

    def worst(gamma):
        walk = conformal_walk(pred, outcome, blind, session, horizon=5, window_sessions=400, gamma=gamma)
        miss = np.where(np.isfinite(walk.p_wrong), ~((outcome >= walk.low) & (outcome <= walk.high)), 0.1)
        return np.convolve(miss.reshape(-1, 40).mean(axis=1), np.ones(100) / 100, "valid").max()

    assert worst(0.05) < worst(0.0) - 0.02


@pytest.mark.parametrize("cut", [200, 401, 533])
def test_the_future_changes_nothing(cut):
    pred, outcome, scale, session = _market(days=600)
    group = np.arange(len(pred)) % 3
    full = conformal_walk(pred, outcome, scale, session, horizon=5, group=group)
    rows = session <= cut
    # At the close of `cut`, no outcome of the last H = 6 sessions is known.
    masked = np.where(session + 6 <= cut, outcome, np.nan)
    part = conformal_walk(pred[rows], masked[rows], scale[rows], session[rows], horizon=5, group=group[rows])
    for name in ("p_wrong", "low", "high"):
        np.testing.assert_array_equal(getattr(full, name)[rows], getattr(part, name))
    poisoned = np.where(session + 6 <= cut, outcome, 1e6)
    poison = conformal_walk(pred, poisoned, scale, session, horizon=5, group=group)
    np.testing.assert_array_equal(full.high[rows], poison.high[rows])


def test_walk_equals_a_slow_oracle():
    pred, outcome, scale, session = _market(days=120, names=10)
    walk = conformal_walk(
        pred, outcome, scale, session, horizon=5, window_sessions=50, update=1, gamma=0.0, min_rows=30
    )
    residual = (outcome - pred) / scale
    for row in range(0, len(pred), 37):
        s = session[row]
        known = np.sort(residual[(session + 6 <= s) & (session >= s - 50)])
        if len(known) < 30:
            assert np.isnan(walk.p_wrong[row])
            continue
        yhat = pred[row] / scale[row]
        wrong = (known <= -yhat).sum() if yhat > 0 else (known >= -yhat).sum()
        assert walk.p_wrong[row] == pytest.approx((wrong + 1) / (len(known) + 1))
        low, high = residual_bounds(known, 0.1)
        assert walk.low[row] == pytest.approx(pred[row] + scale[row] * low)
        assert walk.high[row] == pytest.approx(pred[row] + scale[row] * high)


def test_walk_refuses_bad_input():
    with pytest.raises(ConfigError, match=r"level 1\.5"):
        conformal_walk([0.1], [0.1], [1.0], [0], horizon=5, level=1.5)
    with pytest.raises(DataError, match="ordered by session"):
        conformal_walk([0.1, 0.1], [0.1, 0.1], [1.0, 1.0], [1, 0], horizon=5)


def test_calibrator_survives_json_and_matches_the_full_sample():
    pred, outcome, scale, _ = _market()
    group = (np.arange(len(pred)) % 3) - 1
    calibrator = Calibrator.fit(outcome - pred, scale, group)
    assert sorted(calibrator.samples) == [0, 1]
    restored = Calibrator.from_dict(json.loads(json.dumps(calibrator.to_dict())))
    rows = slice(0, 600)
    got = restored.p_wrong(pred[rows], scale[rows], group[rows])
    np.testing.assert_array_equal(got, calibrator.p_wrong(pred[rows], scale[rows], group[rows]))
    assert np.isnan(got[group[rows] == -1]).all()
    ordered = np.sort(((outcome - pred) / scale)[group == 1])
    exact = p_wrong((pred / scale)[rows][group[rows] == 1], ordered)
    np.testing.assert_allclose(got[group[rows] == 1], exact, atol=1e-3)
    low, high = restored.interval(pred, scale, 0.9, group)
    inside = ((outcome >= low) & (outcome <= high))[group >= 0]
    assert inside.mean() == pytest.approx(0.9, abs=0.002)


def test_calibrator_refuses_bad_input():
    with pytest.raises(DataError, match="no row has both"):
        Calibrator.fit([np.nan, 1.0], [1.0, 0.0])
    with pytest.raises(DataError, match="cannot be read"):
        Calibrator.from_dict({"alpha": 0.1})
