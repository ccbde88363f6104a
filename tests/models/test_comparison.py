"""Two versions on the same days: figures by hand, and a verdict that never says more than they do."""

import json

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from models.comparison import compare, daily_record, paired, stack_minus_layers
from models.scoring import default_lags, newey_west_t

DAYS, HELD, HORIZON = 400, 100, 5


def record(lead=0.0, held_lead=None, net_lead=0.0, seed=0, days=DAYS, noise=0.02):
    """A version's daily record; `lead` is what its rank IC has over that of any other seed."""
    common, own = np.random.default_rng(99), np.random.default_rng(seed)
    held = np.arange(days) >= days - HELD
    base, money = common.normal(0.03, 0.1, days), common.normal(0.0005, 0.01, days)
    leads = np.where(held, lead if held_lead is None else held_lead, lead)
    return pd.DataFrame(
        {
            "date": pd.bdate_range("2014-10-01", periods=days),
            "holdout": held,
            "part": np.where(held, "holdout", "test"),
            "regime": np.where(np.arange(days) % 3 == 0, "stress", "calm"),
            "stack": base + leads + own.normal(0, noise, days),
            "linear": base - 0.01,
            "net": money + net_lead + own.normal(0, 0.002, days),
            "turnover": 0.1,
        }
    )


def test_figures_are_those_of_the_days_that_both_have():
    challenger, champion = record(0.01, seed=1).iloc[20:], record(seed=2).iloc[:380]
    challenger.loc[50, "stack"] = champion.loc[60, "stack"] = np.nan
    found = compare(challenger, champion, HORIZON)
    both = challenger.merge(champion, on="date").dropna(subset=["stack_x", "stack_y"])
    gap = both["stack_x"] - both["stack_y"]
    whole = found.figures["rank_ic"]["all"]
    assert found.figures["days"] == whole["days"] == len(both) == 358
    assert (found.figures["first"], found.figures["last"]) == (both["date"].min(), both["date"].max())
    assert whole["challenger"] == pytest.approx(both["stack_x"].mean())
    assert whole["champion"] == pytest.approx(both["stack_y"].mean())
    assert whole["difference"] == pytest.approx(gap.mean())
    assert whole["t"] == pytest.approx(newey_west_t(gap, default_lags(358, HORIZON)))
    assert found.figures["correlation"] == pytest.approx(both["stack_x"].corr(both["stack_y"]))
    held = both[both["part_x"] == "holdout"]
    assert found.figures["rank_ic"]["holdout"]["days"] == len(held) == 80
    assert found.figures["rank_ic"]["holdout"]["difference"] == pytest.approx(
        (held["stack_x"] - held["stack_y"]).mean()
    )
    assert found.figures["rank_ic"]["test"]["days"] == 278
    by_year = found.tables["by_year"].set_index("year")
    assert by_year["days"].sum() == by_year.loc[2014, "days"] + 261 + by_year.loc[2016, "days"] == 358
    regimes = found.tables["by_regime"].set_index("regime")
    rows = both[both["regime_y"] == "stress"]
    assert regimes.loc["stress", "difference"] == pytest.approx((rows["stack_x"] - rows["stack_y"]).mean())


def test_money_is_compared_day_by_day():
    challenger, champion = record(net_lead=0.0004, seed=1), record(seed=2)
    line = compare(challenger, champion, HORIZON).figures["net"]["all"]
    gap = challenger["net"] - champion["net"]
    assert line["difference_a_year"] == pytest.approx(252 * gap.mean())
    assert line["t"] == pytest.approx(newey_west_t(gap, default_lags(DAYS, 1)))
    ratio = champion["net"].mean() / champion["net"].std() * np.sqrt(252)
    assert line["champion_sharpe"] == pytest.approx(ratio)
    assert line["challenger_turnover"] == pytest.approx(0.1)


def test_days_of_different_parts_count_in_the_whole_alone():
    champion = record(seed=2)
    champion.loc[champion.index[-150:], "part"] = "holdout"
    found = compare(record(seed=1), champion, HORIZON).figures["rank_ic"]
    assert (found["test"]["days"], found["holdout"]["days"], found["all"]["days"]) == (250, 100, 400)


def test_layers_that_one_side_lacks_are_shown_as_missing():
    table = compare(record(seed=1).rename(columns={"linear": "boosting"}), record(seed=2), HORIZON).tables["layers"]
    table = table.set_index("layer")
    assert list(table.index) == ["stack", "boosting", "linear"]
    assert np.isnan(table.loc["boosting", "champion"])
    assert np.isnan(table.loc["linear", "challenger"])


