"""Gates: bounds, built-in checks, and what is not measured fails."""

import numpy as np
import pandas as pd
import pytest

from core.errors import ConfigError
from core.params import parse, read_yaml
from features.invariance import INVARIANCES
from governance.gates import Champion, Evidence, GovernanceRule, Summary, evaluate_gates

REASON = "a reason to have it"
DAYS = pd.bdate_range("2015-01-01", periods=400)
GATE = {"check": "beats_champion", "min": 1.645}


PROVEN = {
    "ok": True,
    "checked": len(INVARIANCES),
    "failed": [],
    "features": ["f"],
    "invariances": dict.fromkeys(INVARIANCES, True),
}
BROKEN = [{"feature": "f", "invariance": "future"}]


def policy(*gates):
    return parse(
        GovernanceRule, {"gates": [{"reason": REASON, "name": "gate", **gate} for gate in gates]}, "governance"
    )


def evidence(**changes):
    base = {
        "metrics": {"test": {"stack": {"rank_ic": 0.02}}},
        "invariances": PROVEN,
        "lineage": {"git": {"commit": "a" * 40, "clean": True}, "problems": [], "features": [{"name": "f"}]},
        "bundle_digest": "new",
        "daily_ic": pd.DataFrame({"date": DAYS, "stack": 0.02}),
    }
    return Evidence(**{**base, **changes})


def verdict(gate, **changes):
    return evaluate_gates(policy(gate), evidence(**changes))[0]


def daily(mean, seed=0, days=DAYS, column="stack"):
    return pd.DataFrame({"date": days, column: np.random.default_rng(seed).normal(mean, 0.05, len(days))})


@pytest.mark.parametrize(
    ("bounds", "passed"),
    [
        ({"min": 0.02}, True),
        ({"min": 0.0201}, False),
        ({"max": 0.02}, True),
        ({"max": 0.0199}, False),
        ({"min": 0.01, "max": 0.03}, True),
        ({"min": 0, "max": 0.01}, False),
    ],
)
def test_bounds_are_inclusive(bounds, passed):
    found = verdict({"metric": "test.stack.rank_ic", **bounds})
    assert found.passed is passed
    assert found.measured == 0.02
    assert found.blocks is not passed


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"test": {}},
        {"test": {"stack": 3}},
        *({"test": {"stack": {"rank_ic": bad}}} for bad in (None, float("nan"), "0.5", True, {"x": 1})),
    ],
)
def test_what_is_not_measured_fails(metrics):
    found = verdict({"metric": "test.stack.rank_ic", "min": -1.0}, metrics=metrics)
    assert not found.passed
    assert found.detail.startswith("not measured")


def test_a_warning_does_not_block():
    found = verdict({"metric": "test.stack.rank_ic", "min": 1.0, "severity": "warn"})
    assert (found.passed, found.blocks) == (False, False)
    assert Summary([found]).word == "pass"


@pytest.mark.parametrize(
    ("invariances", "passed"),
    [
        (PROVEN, True),
        ({**PROVEN, "features": ["cleaning", "f"], "checked": 30}, True),
        ({**PROVEN, "ok": False, "failed": BROKEN}, False),
        ({**PROVEN, "failed": BROKEN}, False),
        ({**PROVEN, "ok": False}, False),
        ({**PROVEN, "failed": {}}, False),
        ({**PROVEN, "checked": 0}, False),
        ({**PROVEN, "checked": len(INVARIANCES) - 1}, False),
        ({**PROVEN, "checked": "many"}, False),
        ({**PROVEN, "features": ["g"]}, False),
        ({**PROVEN, "invariances": {**PROVEN["invariances"], "future": False}}, False),
        ({**PROVEN, "invariances": dict.fromkeys(INVARIANCES[1:], True)}, False),
        ({"ok": True, "checked": 1, "failed": []}, False),
        ({"ok": True}, False),
        ({}, False),
        ([], False),
    ],
)
def test_invariances(invariances, passed):
    assert verdict({"check": "invariances"}, invariances=invariances).passed is passed


@pytest.mark.parametrize(
    ("git", "passed"),
    [
        ({"commit": "a" * 40, "clean": True}, True),
        ({"commit": "a" * 40, "clean": False, "changed": ["x.py"]}, False),
        ({"commit": None, "clean": False, "changed": []}, False),
        (None, False),
    ],
)
def test_clean_tree(git, passed):
    assert verdict({"check": "clean_tree"}, lineage={"git": git}).passed is passed


