import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DataError
from models.dataset import assemble_dataset
from models.folds import Fold, FoldRule, tuning_folds, walk_forward, warm_up
from models.inputs import zscores
from models.meta import Meta, fill_scale
from models.regimes import RegimeRule
from models.rungs.base import climb_order
from models.rungs.equal import Equal
from models.rungs.ridge import fit_weights
from models.scoring import rank_ic
from models.stack import StackRule, climb, known_sessions, stack
from models.states import StateModel

HORIZON = 2
FOLDS = FoldRule(train_sessions=80, test_sessions=40, holdout_sessions=40, embargo=0, valid_sessions=0)
RULE = StackRule(warmup_sessions=20, window_sessions=100)
# little is asked of a rung, so that all of them are at work in few sessions
BUSY = StackRule(
    warmup_sessions=20, window_sessions=100, min_sessions=60, tree_every=1, tree_leaf_rows=200, trees=20, regimes=None
)


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


def test_blocks_before_the_first_teach_and_are_not_judged(make_dataset):
    data = make_dataset(ic=0.15, sessions=400)
    rule = FOLDS.model_copy(update={"train_sessions": 240})
    folds, inner = walk_forward(data.dates, rule, HORIZON), tuning_folds(data.dates, rule, HORIZON)
    rng = np.random.default_rng(2)
    tested = data.session >= inner[0].test[0]
    oof = {
        "boosting": np.where(tested, np.nan_to_num(data.X[:, 0]) * 0.01, np.nan),
        "linear": np.where(tested, rng.standard_normal(len(data)), np.nan),
    }
    quick = RULE.model_copy(update={"min_sessions": 40})
    warm = result_of((data, (*warm_up(inner), *folds), oof), quick)
    cold = result_of((data, folds, {name: np.where(data.session >= 240, oof[name], np.nan) for name in oof}), quick)
    assert [fold.index for fold in warm_up(inner)] == [-2, -1]
    pd.testing.assert_frame_equal(warm.frame[["date", "symbol", "fold"]], cold.frame[["date", "symbol", "fold"]])
    assert warm.frame["fold"].min() == warm.ladder["fold"].min() == warm.weights["fold"].min() == 0
    first = warm.weights[warm.weights["fold"] == 0].set_index("layer")
    assert first.loc["boosting", "weight"] > 0.55
    assert (cold.weights[cold.weights["fold"] == 0]["weight"] == 0.5).all()
    served = warm.ladder[warm.ladder["chosen"] & (warm.ladder["fold"] == 0)]
    assert served["rung"].item() != "equal"
    assert warm.frame["expected_return"].notna().all()
    # what came after the first block began changes nothing of it
    later = oof | {"boosting": np.where(data.session >= folds[1].test[0], -oof["boosting"], oof["boosting"])}
    again = result_of((data, (*warm_up(inner), *folds), later), quick)
    of_first = warm.frame["fold"] == 0
    pd.testing.assert_frame_equal(again.frame[of_first], warm.frame[of_first])


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
    result = result_of(market, StackRule(rung="ridge", ridge=0.1, warmup_sessions=20))
    first = result.weights[result.weights["fold"] == 0]
    assert first["weight"].tolist() == [0.5, 0.5]
    assert first["sessions"].tolist() == [0, 0]
    later = result.weights[(result.weights["fold"] == 2) & (result.weights["layer"] == "boosting")]
    assert later["weight"].item() > 0.7
    assert later["sessions"].item() == 160 - 80 - HORIZON
    compared = result.comparison.set_index("rung")["rank_ic"]
    assert compared["ridge"] > compared["equal"] > 0
    assert result.meta.rung == "ridge"
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


