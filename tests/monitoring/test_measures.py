"""Skill, calibration and upkeep: figures by hand."""

import numpy as np
import pandas as pd
import pytest

from models.scoring import default_lags, newey_west_variance
from monitoring.cusum import average_run_length, resample
from monitoring.rules import AlarmRule, MonitoringRule
from monitoring.skill import make_chart, measure_skill
from monitoring.trust import daily_trust, measure_trust
from monitoring.upkeep import daily_universe, measure_data, measure_universe

ANY = AlarmRule(name="weak", metric="skill.stack.z", min=-2.0, verdict="watch", reason="two deviations")
RULE = MonitoringRule(
    rules=[ANY], window_sessions=10, least_sessions=5, history_sessions=40, false_alarm_sessions=200, simulations=200
)
EXPECTED = 0.03 + np.random.default_rng(0).normal(0.0, 0.08, 400)


def test_skill_by_hand():
    realised = np.concatenate([np.full(7, 0.5), [np.nan], np.linspace(-0.04, 0.05, 10)])
    found = measure_skill(realised, EXPECTED, 5, RULE, None)
    variance = newey_west_variance(EXPECTED, default_lags(400, 5))
    assert found["days"] == 17
    assert found["rank_ic"] == pytest.approx(0.005)
    assert found["expected"] == pytest.approx(EXPECTED.mean())
    assert found["t"] == pytest.approx(0.005 / np.sqrt(variance / 10))
    assert found["z"] == pytest.approx((0.005 - EXPECTED.mean()) / np.sqrt(variance / 10 + variance / 400))
    assert found["hit_rate"] == 0.5
    assert np.isnan(found["cusum_ratio"])


def test_few_days_tell_nothing_but_the_cusum():
    chart = make_chart(EXPECTED, 5, RULE, seed=1)
    found = measure_skill([-0.2, -0.1], EXPECTED, 5, RULE, chart)
    assert np.isnan([found[name] for name in ("rank_ic", "z", "t", "hit_rate")]).all()
    assert found["cusum"] == pytest.approx(2 * (chart.mean - chart.slack) + 0.3)
    assert found["cusum_ratio"] == pytest.approx(found["cusum"] / chart.limit)
    nothing = measure_skill([], EXPECTED, 5, RULE, chart)
    assert np.isnan(nothing["cusum_ratio"])
    assert nothing["days"] == 0


def test_a_chart_rings_as_seldom_as_asked_and_soon_after_a_loss():
    chart = make_chart(EXPECTED, 5, RULE, seed=1)
    assert chart == make_chart(EXPECTED, 5, RULE, seed=1)
    assert chart.mean == pytest.approx(EXPECTED.mean())
    assert chart.slack == pytest.approx(EXPECTED.mean() / 2)
    assert chart.run_length == pytest.approx(200, rel=2e-3)
    assert chart.run_length_lost < 100
    # Other draws of the same record: the measured run length is no accident of its seed.
    paths = resample(EXPECTED, 400, 2000, 24, seed=99)
    again, error = average_run_length(paths, chart.mean, chart.slack, chart.limit)
    assert again == pytest.approx(200, abs=4 * np.hypot(error, chart.run_length_error))


def test_no_skill_promised_can_be_lost():
    assert make_chart(-EXPECTED, 5, RULE, seed=1) is None
    assert make_chart(np.full(9, np.nan), 5, RULE, seed=1) is None


def _rows(days=8, names=4):
    rng = np.random.default_rng(3)
    dates = np.repeat(pd.bdate_range("2020-01-01", periods=days), names)
    forward = rng.normal(size=len(dates))
    expected = np.where(rng.random(len(dates)) < 0.7, np.sign(forward), -np.sign(forward)) * 0.1
    return pd.DataFrame(
        {
            "date": dates,
            "symbol": np.tile([f"S{i}" for i in range(names)], days),
            "expected_return": expected,
            "interval_low": -1.0,
            "interval_high": 1.0,
            "p_wrong": rng.uniform(0.2, 0.5, len(dates)),
            "forward": forward,
            "due": True,
        }
    )


