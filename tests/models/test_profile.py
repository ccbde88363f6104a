import numpy as np

from models.profile import missing_features, profile


def blanked(data, column, rows):
    X = data.X.copy()
    X[rows, data.features.index(column)] = np.nan
    return data.__class__(**{**vars(data), "X": X})


def test_quantiles_coverage_and_the_end_of_the_outcomes(make_dataset):
    data = make_dataset(missing=0.3)
    told = profile(data)
    assert told["trained_until"] == str(data.dates[len(data.dates) - 4])
    x0 = told["features"]["x0"]
    assert 0.65 < x0["coverage"] < 0.75
    assert x0["floor"] < 0.65
    assert abs(x0["quantiles"][3]) < 0.05
    shares = [np.isfinite(data.X[data.session == day, 0]).mean() for day in range(len(data.dates))]
    assert x0["floor"] == min(shares)


def test_only_the_last_year_counts(make_dataset):
    data = make_dataset(sessions=300)
    early = blanked(data, "x1", data.session == 20)
    assert profile(early)["features"]["x1"]["floor"] > 0.5
    late = blanked(data, "x1", data.session == 60)
    assert profile(late)["features"]["x1"]["floor"] == 0


def test_a_feature_is_missed_only_where_it_was_always_known(make_dataset):
    data = make_dataset()
    rare = blanked(data, "x2", data.session % 2 == 1)
    told = profile(rare)
    day = rare.take(rare.rows(239, 239))
    assert missing_features(told, day) == []
    gone = blanked(day, "x1", np.arange(len(day)) % 8 != 0)
    found = missing_features(told, gone)
    assert [item.feature for item in found] == ["x1"]
    assert found[0].coverage < 0.2 < found[0].floor / 2
    fewer = blanked(day, "x1", np.arange(len(day)) % 3 == 0)
    assert missing_features(told, fewer) == []