@pytest.mark.parametrize(
    ("challenger", "word", "sentence"),
    [
        (record(0.03, net_lead=0.001, seed=1), "better", "In money too"),
        (record(0.03, seed=1), "better", "In money it is not proven"),
        (record(0.03, net_lead=-0.001, seed=1), "better", "It does not show in money"),
        (record(0.03, seed=1).assign(net=np.nan), "better", "not known on common days"),
        (record(0.03, seed=1).assign(part="test"), "better", "no holdout day in common"),
        (record(0.03, 0.003, seed=1), "better", "The holdout alone is too short to tell"),
        (record(0.03, -0.01, seed=1), "cannot be told apart", "of the opposite sign"),
        (record(0.0001, seed=1), "cannot be told apart", "|t| = 2 is the bar"),
        (record(-0.03, seed=1), "worse", "The challenger is worse"),
        (record(-0.03, 0.02, seed=1), "worse", "In the holdout alone it is the other way round"),
        (record(seed=2), "cannot be told apart", "the rank IC is the same on all 400 days"),
    ],
    ids=["money too", "money not proven", "no money", "money unknown", "no holdout", "short holdout", "holdout says no",
         "noise", "worse", "worse, holdout better", "itself"],
)  # fmt: skip
def test_the_verdict_says_no_more_than_the_figures(challenger, word, sentence):
    found = compare(challenger, record(seed=2), HORIZON)
    assert found.word == word
    assert sentence in found.sentence
    assert ("better" in found.sentence) == (word == "better")


def test_noise_is_rarely_told_apart():
    champion = record(seed=0)
    words = [compare(record(seed=seed), champion, HORIZON).word for seed in range(1, 41)]
    assert words.count("cannot be told apart") >= 35


def test_paired_differences_of_series_that_hardly_differ():
    values = np.random.default_rng(0).normal(size=80)
    assert paired(values, values, HORIZON) == (0.0, 0.0, 80)
    mean, t, days = paired(values + 0.5, values, HORIZON)
    assert (mean, t, days) == (pytest.approx(0.5), np.inf, 80)
    assert paired(values - 0.5, values, HORIZON)[1] == -np.inf
    assert paired([np.nan, 1.0], [1.0, np.nan], HORIZON)[2] == 0


def test_a_record_tells_its_parts_apart():
    dates = np.arange("2020-01-01", "2020-01-21", dtype="datetime64[D]")
    ranks = pd.DataFrame({"date": pd.DatetimeIndex(dates[:18]), "holdout": False, "stack": 0.1, "linear": 0.2})
    equity = pd.DataFrame({"date": pd.DatetimeIndex(dates[1:]), "net": 0.01, "gross": 0.02, "cost": 0.01})
    regimes = pd.Series("calm", index=pd.DatetimeIndex(dates[:10]))
    table = daily_record(ranks, equity, dates, 15, 2, regimes)
    assert list(table.columns) == ["date", "holdout", "part", "regime", "stack", "linear", "net", "cost"]
    assert table["part"].tolist() == ["test"] * 13 + ["between"] * 2 + ["holdout"] * 5
    assert table["regime"].tolist() == ["calm"] * 10 + ["unknown"] * 10
    assert np.isnan(table["net"].iloc[0])
    assert table["stack"].isna().tolist() == [False] * 18 + [True] * 2
    assert not daily_record(ranks, equity, dates, 20, 2, regimes)["holdout"].any()


def test_the_stack_against_its_layers():
    table = stack_minus_layers(record(seed=1), ["linear"], HORIZON)
    rows = record(seed=1)
    gap = (rows["stack"] - rows["linear"])[rows["part"] == "holdout"]
    assert table["part"].tolist() == ["test", "holdout"]
    assert table.loc[1, "difference"] == pytest.approx(gap.mean())
    assert table.loc[1, "days"] == HELD


def test_what_cannot_be_compared():
    with pytest.raises(DataError, match=r"59 days with a rank IC in common \(2014-10-01 to .* 60 are needed"):
        compare(record(seed=1).iloc[:59], record(seed=2), HORIZON)
    with pytest.raises(DataError, match="record of the champion lacks the column 'net'"):
        compare(record(seed=1), record(seed=2).drop(columns="net"), HORIZON)
    twice = pd.concat([record(seed=1), record(seed=1).head(1)])
    with pytest.raises(DataError, match="record of the challenger holds 2014-10-01 twice"):
        compare(twice, record(seed=2), HORIZON)


def test_the_figures_fit_into_json():
    figures = compare(record(seed=1), record(seed=2), HORIZON).figures
    assert json.loads(json.dumps(figures, default=str))["horizon"] == HORIZON
