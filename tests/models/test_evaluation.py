import numpy as np
import pandas as pd
import pytest
from scipy.stats import kurtosis, skew

from core.errors import DataError
from governance.gates import Evidence, GateRule, GovernanceRule, judge
from models.evaluation import EvaluationRule, evaluate
from models.overfitting import dsr, trial_variance
from models.scoring import default_lags, newey_west_t
from models.stability import VolatilityRule, market_regimes, size_terciles

HORIZON, DAYS, NAMES, HOLDOUT = 5, 400, 40, 100


def _inputs(skill=0.15, seed=0):
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2015-06-01", periods=DAYS)
    frame = pd.DataFrame({"date": np.repeat(dates, NAMES), "symbol": [f"S{i:02d}" for i in range(NAMES)] * DAYS})
    z = rng.normal(size=len(frame))
    forward = 0.02 * (skill * z + np.sqrt(1 - skill**2) * rng.normal(size=len(frame)))
    forward[-(HORIZON + 1) * NAMES :] = np.nan
    half = 0.02 * 1.6448536
    signals = frame.assign(
        holdout=np.repeat(np.arange(DAYS) >= DAYS - HOLDOUT, NAMES),
        signal=z,
        signal_linear=z + rng.normal(size=len(z)),
        signal_boosting=rng.normal(size=len(z)),
        expected_return=0.02 * skill * z,
        interval_low=0.02 * skill * z - half,
        interval_high=0.02 * skill * z + half,
        p_wrong=0.5 - 0.5 * np.abs(np.tanh(1.6 * skill * np.abs(z) / 2)),
    )
    sector = np.where(np.arange(len(frame)) % NAMES < 20, "Energy", "Tech")
    # The third by size that a symbol belongs to is fixed: S00 to S12 small, S26 to S39 large.
    outcomes = frame.assign(forward=forward, raw=forward, sector=sector, size=np.arange(len(frame)) % NAMES)
    early = pd.bdate_range(end=dates[0] - pd.Timedelta(days=1), periods=300)
    market = pd.Series(0.01 * rng.normal(size=700), index=early.append(dates))
    equity = pd.DataFrame({"date": dates, "net": 0.001 + 0.01 * rng.normal(size=DAYS)})
    trials = {
        name: pd.DataFrame({"date": early, **{f"trial_{k}": 0.01 * rng.normal(size=300) for k in range(count)}})
        for name, count in {"linear": 3, "boosting": 4}.items()
    }
    return {
        "signals": signals,
        "outcomes": outcomes,
        "trials": trials,
        "equity": equity,
        "backtest": {"net_sharpe": 1.5, "max_drawdown": 0.1},
        "market": market,
        "horizon": HORIZON,
        "level": 0.9,
    }


@pytest.fixture(scope="module")
def inputs():
    return _inputs()


@pytest.fixture(scope="module")
def result(inputs):
    return evaluate(**inputs)


def test_layout_that_the_gates_read(result):
    metrics = result.metrics
    blocks = ["backtest", "calibration", "holdout", "overfitting", "paired", "stability", "test"]
    assert sorted(metrics) == blocks
    assert sorted(metrics["paired"]) == ["boosting", "linear"]
    assert all(set(line) == {"difference", "difference_t", "days"} for line in metrics["paired"].values())
    for part in ("test", "holdout"):
        assert sorted(metrics[part]) == ["boosting", "linear", "stack"]
        assert {"rank_ic", "rank_ic_t", "icir", "ic", "decile_spread", "days", "rows"} <= set(metrics[part]["stack"])
    luck = ["trials", "effective_trials", "sharpe_daily", "psr", "dsr", "pbo", "min_trl_days", "skewness", "kurtosis"]
    assert {*luck, "spa_p", "spa_p_lower", "spa_p_upper", "paths_worst_ic"} <= set(metrics["overfitting"])
    assert {"coverage", "worst_250d_coverage", "brier", "ece", "level"} <= set(metrics["calibration"])
    assert set(metrics["stability"]["regimes"]) <= {"calm", "normal", "stress"}


