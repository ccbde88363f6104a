from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from market import jumps
from market.jumps import (
    UNKNOWN,
    JumpModel,
    fit_jumps,
    objective,
    offline_states,
    online_states,
    online_window,
    risk_features,
)

X = np.array([0, 0.2, -0.1, 3, 0.1, 2.8, 3.1, 2.9, 3.2, 0.4])[:, None]


def _model(penalty, centres=((0.0,), (3.0,))):
    centres = np.array(centres)
    return JumpModel(centres, penalty, np.zeros(centres.shape[1]), np.ones(centres.shape[1]))


def _digits(states):
    return "".join(map(str, states.tolist()))


@pytest.mark.parametrize(
    ("penalty", "value", "online", "offline"),
    [(3.0, 10.36, "0001011110", "0001111110"), (5.0, 12.66, "0000001111", "0001111111")],
)
def test_check_values(penalty, value, online, offline):
    model = _model(penalty)
    assert _digits(online_states(model, X)) == online
    assert _digits(offline_states(model, X)) == offline
    assert objective(model, X, offline_states(model, X)) == pytest.approx(value, abs=1e-9)


def _cheapest(model, rows):
    """Cost and path of the cheapest of all paths, by trying every one."""
    best = (np.inf, ())
    for path in product(range(len(model.centres)), repeat=len(rows)):
        cost = model.penalty * sum(a != b for a, b in pairwise(path))
        for row, k in zip((rows - model.mean) / model.scale, path, strict=True):
            if np.isfinite(row).all():
                cost += 0.5 * ((row - model.centres[k]) ** 2).sum()
        best = min(best, (cost, path))
    return best


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 3), st.floats(0, 3), st.floats(0, 0.4))
def test_equals_the_cheapest_of_every_path(seed, count, states, penalty, unknown):
    rng = np.random.default_rng(seed)
    model = JumpModel(rng.normal(size=(states, 2)), penalty, rng.normal(size=2), rng.uniform(0.5, 2, 2))
    rows = rng.normal(size=(count, 2))
    rows[rng.random(count) < unknown, 1] = np.nan
    cost, path = _cheapest(model, rows)
    assert objective(model, rows, offline_states(model, rows)) == pytest.approx(cost, abs=1e-9)
    assert objective(model, rows, path) == pytest.approx(cost, abs=1e-9)
    online = online_states(model, rows)
    for t in range(count):
        if not np.isfinite(rows[: t + 1]).all(axis=1).any():
            assert online[t] == UNKNOWN
        else:
            ends = [_ending(model, rows[: t + 1], k) for k in range(states)]
            assert ends[online[t]] == pytest.approx(min(ends), abs=1e-9)


def _ending(model, rows, last):
    """Cost of the cheapest path that ends in a state."""
    marked = np.vstack([rows, model.mean + model.scale * model.centres[last]])
    best = np.inf
    for path in product(range(len(model.centres)), repeat=len(rows) - 1):
        best = min(best, objective(model, marked, (*path, last, last)))
    return best


rows = st.lists(st.one_of(st.floats(-1, 4), st.just(np.nan)), min_size=1, max_size=40)


@settings(deadline=None, max_examples=60)
@given(rows, rows)
def test_the_future_changes_no_online_state(past, future):
    model, both = _model(3.0), np.array(past + future)[:, None]
    alone = np.array(past)[:, None]
    assert (online_states(model, both)[: len(past)] == online_states(model, alone)).all()
    assert (online_window(model, both, 5)[: len(past)] == online_window(model, alone, 5)).all()


def test_the_online_state_is_not_the_offline_one():
    model = _model(3.0)
    online, offline = online_states(model, X), offline_states(model, X)
    assert (online != offline).any()
    assert online[-1] == offline[-1]
    # Only the path over all rows lets row 4 belong to a regime that later rows confirm.
    assert (online[4], offline[4], offline_states(model, X[:5])[4]) == (0, 1, 0)


@settings(deadline=None, max_examples=60)
@given(rows, st.integers(1, 12), st.floats(0, 8))
def test_a_window_has_the_states_of_its_rows_alone(values, window, penalty):
    model, given_rows = _model(penalty), np.array(values)[:, None]
    alone = [online_states(model, given_rows[max(0, t - window + 1) : t + 1])[-1] for t in range(len(values))]
    assert online_window(model, given_rows, window).tolist() == alone