def make_moving(seed=0, gain=1.0, sessions=700, names=40):
    """Two layers of which a market-wide state tells which one works (by `gain`), and a state that tells nothing."""
    rng = np.random.default_rng(seed)
    told = rng.standard_normal((sessions, 2))
    for day in range(1, sessions):
        told[day] = 0.9 * told[day - 1] + np.sqrt(1 - 0.9**2) * told[day]
    session = np.repeat(np.arange(sessions), names)
    scores = rng.standard_normal((len(session), 2))
    lean = gain * told[session, 0]
    forward = 0.06 * (scores[:, 0] * (1 + lean) + scores[:, 1] * (1 - lean)) + rng.standard_normal(len(session))
    label = zscores(forward, session.astype(np.int32))
    unknown = session >= sessions - HORIZON - 1
    forward[unknown] = label[unknown] = np.nan
    data = assemble_dataset(
        dates=np.datetime64("2010-01-04") + np.arange(sessions),
        symbols=np.array([f"S{i:03d}" for i in range(names)]),
        sector=np.zeros(names, dtype=int),
        session=session,
        symbol=np.tile(np.arange(names), sessions),
        X=np.column_stack([rng.standard_normal(len(session)), told[session]]),
        features=["x", "vix_z", "market_lows"],
        label=label,
        forward=0.03 * forward,
        raw=0.03 * forward,
        horizon=HORIZON,
        market=0.01 * rng.standard_normal(sessions),
    )
    rule = FoldRule(train_sessions=100, test_sessions=100, holdout_sessions=100, embargo=0, valid_sessions=0)
    tested = session >= 100
    oof = {name: np.where(tested, scores[:, i], np.nan) for i, name in enumerate(("boosting", "linear"))}
    return data, walk_forward(data.dates, rule, HORIZON), oof


@pytest.fixture(scope="module")
def moving():
    return make_moving()


@pytest.fixture(scope="module")
def busy(moving):
    return result_of(moving, BUSY)


def test_the_ladder_climbs_where_states_matter(moving, busy):
    data, folds, _ = moving
    assert list(busy.comparison["rung"]) == list(climb_order())
    assert busy.meta.rung == busy.comparison.loc[busy.comparison["chosen"], "rung"].item()
    assert busy.meta.rung in ("interactions", "gate")
    compared = busy.comparison.set_index("rung")
    assert compared["difference_t"]["interactions"] > 2
    assert compared["against"].tolist() == ["", "equal", "ridge", "interactions", "trees"]
    assert compared["days"].tolist() == [500, 400, 400, 400, 400]
    late = (busy.frame["fold"] >= 3).to_numpy()
    session = busy.rows.session[late]
    served, equal = (
        rank_ic(signal[late], busy.rows.forward[late], session).mean()
        for signal in (busy.frame["signal"], busy.rungs["equal"])
    )
    assert served > equal + 0.015
    assert busy.meta.states.names == ("vix_z", "market_lows")
    assert list(busy.states) == ["vix_z", "market_lows"]
    for fold in folds:
        block = (busy.frame["fold"] == fold.index).to_numpy()
        expected = StateModel.fit(data, fold.test[0], BUSY).rows(busy.rows)[block]
        np.testing.assert_array_equal(busy.states.to_numpy()[block], expected)


def test_ladder_tells_the_evidence(busy):
    assert list(busy.ladder) == ["fold", "rung", "against", "difference", "t", "sessions", "chosen"]
    assert (busy.ladder.groupby("fold")["chosen"].sum() == 1).all()
    assert busy.ladder.groupby("fold").size().tolist() == [5] * 6
    served = busy.ladder[busy.ladder["chosen"]].set_index("fold")["rung"]
    # nothing is known of a rung before it has predicted `min_sessions` sessions: the first block is equal's
    assert served.tolist()[:2] == ["equal", "equal"]
    for fold, rung in served.items():
        block = (busy.frame["fold"] == fold).to_numpy()
        np.testing.assert_array_equal(busy.frame["signal"][block], busy.rungs[rung][block])
    # a rung that could not be fitted yet is equal weights
    first = (busy.frame["fold"] == 0).to_numpy()
    for name in busy.rungs:
        np.testing.assert_array_equal(busy.rungs[name][first], busy.rungs["equal"][first])
    third = busy.ladder[(busy.ladder["fold"] == 2) & (busy.ladder["rung"] == "ridge")]
    daily = {
        name: rank_ic(busy.rungs[name], busy.rows.forward, busy.rows.session).loc[200 : 300 - HORIZON - 1]
        for name in ("ridge", "equal")
    }
    assert third["sessions"].item() == 100 - HORIZON
    assert third["difference"].item() == pytest.approx((daily["ridge"] - daily["equal"]).mean())


def daily_of(gains, sessions=500, seed=0):
    rng = np.random.default_rng(seed)
    base = pd.Series(rng.normal(0.03, 0.1, sessions))
    noise = {name: rng.normal(0, 0.02, sessions) for name in gains}
    return {"equal": base} | {name: base + gain + noise[name] for name, gain in gains.items()}