def test_trust_by_hand():
    rows = _rows()
    rows.loc[0, "forward"] = np.nan
    rows.loc[1, "expected_return"] = 0.0
    rows.loc[2, "p_wrong"] = np.nan
    found, table = measure_trust(rows, 0.9, {"brier": 0.24}, RULE)
    judged = rows.drop(index=[0, 2])
    signed = judged.drop(index=1)
    wrong = (signed["expected_return"] * signed["forward"] <= 0).astype(float)
    assert found["days"] == 8
    assert found["coverage"] == pytest.approx(judged["forward"].between(-1, 1).mean())
    assert found["brier"] == pytest.approx(((signed["p_wrong"] - wrong) ** 2).mean())
    assert found["brier_excess"] == pytest.approx(found["brier"] - wrong.mean() * (1 - wrong.mean()))
    assert found["share_wrong"] == pytest.approx(wrong.mean())
    assert found["p_wrong"] == pytest.approx(signed["p_wrong"].mean())
    assert found["brier_expected"] == 0.24
    assert np.isnan(found["ece_expected"])
    assert table["rows"].sum() == len(signed)
    daily = daily_trust(rows)
    assert daily["coverage"].iloc[1] == rows.iloc[4:8]["forward"].between(-1, 1).mean()
    assert len(daily) == 8


def test_trust_reads_the_latest_window_alone():
    rows = _rows(days=14)
    later = rows[rows["date"] >= rows["date"].unique()[4]]
    assert measure_trust(rows, 0.9, {}, RULE)[0]["brier"] == measure_trust(later, 0.9, {}, RULE)[0]["brier"]
    few, table = measure_trust(_rows(days=4), 0.9, {}, RULE)
    assert few["days"] == 4
    assert np.isnan(few["coverage"])
    assert table.empty
    assert daily_trust(rows.assign(forward=np.nan)).empty


def _days(states):
    dates = pd.bdate_range("2020-01-01", periods=len(states))
    return pd.DataFrame({"date": dates, "state": states, "warnings": 1, "in_sample": False})


def test_upkeep_by_hand():
    states = ["broken"] + ["served"] * 7 + ["missing", "broken", "served", "served", "missing"]
    days, rows = _days(states), _rows(days=13)
    rows["due"] = rows["date"] < days["date"].iloc[10]
    # Outcomes that are not due do not count; of the window's seven due sessions one row of 28 is unknown.
    rows.loc[rows.index[-1], "forward"] = np.nan
    rows.loc[20, "forward"] = np.nan
    found = measure_data(days, rows, [100] * 20 + [50] * 9 + [40], RULE)
    assert {name: found[name] for name in ("sessions", "served", "missing", "broken", "warnings", "stale")} == {
        "sessions": 10, "served": 7, "missing": 2, "broken": 1, "warnings": 10, "stale": 1,
    }  # fmt: skip
    assert found["overdue"] == pytest.approx(1 / 28)
    assert found["priced_ratio"] == pytest.approx(0.8)
    assert found["priced_trend"] == pytest.approx(49 / 100 - 1)
    nothing = measure_data(_days(["missing"]), rows.iloc[:0], [], RULE)
    assert np.isnan([nothing[name] for name in ("stale", "overdue", "priced_ratio", "priced_trend")]).all()


def test_universe_by_hand():
    rows = pd.DataFrame(
        [(day, name) for day, names in enumerate(["ABCD", "ABCE", "AB"]) for name in names], columns=["date", "symbol"]
    )
    daily = daily_universe(rows)
    assert daily["symbols"].tolist() == [4, 4, 2]
    np.testing.assert_allclose(daily["changed"], [np.nan, 1 - 3 / 5, 1 - 2 / 4])
    found = measure_universe(daily, RULE)
    assert found == {"symbols": 2, "usual": 4, "ratio": 0.5, "changed": pytest.approx(0.45)}
    assert np.isnan(measure_universe(daily.iloc[:0], RULE)["ratio"])
