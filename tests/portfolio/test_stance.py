import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from core.params import parse
from portfolio.policy import Mode, Reason, Stance, StancePolicy
from portfolio.stance import StanceState, Today, step


def policy_of(**given) -> StancePolicy:
    """A policy that takes a side only where it is likely right, and holds nothing in stress."""
    return StancePolicy(**{"enter": 0.6, "leave": 0.4, "full": 1.0, "defence": "passive"} | given)


POLICY = policy_of()


def _today(p_stress=0.1, systemic=0.5, ratio=0.9, signal=(1.0,), p_wrong=(0.2,), crowd=None, panic=None):
    count = len(signal)
    return Today(
        p_stress,
        systemic,
        ratio,
        np.array(signal, dtype=float),
        np.array(p_wrong, dtype=float),
        np.full(count, np.nan) if crowd is None else np.array(crowd, dtype=float),
        np.full(count, np.nan) if panic is None else np.array(panic, dtype=float),
    )


def _run(days, policy=POLICY, count=1):
    state, out = StanceState.start(count), []
    for today in days:
        state, decision = step(state, today, policy)
        out.append(decision)
    return state, out


def _modes(p_stress, policy=POLICY, **given):
    return "".join(d.mode.value[0] for d in _run([_today(p, **given) for p in p_stress], policy)[1])


# --- the mode of the book ------------------------------------------------------------------------------------


def test_modes_by_the_probability_of_stress():
    assert _modes([0.39]) == "a"
    assert _modes([0.4]) == "s"
    assert _modes([0.6]) == "s"
    assert _modes([0.61]) == "d"
    assert _modes([np.nan]) == "d"
    assert _modes([0.1], systemic=0.96) == "d"
    assert _modes([0.1], systemic=np.nan) == "a"


def test_defence_is_entered_above_and_left_below():
    # In above .6, not out at .5 however long, out below .4 after five sessions.
    assert _modes([0.61] + [0.5] * 9 + [0.39, 0.5, 0.39]) == "dddddddddd" + "ass"
    assert _modes([0.61, 0.39, 0.39, 0.39, 0.39, 0.39]) == "ddddda"


def test_a_mode_lasts_its_dwell_unless_caution_asks():
    assert _modes([0.5, 0.3, 0.3, 0.3, 0.3, 0.3]) == "sssssa"
    assert _modes([0.3, 0.5, 0.7]) == "asd"
    assert _modes([0.5, 0.3, 0.3], policy_of(dwell=2)) == "ssa"


def test_reasons_of_the_mode():
    days = [_today(p) for p in (0.1, 0.5, 0.3, 0.7, 0.5, np.nan)] + [_today(0.1, systemic=0.99)]
    assert [d.mode_reason for d in _run(days)[1]] == [
        Reason.CALM,
        Reason.UNCERTAIN,
        Reason.WAITING,
        Reason.STRESS,
        Reason.LINGERING,
        Reason.UNKNOWN_STRESS,
        Reason.SYSTEMIC,
    ]


def test_what_a_mode_does_with_sizes():
    active, scaled, passive = _run([_today(0.1), _today(0.45), _today(0.7)])[1]
    assert (active.exposure, active.beta_neutral, active.hedge) == (1.0, False, None)
    assert (scaled.exposure, scaled.beta_neutral, scaled.hedge) == (pytest.approx(0.55), True, None)
    assert (passive.exposure, passive.beta_neutral, passive.hedge) == (0.0, False, None)
    assert [d.size[0] for d in (active, scaled, passive)] == pytest.approx([0.6, 0.6 * 0.55, 0.0])
    assert [d.stance[0] for d in (active, scaled, passive)] == [Stance.LONG, Stance.LONG, Stance.FLAT]
    assert passive.reason[0] == Reason.PASSIVE