def test_climb():
    rule = StackRule(min_sessions=252)
    better = daily_of({"ridge": 0.01, "interactions": -0.02, "gate": 0.02})
    chosen, evidence = climb(better, 500, rule, HORIZON)
    assert chosen == "gate"
    assert [step["against"] for step in evidence] == ["", "equal", "ridge", "ridge"]
    assert [step["chosen"] for step in evidence] == [False, False, False, True]
    assert climb(better, 500, StackRule(rung="trees"), HORIZON)[0] == "trees"
    # a gain of less than climb_t standard errors does not count, nor one over too few known sessions
    assert climb(better, 500, StackRule(climb_t=1000.0), HORIZON)[0] == "equal"
    assert climb(better, 252 + HORIZON, rule, HORIZON)[0] == "gate"
    assert climb(better, 252 + HORIZON - 1, rule, HORIZON)[0] == "equal"
    # better than equal weights is not enough where ridge holds
    assert climb(daily_of({"ridge": 0.03, "gate": 0.01}), 500, rule, HORIZON)[0] == "ridge"
    same = {"equal": better["equal"], "ridge": better["equal"].copy()}
    assert climb(same, 500, rule, HORIZON)[0] == "equal"


def test_climb_forgets_old_evidence():
    daily = daily_of({"ridge": 0.01}, sessions=1500)
    daily["ridge"][:500] -= 0.2
    assert climb(daily, 1500, StackRule(judged_sessions=1500), HORIZON)[0] == "equal"
    chosen, evidence = climb(daily, 1500, StackRule(judged_sessions=756), HORIZON)
    assert chosen == "ridge"
    assert evidence[1]["sessions"] == 756


def test_climb_looks_at_known_sessions_only():
    daily = daily_of({"ridge": 0.01, "gate": -0.01})
    whole = climb(daily, 400, StackRule(), HORIZON)
    for series in daily.values():
        series[series.index > 400 - HORIZON - 1] += np.where(series.index[series.index > 400 - HORIZON - 1] % 2, 9, -9)
    daily["gate"][400 - HORIZON :] = 50.0
    again = climb(daily, 400, StackRule(), HORIZON)
    assert again[0] == whole[0] == "ridge"
    assert pd.DataFrame(again[1]).equals(pd.DataFrame(whole[1]))


def test_noise_is_not_climbed():
    # two equally good layers and states that tell nothing: equal weights are best, and a climb costs next to nothing
    rule, served, lost = BUSY.model_copy(update={"min_sessions": 150}), [], []
    for seed in range(6):
        result = result_of(make_moving(seed, gain=0.0, sessions=600), rule)
        served += result.ladder[result.ladder["chosen"]]["rung"].tolist()
        daily = [
            rank_ic(signal, result.rows.forward, result.rows.session)
            for signal in (result.rungs["equal"], result.frame["signal"])
        ]
        lost.append(daily[0].mean() - daily[1].mean())
    assert len(served) == 30
    assert sum(name not in ("equal", "ridge") for name in served) <= 3
    assert np.mean(lost) < 0.001


@pytest.mark.parametrize(
    ("rule", "at"),
    [
        # on the first day of a block all that was fitted for it shows, later in it what the states look at
        (BUSY, 400),
        (BUSY, 450),
        (BUSY.model_copy(update={"rung": "gate", "regimes": RegimeRule()}), 400),
    ],
)
def test_poisoned_future_changes_nothing_before_it(moving, busy, rule, at):
    data, folds, oof = moving
    whole = busy if rule is BUSY else result_of(moving, rule)
    after = data.session > at
    unknown = data.session > at - HORIZON - 1
    outcomes = {
        name: np.where(unknown, np.float32(5.0 + data.X[:, 0]), getattr(data, name))
        for name in ("label", "forward", "raw")
    }
    X = np.where(after[:, None], 8.0 + data.X[:, 1:2], data.X).astype(np.float32)
    market = np.where(np.arange(len(data.dates)) > at, 0.4, data.market)
    other = replace(data, X=X, market=market, **outcomes)
    spoiled = {name: np.where(after, 9.0 * values + data.X[:, 0], values) for name, values in oof.items()}
    scale = np.where(after, 7.0, 0.03).astype(np.float32)
    again = result_of((other, folds, spoiled), rule, scale=scale)
    before = (whole.frame["date"] <= data.dates[at]).to_numpy()
    assert before.sum() > 10_000
    assert data.dates[at] in whole.frame.loc[whole.frame["fold"] == 3, "date"].to_numpy()
    assert whole.frame[before].equals(again.frame[before])
    assert whole.rungs[before].equals(again.rungs[before])
    assert whole.states[before].equals(again.states[before])
    assert whole.ladder.query("fold <= 3").equals(again.ladder.query("fold <= 3"))
    # a block's mean weights follow its states to its end
    assert whole.weights.query("fold < 3").equals(again.weights.query("fold < 3"))
    assert not whole.frame[~before].equals(again.frame[~before])


