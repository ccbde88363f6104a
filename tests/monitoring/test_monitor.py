"""From a faked history to a verdict: skill kept, lost, turned round; versions that follow each other; shadows."""

import re

import numpy as np
import pandas as pd
import pytest
from monitoring_world import DATES, RULE, SESSIONS, SKILL, days_of, judged, outcomes, signals

from core.errors import ConfigError, DataError
from monitoring.exposition import Gauge, Sample, exposition, render
from reporting.monitor import monitor_page

FORWARD = outcomes()


@pytest.fixture(scope="module")
def kept():
    return judged(signals(FORWARD, SKILL), FORWARD)


def test_skill_that_is_kept_is_fine(kept):
    stack = kept.metrics["skill"]["stack"]
    assert kept.judgement.verdict == "fine", kept.judgement.sentence
    assert stack["days"] == SESSIONS - 6
    assert stack["rank_ic"] == pytest.approx(SKILL, abs=0.05)
    assert stack["cusum_ratio"] < 1
    assert kept.metrics["calibration"]["coverage"] == pytest.approx(0.9, abs=0.02)
    daily = kept.tables["daily"]
    assert daily["stack"].notna().sum() == SESSIONS - 6
    assert daily["rolling"].dropna().iloc[-1] == pytest.approx(stack["rank_ic"])
    assert daily["cusum"].dropna().iloc[-1] == pytest.approx(stack["cusum_ratio"])
    # A rank IC of a layer with half of the noise its own.
    assert 0 < kept.metrics["skill"]["linear"]["rank_ic"] < stack["rank_ic"]


def test_skill_that_is_gone_asks_for_a_new_training():
    fading = np.where(np.arange(SESSIONS) < 40, SKILL, -0.03)
    found = judged(signals(FORWARD, fading), FORWARD)
    assert found.judgement.verdict == "retrain", found.judgement.sentence
    assert found.judgement.fired[0].rule == "skill_lost"
    daily = found.tables["daily"]
    assert daily.loc[daily["date"] < pd.Timestamp(DATES[40]), "cusum"].max() < 1


def test_skill_turned_round_freezes():
    found = judged(signals(FORWARD, -0.12), FORWARD)
    assert found.judgement.verdict == "freeze"
    assert found.judgement.fired[0].rule == "inverted"


def test_a_new_version_does_not_answer_for_the_one_before():
    change = 90
    versions = np.where(np.arange(SESSIONS) < change, 1, 2)
    rows = signals(FORWARD, np.where(versions == 1, -0.1, 0.1), versions)
    before, after = judged(rows, FORWARD, at=change - 1), judged(rows, FORWARD)
    assert (before.version, before.judgement.verdict) == (1, "freeze")
    assert (after.version, after.judgement.verdict) == (2, "fine")
    assert after.metrics["skill"]["stack"]["days"] == SESSIONS - 6 - change
    daily = after.tables["daily"].dropna(subset="version")
    assert daily.loc[daily["version"] == 1, "cusum"].max() > 1
    assert daily.loc[daily["version"] == 2, "cusum"].iloc[0] < 0.2


def test_days_in_sample_are_no_evidence():
    rows = signals(FORWARD, 0.1).assign(in_sample=lambda frame: frame["date"] < pd.Timestamp(DATES[100]))
    found = judged(rows, FORWARD)
    assert found.metrics["skill"]["stack"]["days"] == SESSIONS - 6 - 100
    everything = judged(rows.assign(in_sample=True), FORWARD)
    assert everything.metrics["skill"]["stack"]["days"] == 0
    assert len(everything.judgement.unmeasured) == 5


def test_the_verdict_of_a_session_never_changes_with_what_follows():
    rows = signals(FORWARD, SKILL)
    first = judged(rows, FORWARD, at=100)
    poisoned = FORWARD.copy()
    poisoned[95:] = 9.0
    second = judged(
        rows.assign(signal=rows["signal"].where(rows["date"] <= pd.Timestamp(DATES[100]), 0)), poisoned, at=100
    )
    assert first.judgement == second.judgement
    for name, table in first.tables.items():
        pd.testing.assert_frame_equal(table, second.tables[name])


def test_a_challenger_in_shadow_is_set_against_what_served():
    rows, better = signals(FORWARD, SKILL), signals(FORWARD, 0.35, versions=2, seed=5)
    found = judged(rows, FORWARD, shadow={2: better, 3: better.iloc[:300]})
    line = found.metrics["shadow"]["version_2"]
    assert line["days"] == SESSIONS - 6
    assert line["difference"] == pytest.approx(0.29, abs=0.06)
    assert line["t"] > 3
    assert found.judgement.fired[0].rule == "challenger_leads"
    # Five sessions are too few to say anything of.
    assert np.isnan(found.metrics["shadow"]["version_3"]["t"])
    same = judged(rows, FORWARD, shadow={1: rows})
    assert same.metrics["shadow"]["best_t"] == 0