@pytest.mark.parametrize("defence", ["future", "put"])
def test_a_hedged_book_keeps_its_sides(defence):
    hedged = _run([_today(0.1), _today(0.7)], policy_of(defence=defence))[1][1]
    assert (hedged.hedge, hedged.exposure) == (defence, pytest.approx(0.3))
    assert (hedged.stance[0], hedged.reason[0]) == (Stance.HEDGE, Reason.HEDGED)
    assert hedged.size[0] == pytest.approx(0.6 * 0.3)
    systemic = _run([_today(0.1, systemic=0.99)], policy_of(defence=defence))[1][0]
    assert systemic.exposure == pytest.approx(0.9)
    unknown = _run([_today(np.nan)], policy_of(defence=defence))[1][0]
    assert unknown.size[0] == 0.0


# --- the side of a symbol ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p_wrong", "size"), [(0.3, 0.4), (0.45, 0.0), (0.5, 0.0), (0.05, 0.9)])
def test_size_by_the_probability_of_being_wrong(p_wrong, size):
    # .45 would have a size of .1, but is not sure enough to begin with.
    decision = _run([_today(p_wrong=[p_wrong])])[1][0]
    assert decision.size[0] == pytest.approx(size)
    assert decision.reason[0] == (Reason.CONFIDENT if size else Reason.UNSURE)
    assert _run([_today(signal=[-2.0], p_wrong=[p_wrong])])[1][0].size[0] == pytest.approx(-size)


@pytest.mark.parametrize(("p_wrong", "size"), [(0.30, 0.40), (0.45, 0.10), (0.5, 0.0), (0.55, 0.0)])
def test_a_side_that_is_held_shrinks_with_doubt(p_wrong, size):
    decision = _run([_today()] * 6 + [_today(p_wrong=[p_wrong])])[1][-1]
    assert decision.size[0] == pytest.approx(size)
    assert decision.stance[0] == (Stance.LONG if size else Stance.FLAT)
    assert decision.reason[0] == (Reason.CONFIDENT if p_wrong < 0.4 else Reason.HELD if size else Reason.DOUBT)


@pytest.mark.parametrize(("p_wrong", "size"), [(0.45, 1.0), (0.475, 0.5), (0.3, 1.0)])
def test_a_full_position_needs_no_certainty(p_wrong, size):
    policy = policy_of(enter=0.52, leave=0.48, full=0.1)
    _, (decision,) = _run([_today(signal=(1.0, -1.0), p_wrong=(p_wrong, p_wrong))], policy, count=2)
    assert decision.size == pytest.approx([size, -size])


def test_a_side_lasts_its_dwell_and_is_given_up_below():
    # Long at first; the forecast turns at once, the side only after five sessions, and costs nothing until then.
    turned = _today(signal=[-1.0], p_wrong=[0.1])
    _, out = _run([_today()] + [turned] * 5)
    assert [d.size[0] for d in out] == pytest.approx([0.6, 0, 0, 0, 0, -0.8])
    assert out[1].reason[0] == Reason.DOUBT
    # After the dwell a doubt within the band keeps the side, one beyond it does not.
    kept = _run([_today()] * 5 + [_today(signal=[-1.0], p_wrong=[0.41])])
    assert kept[0].side[0] == 1
    left = _run([_today()] * 5 + [_today(signal=[-1.0], p_wrong=[0.39])])
    assert left[0].side[0] == -1
    flat = _run([_today()] * 5 + [_today(signal=[-1.0], p_wrong=[0.39])], policy_of(enter=0.7))
    assert flat[0].side[0] == 0


def test_no_forecast_no_side():
    state, out = _run([_today(), _today(signal=[np.nan])])
    assert (state.side[0], out[1].stance[0], out[1].reason[0]) == (0, Stance.FLAT, Reason.NO_FORECAST)
    assert _run([_today(p_wrong=[np.nan])])[1][0].reason[0] == Reason.NO_FORECAST
    assert _run([_today(signal=[0.0])])[1][0].reason[0] == Reason.NO_FORECAST