def test_figures_are_the_planted_ones(result):
    metrics = result.metrics
    assert metrics["test"]["stack"]["rank_ic"] == pytest.approx(0.145, abs=0.03)
    assert abs(metrics["test"]["boosting"]["rank_ic"]) < 0.03
    assert metrics["calibration"]["coverage"] == pytest.approx(0.9, abs=0.01)
    assert metrics["calibration"]["ece"] < 0.02
    assert metrics["calibration"]["brier"] < metrics["calibration"]["brier_of_base_rate"] < 0.25
    assert metrics["stability"]["positive_years"] == 1.0
    assert sorted(metrics["stability"]["sectors"]) == ["Energy", "Tech"]
    assert metrics["overfitting"]["trials"] == 7
    assert 0 < metrics["overfitting"]["dsr"] < metrics["overfitting"]["psr"] < 1
    means = result.tables["deciles"]["forward"].to_numpy()
    assert means[0] == means.min() < -0.004
    assert means[-1] == means.max() > 0.004


def test_test_days_do_not_reach_into_the_holdout(result):
    assert result.metrics["test"]["stack"]["days"] == DAYS - HOLDOUT - HORIZON
    assert result.metrics["holdout"]["stack"]["days"] == HOLDOUT - HORIZON - 1
    held = result.tables["daily_ic"]
    assert held["holdout"].sum() == HOLDOUT - HORIZON - 1


def test_order_of_rows_changes_nothing(inputs, result):
    shuffled = dict(inputs)
    shuffled["signals"] = inputs["signals"].sample(frac=1, random_state=1)
    shuffled["outcomes"] = inputs["outcomes"].sample(frac=1, random_state=2)
    again = evaluate(**shuffled)
    np.testing.assert_equal(again.metrics, result.metrics)
    for name, table in result.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table)


def test_a_failed_trial_counts(inputs, result):
    more = dict(inputs)
    more["trials"] = {**inputs["trials"], "extra": inputs["trials"]["linear"][["date"]].assign(trial_0=np.nan)}
    figures = evaluate(**more).metrics["overfitting"]
    assert figures["trials"] == 8
    assert figures["pbo"] == result.metrics["overfitting"]["pbo"]
    assert figures["dsr"] < result.metrics["overfitting"]["dsr"]


def test_a_pruned_trial_counts_and_is_compared_with_no_one(inputs, result):
    linear = inputs["trials"]["linear"]
    pruned = {**inputs, "trials": {**inputs["trials"], "linear": linear.assign(trial_9=linear["trial_0"])}}
    pruned["trials"]["linear"].loc[150:, "trial_9"] = np.nan
    judged = evaluate(**pruned)
    figures, before = judged.metrics["overfitting"], result.metrics["overfitting"]
    assert (figures["trials"], figures["trials_complete"]) == (8, 7)
    assert (figures["pbo"], figures["effective_trials"]) == (before["pbo"], before["effective_trials"])
    table = judged.tables["trials"].set_index("trial")
    assert (table.loc["trial_9", "days"], table.loc["trial_9", "complete"]) == (150, False)
    trials = judged.tables["trials"]
    expected = trial_variance(trials["layer"], trials["sharpe_daily"], DAYS)
    assert figures["trial_sharpe_variance"] == pytest.approx(expected)
    net = inputs["equity"]["net"]
    assert (figures["skewness"], figures["kurtosis"]) == pytest.approx((skew(net), kurtosis(net, fisher=False)))
    assert figures["dsr"] == dsr(
        figures["sharpe_daily"], DAYS, 8, figures["trial_sharpe_variance"], figures["skewness"], figures["kurtosis"]
    )


def test_one_trial_has_no_pbo(inputs):
    single = dict(inputs)
    single["trials"] = {"linear": inputs["trials"]["linear"][["date", "trial_0"]]}
    figures = evaluate(**single).metrics["overfitting"]
    assert np.isnan(figures["pbo"])
    assert figures["dsr"] == figures["psr"]


