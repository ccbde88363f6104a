import datetime as dt
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError
from models.folds import FoldRule, combinatorial, known_before, tuning_folds, walk_forward


def _set(*ranges):
    return [t for first, last in ranges for t in range(first, last + 1)]


COMBINATORIAL = [
    ((0, 1), _set((14, 23))),
    ((0, 2), _set((8, 10), (20, 23))),
    ((0, 3), _set((8, 16))),
    ((1, 2), _set((0, 4), (20, 23))),
    ((1, 3), _set((0, 4), (14, 16))),
    ((2, 3), _set((0, 10))),
]


def test_combinatorial_train_sets():
    splits = list(combinatorial(24, 4, 2, horizon=1, embargo=1))
    assert len(splits) == 6
    for (train, test), (groups, expected) in zip(splits, COMBINATORIAL, strict=True):
        assert train.tolist() == expected
        assert test.tolist() == [t for g in groups for t in range(6 * g, 6 * g + 6)]


@pytest.mark.parametrize(("groups", "k", "count"), [(6, 2, 15), (10, 2, 45), (8, 4, 70)])
def test_combinatorial_count(groups, k, count):
    assert len(list(combinatorial(400, groups, k, horizon=4))) == count


def test_combinatorial_impossible():
    with pytest.raises(ConfigError, match="2 test groups of 2"):
        list(combinatorial(24, 2, 2, horizon=1))


rules = st.builds(
    FoldRule,
    train_sessions=st.integers(160, 220),
    test_sessions=st.integers(10, 80),
    holdout_sessions=st.integers(0, 90),
    valid_sessions=st.integers(0, 40),
    embargo=st.integers(0, 6),
    rolling=st.none() | st.integers(25, 100),
    tuning_splits=st.integers(1, 4),
)


@settings(max_examples=200, deadline=None)
@given(rules, st.integers(400, 700), st.integers(1, 10))
def test_walk_forward_is_purged_and_covers_every_session_once(rule, sessions, horizon):
    folds = walk_forward(sessions, rule, horizon)
    held = horizon + 1
    covered = []
    for i, fold in enumerate(folds):
        assert fold.index == i
        assert 0 <= fold.train[0] <= fold.train[1]
        last = fold.train[1]
        if fold.valid is not None:
            assert fold.train[1] + held <= fold.valid[0] <= fold.valid[1]
            last = fold.valid[1]
        assert fold.known == (fold.train[0], last)
        assert known_before([last], fold.test[0], horizon).all()
        assert last + held + rule.embargo <= fold.test[0]
        if rule.rolling is not None:
            assert last - fold.train[0] + 1 <= rule.rolling
        covered += _set(fold.test)
    assert covered == list(range(rule.train_sessions, sessions))
    held_out = _set(*(fold.test for fold in folds if fold.holdout))
    assert held_out == list(range(sessions - rule.holdout_sessions, sessions))
    assert folds[-1].holdout == (rule.holdout_sessions > 0)


@settings(max_examples=200, deadline=None)
@given(rules, st.integers(1, 8))
def test_tuning_ends_before_the_first_test_block(rule, horizon):
    folds = tuning_folds(700, rule, horizon)
    assert len(folds) == rule.tuning_splits
    for fold in folds:
        assert fold.known[1] + horizon + 1 <= fold.test[0]
        assert fold.test[1] + horizon + 1 <= rule.train_sessions
    assert all(a.test[1] + 1 == b.test[0] for a, b in pairwise(folds))


def test_known_rows_of_a_block():
    # Blocks at 500 + 100 k, H = 5: the meta-model of block 1 trains on 500..595, 96 dates.
    session = np.arange(500, 1000)
    known = session[known_before(session, 600, horizon=4)]
    assert (known[0], known[-1], len(known)) == (500, 595, 96)


def test_first_test_date():
    dates = np.arange("2010-01-01", "2014-01-01", dtype="datetime64[D]")
    rule = FoldRule(first_test=dt.date(2012, 1, 1), train_sessions=500)
    assert walk_forward(dates, rule, 5)[0].test[0] == 730
    with pytest.raises(ConfigError, match="not their number"):
        walk_forward(1461, rule, 5)
    with pytest.raises(ConfigError, match="31 sessions lie before it, 500 are needed"):
        walk_forward(dates, rule.model_copy(update={"first_test": dt.date(2010, 2, 1)}), 5)
    with pytest.raises(ConfigError, match="choose a later date inside the data"):
        walk_forward(dates, rule.model_copy(update={"first_test": dt.date(2020, 2, 1)}), 5)


def test_short_rest_joins_the_last_block():
    rule = FoldRule(train_sessions=100, test_sessions=50, holdout_sessions=0, valid_sessions=0)
    assert [f.test for f in walk_forward(220, rule, 5)] == [(100, 149), (150, 219)]
    assert [f.test for f in walk_forward(226, rule, 5)] == [(100, 149), (150, 199), (200, 225)]


def test_too_few_sessions():
    with pytest.raises(ConfigError, match="1000 sessions are too few, 1134 are needed"):
        walk_forward(1000, FoldRule(train_sessions=756), 5)
    with pytest.raises(ConfigError, match="too few for 20 tuning splits"):
        tuning_folds(400, FoldRule(train_sessions=40, tuning_splits=20), 5)
    with pytest.raises(ConfigError, match="no training session is left"):
        walk_forward(700, FoldRule(train_sessions=20, embargo=20), 5)


@pytest.mark.slow
def test_shuffled_folds_leak_and_purged_folds_do_not():
    """Noise features of long memory and overlapping labels: only a shuffled split 'predicts' them."""
    from scipy.signal import lfilter
    from scipy.stats import spearmanr
    from sklearn.neighbors import KNeighborsRegressor

    horizon, length = 19, 1000
    shuffled, purged = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x = lfilter([1.0], [1.0, -0.99], rng.normal(size=(length, 5)), axis=0)
        y = np.convolve(rng.normal(size=length + horizon), np.ones(horizon + 1), "valid")

        def correlation(splits, x=x, y=y):
            pred = np.full(length, np.nan)
            for train, test in splits:
                pred[test] = KNeighborsRegressor(5).fit(x[train], y[train]).predict(x[test])
            return spearmanr(pred, y).statistic

        parts = np.array_split(rng.permutation(length), 5)
        shuffled.append(correlation((np.setdiff1d(np.arange(length), part), part) for part in parts))
        purged.append(correlation(combinatorial(length, 5, 1, horizon, embargo=20)))
    assert np.mean(shuffled) > 0.4
    assert abs(np.mean(purged)) < 0.15
