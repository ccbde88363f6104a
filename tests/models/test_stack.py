import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DataError
from models.folds import Fold, FoldRule, walk_forward
from models.meta import Meta, combine, fill_scale, fit_weights
from models.stack import StackRule, known_sessions, stack

HORIZON = 2
FOLDS = FoldRule(train_sessions=80, test_sessions=40, holdout_sessions=40, embargo=0, valid_sessions=0)
RULE = StackRule(warmup_sessions=20, window_sessions=100)


@pytest.fixture(scope="module")
def market(make_dataset):
    """A dataset, its folds, and two layers' out-of-fold predictions: one that knows, one that does not."""
    data = make_dataset(ic=0.15, sessions=280)
    folds = walk_forward(data.dates, FOLDS, HORIZON)
    rng = np.random.default_rng(2)
    tested = data.session >= 80
    oof = {
        "boosting": np.where(tested, np.nan_to_num(data.X[:, 0]) * 0.01, np.nan),
        "linear": np.where(tested, rng.standard_normal(len(data)), np.nan),
    }
    return data, folds, oof


def result_of(market, rule=RULE, **changes):
    data, folds, oof = market
    given = {"horizon": HORIZON, "scale": np.full(len(data), 0.03, np.float32), **changes}
    return stack(oof, data, folds, rule, **given)


def test_known_sessions_of_a_block():
    # T = 1000, blocks at 500 + 100k, H = 5: the second block's meta-learner sees 500..595
    class Rows:
        session = np.arange(500, 1000)

    known = known_sessions(Rows, 600, horizon=4)
    assert (known[0], known[-1], len(known)) == (500, 595, 96)
    assert len(known_sessions(Rows, 500, horizon=4)) == 0


@given(seed=st.integers(0, 100), ridge=st.floats(0.01, 10))
@settings(max_examples=20, deadline=None)
def test_weights_are_the_ridge_to_equal_weights(seed, ridge):
    rng = np.random.default_rng(seed)
    S = rng.standard_normal((500, 3))
    y = S @ [0.2, 0.1, 0.15] + rng.standard_normal(500) * 0.1
    n = len(S)
    even = S.mean(axis=1)
    target = (even @ y / (even @ even)) / 3
    plain = np.linalg.solve(S.T @ S + ridge * n * np.eye(3), S.T @ y + ridge * n * target)
    np.testing.assert_allclose(fit_weights(S, y, ridge), plain / plain.sum(), rtol=1e-8)


def test_weights_at_the_ends():
    rng = np.random.default_rng(0)
    S = rng.standard_normal((2000, 2))
    good = S[:, 0] + rng.standard_normal(2000)
    np.testing.assert_allclose(fit_weights(S, good, 1e6), 0.5, atol=1e-3)
    assert fit_weights(S, good, 0.0)[0] > 0.95
    assert fit_weights(S, -good - S[:, 1], 0.5).tolist() == [0.5, 0.5]
    twins = np.column_stack([S[:, 0], S[:, 0]])
    np.testing.assert_allclose(fit_weights(twins, good, 0.0), 0.5, atol=1e-6)


def test_stacking_in_sample_trusts_the_layer_that_memorised():
    rng = np.random.default_rng(3)
    train, test, width = 3000, 20_000, 300
    half = train // 2
    noise, true = rng.standard_normal((train + test, width)), rng.standard_normal(train + test)
    y = 0.08 * true + np.sqrt(1 - 0.08**2) * rng.standard_normal(train + test)

    def memorise(rows):
        return np.linalg.solve(noise[rows].T @ noise[rows], noise[rows].T @ y[rows])

    whole = memorise(slice(train))
    inside = np.column_stack([noise[:train] @ whole, true[:train]])
    outside = np.column_stack([noise[half:train] @ memorise(slice(half)), true[half:train]])
    later = np.column_stack([noise[train:] @ whole, true[train:]])
    fitted_inside, fitted_outside = fit_weights(inside, y[:train], 0.0), fit_weights(outside, y[half:train], 0.0)
    assert fitted_inside[0] > 0.8
    assert fitted_outside[0] < 0.3
    assert np.corrcoef(later @ fitted_inside, y[train:])[0, 1] < 0.04
    assert np.corrcoef(later @ fitted_outside, y[train:])[0, 1] > 0.06


