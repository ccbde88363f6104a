from dataclasses import replace

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from models.inputs import gaussian_ranks
from models.layers.base import LAYERS
from models.training import make_layer

SMALL = {
    "linear": {},
    "behaviour": {"features": ["x*"], "alpha": 0.01, "states": {"states": [], "regimes": None}},
    "boosting": {"n_estimators": 20, "num_leaves": 5, "min_data_in_leaf": 50, "num_threads": 1},
    "sequence": {
        "network": "tcn",
        "channels": ["x*"],
        "lookback": 2,
        "learning_rate": 0.005,
        "every": 1,
        "seeds": 1,
        "epochs": 2,
    },
}


@pytest.mark.parametrize("name", sorted(SMALL))
class TestEveryLayer:
    """What any layer must do; a new one joins by a line in SMALL."""

    def fitted(self, name, data, **params):
        return make_layer(name, {**SMALL[name], **params}).fit(data, None, 3)

    def test_learns_saves_and_loads_to_the_bit(self, name, make_dataset, tmp_path):
        data = make_dataset()
        layer = self.fitted(name, data)
        scores = layer.predict(data)
        known = data.known
        assert np.corrcoef(scores[known], data.label[known])[0, 1] > 0.08
        layer.save(tmp_path)
        again = type(layer).load(tmp_path)
        assert again.predict(data).tobytes() == scores.tobytes()
        assert again.importance() == layer.importance()

    def test_same_rows_same_files(self, name, make_dataset, tmp_path):
        for part in ("a", "b"):
            (tmp_path / part).mkdir()
            self.fitted(name, make_dataset()).save(tmp_path / part)
        for file in (tmp_path / "a").iterdir():
            assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()

    def test_a_day_alone_has_the_same_bits(self, name, make_dataset):
        data = make_dataset()
        layer = self.fitted(name, data)
        day = data.between(100 - layer.lookback + 1, 100)
        assert layer.predict(day, 100).tobytes() == layer.predict(data)[data.rows(100, 100)].tobytes()

    def test_rows_without_outcome_teach_nothing_but_rank(self, name, make_dataset):
        data = make_dataset()
        cut = self.fitted(name, data.between(0, 236))
        assert cut.predict(data).tobytes() == self.fitted(name, data).predict(data).tobytes()

    def test_contributions_add_up(self, name, make_dataset):
        data = make_dataset()
        layer = self.fitted(name, data)
        day = data.between(5, 5)
        base = layer.predict(day) - layer.contributions(day).sum(axis=1)
        np.testing.assert_allclose(base, base[0], atol=1e-9)

    def test_importance(self, name, make_dataset):
        data = make_dataset(ic=0.3)
        shares = self.fitted(name, data).importance()
        assert list(shares) == list(data.features)
        assert sum(shares.values()) == pytest.approx(1)
        assert max(shares, key=shares.__getitem__) == "x0"

    def test_finds_columns_by_name(self, name, make_dataset):
        data = make_dataset()
        layer = self.fitted(name, data)
        turned = data.with_columns(data.features[::-1])
        assert layer.predict(turned).tobytes() == layer.predict(data).tobytes()

    def test_nothing_to_learn(self, name, make_dataset):
        with pytest.raises(DataError, match="no training row has a known outcome"):
            self.fitted(name, make_dataset().between(238, 239))

    def test_unknown_parameter(self, name):
        with pytest.raises(ConfigError, match=f"layers.{name}.unheard_of: unknown parameter"):
            make_layer(name, {"unheard_of": 3})


def test_ridge_matches_the_textbook(make_dataset):
    data = make_dataset(missing=0)
    layer = make_layer("linear", {"alpha": 0.3}).fit(data, None, 0)
    known = data.known
    G, y = gaussian_ranks(data.X, data.session)[known].astype(float), data.label[known].astype(float)
    expected = np.linalg.solve(G.T @ G + 0.3 * len(y) * np.eye(G.shape[1]), G.T @ y)
    np.testing.assert_allclose(layer.coef, expected, rtol=1e-9)


def test_ridge_with_a_column_of_nothing(make_dataset):
    data = make_dataset()
    data.X[:, 3] = np.nan
    layer = make_layer("linear", {"alpha": 0.0}).fit(data, None, 0)
    assert layer.coef[3] == 0
    assert np.isfinite(layer.predict(data)).all()


def test_boosting_options(make_dataset):
    data = make_dataset()
    valid = data.between(200, 230)
    params = {**SMALL["boosting"], "early_stopping": 5, "n_estimators": 300}
    layer = make_layer("boosting", params).fit(data.between(0, 195), valid, 3)
    assert 1 <= layer.trees["2_0"].num_trees() < 300
    with pytest.raises(DataError, match="early_stopping needs validation rows"):
        make_layer("boosting", params).fit(data, None, 3)
    sparse = make_layer("boosting", {**SMALL["boosting"], "every": 3, "inputs": "raw"}).fit(data, None, 3)
    assert np.isfinite(sparse.predict(data)).all()


