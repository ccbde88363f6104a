import json
from dataclasses import replace

import numpy as np
import pytest

from core.errors import DataError
from models.regimes import STATES, RegimeRule
from models.states import StateModel, StateRule, state_columns

SESSIONS = 700
PLAIN = StateRule(states=["vix_z", "market_*"], regimes=None)
FULL = StateRule(states=["vix_z", "market_*"])


@pytest.fixture(scope="module")
def data(make_dataset):
    """A dataset with three market-wide columns, one never moving, and a market of two regimes."""
    made = make_dataset(sessions=SESSIONS, symbols=30, features=5)
    rng = np.random.default_rng(3)
    wide = rng.standard_normal((SESSIONS, 2)).astype(np.float32)
    wide[5, 0] = np.nan
    X = made.X.copy()
    X[:, 1:3] = wide[made.session]
    X[:, 3] = 7.0
    stress = np.sin(np.arange(SESSIONS) / 40) > 0.4
    market = np.where(stress, -0.001, 0.001) + rng.standard_normal(SESSIONS) * np.where(stress, 0.025, 0.007)
    return replace(made, X=X, features=("x0", "vix_z", "market_lows", "market_still", "x4"), market=market)


def sessions_of(data):
    return np.unique(data.session)


def test_columns_by_pattern():
    features = ("market_b", "x", "vix_z", "market_a")
    assert state_columns(features, ["vix_z", "nothing", "market_*", "market_a"]) == ("vix_z", "market_b", "market_a")
    assert state_columns(features, []) == ()


def test_standardised_by_the_past(data):
    model = StateModel.fit(data, 400, PLAIN)
    assert model.names == ("vix_z", "market_lows")  # the one that never moved is left out
    first = np.searchsorted(data.session, np.arange(SESSIONS))
    raw = data.X[first, 1].astype(float)
    mean, std = np.nanmean(raw[:400]), np.nanstd(raw[:400])
    expected = np.nan_to_num(np.clip((raw - mean) / std, -3, 3))
    np.testing.assert_allclose(model.states(data)[:, 0], expected, rtol=1e-12)
    assert model.states(data)[5, 0] == 0
    assert model.lookback == 0
    assert model.regimes is None


def test_limits(data):
    X = data.X.copy()
    X[data.session == 500, 1] = 1e6
    model = StateModel.fit(data, 400, PLAIN)
    assert model.states(replace(data, X=X))[500, 0] == 3


def test_rows_repeat_their_session(data):
    model = StateModel.fit(data, 400, FULL)
    assert model.names == (*STATES, "vix_z", "market_lows")
    np.testing.assert_array_equal(model.rows(data), model.states(data)[data.session])
    late = model.states(data)[model.lookback :, :2]
    assert np.ptp(late, axis=0).min() > 0.5


def test_the_future_changes_nothing(data):
    at = 450
    X, market = data.X.copy(), data.market.copy()
    X[data.session >= at] = 9.0
    market[at:] = 0.5
    spoiled = replace(data, X=X, market=market)
    whole, again = StateModel.fit(data, at, FULL), StateModel.fit(spoiled, at, FULL)
    assert whole.to_dict() == again.to_dict()
    assert whole.states(data)[:at].tobytes() == again.states(spoiled)[:at].tobytes()


def test_a_session_alone_has_the_bits_of_the_history(data):
    model = StateModel.fit(data, 550, FULL)
    whole = model.states(data)
    for session in (SESSIONS - 1, 600):
        first = session - model.lookback + 1
        day = data.between(session, session)
        # as a daily job holds it: no date before those that the regimes read
        alone = replace(day, dates=data.dates[first : session + 1], market=data.market[first : session + 1])
        alone = replace(alone, session=day.session - first)
        assert model.states(alone).tobytes() == whole[session : session + 1].tobytes()


def test_regimes_need_a_market(data):
    unknown = replace(data, market=np.full(SESSIONS, np.nan))
    assert StateModel.fit(unknown, 500, FULL).names == ("vix_z", "market_lows")
    assert StateModel.fit(data, 200, FULL).names == ("vix_z", "market_lows")
    assert StateModel.fit(data, 200, StateRule(states=[], regimes=RegimeRule(min_sessions=176))).names != ()
    with pytest.raises(DataError, match="market's return and none is known"):
        StateModel.fit(data, 500, FULL).states(unknown.between(600, 600))


def test_no_states_at_all(data):
    model = StateModel.fit(data, 400, StateRule(states=["nothing"], regimes=None))
    assert model.names == ()
    assert model.states(data).shape == (SESSIONS, 0)
    assert model.rows(data).shape == (len(data), 0)
    assert StateModel.fit(data, 0, PLAIN).names == ()


def test_no_rows(data):
    model = StateModel.fit(data, 400, FULL)
    assert model.states(data.take(slice(0, 0))).shape == (0, 4)


def test_a_feature_of_single_symbols_is_refused(data):
    with pytest.raises(DataError, match=r"x0 differs between the symbols of 2010-01-04"):
        StateModel.fit(data, 400, StateRule(states=["x0"], regimes=None))


def test_as_json(data):
    model = StateModel.fit(data, 550, FULL)
    again = StateModel.from_dict(json.loads(json.dumps(model.to_dict())))
    assert again.names == model.names
    assert again.lookback == model.lookback > 1
    assert again.states(data).tobytes() == model.states(data).tobytes()
    with pytest.raises(DataError, match="states: cannot be read"):
        StateModel.from_dict({"regimes": None})
