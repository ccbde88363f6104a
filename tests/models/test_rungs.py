import itertools
import json

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from models.meta import rung_signal
from models.rungs.base import RUNGS, Moments, RungRule, affine, climb_order, fit_rung, normalised
from models.rungs.gate import loss, softmax
from models.rungs.ridge import fit_weights
from models.rungs.trees import Trees

NAMES = 40
LIGHT = RungRule(tree_every=1, tree_leaf_rows=200)
FREE = RungRule(ridge=0.01, interaction_ridge=0.01, gate_ridge=0.01)


def make_rows(sessions=300, layers=3, states=2, seed=0):
    """Scores whose weights move with the first state; all rows of a session share their states."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((sessions * NAMES, layers))
    told = np.repeat(rng.standard_normal((sessions, states)), NAMES, axis=0)
    slopes = np.clip(0.1 * (1 + np.outer(told[:, 0], np.linspace(-1, 1, layers))), 0, None)
    label = (slopes * scores).sum(axis=1) + rng.standard_normal(len(scores))
    return scores, told, label


@pytest.fixture(scope="module")
def fitted():
    rows = make_rows()
    return {name: RUNGS[name].fit(*rows, LIGHT) for name in climb_order()}


def test_order_of_the_ladder():
    assert climb_order() == ("equal", "ridge", "interactions", "trees", "gate")
    assert [RUNGS[name].level for name in climb_order()] == [0, 1, 2, 3, 4]
    assert [name for name in climb_order() if RUNGS[name].needs_states] == ["interactions", "trees", "gate"]


@pytest.mark.parametrize(("right", "expected"), [(0.5, 0.0704), (0.8, 0.0821), (1.0, 0.0995)])
def test_gain_of_gating(right, expected):
    # two signals with IC rho in a regime each, which the state tells with probability `right`
    rho, sessions, names = 0.1, 4000, 200
    rng = np.random.default_rng(1)
    regime = rng.random(sessions) < 0.5
    told = np.where(rng.random(sessions) < right, regime, ~regime)
    states = np.repeat(np.where(told, 1.0, -1.0), names)[:, None]
    scores = rng.standard_normal((sessions * names, 2))
    label = rho * np.where(np.repeat(regime, names), scores[:, 1], scores[:, 0]) + rng.standard_normal(len(scores))
    assert rho * np.hypot(right, 1 - right) / np.sqrt(1 + rho**2) == pytest.approx(expected, abs=5e-5)

    half = len(scores) // 2
    for name in ("interactions", "gate"):
        rung = RUNGS[name].fit(scores[:half], states[:half], label[:half], FREE)
        found = np.corrcoef(rung.combine(scores[half:], states[half:]), label[half:])[0, 1]
        assert found == pytest.approx(expected, abs=3 / np.sqrt(half)), name
        towards = rung.weights(np.array([[-1.0], [1.0]]))[:, 1]
        np.testing.assert_allclose(towards, [1 - right, right], atol=0.08)


@pytest.mark.parametrize("name", climb_order())
def test_a_session_alone_has_the_bits_of_the_history(fitted, name):
    scores, states, _ = make_rows(seed=1)
    rung = fitted[name]
    whole, weights = rung.combine(scores, states), rung.weights(states)
    session = np.repeat(np.arange(len(scores) // NAMES), NAMES).astype(np.int32)
    signal = rung_signal(rung, scores, states, session)
    for first, size in [(0, 1), (7, 1), (NAMES, NAMES), (5 * NAMES, 3 * NAMES), (len(scores) - 3, 3)]:
        part = slice(first, first + size)
        assert rung.combine(scores[part], states[part]).tobytes() == whole[part].tobytes()
        assert rung.weights(states[part]).tobytes() == weights[part].tobytes()
    day = slice(9 * NAMES, 10 * NAMES)
    assert rung_signal(rung, scores[day], states[day], session[day]).tobytes() == signal[day].tobytes()
    assert rung.combine(scores[:0], states[:0]).shape == (0,)


@pytest.mark.parametrize("name", climb_order())
def test_same_bits_from_json(fitted, name):
    scores, states, _ = make_rows(seed=1)
    told = json.loads(json.dumps(fitted[name].to_dict()))
    again = RUNGS[name].from_dict(told)
    assert again.combine(scores, states).tobytes() == fitted[name].combine(scores, states).tobytes()
    assert again.to_dict() == fitted[name].to_dict()
    assert RUNGS[name].fit(*make_rows(), LIGHT).to_dict() == told


@pytest.mark.parametrize("name", climb_order())
def test_weights_are_shares(fitted, name):
    _, states, _ = make_rows(seed=1)
    weights = fitted[name].weights(states)
    assert weights.shape == (len(states), 3)
    np.testing.assert_allclose(np.abs(weights).sum(axis=1), 1)
    if name in ("gate", "trees"):
        assert (weights >= 0).all()
    if name not in ("equal", "ridge"):
        low, high = states[:, 0] < -1, states[:, 0] > 1
        assert weights[high, 2].mean() > 0.45 > 0.25 > weights[low, 2].mean()


@pytest.mark.parametrize("name", climb_order())
def test_nan_score_is_no_signal(fitted, name):
    scores, states, _ = make_rows(sessions=1)
    scores[3, 1] = np.nan
    signal = rung_signal(fitted[name], scores, states, np.zeros(len(scores), np.int32))
    assert np.flatnonzero(np.isnan(signal)).tolist() == [3]


def test_interactions_by_the_plain_solution():
    scores, states, label = make_rows(layers=2)
    rule = RungRule(ridge=0.3, interaction_ridge=0.7)
    columns = [scores] + [scores * states[:, [j]] for j in range(2)]
    Z = np.hstack(columns)
    even = scores.mean(axis=1)
    penalty = np.diag([0.3] * 2 + [0.7] * 4) * len(Z)
    target = np.array([even @ label / (even @ even) / 2] * 2 + [0.0] * 4)
    plain = np.linalg.solve(Z.T @ Z + penalty, Z.T @ label + penalty @ target)
    coef = RUNGS["interactions"].fit(scores, states, label, rule).coef
    np.testing.assert_allclose(coef.T.ravel(), plain, rtol=1e-6, atol=1e-9)


def test_interactions_without_interactions_are_the_ridge():
    scores, states, label = make_rows()
    label = label - 0.3 * scores[:, 2]  # the bound at zero binds
    rung = RUNGS["interactions"].fit(scores, states, label, RungRule(ridge=0.2, interaction_ridge=1e9))
    expected = fit_weights(scores, label, 0.2)
    assert expected[2] == 0
    np.testing.assert_allclose(rung.weights(states), np.tile(expected, (len(states), 1)), atol=1e-6)


@pytest.mark.parametrize("name", ["interactions", "gate"])
def test_a_high_price_keeps_equal_weights(name):
    rule = RungRule(ridge=1e9, interaction_ridge=1e9, gate_ridge=1e9)
    _, states, _ = rows = make_rows()
    np.testing.assert_allclose(RUNGS[name].fit(*rows, rule).weights(states), 1 / 3, atol=1e-5)


def test_gradient_of_the_gate():
    scores, states, label = make_rows(sessions=40)
    moments = Moments.of(scores, states, label)
    at = 0.3 * np.random.default_rng(0).standard_normal((3, 3))
    value, gradient = loss(at, moments, 0.5)
    numeric = approx_fprime(at.ravel(), lambda flat: loss(flat.reshape(3, 3), moments, 0.5)[0], 1e-7)
    np.testing.assert_allclose(gradient, numeric, atol=1e-5)
    # against the rows themselves: the least mean square of y - c Sw plus the penalty
    signal = (softmax(affine(states, at)) * scores).sum(axis=1)
    slope = (signal @ label) / (signal @ signal + 0.5 * len(label) * (at**2).sum() / 9)
    least = ((label - slope * signal) ** 2).mean() + 0.5 * slope**2 * (at**2).sum() / 9
    assert least == pytest.approx((label**2).mean() + value)
    # the gradient holds where the signal runs against the label, too
    turned = Moments.of(scores, states, -label)
    against, gradient = loss(at, turned, 0.5)
    numeric = approx_fprime(at.ravel(), lambda flat: loss(flat.reshape(3, 3), turned, 0.5)[0], 1e-7)
    assert against == -value > 0
    np.testing.assert_allclose(gradient, numeric, atol=1e-5)


@pytest.mark.parametrize("ridge", [0.0, 1.0, 10.0])
def test_a_step_too_far_does_not_end_the_climb_of_the_gate(ridge):
    # weights so different between states that the first long step turns the signal around
    rng = np.random.default_rng(0)
    for _ in range(40):
        states = np.repeat(rng.uniform(-3, 3, (60, 3)), 10, axis=0)
        scores = rng.standard_normal((600, 2))
        slopes = 1 + states @ rng.standard_normal((3, 2))
        label = (slopes * scores).sum(axis=1) + rng.standard_normal(600)
        rung = RUNGS["gate"].fit(scores, states, label, RungRule(gate_ridge=ridge))
        if rung is not None:
            moments = Moments.of(scores, states, label)
            value, gradient = loss(rung.coef, moments, ridge)
            assert np.abs(gradient / value).max() < 1e-4
            assert value <= loss(np.zeros_like(rung.coef), moments, ridge)[0]


def test_gate_found_the_best_place():
    rows = make_rows()
    rung, moments = RUNGS["gate"].fit(*rows, LIGHT), Moments.of(*rows)
    value, gradient = loss(rung.coef, moments, LIGHT.gate_ridge)
    assert np.abs(gradient).max() < 1e-4
    assert value < loss(np.zeros_like(rung.coef), moments, LIGHT.gate_ridge)[0]
    assert rung.slope > 0


def test_moments_pool_the_rows_of_a_state():
    scores, states, label = make_rows(sessions=20)
    pooled = Moments.of(scores, states, label)
    assert len(pooled.states) == 20
    np.testing.assert_allclose(pooled.gram.sum(axis=0), scores.T @ scores / len(scores))
    np.testing.assert_allclose(pooled.moment[3], scores[120:160].T @ label[120:160] / len(scores))


def test_trees_rise_in_every_score():
    # labels that fall in the second score: only the constraint keeps the trees from following them
    rng = np.random.default_rng(0)
    scores, states, label = make_rows()
    label = label - 0.5 * scores[:, 1]
    rung = Trees.fit(scores, states, label, LIGHT)
    ramp = np.linspace(-3, 3, 200)
    for layer, trial in itertools.product(range(3), range(5)):
        line = np.tile(rng.standard_normal(3), (200, 1))
        line[:, layer] = ramp
        steps = np.diff(rung.combine(line, np.tile(rng.standard_normal(2), (200, 1))))
        assert (steps >= 0).all(), (layer, trial)
    assert rung.weights(states).min() >= 0


def test_leaves_of_the_trees_are_large():
    rows = make_rows()
    for rule, least in ((LIGHT, 240), (RungRule(tree_leaf_rows=1500), 1500)):
        told = RUNGS["trees"].fit(*rows, rule).booster.dump_model()["tree_info"]
        sizes = [leaf["leaf_count"] for tree in told for leaf in leaves(tree["tree_structure"])]
        assert min(sizes) >= least
        assert max(tree["num_leaves"] for tree in told) <= 7


def leaves(node):
    if "leaf_value" in node:
        return [node]
    return leaves(node["left_child"]) + leaves(node["right_child"])


def test_trees_of_every_kth_session():
    scores, states, label = make_rows()
    session = np.repeat(np.arange(10, 310), NAMES)
    rule = LIGHT.model_copy(update={"tree_every": 3})
    kept = session % 3 == 0
    thinned = fit_rung("trees", scores, states, label, session, rule)
    assert thinned.to_dict() == RUNGS["trees"].fit(scores[kept], states[kept], label[kept], rule).to_dict()
    whole = fit_rung("ridge", scores, states, label, session, rule)
    assert whole.to_dict() == RUNGS["ridge"].fit(scores, states, label, rule).to_dict()


def test_too_little_to_fit():
    scores, states, label = make_rows(sessions=5)
    assert RUNGS["trees"].fit(scores, states, label, RungRule()) is None
    for name in climb_order():
        assert fit_rung(name, scores[:0], states[:0], label[:0], np.empty(0, np.int32), LIGHT) is None
    scores, states, label = make_rows()
    against = -scores.sum(axis=1)
    assert RUNGS["gate"].fit(scores, states, against, LIGHT) is None
    assert RUNGS["interactions"].fit(scores, states, against, LIGHT) is None
    np.testing.assert_array_equal(RUNGS["ridge"].fit(scores, states, against, LIGHT).fixed, 1 / 3)
    assert RUNGS["trees"].fit(scores, states, against, LIGHT) is None


def test_normalised():
    out = normalised(np.array([[1.0, -3.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(out, [[0.25, -0.75], [0.5, 0.5]])