def test_frame(market):
    data, folds, _ = market
    frame = result_of(market).frame
    assert list(frame) == [
        *("date", "symbol", "fold", "holdout", "signal", "signal_a", "signal_linear"),
        *("expected_return", "interval_low", "interval_high", "p_wrong"),
    ]
    assert len(frame) == (data.session >= 80).sum()
    assert frame["fold"].nunique() == len(folds)
    assert frame.loc[frame["holdout"], "date"].min() == data.dates[folds[-1].test[0]]
    by_day = frame.groupby("date")["signal"]
    np.testing.assert_allclose(by_day.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(by_day.std(ddof=0), 1)
    late = frame[frame["date"] >= data.dates[200]]
    assert late.notna().all().all()
    assert late["p_wrong"].between(0, 1).all()
    assert (late["interval_low"] < late["interval_high"]).all()
    early = frame[frame["date"] < data.dates[80 + 20 + HORIZON]]
    assert early["expected_return"].isna().all()


def test_the_layer_that_knows_wins_weight(market):
    result = result_of(market, StackRule(ridge=0.1, warmup_sessions=20))
    first = result.weights[result.weights["fold"] == 0]
    assert first["weight"].tolist() == [0.5, 0.5]
    assert first["sessions"].tolist() == [0, 0]
    later = result.weights[(result.weights["fold"] == 2) & (result.weights["layer"] == "boosting")]
    assert later["weight"].item() > 0.7
    assert later["sessions"].item() == 160 - 80 - HORIZON
    compared = result.comparison.set_index("rung")["rank_ic"]
    assert compared["ridge"] > compared["equal"] > 0
    assert result_of(market, StackRule(rung="equal")).meta.weights.tolist() == [0.5, 0.5]


def test_expected_return_is_calibrated(market):
    data, _, _ = market
    result = result_of(market)
    frame = result.frame
    known = data.forward[data.session >= 80].astype(float)
    usable = np.isfinite(known)
    signal = frame["signal"].to_numpy()[usable]
    assert result.meta.slope == pytest.approx((signal @ known[usable]) / (signal @ signal))
    judged = usable & frame["interval_low"].notna().to_numpy()
    inside = (known >= frame["interval_low"]) & (known <= frame["interval_high"])
    assert inside[judged].mean() == pytest.approx(0.9, abs=0.03)
    missed = np.sign(known) != np.sign(frame["expected_return"])
    assert frame["p_wrong"][judged].mean() == pytest.approx(missed[judged].mean(), abs=0.03)


def test_poisoned_future_changes_nothing_before_it(market, make_dataset):
    data, folds, oof = market
    whole = result_of(market).frame
    other = make_dataset(ic=0.15, sessions=280)
    at = 170
    for outcome in (other.label, other.forward, other.raw):
        outcome[other.session > at - HORIZON - 1] = 5.0
    spoiled = {name: np.where(data.session > at, 9.0 * values, values) for name, values in oof.items()}
    scale = np.where(data.session > at, 7.0, 0.03).astype(np.float32)
    again = result_of((other, folds, spoiled), scale=scale).frame
    before = (whole["date"] <= data.dates[at]).to_numpy()
    assert before.sum() > 3000
    assert whole[before].equals(again[before])


def test_layers_of_nothing(market):
    data, folds, oof = market
    flat = {name: np.where(np.isnan(values), np.nan, 1.0) for name, values in oof.items()}
    frame = result_of((data, folds, flat)).frame
    assert (frame["signal"] == 0).all()
    with pytest.raises(DataError, match="no layer to combine"):
        result_of((data, folds, {}))
    with pytest.raises(DataError, match="no row has a prediction of every layer"):
        result_of((data, folds, {"linear": np.full(len(data), np.nan)}))


def test_negative_history_is_not_turned_around(market):
    data, folds, oof = market
    wrong = {name: -values for name, values in oof.items()}
    frame = result_of((data, folds, wrong)).frame
    late = frame[frame["date"] >= data.dates[200]]
    assert (late["expected_return"] == 0).mean() > 0.9
    assert (late.loc[late["expected_return"] == 0, "p_wrong"] == 0.5).all()


def test_scale_is_filled_with_the_sessions_median():
    session = np.array([0, 0, 0, 1, 1], np.int32)
    out = fill_scale(np.array([1.0, 3.0, np.nan, 0.0, np.nan]), session)
    np.testing.assert_array_equal(out, [1, 3, 2, np.nan, np.nan])


def test_meta_as_json(market):
    meta = result_of(market).meta
    assert Meta.from_dict(meta.to_dict()).to_dict() == meta.to_dict()
    empty = Meta(("linear",), np.ones(1), np.nan, None)
    assert np.isnan(Meta.from_dict({**empty.to_dict(), "slope": None, "scale": None}).slope)


def test_combine_needs_every_layer():
    session = np.zeros(3, np.int32)
    signal, _ = combine({"a": np.array([1.0, 2.0, np.nan]), "b": np.array([1.0, 2.0, 3.0])}, session, {"a": 1, "b": 1})
    assert np.isnan(signal).tolist() == [False, False, True]


def test_fold_outside_the_rows(market):
    data, folds, oof = market
    extra = Fold(9, (0, 10), None, (20, 30))
    assert len(result_of((data, (extra, *folds), oof)).frame) == (data.session >= 80).sum()
