"""Regression of the leak that shuffled cross-validation makes out of overlapping outcomes."""

import numpy as np
from scipy.stats import spearmanr

from models.dataset import assemble_dataset
from models.folds import combinatorial
from models.training import make_layer

T, HORIZON, FEATURES, BLOCKS = 1000, 20, 5, 5
PARAMS = {
    "inputs": "raw",
    "n_estimators": 60,
    "num_leaves": 15,
    "min_data_in_leaf": 5,
    "learning_rate": 0.1,
    "feature_fraction": 1.0,
    "bagging_freq": 0,
    "lambda_l2": 0.0,
    "num_threads": 1,
}


def noise(seed):
    """One asset: persistent features that know nothing, and overlapping sums of independent returns."""
    rng = np.random.default_rng(seed)
    X = np.empty((T, FEATURES))
    X[0] = rng.standard_normal(FEATURES)
    for t in range(1, T):
        X[t] = 0.99 * X[t - 1] + np.sqrt(1 - 0.99**2) * rng.standard_normal(FEATURES)
    returns = rng.standard_normal(T + HORIZON)
    label = np.convolve(returns, np.ones(HORIZON) / np.sqrt(HORIZON), "valid")[:T]
    return assemble_dataset(
        dates=np.datetime64("2000-01-01") + np.arange(T),
        symbols=np.array(["A"]),
        sector=np.zeros(1, int),
        session=np.arange(T),
        symbol=np.zeros(T, int),
        X=X.astype(np.float32),
        features=[f"x{i}" for i in range(FEATURES)],
        label=label,
        forward=label,
        raw=label,
    )


def score(data, splits):
    found = []
    for train, test in splits:
        known, unseen = data.take(np.sort(train)), data.take(np.sort(test))
        scores = make_layer("boosting", PARAMS).fit(known, None, 0).predict(unseen)
        found.append(spearmanr(scores, unseen.label).statistic)
    return np.mean(found)


def test_shuffled_folds_find_skill_in_noise_and_purged_folds_do_not():
    shuffled, purged = [], []
    for seed in range(4):
        data = noise(seed)
        parts = np.array_split(np.random.default_rng(seed).permutation(T), BLOCKS)
        splits = [(np.concatenate(parts[:i] + parts[i + 1 :]), parts[i]) for i in range(BLOCKS)]
        shuffled.append(score(data, splits))
        purged.append(score(data, combinatorial(T, BLOCKS, 1, HORIZON, embargo=HORIZON)))
    assert np.mean(shuffled) > 0.4
    assert abs(np.mean(purged)) < 0.15