@pytest.mark.parametrize("rung", ["equal", "ridge", "interactions", "trees", "gate"])
def test_final_meta_of_every_rung(moving, rung):
    data, _, oof = moving
    result = result_of(moving, BUSY.model_copy(update={"rung": rung}))
    meta = Meta.from_dict(json.loads(json.dumps(result.meta.to_dict())))
    assert (meta.rung, meta.layers) == (rung, ("boosting", "linear"))
    assert (meta.states is None) == (rung in ("equal", "ridge"))
    assert meta.market_lookback == 0
    tested = data.session >= 100
    rows = data.take(tested)
    predictions = {name: values[tested] for name, values in oof.items()}
    whole, scores = meta.signal(predictions, rows)
    part = rows.rows(699, 699)
    alone, _ = meta.signal({name: values[part] for name, values in predictions.items()}, rows.take(part))
    assert alone.tobytes() == whole[part].tobytes()
    assert result.meta.signal(predictions, rows)[0].tobytes() == whole.tobytes()
    assert scores["linear"].tobytes() == result.frame["signal_linear"].to_numpy().tobytes()
    np.testing.assert_allclose(np.abs(meta.row_weights(rows)).sum(axis=1), 1)
    sessions = pd.DataFrame(meta.row_weights(rows)).groupby(rows.session).first()
    np.testing.assert_allclose(meta.weights, sessions.mean(), rtol=1e-9)
    # whatever the evidence says, the named rung serves every block
    assert result.frame["signal"].to_numpy().tobytes() == result.rungs[rung].to_numpy().tobytes()
    assert set(result.ladder.loc[result.ladder["chosen"], "rung"]) == {rung}
    assert result.ladder["fold"].nunique() == result.ladder["chosen"].sum()


def test_regimes_are_states_of_the_stack(moving):
    result = result_of(moving, BUSY.model_copy(update={"rung": "gate", "regimes": RegimeRule(min_sessions=300)}))
    assert list(result.states) == ["vix_z", "market_lows", "stress_hmm", "stress_jump"]
    early = (result.frame["fold"] < 2).to_numpy()
    assert (result.states.loc[early, ["stress_hmm", "stress_jump"]] == 0).all().all()
    assert result.states.loc[~early, "stress_hmm"].std() > 0
    assert result.meta.states.names == ("stress_hmm", "stress_jump", "vix_z", "market_lows")
    assert result.meta.market_lookback > 252


def test_without_states(moving):
    rule = BUSY.model_copy(update={"states": ["nothing"]})
    result = result_of(moving, rule)
    assert list(result.rungs) == ["equal", "ridge"]
    assert result.states.shape == (len(result.frame), 0)
    assert result.ladder.groupby("fold")["rung"].agg(list).tolist() == [["equal", "ridge"]] * 6
    assert list(result.comparison["rung"]) == ["equal", "ridge"]
    assert result.meta.states is None
    assert result.meta.market_lookback == 0
    with pytest.raises(DataError, match=r"stack\.rung = gate reads the market's state"):
        result_of(moving, rule.model_copy(update={"rung": "gate"}))


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
    empty = Meta(("linear",), "equal", Equal(1), None, np.ones(1), np.nan, None)
    assert np.isnan(Meta.from_dict({**empty.to_dict(), "slope": None, "scale": None}).slope)


def test_fold_outside_the_rows(market):
    data, folds, oof = market
    extra = Fold(9, (0, 10), None, (20, 30))
    assert len(result_of((data, (extra, *folds), oof)).frame) == (data.session >= 80).sum()