def test_a_broken_day_freezes():
    rows = signals(FORWARD, SKILL)
    days = days_of(rows)
    days.loc[150, ["state", "problem"]] = ["broken", "altered"]
    found = judged(rows[rows["date"] != pd.Timestamp(DATES[150])], FORWARD, days=days)
    assert found.judgement.verdict == "freeze"
    assert found.judgement.fired[0].rule == "altered"


def test_what_cannot_be_judged_is_refused():
    rows = signals(FORWARD, SKILL)
    with pytest.raises(DataError, match="no session was served whole"):
        judged(rows.iloc[:0], FORWARD)
    with pytest.raises(DataError, match="version 1 served but nothing is known"):
        judged(rows, FORWARD, references={2: None})


_METRIC, _VALUE = r"[a-zA-Z_:][a-zA-Z0-9_:]*", r"(?:[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|Inf)|NaN)"
_PAIR = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'


def parse_exposition(text):
    """Values by series; refuses whatever the text format 0.0.4 does not allow."""
    assert text.endswith("\n")
    helps, types, values, current = {}, {}, {}, None
    for line in text[:-1].split("\n"):
        if match := re.fullmatch(rf"# HELP ({_METRIC}) (.+)", line):
            assert match[1] not in helps
            helps[match[1]] = match[2]
        elif match := re.fullmatch(rf"# TYPE ({_METRIC}) gauge", line):
            current = match[1]
            assert current in helps
            assert current not in types
            types[current] = "gauge"
        else:
            match = re.fullmatch(rf"({_METRIC})(?:\{{({_PAIR}(?:,{_PAIR})*)\}})? ({_VALUE})", line)
            assert match, line
            # All lines of a metric are one group below its type.
            assert match[1] == current
            series = match[1] + (f"{{{match[2]}}}" if match[2] else "")
            assert series not in values
            values[series] = float(match[3])
    assert set(helps) == set(types)
    return values


def test_metrics_are_in_prometheus_format(kept):
    text = exposition(kept)
    values = parse_exposition(text)
    assert values['signals_monitor_verdict{verdict="fine"}'] == 1
    assert values['signals_monitor_verdict{verdict="freeze"}'] == 0
    assert values["signals_monitor_verdict_level"] == 0
    assert values['signals_monitor_rule_fired{rule="weak",verdict="watch"}'] == 0
    assert values['signals_monitor_skill_rank_ic{layer="stack"}'] == kept.metrics["skill"]["stack"]["rank_ic"]
    assert values["signals_monitor_session_timestamp_seconds"] == pd.Timestamp(DATES[-1]).timestamp()
    assert "challenger_leads" not in text
    assert values["signals_monitor_rules_unmeasured"] == 1
    assert exposition(kept) == text


def test_labels_are_escaped_and_names_checked():
    odd = 'a "b"\\c\nd'
    text = render([Gauge("m", "two\nlines \\", [Sample(1.5, {"x": odd}), Sample(float("-inf"), {"x": "y"})])])
    assert text == '# HELP m two\\nlines \\\\\n# TYPE m gauge\nm{x="a \\"b\\"\\\\c\\nd"} 1.5\nm{x="y"} -Inf\n'
    assert len(parse_exposition(text)) == 2
    assert render([Gauge("m", "nothing", [Sample(None), Sample(float("nan"))])]) == ""
    for gauges in (
        [Gauge("1m", "bad", [Sample(1.0)])],
        [Gauge("m", "bad", [Sample(1.0, {"a-b": "c"})])],
        [Gauge("m", "twice", [Sample(1.0), Sample(2.0)])],
    ):
        with pytest.raises(ConfigError):
            render(gauges)


def test_the_page_is_whole_escaped_and_deterministic(kept):
    def page():
        findings = pd.DataFrame(
            [{"rule": "weak", "metric": "m", "measured": 1.0, "bound": "", "state": "holds", "reason": "<b>"}]
        )
        return monitor_page("sub", "fine", "fine: all <well>", findings, kept.metrics, kept.tables, ["one & two"])

    text = page()
    assert text == page()
    assert "<script" not in text
    assert "Fine: all &lt;well&gt;." in text
    assert "One &amp; two." in text
    assert text.count("<svg") == 5
    for heading in ("Does it still rank stocks?", "Versions in shadow", "None is missing."):
        assert heading in text


def test_the_rules_of_the_world_name_what_is_measured(kept):
    for rule in RULE.rules:
        value = kept.metrics
        for part in rule.metric.split("."):
            value = value[part]
        assert isinstance(value, float)