# --- the crowd -----------------------------------------------------------------------------------------------


def test_no_new_longs_where_the_crowd_is():
    names = {"signal": [1.0] * 20, "p_wrong": [0.2] * 20}
    crowd = np.arange(20.0)
    first = _run([_today(**names, crowd=crowd)], count=20)[1][0]
    assert first.no_new_longs.tolist() == [False] * 18 + [True] * 2
    assert first.stance.tolist() == ["long"] * 18 + ["flat"] * 2
    assert first.reason[-1] == Reason.CROWDED
    # One that was long before the crowd came stays, may not be added to, and a refused one is still refused.
    later = _run([_today(**names)] + [_today(**names, crowd=crowd)] * 2, count=20)[1][-1]
    assert (later.stance == "long").all()
    assert later.no_new_longs[-1]
    again = _run([_today(**names, crowd=crowd)] * 3, count=20)[1][-1]
    assert again.stance[-1] == "flat"
    shorts = _run([_today(signal=[-1.0] * 20, p_wrong=[0.2] * 20, crowd=crowd)], count=20)[1][0]
    assert (shorts.stance == "short").all()


def test_contrarian_longs_only_while_a_panic_ends():
    quiet = {"signal": [-1.0], "p_wrong": [0.2]}
    # The ratio above 1, then back below it while the symbol is sold in panic: long for five sessions, in any mode.
    days = [_today(0.7, ratio=1.1, **quiet, panic=[0.99]), _today(0.7, ratio=0.98, **quiet, panic=[0.96])]
    days += [_today(0.7, ratio=0.95, **quiet, panic=[0.5])] * 5
    out = _run(days)[1]
    assert [d.stance[0] for d in out] == ["flat"] + ["long"] * 5 + ["flat"]
    assert {d.size[0] for d in out[1:6]} == {0.25}
    assert out[1].reason[0] == Reason.CONTRARIAN
    # Not without an inversion before, not one long ago, not where the crowd is, not on a lesser panic.
    assert _run([_today(0.7, ratio=0.98, **quiet, panic=[0.99])])[1][0].stance[0] == "flat"
    old = [_today(0.7, ratio=1.1, **quiet)] + [_today(0.7, ratio=0.9, **quiet)] * 5
    assert _run([*old, _today(0.7, ratio=0.9, **quiet, panic=[0.99])])[1][-1].stance[0] == "flat"
    assert _run([days[0], _today(0.7, ratio=0.98, **quiet, panic=[0.95])])[1][-1].stance[0] == "flat"
    two = {"signal": [-1.0] * 2, "p_wrong": [0.2] * 2}
    crowded = [_today(0.7, ratio=1.1, **two), _today(0.7, ratio=0.9, **two, panic=[0.99] * 2, crowd=[1.0, 9.0])]
    assert _run(crowded, count=2)[1][-1].stance.tolist() == ["long", "flat"]


# --- the state -----------------------------------------------------------------------------------------------

number = st.one_of(st.floats(0, 1), st.just(np.nan))
days = st.lists(
    st.builds(
        _today,
        number,
        number,
        st.floats(0.7, 1.3),
        st.lists(st.sampled_from([-1.0, 0.0, 1.0, np.nan]), min_size=3, max_size=3),
        st.lists(number, min_size=3, max_size=3),
        st.lists(number, min_size=3, max_size=3),
        st.lists(number, min_size=3, max_size=3),
    ),
    min_size=1,
    max_size=20,
)


