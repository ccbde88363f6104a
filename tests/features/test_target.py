"""The target: check values, the timing law, and what may not be in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri
from scipy.stats import rankdata

from core.errors import ConfigError
from core.params import parse
from features.panel import Panel
from features.target import TargetRule, forward_return, make_target, residual_return


def flat_panel(close: np.ndarray, level_break: np.ndarray | None = None) -> Panel:
    T, N = close.shape
    fields = dict.fromkeys(("open", "high", "low", "close"), close) | {"volume": np.ones_like(close)}
    if level_break is not None:
        fields["level_break"] = level_break
    return Panel(
        dates=np.arange(T).astype("datetime64[D]"),
        symbols=np.array([f"S{i}" for i in range(N)]),
        fields=fields,
        universe=~np.isnan(close),
        sector=np.zeros(N, dtype=np.int64),
    )


def test_residual_of_six_names():
    r = np.array([[0.03, 0.01, -0.02, 0.02, 0.0, 0.05]])
    beta = np.array([[1.2, 0.8, 1.0, 0.5, 1.5, 1.0]])
    sector = np.array([0, 0, 0, 1, 1, 1])
    got = residual_return(r, beta, np.array([0.01]), np.ones(r.shape, bool), sector)
    expected = [[0.021333, 0.005333, -0.026667, 0.001667, -0.028333, 0.026667]]
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_forward_return_buys_tomorrow():
    close = np.array([1.0, 2.0, 3.0, 5.0, 8.0, 13.0])[:, None]
    got = forward_return(flat_panel(close), 2)[:, 0]
    np.testing.assert_allclose(got[:3], [5 / 2 - 1, 8 / 3 - 1, 13 / 5 - 1])
    assert np.isnan(got[3:]).all()
    assert np.isnan(forward_return(flat_panel(close), 50)).all()


def test_forward_return_needs_both_closes_and_no_break():
    close = np.full((10, 1), 10.0)
    close[4] = np.nan
    got = forward_return(flat_panel(close), 2)[:, 0]
    assert np.flatnonzero(np.isnan(got)).tolist() == [1, 3, 7, 8, 9]
    jump = np.zeros((10, 1))
    jump[4] = 1.0
    got = forward_return(flat_panel(np.full((10, 1), 10.0), jump), 2)[:, 0]
    # Held over (D+1, D+3]: a jump at 4 spoils D = 1 and 2; D = 3 buys after it.
    assert np.flatnonzero(np.isnan(got)).tolist() == [1, 2, 7, 8, 9]


def test_label_is_the_gauss_rank_within_the_universe(panel):
    target = make_target(panel, TargetRule())
    rows = np.flatnonzero(panel.universe.any(axis=1))[:-6]
    for t in rows[::97]:
        known = panel.universe[t] & ~np.isnan(target.residual[t])
        expected = ndtri((rankdata(target.residual[t, known]) - 0.5) / known.sum())
        np.testing.assert_allclose(target.label[t, known], expected)
    assert np.isnan(target.label[~panel.universe]).all()
    assert np.isnan(target.label[-6:]).all()


def test_outcome_uses_d_plus_one_to_known_after_only(panel):
    rule = TargetRule(horizon=5)
    full, day = make_target(panel, rule), 500
    part = make_target(panel.cut(day + rule.known_after), rule)
    for name in ("forward", "residual", "label"):
        assert getattr(part, name)[day].tobytes() == getattr(full, name)[day].tobytes()
        assert np.isnan(getattr(part, name)[day + 1 :]).all()
    changed = {name: values.copy() for name, values in panel.fields.items()}
    changed["close"][day + rule.known_after + 1 :] *= 3.0
    other = make_target(replace(panel, fields=changed), rule)
    assert other.label[: day + 1].tobytes() == full.label[: day + 1].tobytes()


def test_betas_and_universe_are_those_of_d(panel):
    """A change between D and D+1 reaches no beta: only closes at D+1 and D+6 enter the outcome."""
    day, rule = 500, TargetRule(beta_shrinkage=0.0)
    full = make_target(panel, rule)
    universe, close = panel.universe.copy(), panel["close"].copy()
    universe[day + 1 :] = ~universe[day + 1 :]
    close[day + 2 : day + 6] *= 1.7
    other = make_target(replace(panel, universe=universe, fields={**panel.fields, "close": close}), rule)
    assert other.residual[day].tobytes() == full.residual[day].tobytes()


def test_names_outside_the_universe_do_not_move_the_market(panel):
    day, rule = 500, TargetRule(beta_shrinkage=0.0)
    full = make_target(panel, rule)
    universe, close = panel.universe.copy(), panel["close"].copy()
    universe[day, 7] = False
    out = make_target(replace(panel, universe=universe), rule).residual[day]
    assert not np.array_equal(out, full.residual[day], equal_nan=True)
    close[day + 2 :, 7] *= 3.0
    moved = make_target(replace(panel, universe=universe, fields={**panel.fields, "close": close}), rule)
    assert moved.residual[day].tobytes() == out.tobytes()


def test_shrinkage_one_ignores_betas(panel):
    target = make_target(panel, TargetRule(beta_shrinkage=1.0))
    forward = np.where(panel.universe, target.forward, np.nan)
    market = pd.DataFrame(forward).mean(axis=1).to_numpy()
    unit = residual_return(forward, np.ones(panel.shape), market, panel.universe, panel.sector)
    np.testing.assert_allclose(target.residual, unit, atol=1e-12)


@pytest.mark.parametrize("bad", [{"horizon": 0}, {"beta_shrinkage": 1.5}, {"horizont": 5}, {"horizon": 5.0}])
def test_bad_rules_are_refused(bad):
    with pytest.raises(ConfigError, match="target"):
        parse(TargetRule, bad, "target")
