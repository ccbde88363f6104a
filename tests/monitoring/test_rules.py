"""Rules: typed, bounded, and never silent about what they could not measure."""

import pytest

from core.errors import ConfigError
from core.params import parse, read_yaml
from monitoring.rules import AlarmRule, MonitoringRule, judge

WEAK = {"name": "weak", "metric": "skill.stack.z", "min": -2.0, "verdict": "watch", "reason": "two deviations"}
LOST = {"name": "lost", "metric": "skill.stack.cusum_ratio", "max": 1.0, "verdict": "retrain", "reason": "page 1954"}
OFF = {"name": "off", "metric": "skill.stack.t", "min": -3.0, "verdict": "freeze", "reason": "wrong way round"}
BAND = {
    "name": "band",
    "metric": "calibration.coverage",
    "min": 0.8,
    "max": 1.0,
    "verdict": "watch",
    "reason": "a band of it",
}
RULES = [AlarmRule(**rule) for rule in (WEAK, LOST, OFF, BAND)]


def _metrics(z=0.0, ratio=0.0, t=2.0, coverage=0.9):
    return {"skill": {"stack": {"z": z, "cusum_ratio": ratio, "t": t}}, "calibration": {"coverage": coverage}}


@pytest.mark.parametrize(
    ("metrics", "verdict", "fired"),
    [
        (_metrics(), "fine", []),
        (_metrics(z=-2.0, ratio=1.0, t=-3.0, coverage=0.8), "fine", []),
        (_metrics(z=-2.01), "watch", ["weak"]),
        (_metrics(coverage=1.01), "watch", ["band"]),
        (_metrics(ratio=float("inf"), z=-9.0), "retrain", ["lost", "weak"]),
        (_metrics(ratio=2.0, z=-9.0, t=-4), "freeze", ["off", "lost", "weak"]),
    ],
)
def test_the_gravest_rule_that_fires_is_the_verdict(metrics, verdict, fired):
    found = judge(RULES, metrics)
    assert found.verdict == verdict
    assert [one.rule for one in found.fired] == fired
    assert found.sentence.startswith(verdict)
    assert not found.unmeasured


def test_what_is_not_measured_does_not_fire_and_is_told():
    metrics = _metrics(z=float("nan"), ratio=None, t=True)
    del metrics["calibration"]
    found = judge(RULES, metrics)
    assert found.verdict == "fine"
    assert [one.rule for one in found.unmeasured] == ["weak", "lost", "off", "band"]
    assert "0 of 4 rules could be measured" in found.sentence
    assert "not measured yet" in found.findings[0].sentence


def test_a_sentence_names_measurement_bound_and_reason():
    told = judge(RULES, _metrics(z=-2.5)).sentence
    assert told == (
        "watch: weak: skill.stack.z = -2.5, must be >= -2 (two deviations); 1 fired, 4 of 4 rules could be measured"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rules": []}, ["monitoring.rules", "at least 1"]),
        ({"rules": [{**WEAK, "min": None}]}, ["give min, max or both"]),
        ({"rules": [{**BAND, "min": 2.0}]}, ["min 2.0 is above max 1.0"]),
        ({"rules": [WEAK, WEAK]}, ["weak is listed twice"]),
        ({"rules": [{**WEAK, "verdict": "panic"}]}, ["monitoring.rules.0.verdict", "panic"]),
        ({"rules": [{**WEAK, "metric": "skill"}]}, ["monitoring.rules.0.metric"]),
        ({"rules": [{**WEAK, "reason": "so"}]}, ["monitoring.rules.0.reason"]),
        ({"windw_sessions": 9}, ["monitoring.windw_sessions", "unknown parameter", "window_sessions"]),
        ({"least_sessions": 64}, ["least_sessions 64 is above window_sessions 63"]),
        ({"window_sessions": 600}, ["window_sessions 600 is above history_sessions 504"]),
        ({"cusum_slack": 1.0}, ["monitoring.cusum_slack", "less than 1"]),
    ],
)
def test_a_bad_value_is_named(change, words):
    with pytest.raises(ConfigError) as caught:
        parse(MonitoringRule, {"rules": [WEAK], **change}, "monitoring")
    for word in words:
        assert word in str(caught.value)


def test_the_repositorys_rules_are_valid_and_graver_rules_are_stricter(repository):
    rule = parse(MonitoringRule, read_yaml(repository / "params.yaml")["monitoring"], "monitoring")
    assert {one.verdict for one in rule.rules} == {"watch", "retrain", "freeze"}
    lowest = {(one.metric, one.verdict): one.min for one in rule.rules if one.min is not None}
    assert lowest["universe.ratio", "freeze"] < lowest["universe.ratio", "watch"]
    assert lowest["skill.stack.z", "retrain"] < lowest["skill.stack.z", "watch"]
    assert lowest["calibration.coverage", "retrain"] < lowest["calibration.coverage", "watch"]
