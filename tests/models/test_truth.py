"""What is found of a known truth: shares that are known in closed form, days told apart, bad tables refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from core.errors import DataError
from models.truth import join_truth, planted_sources, recover

DAYS, NAMES, HELD, HORIZON = 300, 200, 100, 5


def market(strength: float = 0.1, seed: int = 0) -> pd.DataFrame:
    """Joined rows of two independent sources, the first twice as strong as the second."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(DAYS), NAMES)
    first, second = strength * rng.normal(size=(2, DAYS * NAMES)) * np.array([[2.0], [1.0]]) / np.sqrt(5.0)
    return pd.DataFrame(
        {
            "date": pd.bdate_range("2014-01-01", periods=DAYS)[day],
            "symbol": np.tile([f"S{k:03d}" for k in range(NAMES)], DAYS),
            "holdout": day >= DAYS - HELD,
            "regime": np.where(day % 3 == 0, "stress", "calm"),
            "expected": first + second,
            "part_first": first,
            "part_second": second,
            "forward": first + second + rng.normal(size=DAYS * NAMES),
            "noise": rng.normal(size=DAYS * NAMES),
        }
    )


def line(frame: pd.DataFrame, **key: str) -> pd.Series:
    (found,) = (row for _, row in frame.iterrows() if all(row[name] == value for name, value in key.items()))
    return found


def spearman(pearson: float) -> float:
    """Rank correlation of two Gaussians (Pearson, 1907)."""
    return 6.0 / np.pi * np.arcsin(pearson / 2.0)


def test_the_truth_finds_all_and_noise_nothing() -> None:
    rows = market()
    result = recover(rows, {"truth": "expected", "noise": "noise"}, horizon=HORIZON)
    assert result.sources == ("first", "second")
    for part in ("test", "holdout"):
        truth = line(result.found, part=part, regime="all", model="truth")
        assert truth["share"] == pytest.approx(1.0)
        assert truth["agreement"] == pytest.approx(1.0)
        assert truth["rank_ic"] == truth["oracle_rank_ic"]
        noise = line(result.found, part=part, regime="all", model="noise")
        # Four standard errors of a mean of daily correlations of noise.
        bound = 4.0 / np.sqrt(NAMES * noise["days"])
        assert abs(noise["agreement"]) < bound
        assert abs(noise["rank_ic"]) < bound
        assert noise["oracle_rank_ic"] == truth["oracle_rank_ic"]
    assert result.by_source.query("model == 'truth'")["share"].to_numpy() == pytest.approx(1.0)
    assert result.by_source.query("model == 'noise' and regime == 'all'")["share"].abs().max() < 0.05


def test_a_signal_that_is_half_noise_finds_the_known_share() -> None:
    rows = market(0.3)
    rows["half"] = rows["expected"] + 0.3 * rows["noise"]
    result = recover(rows, {"half": "half"}, horizon=HORIZON)
    found = line(result.found, part="test", regime="all", model="half")
    true = 0.3 / np.sqrt(1.0 + 0.3**2)
    assert found["agreement"] == pytest.approx(spearman(np.sqrt(0.5)), abs=0.005)
    assert found["oracle_rank_ic"] == pytest.approx(spearman(true), abs=0.02)
    assert found["share"] == pytest.approx(np.sqrt(0.5), abs=0.03)


def test_each_source_gets_its_own() -> None:
    rows = market(0.3)
    rows["lopsided"] = rows["part_second"]
    result = recover(rows, {"truth": "expected", "lopsided": "lopsided"}, horizon=HORIZON)
    shares = {"first": 2.0 / np.sqrt(5.0), "second": 1.0 / np.sqrt(5.0)}
    for name, share in shares.items():
        truth = line(result.by_source, part="test", regime="all", model="truth", source=name)
        assert truth["correlation"] == pytest.approx(spearman(share), abs=0.01)
        assert truth["own_rank_ic"] == pytest.approx(spearman(0.3 * share / np.sqrt(1.09)), abs=0.02)
    found = line(result.by_source, part="test", regime="all", model="lopsided", source="second")
    assert found["correlation"] == pytest.approx(1.0)
    assert found["share"] == pytest.approx(1.0 / spearman(shares["second"]), rel=0.02)
    assert line(result.by_source, part="test", regime="all", model="lopsided", source="first")[
        "earned"
    ] == pytest.approx(0.0, abs=0.001)
    for model in ("truth", "lopsided"):
        earned = result.by_source.query(f"part == 'test' and regime == 'all' and model == '{model}'")["earned"].sum()
        whole = line(result.found, part="test", regime="all", model=model)["rank_ic"]
        assert earned == pytest.approx(whole, abs=0.01)


def test_figures_are_those_of_scipy_day_by_day() -> None:
    rows = market()
    rows["signal"] = rows["part_first"] + 0.1 * rows["noise"]
    rows.loc[::7, "signal"] = np.nan
    rows.loc[::11, "forward"] = np.nan
    result = recover(rows, {"stack": "signal"}, horizon=HORIZON)
    expected = []
    for _, day in rows[rows["holdout"] & (rows["regime"] == "stress")].dropna().groupby("date"):
        expected.append(
            [
                spearmanr(day["signal"], day["forward"])[0],
                spearmanr(day["expected"], day["forward"])[0],
                spearmanr(day["signal"], day["expected"])[0],
                spearmanr(day["signal"], day["part_second"])[0],
                spearmanr(day["signal"], day["part_second"])[0] * spearmanr(day["part_second"], day["forward"])[0],
            ]
        )
    means = np.mean(expected, axis=0)
    found = line(result.found, part="holdout", regime="stress")
    assert found["days"] == len(expected)
    assert [found["rank_ic"], found["oracle_rank_ic"], found["agreement"]] == pytest.approx(means[:3])
    source = line(result.by_source, part="holdout", regime="stress", source="second")
    assert [source["correlation"], source["earned"]] == pytest.approx(means[3:])