def test_forests_of_several_seeds_are_averaged(make_dataset, tmp_path):
    data = make_dataset()
    three = make_layer("boosting", {**SMALL["boosting"], "seeds": 3}).fit(data, None, 3)
    one = make_layer("boosting", {**SMALL["boosting"], "seeds": 1}).fit(data, None, 3)
    assert list(three.trees) == ["2_0", "2_1", "2_2"]
    assert three.trees["2_0"].model_to_string() == one.trees["2_0"].model_to_string()
    each = []
    for name in three.trees:
        alone = make_layer("boosting", SMALL["boosting"])
        alone.features, alone._trees, alone._scale = three.features, {name: three.trees[name]}, {name: 1.0}
        each.append(alone.predict(data))
    np.testing.assert_allclose(three.predict(data), np.mean(each, axis=0), rtol=1e-12, atol=1e-15)
    assert np.corrcoef(each)[0, 1] < 0.999
    three.save(tmp_path)
    assert type(three).load(tmp_path).predict(data).tobytes() == three.predict(data).tobytes()


def test_unknown_layer():
    with pytest.raises(ConfigError, match="unknown layer 'forest'"):
        LAYERS["forest"]


def planted_at(make_dataset, horizon, share):
    """A dataset whose label at another horizon follows x1, with the given correlation."""
    data = make_dataset(ic=0.0, sessions=300)
    rng = np.random.default_rng(5)
    x = np.nan_to_num(data.X[:, 1])
    label = (share * x + np.sqrt(1 - share**2) * rng.standard_normal(len(x))).astype(np.float32)
    return replace(data, labels={**data.labels, horizon: label})


def test_boosting_learns_from_further_horizons(make_dataset, tmp_path):
    data = planted_at(make_dataset, 9, 0.2)
    alone = make_layer("boosting", SMALL["boosting"]).fit(data, None, 3)
    both = make_layer("boosting", {**SMALL["boosting"], "horizons": [2, 9]}).fit(data, None, 3)
    assert abs(np.corrcoef(alone.predict(data), np.nan_to_num(data.X[:, 1]))[0, 1]) < 0.3
    assert np.corrcoef(both.predict(data), np.nan_to_num(data.X[:, 1]))[0, 1] > 0.5
    day = data.between(5, 5)
    base = both.predict(day) - both.contributions(day).sum(axis=1)
    np.testing.assert_allclose(base, base[0], atol=1e-9)
    both.save(tmp_path)
    assert type(both).load(tmp_path).predict(data).tobytes() == both.predict(data).tobytes()
    with pytest.raises(DataError, match=r"horizons 2, 9, not 21: add it to target\.auxiliary"):
        make_layer("boosting", {**SMALL["boosting"], "horizons": [21]}).fit(data, None, 3)


def test_a_longer_horizon_is_not_learned_before_it_is_known(make_dataset):
    data = planted_at(make_dataset, 9, 0.2)
    params = {**SMALL["boosting"], "horizons": [9]}
    # rows of 2 + 1 sessions before the test block teach horizon 2; those of 9 need 7 more
    train = data.between(0, 200)
    poisoned = replace(train, labels={**train.labels, 9: np.where(train.session > 193, 9.0, train.labels[9])})
    one, two = (make_layer("boosting", params).fit(rows, None, 3) for rows in (train, poisoned))
    assert one.predict(data).tobytes() == two.predict(data).tobytes()
    earlier = replace(train, labels={**train.labels, 9: np.where(train.session > 192, 9.0, train.labels[9])})
    assert make_layer("boosting", params).fit(earlier, None, 3).predict(data).tobytes() != one.predict(data).tobytes()


def test_boosting_follows_the_expected_signs(make_dataset):
    data = replace(make_dataset(ic=0.3), signs=(-1, 0, 0, 0, 0, 0))
    free = make_layer("boosting", SMALL["boosting"]).fit(data, None, 3)
    held = make_layer("boosting", {**SMALL["boosting"], "monotone": True}).fit(data, None, 3)
    assert free.importance()["x0"] > 0.5
    assert held.importance()["x0"] < 0.2


def test_boosting_ranks_pairs(make_dataset):
    data = make_dataset(ic=0.2)
    layer = make_layer("boosting", {**SMALL["boosting"], "objective": "lambdarank"}).fit(data, None, 3)
    known = data.known
    assert np.corrcoef(layer.predict(data)[known], data.label[known])[0, 1] > 0.08


def test_boosting_weights(make_dataset):
    data = make_dataset(ic=0.2)
    turned = replace(data, labels={2: np.where(data.session < 120, -data.label, data.label)})
    known = data.known
    late = make_layer("boosting", {**SMALL["boosting"], "half_life": 20.0, "uniqueness": True}).fit(turned, None, 3)
    even = make_layer("boosting", SMALL["boosting"]).fit(turned, None, 3)
    assert np.corrcoef(late.predict(data)[known], data.label[known])[0, 1] > 0.1
    assert abs(np.corrcoef(even.predict(data)[known], data.label[known])[0, 1]) < 0.1