def test_the_stack_is_set_against_each_layer_day_by_day(result):
    daily = result.tables["daily"]
    assert list(daily.columns) == ["date", "holdout", "part", "regime", "stack", "boosting", "linear", "net"]
    assert daily["part"].value_counts().to_dict() == {"test": DAYS - HOLDOUT - HORIZON, "between": 5, "holdout": 100}
    assert (daily["part"] == "holdout").equals(daily["holdout"])
    for layer in ("boosting", "linear"):
        rows = daily[daily["part"] == "test"].dropna(subset=["stack"])
        gap = rows["stack"] - rows[layer]
        told = result.metrics["paired"][layer]
        assert told["days"] == len(rows)
        assert told["difference"] == pytest.approx(gap.mean())
        assert told["difference_t"] == pytest.approx(newey_west_t(gap, default_lags(len(gap), HORIZON)))
        assert told["difference_t"] > 3


def test_skill_in_large_stocks_alone_is_seen(inputs):
    outcomes = inputs["outcomes"].copy()
    large = outcomes["size"] >= 26
    outcomes.loc[large, "forward"] = inputs["signals"].loc[large, "signal"] * 0.01
    outcomes.loc[~large, "forward"] = np.random.default_rng(8).normal(0, 0.02, (~large).sum())
    judged = evaluate(**{**inputs, "outcomes": outcomes})
    table = judged.tables["by_size"].set_index("size")
    assert list(table.index) == ["small", "middle", "large"]
    assert table.loc["large", "rank_ic"] == pytest.approx(1.0)
    assert table.loc[["small", "middle"], "rank_ic"].abs().max() < 0.04
    assert judged.metrics["stability"]["worst_size_ic"] == table["rank_ic"].min()
    assert judged.metrics["stability"]["sizes"] == pytest.approx(table["rank_ic"].to_dict())


def test_thirds_by_size_are_told_day_by_day():
    # The second day's stocks are all larger than the first day's, and one has no size.
    size = [1, 2, 3, 10, 20, 30, 40, 50, 60, np.nan]
    session = np.array([0] * 3 + [1] * 7)
    small, middle, large = "small", "middle", "large"
    expected = [small, middle, large, small, small, middle, middle, large, large, None]
    assert size_terciles(size, session).tolist() == expected


def test_what_was_made_elsewhere_is_passed_through(inputs, result):
    for name in ("paths", "ladder", "comparison", "weights", "attribution", "seeds"):
        assert result.tables[name].empty
    assert result.tables["by_size"]["rank_ic"].gt(0).all()
    assert np.isnan(result.metrics["overfitting"]["paths_worst_ic"])
    paths = pd.DataFrame({"rung": ["equal", "equal", "ridge", "ridge"], "path": [0, 1, 0, 1]})
    paths = paths.assign(rank_ic=[0.01, -0.5, 0.03, 0.02], rank_ic_t=3.0, sharpe=1.0)
    comparison = pd.DataFrame({"rung": ["equal", "ridge"], "rank_ic": [0.01, 0.02], "chosen": [False, True]})
    given = {
        "paths": paths,
        "comparison": comparison,
        "ladder": pd.DataFrame({"fold": [0], "rung": ["ridge"], "t": [1.2]}),
        "weights": pd.DataFrame({"fold": [0], "layer": ["linear"], "weight": [1.0]}),
    }
    shares = {"linear": {f"x{i}": i / 190 for i in range(20)}, "boosting": {"x1": 1.0}}
    told = evaluate(**inputs, **given, importance=shares, seeds={"linear": [0.1, 0.3], "boosting": []})
    for name, table in given.items():
        pd.testing.assert_frame_equal(told.tables[name], table)
    assert told.metrics["overfitting"]["paths_worst_ic"] == 0.02
    assert evaluate(**inputs, **given, rung="equal").metrics["overfitting"]["paths_worst_ic"] == -0.5
    assert told.tables["attribution"]["feature"].tolist()[:3] == ["x1", "x19", "x18"]
    assert len(told.tables["attribution"]) == 16
    assert told.tables["seeds"].to_dict("list") == {
        "layer": ["linear"] * 2, "seed": [0, 1], "rank_ic": [0.1, 0.3]
    }  # fmt: skip