@settings(deadline=None, max_examples=100)
@given(days, st.sampled_from(["passive", "future"]))
def test_every_decision_is_whole(series, defence):
    policy = policy_of(defence=defence)
    for today, d in zip(series, _run(series, policy, 3)[1], strict=True):
        assert d.mode_reason in set(Reason)
        assert set(d.reason) <= set(Reason)
        assert set(d.stance) <= set(Stance)
        assert (np.abs(d.size) <= 1).all()
        assert ((d.size > 0) == (d.stance == "long"))[d.stance != "hedge"].all()
        assert ((d.size < 0) == (d.stance == "short"))[d.stance != "hedge"].all()
        assert not (d.stance == "hedge").any() or d.hedge == "future"
        if d.mode is Mode.DEFENSIVE and defence == "passive":
            assert (d.size[d.reason != Reason.CONTRARIAN] == 0).all()
        # No side is larger than its chance allows.
        rise = np.where(today.signal > 0, 1 - today.p_wrong, today.p_wrong)
        normal = (d.size != 0) & (d.reason != Reason.CONTRARIAN)
        right = np.where(d.size > 0, rise, 1 - rise)
        assert (np.abs(d.size) <= 2 * right - 1 + 1e-12)[normal].all()


@settings(deadline=None, max_examples=60)
@given(days, st.data())
def test_a_saved_state_goes_on_as_if_nothing_had_happened(series, data):
    cut = data.draw(st.integers(0, len(series)))
    state, before = _run(series[:cut], count=3)
    state, after = StanceState.from_dict(json.loads(json.dumps(state.to_dict()))), []
    for today in series[cut:]:
        state, decision = step(state, today, POLICY)
        after.append(decision)
    whole_state, whole = _run(series, count=3)
    assert state.to_dict() == whole_state.to_dict()
    for a, b in zip(before + after, whole, strict=True):
        assert (a.size == b.size).all()
        assert (a.reason == b.reason).all()


@settings(deadline=None, max_examples=60)
@given(days)
def test_the_symbols_are_independent_but_for_the_crowd(series):
    order = np.array([2, 0, 1])
    permuted = [
        Today(
            d.p_stress, d.systemic, d.implied_ratio, *(v[order] for v in (d.signal, d.p_wrong, d.crowd_cost, d.panic))
        )
        for d in series
    ]
    for a, b in zip(_run(series, count=3)[1], _run(permuted, count=3)[1], strict=True):
        assert (a.size[order] == b.size).all()


def test_symbols_come_and_go():
    state, _ = _run([_today(signal=[1.0, -1.0], p_wrong=[0.1, 0.1])], count=2)
    moved = state.reordered([1, -1, 0])
    assert moved.side.tolist() == [-1, 0, 1]
    assert moved.side_age.tolist() == [1, 0, 1]
    assert StanceState.start(0).reordered([-1]).side.tolist() == [0]


def test_forecasts_for_a_construction():
    decision = _run([_today(signal=[1.0, -1.0, 1.0], p_wrong=[0.2, 0.1, 0.45])], count=3)[1][0]
    np.testing.assert_allclose(decision.alpha(np.array([0.01, -0.02, 0.03])), [0.006, -0.016, np.nan])


def test_refusals():
    with pytest.raises(DataError, match=r"signal has shape \(2,\), the state has 1"):
        step(StanceState.start(1), _today(signal=[1, 1], p_wrong=[0, 0]), POLICY)
    with pytest.raises(DataError, match="p_stress leaves the range"):
        step(StanceState.start(1), _today(1.2), POLICY)
    with pytest.raises(DataError, match="p_wrong leaves the range"):
        step(StanceState.start(1), _today(p_wrong=[-0.1]), POLICY)
    with pytest.raises(ConfigError, match=r"calm 0\.7 is above stress"):
        parse(StancePolicy, {"calm": 0.7}, "stance")
    with pytest.raises(ConfigError, match="defence"):
        parse(StancePolicy, {"defence": "prayer"}, "stance")
    saved = StanceState.start(2).to_dict()
    with pytest.raises(DataError, match="cannot be read"):
        StanceState.from_dict({**saved, "mode": "brave"})
    with pytest.raises(DataError, match="is damaged"):
        StanceState.from_dict({**saved, "side": [0, 2]})
    with pytest.raises(DataError, match="is damaged"):
        StanceState.from_dict({**saved, "side": [0]})
