import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from models.evaluation import EvaluationRule, evaluate
from models.stability import RegimeRule, market_regimes

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
    outcomes = frame.assign(forward=forward, raw=forward, sector=sector)
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
    assert sorted(metrics) == ["backtest", "calibration", "holdout", "overfitting", "stability", "test"]
    for part in ("test", "holdout"):
        assert sorted(metrics[part]) == ["boosting", "linear", "stack"]
        assert {"rank_ic", "rank_ic_t", "icir", "ic", "decile_spread", "days", "rows"} <= set(metrics[part]["stack"])
    assert {"trials", "effective_trials", "sharpe_daily", "psr", "dsr", "pbo", "min_trl_days"} <= set(
        metrics["overfitting"]
    )
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
    assert again.metrics == result.metrics
    for name, table in result.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table)


def test_a_failed_trial_counts(inputs, result):
    more = dict(inputs)
    more["trials"] = {**inputs["trials"], "extra": inputs["trials"]["linear"][["date"]].assign(trial_0=np.nan)}
    figures = evaluate(**more).metrics["overfitting"]
    assert figures["trials"] == 8
    assert figures["pbo"] == result.metrics["overfitting"]["pbo"]
    assert figures["dsr"] < result.metrics["overfitting"]["dsr"]


def test_one_trial_has_no_pbo(inputs):
    single = dict(inputs)
    single["trials"] = {"linear": inputs["trials"]["linear"][["date", "trial_0"]]}
    figures = evaluate(**single).metrics["overfitting"]
    assert np.isnan(figures["pbo"])
    assert figures["dsr"] == figures["psr"]


def test_noise_is_not_called_a_signal():
    metrics = evaluate(**_inputs(skill=0.0, seed=3)).metrics
    assert abs(metrics["test"]["stack"]["rank_ic_t"]) < 3
    assert metrics["test"]["stack"]["decile_spread"] < 0


def test_regimes_know_no_future():
    rng = np.random.default_rng(0)
    scale = np.repeat([1.0, 0.3, 3.0], 300)
    returns = pd.Series(scale * rng.normal(size=900), index=pd.bdate_range("2010-01-01", periods=900))
    full = market_regimes(returns, RegimeRule())
    pd.testing.assert_series_equal(full[:500], market_regimes(returns[:500], RegimeRule()))
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
