from dataclasses import replace

import numpy as np
import pytest

from core.errors import ConfigError
from models.dataset import Dataset
from models.training import make_layer

SESSIONS, SYMBOLS = 900, 40
PARAMS = {"features": ["x0", "x1"], "states": {"states": ["mood"], "regimes": None}}


def moody(make_dataset, turn: bool, seed: int = 0) -> Dataset:
    """The label follows x0 while the market's mood is high, and turns against it (or does nothing) while it is low."""
    data = make_dataset(sessions=SESSIONS, symbols=SYMBOLS, features=3, ic=0.0, seed=seed, missing=0.0)
    rng = np.random.default_rng(seed + 9)
    mood = np.repeat(rng.standard_normal(SESSIONS // 30), 30)
    sign = np.sign(mood) if turn else (mood > 0).astype(float)
    noise = rng.standard_normal(len(data))
    label = (0.2 * sign[data.session] * data.X[:, 0] + noise).astype(np.float32)
    label[~data.known] = np.nan
    X = data.X.copy()
    X[:, 2] = mood[data.session]
    return replace(data, features=("x0", "x1", "mood"), X=X, label=label)


def corr(layer, data):
    known = data.known
    return np.corrcoef(layer.predict(data)[known], data.label[known])[0, 1]


def test_a_weight_turns_with_the_mood(make_dataset):
    data = moody(make_dataset, turn=True)
    train, test = data.between(0, 599), data.between(610, SESSIONS - 1)
    moving = make_layer("behaviour", PARAMS).fit(train, None, 0)
    fixed = make_layer("behaviour", {**PARAMS, "states": {"states": [], "regimes": None}}).fit(train, None, 0)
    # corr of the best weight that knows the sign: .2 / sqrt(1.04); one along a line reaches 80 % of it
    assert corr(moving, test) > 0.8 * 0.8 * 0.196
    assert abs(corr(fixed, test)) < 0.07
    weights = moving.coef[moving.measures.index("x0")]
    assert weights[1] > 3 * abs(weights[0])


def test_contributions_are_weight_times_rank_and_add_up(make_dataset, tmp_path):
    data = moody(make_dataset, turn=False)
    layer = make_layer("behaviour", PARAMS).fit(data, None, 0)
    parts = layer.contributions(data)
    np.testing.assert_allclose(parts.sum(axis=1), layer.predict(data), atol=1e-12)
    assert not parts[:, 2].any()
    layer.save(tmp_path)
    again = type(layer).load(tmp_path)
    assert again.predict(data).tobytes() == layer.predict(data).tobytes()
    assert again.importance() == layer.importance()
    assert layer.importance()["mood"] == 0.0


def test_regimes_come_from_the_market_before(make_dataset):
    data = moody(make_dataset, turn=True)
    calm = np.random.default_rng(1).standard_normal(SESSIONS) * np.repeat([0.005, 0.03, 0.005], SESSIONS // 3)
    data = replace(data, market=calm)
    params = {**PARAMS, "states": {"states": ["mood"]}}
    layer = make_layer("behaviour", params).fit(data.between(0, 699), None, 0)
    assert "stress_hmm" in layer.told.names
    assert layer.market_lookback == layer.told.regimes.lookback
    spoiled = replace(data, market=np.where(np.arange(SESSIONS) > 800, 9.0, calm))
    again = make_layer("behaviour", params).fit(spoiled.between(0, 699), None, 0)
    assert again.coef.tobytes() == layer.coef.tobytes()
    assert again.predict(spoiled.between(0, 800)).tobytes() == layer.predict(data.between(0, 800)).tobytes()
    # a day alone, with what it looks back on and no more
    alone = replace(data, market=np.where(np.arange(SESSIONS) <= 800 - layer.market_lookback, np.nan, calm))
    assert layer.predict(alone.between(800, 800)).tobytes() == layer.predict(data)[data.rows(800, 800)].tobytes()


def test_nothing_to_read(make_dataset):
    with pytest.raises(ConfigError, match=r"none of panic_selling, .* is in the dataset"):
        make_layer("behaviour", {}).fit(make_dataset(), None, 0)