def test_a_window_forgets():
    # At a high penalty the long memory stays calm; a window that has seen nothing else does not.
    values = np.array([0.0] * 20 + [3.0] * 5)[:, None]
    assert online_states(_model(30.0), values)[-1] == 0
    assert online_window(_model(30.0), values, 5)[-1] == 1


def test_unobserved_rows():
    model = _model(3.0)
    assert online_states(model, np.array([[np.nan], [np.nan], [3.0], [np.nan]])).tolist() == [UNKNOWN, UNKNOWN, 1, 1]
    assert online_window(model, np.array([[3.0], [np.nan], [np.nan]]), 2).tolist() == [1, 1, UNKNOWN]
    assert online_states(model, np.empty((0, 1))).shape == (0,)
    assert offline_states(model, np.empty((0, 1))).shape == (0,)


def _simulated(seed, count=1500):
    """Two features with regimes of 150 rows, in units that the scaler must undo."""
    rng = np.random.default_rng(seed)
    states = np.arange(count) // 150 % 2
    noise = rng.normal(size=(count, 2))
    return np.column_stack([1000 + 100 * (3 * states + noise[:, 0]), 0.01 * (noise[:, 1] - 3 * states)]), states


@pytest.mark.parametrize("order_by", [0, 1])
def test_fit_recovers_simulated_regimes(order_by):
    values, states = _simulated(0)
    model = fit_jumps(values, penalty=20.0, order_by=order_by)
    told = offline_states(model, values)
    # The first feature is high in the second regime and the second feature low.
    assert (told == (states if order_by == 0 else 1 - states)).mean() > 0.99
    assert (model.mean, model.scale) == (pytest.approx(values.mean(axis=0)), pytest.approx(values.std(axis=0)))
    scaled = (values - model.mean) / model.scale
    assert model.centres == pytest.approx(np.array([scaled[told == k].mean(axis=0) for k in (0, 1)]))
    assert np.count_nonzero(np.diff(told)) == 9


def test_fit_ignores_unobserved_rows():
    values, _ = _simulated(1)
    holes = np.insert(values, [0, 0, 400, 700], np.nan, axis=0)
    holes[-1, 1] = np.nan
    a, b = fit_jumps(holes), fit_jumps(values[:-1])
    assert (a.centres == b.centres).all()
    assert (a.scale == b.scale).all()


def test_fit_finds_what_every_path_finds():
    # Twelve rows: all 2^12 paths, each with its own best centres.
    rng = np.random.default_rng(5)
    values = rng.normal(size=(12, 1)) + 3 * (np.arange(12) > 6)[:, None]
    scaled = (values - values.mean()) / values.std()
    best = np.inf
    for path in product((0, 1), repeat=12):
        states = np.array(path)
        cost = 0.4 * np.count_nonzero(np.diff(states))
        for k in np.unique(states):
            part = scaled[states == k]
            cost += 0.5 * ((part - part.mean()) ** 2).sum()
        best = min(best, cost)
    model = fit_jumps(values, penalty=0.4, min_rows=12)
    assert objective(model, values, offline_states(model, values)) == pytest.approx(best)


def test_a_higher_penalty_jumps_less():
    noise = np.random.default_rng(2).normal(size=3000)
    values = np.convolve(noise, 0.97 ** np.arange(200))[:3000, None]
    counts = [np.count_nonzero(np.diff(online_states(fit_jumps(values, penalty=p), values))) for p in (0, 2, 20)]
    assert counts[0] > counts[1] > counts[2] >= 1


def test_the_best_of_several_descents_is_kept():
    # Slow random features: groups along one direction or another end in different local minima.
    rng = np.random.default_rng(0)
    values = np.column_stack([np.convolve(rng.normal(size=900), 0.98 ** np.arange(300))[:800] for _ in range(3)])
    model = fit_jumps(values, penalty=10.0)
    got = objective(model, values, offline_states(model, values))
    scaled = (values - model.mean) / model.scale
    axis = np.linalg.eigh(np.cov(scaled, rowvar=False))[1][:, -1]
    ends = [jumps._descend(scaled, line, 2, 10.0, 100)[2] for line in (scaled @ axis, *scaled.T)]
    assert got == pytest.approx(min(ends))
    assert got < max(ends) - 50
    # Many random beginnings find nothing that matters.
    noise = [np.convolve(rng.normal(size=849), np.ones(50), "valid") for _ in range(30)]
    assert got <= min(jumps._descend(scaled, line, 2, 10.0, 100)[2] for line in noise) * 1.001


