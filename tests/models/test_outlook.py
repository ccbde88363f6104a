"""The stance, the state of the crowd and the state of the market that a day's signals are told with."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.dataset import assemble_dataset
from models.outlook import FLAT, LONG, NOTHING, SHORT, StanceRule, crowd_states, market_state, stances, with_outlook
from models.regimes import RegimeModel, RegimeRule
from models.states import StateModel, StateRule

DAYS, NAMES = 900, 30
FEATURES = ("fomo", "panic_selling", "vix_z")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    session = np.repeat(np.arange(DAYS), NAMES)
    X = rng.normal(size=(DAYS * NAMES, 3))
    X[:, 2] = np.repeat(rng.normal(size=DAYS), NAMES)
    unknown = np.full(len(session), np.nan)
    wide = np.where(np.arange(DAYS) // 150 % 2, 0.02, 0.005)
    return assemble_dataset(
        dates=np.datetime64("2010-01-01") + np.arange(DAYS),
        symbols=np.array([f"S{number:02d}" for number in range(NAMES)]),
        sector=np.zeros(NAMES, dtype=int),
        session=session,
        symbol=np.tile(np.arange(NAMES), DAYS),
        X=X,
        features=FEATURES,
        label=unknown,
        forward=unknown,
        raw=unknown,
        market=wide * rng.normal(size=DAYS),
    )


@pytest.fixture(scope="module")
def model(data) -> StateModel:
    return StateModel.fit(data, DAYS - 5, StateRule(states=["vix_z"], regimes=RegimeRule()))


def bundle(states=None, layers=None, family="behaviour"):
    declared = [{"name": name, "family": family} for name in FEATURES[:2]] + [{"name": "vix_z", "family": "macro"}]
    return SimpleNamespace(meta=SimpleNamespace(states=states), layers=layers or {}, declared=declared)


def test_the_ends_are_long_and_short_and_the_unsure_are_flat() -> None:
    rank = np.array([3, 1, 2, 5, 4, 10, 9, 8, 7, 6])
    wrong = np.full(10, 0.4)
    told = stances(rank, wrong, StanceRule(share=0.2))
    assert [told[place] for place in np.argsort(rank)] == [LONG] * 2 + [FLAT] * 6 + [SHORT] * 2
    wrong[[1, 5]] = 0.6, np.nan
    told = stances(rank, wrong, StanceRule(share=0.2))
    assert [told[place] for place in np.argsort(rank)] == [FLAT, LONG] + [FLAT] * 6 + [SHORT, FLAT]


@given(st.integers(0, 60), st.floats(0.01, 0.5), st.floats(0, 1))
def test_as_many_are_long_as_short_and_never_more_than_the_share(count: int, share: float, limit: float) -> None:
    told = stances(np.arange(count) + 1, np.zeros(count), StanceRule(share=share, max_p_wrong=limit))
    assert told.count(LONG) == told.count(SHORT) <= share * count
    assert len(told) == count


@pytest.mark.parametrize("values", [{"share": 0.0}, {"share": 0.6}, {"max_p_wrong": 1.1}, {"shares": 0.1}])
def test_an_impossible_rule_is_refused(values: dict) -> None:
    with pytest.raises(ValidationError):
        StanceRule(**values)


def test_a_symbol_is_told_by_the_measure_on_which_it_stands_out_most(data) -> None:
    day = data.between(7, 7)
    told = crowd_states(bundle(), day)
    ranked = pd.DataFrame(day.X[:, :2]).rank()
    best = int(ranked[0].idxmax())
    # 30 names: only the first and the last Gauss rank of a measure lie beyond two deviations
    assert told[best].startswith(("fomo +2.1", "panic_selling"))
    extremes = {int(place) for column in (0, 1) for place in (ranked[column].idxmax(), ranked[column].idxmin())}
    assert {place for place, state in enumerate(told) if state != NOTHING} == extremes
    assert crowd_states(bundle(family="market"), day) == [NOTHING] * NAMES


def test_the_market_is_told_from_what_the_bundle_looks_back_on_alone(data, model) -> None:
    last = DAYS - 1
    told = market_state(bundle(model), data, last)
    full = model.regimes.states(data.market)[last]
    assert (told["stress_hmm"], told["stress_jump"]) == tuple(full)
    assert 0 <= told["stress_hmm"] <= 1
    assert told["stress_jump"] in (0, 1)
    assert told["vix_z"] == float(data.X[-1, 2])
    assert market_state(bundle(model), data.since(last), last) == told


def test_a_layer_tells_regimes_where_the_stack_reads_none(data, model) -> None:
    assert isinstance(model.regimes, RegimeModel)
    layered = bundle(layers={"boosting": object(), "behaviour": SimpleNamespace(told=model)})
    assert market_state(layered, data, DAYS - 1) == market_state(bundle(model), data, DAYS - 1)
    assert market_state(bundle(), data, DAYS - 1) == {}


def test_the_columns_stand_before_the_reasons(data, model) -> None:
    last = DAYS - 1
    signals = data.between(last, last).keys().assign(rank=np.arange(NAMES) + 1, p_wrong=0.4, top_reasons="x")
    frame, market = with_outlook(bundle(model), data, last, signals, StanceRule())
    added = ["stress_hmm", "stress_jump", "behaviour", "stance"]
    assert list(frame) == ["date", "symbol", "rank", "p_wrong", *added, "top_reasons"]
    assert (frame["stress_hmm"] == market["stress_hmm"]).all()
    untold, market = with_outlook(bundle(), data, last, signals, StanceRule())
    assert untold["stress_hmm"].isna().all()
    assert market == {}
