from dataclasses import replace

import numpy as np
import pytest

from core.errors import ConfigError
from models import paths
from models.inputs import zscores
from models.paths import combinatorial_paths
from models.rungs.base import RungRule, climb_order
from models.scoring import rank_ic

RULE = RungRule(tree_every=1, tree_leaf_rows=200)


@pytest.fixture(scope="module")
def sample(make_dataset):
    """Rows, two layers' z-scores of which one knows, and one state."""
    data = make_dataset(ic=0.15, sessions=200, symbols=40)
    rng = np.random.default_rng(2)
    known = zscores(np.nan_to_num(data.X[:, 0]), data.session)
    noise = zscores(rng.standard_normal(len(data)), data.session)
    states = rng.standard_normal((200, 1))[data.session]
    return np.column_stack([known, noise]), states, data


@pytest.mark.parametrize(("groups", "tested", "count"), [(6, 2, 5), (10, 2, 9), (4, 2, 3), (5, 1, 1), (5, 3, 6)])
def test_number_of_paths(sample, groups, tested, count):
    scores, _, data = sample
    found = combinatorial_paths(scores, np.empty((len(data), 0)), data, 2, 1, groups, tested, rule=RULE)
    assert list(found) == list(paths.COLUMNS)
    assert found.groupby("rung").size().to_dict() == {"equal": count, "ridge": count}
    assert sorted(found["path"].unique()) == list(range(count))


def test_scores_of_the_paths(sample):
    scores, states, data = sample
    found = combinatorial_paths(scores, states, data, 2, 1, rule=RULE)
    assert tuple(found["rung"].unique()) == climb_order()
    assert found.notna().all().all()
    equal = found[found["rung"] == "equal"]
    # nothing is fitted, so every path is the same, and is the signal itself
    daily = rank_ic(scores.sum(axis=1), data.forward, data.session)
    np.testing.assert_allclose(equal["rank_ic"], daily.mean())
    ridge = found[found["rung"] == "ridge"]
    assert ridge["rank_ic"].nunique() > 1
    assert ridge["rank_ic"].mean() > equal["rank_ic"].mean() + 0.01
    assert (ridge["sharpe"] > 0).all()


class Recorder:
    """Stands in for the fit of a rung: signs its predictions with the number of the split."""

    def __init__(self):
        self.trained = []

    def __call__(self, name, scores, states, label, session, rule):
        self.trained.append(np.unique(session).tolist())
        number = float(len(self.trained))

        class Signed:
            def combine(self, scores, states):
                return np.full(len(scores), number)

        return Signed()


def predict(sample, monkeypatch, sessions, groups, tested, horizon, embargo):
    scores, states, data = sample
    data = data.between(50, 50 + sessions - 1)
    recorder, told = Recorder(), []
    monkeypatch.setattr(paths, "fit_rung", recorder)
    monkeypatch.setattr(paths, "climb_order", lambda: ("ridge",))
    monkeypatch.setattr(paths, "rung_signal", lambda rung, scores, states, session: rung.combine(scores, states))
    monkeypatch.setattr(paths, "_scores", lambda signal, rows, horizon: told.append(signal.copy()) or {})
    part = slice(0, len(data))
    combinatorial_paths(scores[part], states[part], data, horizon, embargo, groups, tested, rule=RULE)
    return data, recorder.trained, np.array(told)


def test_purged_training_sessions(sample, monkeypatch):
    _, trained, _ = predict(sample, monkeypatch, 24, 4, 2, 1, 1)
    expected = [
        [*range(14, 24)],
        [*range(8, 11), *range(20, 24)],
        [*range(8, 17)],
        [*range(5), *range(20, 24)],
        [*range(5), *range(14, 17)],
        [*range(11)],
    ]
    assert [[session - 50 for session in sessions] for sessions in trained] == expected


def test_every_path_is_whole_and_its_own(sample, monkeypatch):
    data, trained, signals = predict(sample, monkeypatch, 60, 6, 2, 2, 1)
    assert len(trained) == 15
    assert signals.shape == (5, len(data))
    assert np.isfinite(signals).all()
    for path, signal in enumerate(signals):
        for split in np.unique(signal).astype(int):
            tested = np.unique(data.session[signal == split])
            assert not set(tested) & set(trained[split - 1]), (path, split)
    # a group is predicted by five splits, one a path
    first = signals[:, data.session < 60]
    assert sorted(np.unique(first)) == [1, 2, 3, 4, 5]
    assert all(len(np.unique(row)) == 1 for row in first)


@pytest.mark.parametrize("name", ["ridge", "interactions", "trees", "gate"])
def test_labels_in_the_purged_gap_are_not_learned(sample, monkeypatch, name):
    # the first and last group are tested; poison them and what the purge and the embargo cut next to them
    scores, states, data = sample
    monkeypatch.setattr(paths, "climb_order", lambda: (name,))
    told = []
    monkeypatch.setattr(paths, "_scores", lambda signal, rows, horizon: told.append(signal.copy()) or {})
    horizon, embargo = 2, 3
    for last in (49 + horizon + embargo, 49 + horizon + embargo + 1):
        inside = (data.session <= last) | (data.session >= 150 - horizon)
        label = np.where(inside, -np.float32(3) * data.X[:, 1], data.label).astype(np.float32)
        for given in (data.label, label):
            rows = replace(data, label=given)
            combinatorial_paths(scores, states, rows, horizon, embargo, groups=4, test_groups=2, rule=RULE)
    # splits in order: (0,1), (0,2), (0,3), ...: the third prediction of the first group is that of (0,3)
    first = data.session < 50
    clean, poisoned, _, beyond = (told[3 * run + 2][first] for run in range(4))
    assert clean.tobytes() == poisoned.tobytes()
    assert clean.tobytes() != beyond.tobytes()


def test_rungs_that_cannot_be_fitted_are_left_out(sample):
    scores, states, data = sample
    found = combinatorial_paths(scores, states, data, 2, 1, rule=RungRule(tree_leaf_rows=100_000))
    assert set(found["rung"]) == set(climb_order()) - {"trees"}


def test_too_few_sessions(sample):
    scores, states, data = sample
    few = data.rows(0, 4)
    assert combinatorial_paths(scores[few], states[few], data.take(few), 2, 1).empty
    none = slice(0, 0)
    assert list(combinatorial_paths(scores[none], states[none], data.take(none), 2, 1)) == list(paths.COLUMNS)
    with pytest.raises(ConfigError, match="test groups"):
        combinatorial_paths(scores, states, data, 2, 1, groups=3, test_groups=3)