def test_an_unknown_size_takes_nothing_away(inputs, result):
    judged = evaluate(**{**inputs, "outcomes": inputs["outcomes"].drop(columns="size")})
    assert judged.tables["by_size"].empty
    assert judged.metrics["stability"].pop("sizes") == {}
    np.testing.assert_equal(judged.metrics["test"], result.metrics["test"])


@pytest.mark.parametrize(
    ("known", "sectors", "positive"),
    [(0.0, [], np.nan), (0.4, [], np.nan), (0.6, ["Energy", "Tech"], 1.0), (1.0, ["All"], np.nan)],
)
def test_sectors_that_nobody_knows_are_not_measured(inputs, known: float, sectors: list[str], positive: float) -> None:
    outcomes = inputs["outcomes"]
    first = np.arange(len(outcomes)) % NAMES % 20 < 20 * known
    sector = outcomes["sector"].where(first, None) if known < 1 else "All"
    metrics = evaluate(**{**inputs, "outcomes": outcomes.assign(sector=sector)}).metrics
    assert sorted(metrics["stability"]["sectors"]) == sectors
    assert metrics["stability"]["positive_sectors"] == pytest.approx(positive, nan_ok=True)
    rule = GateRule(name="sectors", metric="stability.positive_sectors", min=0.6, reason="a test of it")
    verdict = judge(rule, GovernanceRule(gates=[rule]), Evidence(metrics, {}, {}, "", pd.DataFrame()))
    assert verdict.passed == (positive == 1.0)


def test_a_planted_signal_is_superior_in_the_holdout_alone(inputs, result):
    assert result.metrics["overfitting"]["spa_p"] < 0.05
    outcomes = inputs["outcomes"].copy()
    held = inputs["signals"]["holdout"]
    outcomes.loc[held, ["forward", "raw"]] *= -1
    turned = evaluate(**{**inputs, "outcomes": outcomes}).metrics
    assert turned["test"]["stack"]["rank_ic_t"] > 3
    assert turned["overfitting"]["spa_p"] > 0.3
    early = {**inputs, "signals": inputs["signals"].assign(holdout=False)}
    assert np.isnan(evaluate(**early).metrics["overfitting"]["spa_p"])


def test_noise_is_not_called_a_signal():
    metrics = evaluate(**_inputs(skill=0.0, seed=3)).metrics
    assert metrics["overfitting"]["spa_p"] > 0.05
    assert abs(metrics["test"]["stack"]["rank_ic_t"]) < 3
    assert metrics["test"]["stack"]["decile_spread"] < 0


def test_regimes_know_no_future():
    rng = np.random.default_rng(0)
    scale = np.repeat([1.0, 0.3, 3.0], 300)
    returns = pd.Series(scale * rng.normal(size=900), index=pd.bdate_range("2010-01-01", periods=900))
    full = market_regimes(returns, VolatilityRule())
    pd.testing.assert_series_equal(full[:500], market_regimes(returns[:500], VolatilityRule()))
    assert set(full[:187]) == {"unknown"}
    assert (full[370:450] == "calm").mean() > 0.9
    assert (full[700:] == "stress").mean() > 0.9


def test_bad_input(inputs):
    with pytest.raises(DataError, match="signals lack the column 'p_wrong'"):
        evaluate(**{**inputs, "signals": inputs["signals"].drop(columns="p_wrong")})
    twice = pd.concat([inputs["outcomes"], inputs["outcomes"].head(1)])
    with pytest.raises(DataError, match="outcomes hold S00 on 2015-06-01 twice"):
        evaluate(**{**inputs, "outcomes": twice})
    with pytest.raises(DataError, match="no signal row has a known outcome"):
        evaluate(**{**inputs, "outcomes": inputs["outcomes"].assign(forward=np.nan)})


def test_rule_refuses_no_blocks():
    with pytest.raises(ValueError, match="at least 1 item"):
        EvaluationRule(pbo_blocks=[])