def test_lineage_names_its_problems():
    assert verdict({"check": "lineage"}).passed
    found = verdict({"check": "lineage"}, lineage={"problems": ["no data", "no features"]})
    assert (found.passed, found.detail) == (False, "no data; no features")
    assert not verdict({"check": "lineage"}, lineage={}).passed


def test_without_a_champion_there_is_nothing_to_beat():
    assert verdict(GATE).passed


@pytest.mark.parametrize(("gain", "passed"), [(0.02, True), (0.0, False), (-0.02, False)])
def test_the_paired_difference_decides(gain, passed):
    old = daily(0.01)
    new = old.assign(stack=old["stack"] + gain + np.random.default_rng(1).normal(0, 0.02, len(old)) * (gain != 0))
    found = verdict(GATE, daily_ic=new, champion=Champion(3, "old", old))
    assert found.passed is passed
    assert "version 3" in found.detail
    assert "400 common days" in found.detail


def test_the_t_value_of_the_difference_is_newey_wests():
    old, new = daily(0.0, 1), daily(0.01, 2)
    gap = (new["stack"] - old["stack"]).to_numpy()
    centred = gap - gap.mean()
    lags = 5
    long_run = sum(
        (1 if lag == 0 else 2 * (1 - lag / (lags + 1))) * (centred[lag:] * centred[: len(gap) - lag]).sum() / len(gap)
        for lag in range(lags + 1)
    )
    found = verdict(GATE, daily_ic=new, champion=Champion(3, "old", old))
    assert found.measured == pytest.approx(gap.mean() / np.sqrt(long_run / len(gap)), rel=1e-12)


def test_too_few_common_days_are_not_a_comparison():
    champion = Champion(3, "old", daily(0.0, days=DAYS[-20:]))
    assert "not measured" in verdict(GATE, champion=champion).detail
    champion = Champion(3, "old", daily(0.0, column="other"))
    assert "no column 'stack'" in verdict(GATE, champion=champion).detail


def test_the_champion_need_not_beat_itself():
    assert verdict(GATE, champion=Champion(3, "new", daily(0.0))).passed


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ([{"metric": "a.b"}], "needs min, max or both"),
        ([{"metric": "a.b", "check": "lineage", "min": 1.0}], "exactly one"),
        ([{"min": 1.0}], "exactly one"),
        ([{"metric": "a", "min": 2.0, "max": 1.0}], "above max"),
        ([{"check": "astrology"}], "check"),
        ([{"metric": "a", "min": 1.0, "threshold": 2}], "unknown parameter"),
        ([{"metric": "a", "min": 1.0}, {"metric": "b", "min": 1.0}], "listed twice"),
        ([{"metric": "a", "min": 1.0, "reason": "x"}], "reason"),
        ([], "gates"),
    ],
)
def test_an_impossible_policy_is_refused(gates, message):
    with pytest.raises(ConfigError, match=message):
        policy(*gates)


def test_the_policy_digest_changes_with_a_threshold():
    one, other = policy({"metric": "a", "min": 1.0}), policy({"metric": "a", "min": 1.5})
    assert one.digest != other.digest
    assert one.digest == policy({"metric": "a", "min": 1.0}).digest


@pytest.mark.parametrize(
    ("gate", "figures", "passed"),
    [
        ("drawdown_depth", {"drawdown_volatilities": 3.0}, True),
        ("drawdown_depth", {"drawdown_volatilities": 3.1}, False),
        ("drawdown_length", {"longest_drawdown": 504}, True),
        ("drawdown_length", {"longest_drawdown": 505}, False),
        ("concentration", {"effective_names": 20.0}, True),
        ("concentration", {"effective_names": 19.9}, False),
        ("concentration", {"effective_names": float("nan")}, False),
        ("single_name", {"largest_weight": 0.1}, True),
        ("single_name", {"largest_weight": 0.11}, False),
        ("single_name", {}, False),
    ],
)
def test_the_book_is_judged_by_its_concentration_and_drawdowns(repository, gate, figures, passed):
    rules = parse(GovernanceRule, read_yaml(repository / "params.yaml")["governance"], "governance")
    found = {one.gate: one for one in evaluate_gates(rules, evidence(metrics={"backtest": figures}))}[gate]
    assert found.passed is passed
    assert found.blocks is not passed
