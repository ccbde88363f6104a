import json
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest

from core.errors import ConfigError, DataError
from core.params import parse
from portfolio.book import step
from portfolio.book_rule import BookRule, DrawdownRule
from portfolio.construction import TOLERANCE
from portfolio.costs import CostRule
from portfolio.holdings import BookState
from portfolio.sessions import Market, Signals, day_at, long_gone
from portfolio.settlement import settle
from portfolio.walk import walk

START = 40
FREE = CostRule(commission_bps=0.0, half_spread_bps=0.0, impact=0.0, borrow_bps=0.0)


# --- causality, and one code for both ------------------------------------------------------------------------


def _cut(block, days):
    """The first days of a market or of signals, what comes later not even there."""
    count = len(block.dates if isinstance(block, Market) else block.forecast)

    def first(values):
        if isinstance(values, dict):
            return {name: first(value) for name, value in values.items()}
        timed = isinstance(values, np.ndarray) and len(values) == count
        return values[:days].copy() if timed else values

    return type(block)(**{field.name: first(getattr(block, field.name)) for field in fields(block)})


def test_the_future_changes_no_past_day(world, rule):
    market, signals = world(days=90, names=8)
    a_rule = rule(rebalance_sessions=4, drawdown=DrawdownRule(soft=0.01, hard=0.1))
    whole = walk(market, signals, a_rule, start=START)
    for days in (72, 83):
        part = walk(_cut(market, days), _cut(signals, days), a_rule, start=START)
        rows = days - START
        pd.testing.assert_frame_equal(part.daily, whole.daily[:rows], check_exact=True)
        for name in ("weights", "targets", "filled", "stance", "reason", "size"):
            assert getattr(part, name).tobytes() == getattr(whole, name)[:rows].tobytes()
        same = whole.limits[whole.limits["date"] <= market.dates[days - 1]]
        pd.testing.assert_frame_equal(part.limits, same, check_exact=True)


def test_a_daily_job_goes_on_from_a_saved_state(world, rule):
    market, signals = world(days=90, names=8)
    a_rule = rule(rebalance_sessions=4, stance={"defence": "future", "stress": 0.4, "calm": 0.3})
    whole = walk(market, signals, a_rule, start=START)
    half = walk(_cut(market, 70), _cut(signals, 70), a_rule, start=START)
    state = BookState.from_dict(json.loads(json.dumps(half.state.to_dict())))
    for t in range(70, 90):
        # The job knows no more than the sessions that the rule reads.
        state, settlement, orders = step(state, day_at(market, signals, t, a_rule), a_rule)
        state = BookState.from_dict(json.loads(json.dumps(state.to_dict())))
        assert settlement.after == whole.daily["equity"][t - START]
        assert orders.weights.tobytes() == whole.targets[t - START].tobytes()
    assert state.to_dict() == whole.state.to_dict()
    rest = walk(market, signals, a_rule, start=70, state=half.state)
    later = whole.daily[70 - START :].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest.daily, later, check_exact=True)


def test_a_state_is_checked():
    state = BookState.start(["A", "B"], 100.0)
    values = state.to_dict()
    assert BookState.from_dict(values).to_dict() == values
    for broken in ({"cash": None}, {"value": [1.0]}, {"wealth": []}, {"stance": {}}, {"overlay": {"what": 1}}):
        with pytest.raises(DataError, match="saved state"):
            BookState.from_dict(values | broken)
    with pytest.raises(DataError, match="saved state"):
        BookState.from_dict({})
    held = replace(state, value=np.array([5.0, 0.0]))
    moved = held.reordered(["C", "A"])
    assert moved.value.tolist() == [0.0, 5.0]
    assert moved.equity == held.equity
    with pytest.raises(DataError, match="A is held"):
        held.reordered(["B"])


# --- limits, stance and what is not done ---------------------------------------------------------------------


def _sure(market, stress):
    """Signals that never change: half of the symbols up, half of them down."""
    forecast = np.where(np.arange(len(market.symbols)) % 2, -0.03, 0.03) * np.ones(market.close.shape)
    return Signals(forecast, np.full(forecast.shape, 0.05), stress)


