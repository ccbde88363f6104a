import json

import numpy as np
import pytest

from core.errors import DataError
from core.params import parse
from market.hmm import filtered, smoothed
from market.jumps import offline_states, online_states, risk_features
from models.regimes import FEATURE_WINDOW, STATES, RegimeModel, RegimeRule

RULE = RegimeRule()


def _market(seed=0, count=1400):
    """Daily returns that alternate between 300 calm and 150 stressed sessions."""
    rng = np.random.default_rng(seed)
    stress = np.arange(count) % 450 >= 300
    return np.where(stress, rng.normal(-0.002, 0.025, count), rng.normal(0.001, 0.007, count)), stress


@pytest.fixture(scope="module")
def fitted():
    market, stress = _market()
    return RegimeModel.fit(market, RULE), market, stress


def test_both_states_find_the_stress(fitted):
    model, _, _ = fitted
    market, stress = _market(seed=9)
    states = model.states(market)
    assert states.shape == (1400, len(STATES))
    judged = np.arange(1400) >= 300
    assert ((states[:, 0] > 0.5) == stress)[judged].mean() > 0.9
    # A quarter of calm takes long to outweigh a stress four times as wild: judged late in each regime.
    day = np.arange(1400) % 450
    settled = judged & (((day >= 225) & (day < 300)) | (day >= 375))
    assert (states[settled, 1] == stress[settled]).mean() > 0.75
    # Five changes in truth: neither judge flickers.
    assert (np.count_nonzero(np.diff(states[judged] > 0.5, axis=0), axis=0) < 20).all()
    assert set(np.unique(states[judged, 1])) == {0.0, 1.0}


@pytest.mark.parametrize("window", [5, 252])
def test_states_are_the_last_rows_of_the_two_models_on_a_window(fitted, window):
    model, market = RegimeModel(RegimeRule(window=window), fitted[0].hmm, fitted[0].jump), fitted[1]
    states = model.states(market)
    features = risk_features(market)
    for t in range(290, 1400, 13):
        rows = slice(t - window + 1, t + 1)
        assert states[t, 0] == filtered(model.hmm, market[rows])[-1, 1]
        assert states[t, 1] == online_states(model.jump, features[rows])[-1]


@pytest.mark.parametrize("window", [5, 252])
def test_a_row_has_the_same_bits_from_its_lookback_alone(fitted, window):
    model = RegimeModel(RegimeRule(window=window), fitted[0].hmm, fitted[0].jump)
    assert model.lookback == window + FEATURE_WINDOW - 1
    gaps = fitted[1].copy()
    gaps[:40] = gaps[[600, 900, 901]] = np.nan
    states = model.states(gaps)
    # The first days of each stress too, when a filter still remembers the calm.
    for t in (*range(0, 1400, 61), *range(300, 320), *range(750, 770), 502, 503, 1399):
        part = gaps[max(0, t - model.lookback + 1) : t + 1]
        assert np.array_equal(model.states(part)[-1], states[t], equal_nan=True)


def test_the_oldest_session_of_the_lookback_is_read(fitted):
    model = RegimeModel(RegimeRule(window=2), fitted[0].hmm, fitted[0].jump)
    assert model.lookback == 253
    part = fitted[1][:253].copy()
    # The last row of features knows 125 of its returns, too few; the one before needs the oldest session for 126.
    part[1:127] = part[252] = np.nan
    assert not np.isnan(model.states(part)[-1]).any()
    part[0] = np.nan
    assert np.isnan(model.states(part)[-1]).tolist() == [False, True]


def test_the_future_changes_nothing(fitted):
    model, market, _ = fitted
    states = model.states(market)
    for cut in (200, 640, 1399):
        changed = market.copy()
        changed[cut:] = -0.2
        assert np.array_equal(model.states(changed)[:cut], states[:cut], equal_nan=True)
        assert np.array_equal(model.states(market[:cut]), states[:cut], equal_nan=True)


def test_the_states_are_not_the_leaking_ones(fitted):
    model, market, _ = fitted
    states = model.states(market)
    late = slice(300, None)
    assert np.abs(states[:, 0] - smoothed(model.hmm, market)[:, 1])[late].max() > 0.3
    assert (states[:, 1] != offline_states(model.jump, risk_features(market)))[late].any()


def test_unknown_until_half_of_a_window_is_known(fitted):
    model, market, _ = fitted
    late = np.append(np.full(100, np.nan), market)
    known = ~np.isnan(model.states(late))
    # 126 returns for the first; 126 for a row of features and 126 such rows for the second.
    assert known.argmax(axis=0).tolist() == [100 + 125, 100 + 125 + 125]
    assert known[400:].all()
    assert model.states([]).shape == (0, 2)


def test_refusals():
    market, _ = _market()
    market[:1200] = np.nan
    with pytest.raises(DataError, match="200 market returns are known, a fit needs 252: begin the history earlier"):
        RegimeModel.fit(market, RULE)
    with pytest.raises(DataError, match="give one series"):
        RegimeModel.fit(np.zeros((300, 2)), RULE)


def test_the_fewest_sessions_that_a_fit_takes():
    market, _ = _market(count=700)
    rule = parse(RegimeRule, {"min_sessions": 252, "penalty": 20}, "regimes")
    model = RegimeModel.fit(market[-252:], rule)
    assert model.jump.penalty == 20.0
    assert np.isfinite(model.states(market)[-1]).all()


def test_round_trip_through_json(fitted):
    model, market, _ = fitted
    again = RegimeModel.from_dict(json.loads(json.dumps(model.to_dict(), allow_nan=False)))
    assert again.rule == model.rule
    assert np.array_equal(again.states(market), model.states(market), equal_nan=True)


def test_a_damaged_state_is_refused(fitted):
    model, _, _ = fitted
    state = model.to_dict()
    for key in state:
        with pytest.raises(DataError, match="cannot be read"):
            RegimeModel.from_dict({k: v for k, v in state.items() if k != key})
    with pytest.raises(DataError, match=r"rule\.windows: unknown parameter"):
        RegimeModel.from_dict({**state, "rule": {"windows": 3}})
    narrow = {**state["jump"], "centres": [[0.0], [1.0]], "mean": [0.0], "scale": [1.0]}
    with pytest.raises(DataError, match="has 1 features"):
        RegimeModel.from_dict({**state, "jump": narrow})