def test_refusals():
    values, _ = _simulated(3)
    with pytest.raises(DataError, match=r"19 rows without NaN, 20 are needed: give a longer history"):
        fit_jumps(np.vstack([values[:19], np.full((50, 2), np.nan)]))
    with pytest.raises(DataError, match="column 1 never varies"):
        fit_jumps(np.column_stack([values[:, 0], np.full(len(values), 0.1)]))
    with pytest.raises(DataError, match="lower the penalty"):
        fit_jumps(values, penalty=1e6)
    with pytest.raises(ConfigError, match="order_by 2: choose a column from 0 to 1"):
        fit_jumps(values, order_by=2)
    with pytest.raises(ConfigError, match="penalty -1"):
        fit_jumps(values, penalty=-1.0)
    with pytest.raises(DataError, match="give \\(T, D\\)"):
        online_states(_model(3.0), X[:, 0])
    with pytest.raises(DataError, match="2 features, the model was fitted on 1"):
        online_states(_model(3.0), values)
    with pytest.raises(ConfigError, match="choose at least 1"):
        online_window(_model(3.0), X, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": np.ones(2)}, "do not belong together"),
        ({"scale": np.zeros(1)}, "scales positive"),
        ({"centres": np.array([[0.0], [np.nan]])}, "must be finite"),
        ({"penalty": -1.0}, "need a finite one of at least 0"),
        ({"penalty": np.inf}, "need a finite one of at least 0"),
    ],
)
def test_a_model_that_is_none(change, message):
    with pytest.raises(DataError, match=message):
        JumpModel(**{**vars(_model(3.0)), **change})


def test_round_trip():
    values, _ = _simulated(4)
    model = fit_jumps(values)
    again = JumpModel.from_dict(model.to_dict())
    assert again.penalty == model.penalty
    assert all((getattr(again, name) == getattr(model, name)).all() for name in ("centres", "mean", "scale"))
    with pytest.raises(DataError, match="cannot be read"):
        JumpModel.from_dict({"centres": [[0.0]]})


def _slow_features(r, t, half_life, window):
    part = np.asarray(r)[max(0, t - window + 1) : t + 1]
    weight = 0.5 ** (np.arange(len(part))[::-1] / half_life)
    seen = np.isfinite(part)
    mean = np.average(part[seen], weights=weight[seen])
    downside = np.sqrt(np.average(np.minimum(part[seen], 0) ** 2, weights=weight[seen]))
    return mean, np.log(downside), mean / downside


def test_risk_features_equal_plain_averages():
    r = np.random.default_rng(8).normal(0, 0.01, 120)
    r[[3, 50, 51, 100]] = np.nan
    got = risk_features(r, (2, 7.5), window=30, minimum=10)
    assert got.shape == (120, 6)
    assert np.flatnonzero(np.isnan(got).any(axis=1)).tolist() == list(range(10))  # one of the first ten is unknown
    for t in range(10, 120):
        expected = (*_slow_features(r, t, 2, 30), *_slow_features(r, t, 7.5, 30))
        assert got[t] == pytest.approx(expected, rel=1e-10)


def test_risk_features_by_hand():
    # Weights 1, 1/2, 1/4 from the newest: mean (.02 - .005 + .0025) / 1.75, square .5 * .0001 / 1.75.
    got = risk_features([0.01, -0.01, 0.02], (1,), window=3)[-1]
    assert got == pytest.approx([0.01, 0.5 * np.log(0.00005 / 1.75), 0.01 / np.sqrt(0.00005 / 1.75)], rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.one_of(st.floats(-0.1, 0.1), st.just(np.nan)), min_size=1, max_size=60), st.integers(2, 20))
def test_risk_features_have_the_bits_of_their_window(r, window):
    got = risk_features(r, (3, 10), window)
    for t in range(len(r)):
        alone = risk_features(r[max(0, t - window + 1) : t + 1], (3, 10), window)[-1]
        assert np.array_equal(got[t], alone, equal_nan=True)


def test_a_spell_without_a_loss_stays_finite():
    got = risk_features(np.full(40, 0.01), (5,), window=20)[-1]
    assert got == pytest.approx([0.01, np.log(1e-4), 100.0])


def test_risk_features_refuse():
    with pytest.raises(ConfigError, match="positive half-lives"):
        risk_features([0.01], (0,))
    with pytest.raises(ConfigError, match="minimum 30"):
        risk_features([0.01], (5,), window=20, minimum=30)
    with pytest.raises(DataError, match="give one series"):
        risk_features(np.zeros((3, 2)))