def test_no_limit_is_passed(world, rule):
    market, signals = world()
    limits = {"position": 0.06, "sector": 0.1, "turnover": 0.6, "factors": {"market": 0.05}, "effective_names": 12.0}
    a_rule = rule(limits=limits | {"participation": 0.01}, rebalance_sessions=2, execution="open")
    found = walk(market, signals, a_rule, start=START)
    bound, checked = a_rule.construction.limits, 0
    for row in np.flatnonzero(found.daily["because"] != ""):
        w, held, date = found.targets[row], found.weights[row], market.dates[START + row]
        sectors = [abs(w[market.sector == code].sum()) for code in range(3)]
        rows = {
            "gross": np.abs(w).sum() - bound.gross,
            "net": abs(w.sum()) - bound.net_high,
            "position": np.abs(w).max() - bound.position,
            "sector": max(sectors) - bound.sector,
            "factor": (abs(market.factors["market"][0] @ w) - 0.05) / 1.5,
            "turnover": np.abs(w - held).sum() - bound.turnover,
            "concentration": np.sqrt((w**2).sum()) - 12.0**-0.5,
        }
        given = found.limits[(found.limits["date"] == date) & found.limits["relaxed"]]
        for kind, excess in rows.items():
            checked += 1
            assert excess <= TOLERANCE or kind in set(given["kind"]), (kind, excess, date)
        # Shares ordered are within the volume, and so is what was filled of them, at the prices of the order.
        adv = day_at(market, signals, START + row, a_rule).liquidity(a_rule)[0]
        ordered = np.abs(w - held) * found.daily["equity"][row]
        assert (ordered <= 0.01 * np.nan_to_num(adv) * (1 + 1e-9)).all()
        # And what is shown as crowded is not newly bought.
        crowded = signals.crowd_cost[START + row] > np.quantile(signals.crowd_cost[START + row], 0.9)
        assert (w <= np.maximum(held, 0) + 1e-12)[crowded].all()
    assert checked > 100
    assert {"position", "participation"} & set(found.limits["kind"])


def test_a_tighter_limit_binds(world, rule):
    market, signals = world(days=60, names=8)
    loose, tight = (walk(market, signals, rule(limits={"position": p}), start=START) for p in (0.2, 0.03))
    asked = tight.daily["because"] != ""
    assert np.abs(tight.targets[asked]).max() <= 0.03 + TOLERANCE < np.abs(loose.targets[asked]).max()
    assert "position" in set(tight.limits["kind"])


@pytest.mark.parametrize("forecast", [0.0, np.nan])
def test_no_signal_no_position(world, rule, forecast):
    market, signals = world(days=60, names=6)
    nothing = replace(signals, forecast=np.full(market.close.shape, forecast))
    found = walk(market, nothing, rule(), start=START)
    assert (found.weights == 0).all()
    assert (found.daily["equity"] == 1e7).all()


def test_a_passive_book_is_closed_at_once_and_as_far_as_the_volume_goes(world, rule):
    market, _ = world(days=70, names=8)
    stress = np.where(np.arange(70) < 53, 0.0, 0.9)
    found = walk(market, _sure(market, stress), rule(capital=2e8), start=START)
    row = 53 - START
    assert found.daily["because"][row] == "mode"
    assert found.daily["names"][row] > 0
    assert found.daily["because"][row + 1] == "closing"
    assert found.daily["names"].iloc[-1] == 0
    assert "the book is passive" in set(found.decisions(row)["reason"])
    assert set(found.decisions(row)["size"]) == {0.0}
    share = found.daily["largest_share"]
    assert 0.05 < share.max() < 0.12


def test_a_hedged_book_has_no_beta(world, rule):
    market, signals = world(days=60, names=8)
    signals = replace(signals, p_stress=np.full(60, 0.7))
    a_rule = rule(costs=FREE, stance={"defence": "future"}, limits={"net_low": 0.1, "net_high": 1.0})
    found = walk(market, signals, a_rule, start=START)
    beta = found.targets @ market.factors["market"][0]
    index = found.daily["index"].to_numpy()
    assert beta[1] > 0.01
    # Held from the close after the decision on, up to what prices moved in that session.
    assert index[1:] == pytest.approx(-beta[:-1], abs=0.01)
    assert (found.daily["hedge"] != 0).sum() > 10
    assert found.daily["hedge_cost"].max() > 0
    # The gross shrinks with the exposure.
    assert np.abs(found.targets[0]).sum() <= 0.3 + TOLERANCE


def test_a_scaled_book_is_neutral_and_smaller(world, rule):
    market, _ = world(days=45, names=8)
    found = walk(market, _sure(market, np.full(45, 0.5)), rule(), start=START)
    assert 0.3 < np.abs(found.targets[0]).sum() <= 0.5 + TOLERANCE
    assert market.factors["market"][0] @ found.targets[0] == pytest.approx(0, abs=TOLERANCE)