def test_days_fall_into_parts_and_regimes() -> None:
    rows = market()
    found = recover(rows, {"stack": "noise"}, horizon=HORIZON).found.set_index(["part", "regime"])["days"]
    # The last days before the holdout have outcomes that reach into it.
    before = DAYS - HELD - HORIZON
    assert found.to_dict() == {
        ("test", "all"): before,
        ("test", "calm"): before - (before + 2) // 3,
        ("test", "stress"): (before + 2) // 3,
        ("holdout", "all"): HELD,
        ("holdout", "calm"): HELD - HELD // 3,
        ("holdout", "stress"): HELD // 3,
    }


def test_a_signal_of_one_regime_is_found_there_alone() -> None:
    rows = market()
    rows["timed"] = np.where(rows["regime"] == "stress", -rows["expected"], rows["expected"])
    found = recover(rows, {"timed": "timed"}, horizon=HORIZON).found.query("part == 'test'").set_index("regime")
    assert found.loc["calm", "share"] == pytest.approx(1.0)
    assert found.loc["stress", "share"] == pytest.approx(-1.0)
    assert found.loc["all", "agreement"] == pytest.approx(1.0 / 3.0, abs=0.01)


def test_a_source_that_is_silent_on_some_days_earns_nothing_on_them() -> None:
    rows = market(0.3)
    silent = rows["regime"] == "stress"
    rows.loc[silent, "part_second"] = 0.0
    result = recover(rows, {"truth": "part_second"}, horizon=HORIZON).by_source
    assert np.isnan(line(result, part="test", regime="stress", source="second")["correlation"])
    calm = line(result, part="test", regime="calm", source="second")
    whole = line(result, part="test", regime="all", source="second")
    assert whole["correlation"] == pytest.approx(calm["correlation"])
    # A constant signal ranks nothing, so those days cannot be judged at all.
    assert whole["earned"] == pytest.approx(calm["earned"])
    busy = recover(rows, {"stack": "expected"}, horizon=HORIZON).by_source
    calm, whole = (line(busy, part="holdout", regime=name, source="second") for name in ("calm", "all"))
    assert whole["earned"] == pytest.approx(calm["earned"] * (HELD - HELD // 3) / HELD)


def test_where_nothing_is_planted_no_share_is_told() -> None:
    rows = market().drop(columns=["part_first", "part_second"]).assign(expected=0.0)
    result = recover(rows, {"stack": "noise"}, horizon=HORIZON)
    assert result.sources == ()
    assert result.by_source.empty
    found = line(result.found, part="test", regime="all")
    assert np.isnan(found["share"])
    assert np.isnan(found["oracle_rank_ic"])
    assert abs(found["rank_ic_t"]) < 4.0


def test_a_share_of_an_oracle_that_cannot_be_told_from_luck_is_not_told() -> None:
    rows = market(strength=1e-4)
    found = recover(rows, {"stack": "expected"}, horizon=HORIZON).found
    assert found["share"].isna().all()
    assert found["agreement"].to_numpy() == pytest.approx(1.0)


def tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    rows = market()
    signals = rows[["date", "symbol", "holdout"]].assign(signal=rows["noise"])
    outcomes = rows[["date", "symbol", "forward"]]
    truth = rows[["date", "symbol", "regime", "expected", "part_first", "part_second"]]
    return signals, outcomes, truth.assign(date=truth["date"].astype("datetime64[ms]"), crowd=0.0)


def test_the_join_is_by_date_and_symbol_whatever_the_order() -> None:
    signals, outcomes, truth = tables()
    shuffled = (frame.sample(frac=1.0, random_state=k) for k, frame in enumerate((signals, outcomes, truth)))
    joined = join_truth(*shuffled)
    whole = market()
    for name in ("expected", "part_second", "forward", "regime", "holdout"):
        assert joined[name].tolist() == whole[name].tolist()
    assert "crowd" not in joined


@pytest.mark.parametrize(
    ("table", "column"), [(0, "holdout"), (1, "forward"), (2, "expected"), (2, "regime"), (2, "symbol")]
)
def test_a_missing_column_is_named(table: int, column: str) -> None:
    handed = list(tables())
    handed[table] = handed[table].drop(columns=column)
    with pytest.raises(DataError, match=f"lack the column '{column}'"):
        join_truth(*handed)


def test_a_missing_signal_is_named() -> None:
    with pytest.raises(DataError, match="lack the column 'signal_a'"):
        recover(market(), {"boosting": "signal_a"}, horizon=HORIZON)


def test_a_row_that_repeats_is_refused() -> None:
    signals, outcomes, truth = tables()
    twice = pd.concat([truth, truth.iloc[[5]]])
    with pytest.raises(DataError, match="truth hold S005 on 2014-01-01 twice"):
        join_truth(signals, outcomes, twice)


def test_the_truth_of_another_market_is_refused() -> None:
    signals, outcomes, truth = tables()
    with pytest.raises(DataError, match="nothing is known of 300 of 60,000 rows, first S000 on 2014-01-01"):
        join_truth(signals, outcomes, truth[truth["symbol"] != "S000"])


def test_too_few_names_are_refused() -> None:
    rows = market()
    with pytest.raises(DataError, match="no day has 20 rows"):
        recover(rows[rows["symbol"] < "S010"], {"stack": "noise"}, horizon=HORIZON)


def test_sources_are_the_parts() -> None:
    assert planted_sources(tables()[2]) == ("first", "second")