def test_drawdown_takes_the_exposure_away(world, rule):
    market, signals = world(days=70, names=8)
    signals = replace(signals, crowd_cost=None)
    brakes = rule(drawdown=DrawdownRule(soft=0.0, hard=0.001, window=200))
    found = walk(market, signals, brakes, start=START)
    equity = np.append(1e7, found.daily["equity"])
    deep = 1 - equity[1:] / np.maximum.accumulate(equity)[1:] >= 0.001
    assert deep.any()
    assert found.daily["names"].iloc[-1] == 0


@pytest.mark.parametrize("scheme", ["equal_weight", "hierarchical_risk_parity", "risk_parity"])
def test_a_scheme_within_the_limits(world, rule, scheme):
    market, signals = world(days=50, names=8)
    free = {"position": None, "net_low": None, "net_high": None, "sector": None, "participation": 1.0}
    a_rule = rule(scheme=scheme, limits=free, capital=1e5)
    first = walk(market, replace(signals, p_stress=np.zeros(50), crowd_cost=None), a_rule, start=START)
    w, size = first.targets[0], first.size[0]
    assert np.sign(w[size != 0]).tolist() == np.sign(size[size != 0]).tolist()
    if scheme == "equal_weight":
        assert w == pytest.approx(size / np.abs(size).sum(), abs=1e-3)
    capped = walk(market, signals, rule(scheme=scheme, limits={"position": 0.05}), start=START)
    assert np.abs(capped.targets[0]).max() <= 0.05 + TOLERANCE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": 100}, "start 100 of 60"),
        ({"shape": True}, "one panel"),
        ({"execution": "open"}, "no prices for fills at open"),
        ({"market": True}, "exposures to market"),
        ({"index": True}, "index has no return"),
    ],
)
def test_bad_input_is_refused(world, rule, change, message):
    market, signals = world(days=60, names=6)
    a_rule = rule(execution=change.get("execution", "close"))
    if "shape" in change:
        signals = Signals(signals.forecast[:, :3], signals.p_wrong[:, :3], signals.p_stress)
    if "execution" in change:
        market = replace(market, open=None)
    if "market" in change:
        market, signals = replace(market, factors={}), replace(signals, p_stress=np.full(60, 0.5))
    if "index" in change:
        market, signals = replace(market, index_return=np.full(60, np.nan)), replace(signals, p_stress=np.full(60, 0.7))
        a_rule = rule(stance={"defence": "future"})
    with pytest.raises(DataError, match=message):
        walk(market, signals, a_rule, start=change.get("start", START))


def test_panels_and_rules_are_checked(world, rule):
    market, signals = world(days=50, names=6)
    with pytest.raises(DataError, match="volume has shape"):
        replace(market, volume=market.volume[:, :2])
    with pytest.raises(DataError, match="p_stress has shape"):
        replace(signals, p_stress=np.zeros(3))
    with pytest.raises(ConfigError, match="unknown allocation scheme"):
        walk(market, signals, rule(scheme="none such"), start=START)
    with pytest.raises(ConfigError, match=r"soft 0\.3 is not below hard 0\.2"):
        parse(BookRule, {"drawdown": {"soft": 0.3}}, "book")
    other = replace(BookState.start(["X"], 1.0))
    with pytest.raises(DataError, match="other symbols"):
        settle(other, day_at(market, signals, 0, rule()), rule())


def test_a_lost_capital_ends_the_walk(world, rule):
    market, signals = world(days=60, names=6)
    state = replace(BookState.start(market.symbols, 10.0), value=np.full(6, -100.0), cash=610.0, last=market.close[44])
    state = replace(state, last=market.close[44] / 2)
    with pytest.raises(DataError, match="capital is lost"):
        walk(market, signals, rule(), start=45, state=state)


def test_a_symbol_is_gone_when_it_has_not_been_priced_for_long():
    close = np.full((50, 3), 10.0)
    close[5:, 0] = np.nan
    close[:40, 1] = np.nan
    close[10:30, 2] = np.nan
    gone = long_gone(close, 21)
    assert not gone[:25, 0].any()
    assert gone[25:, 0].all()
    assert not gone[:, 1:].any()
    # Nothing of it is known before.
    assert (long_gone(close[:25], 21) == gone[:25]).all()
