import copy

import numpy as np
import pandas as pd
import pytest

from reporting.evaluation import evaluation_page


def _metrics():
    score = {"rank_ic": 0.031, "rank_ic_t": 6.2, "icir": 0.3, "ic": 0.03, "decile_spread": 0.1, "hit_rate": 0.6}
    score |= {"days": 1500, "rows": 60000}
    return {
        "test": {"stack": score, "linear": score},
        "holdout": {"stack": {**score, "rank_ic": 0.02, "rank_ic_t": 2.1, "days": 250}},
        "overfitting": {
            "trials": 12, "effective_trials": 4.2, "expected_max_sharpe": 0.02, "sharpe_daily": 0.09, "psr": 0.99,
            "dsr": 0.97, "pbo": 0.2, "min_trl_days": 400.0, "days": 1750,
        },
        "backtest": {
            "net_sharpe": 1.4, "gross_sharpe": 2.0, "net_return": 0.07, "gross_return": 0.1, "max_drawdown": 0.08,
            "turnover": 0.1, "cost_annual": 0.03, "beta": 0.01, "names": 300.0, "holdout_net_sharpe": 1.0,
        },
        "calibration": {
            "level": 0.9, "coverage": 0.899, "worst_250d_coverage": 0.86, "brier": 0.248, "brier_of_base_rate": 0.2495,
            "ece": 0.004,
        },
        "stability": {},
    }  # fmt: skip


def _tables():
    dates = pd.bdate_range("2012-01-02", periods=40)
    wave = np.sin(np.arange(40.0)) / 50
    lines = {"days": [20, 20], "rank_ic": [0.03, -0.01], "rank_ic_t": [2.0, -0.4], "icir": [0.2, -0.1]}
    metrics = _metrics()
    return {
        "scores": pd.DataFrame([
            {"layer": "stack", "part": "test", **metrics["test"]["stack"]},
            {"layer": "stack", "part": "holdout", **metrics["holdout"]["stack"]},
        ]),
        "daily_ic": pd.DataFrame({"date": dates, "holdout": np.arange(40) > 30, "stack": wave, "linear": -wave}),
        "by_year": pd.DataFrame({"year": [2012, 2013], **lines}),
        "by_sector": pd.DataFrame({"sector": ["Energy & <Gas>", "Tech"], **lines}),
        "by_regime": pd.DataFrame({"regime": ["calm", "stress"], **lines}),
        "equity": pd.DataFrame({"date": dates, "gross": wave, "net": wave - 0.001}),
        "calibration": pd.DataFrame(
            {"low": [0.3, 0.4], "high": [0.4, 0.5], "stated": [0.36, 0.45], "realised": [0.37, 0.46], "rows": [10, 90]}
        ),
        "coverage": pd.DataFrame({"date": dates, "coverage": 0.9, "rolling": 0.9}),
        "deciles": pd.DataFrame({"decile": range(1, 11), "forward": np.linspace(-0.002, 0.002, 10)}),
        "trials": pd.DataFrame({"layer": ["linear"] * 3, "trial": list("012"), "sharpe_daily": [0.1, 0.02, np.nan]}),
    }  # fmt: skip


def _gate(passed, severity="block"):
    return {"gate": "net_sharpe", "severity": severity, "passed": passed, "measured": 0.1, "bound": ">= 0.5",
            "detail": "too low"}  # fmt: skip


def _text(changes=(), gates=None):
    metrics = copy.deepcopy(_metrics())
    for path, value in changes:
        *parents, last = path.split(".")
        block = metrics
        for part in parents:
            block = block[part]
        block[last] = value
    return evaluation_page(metrics, _tables(), gates, "Evaluation")


def test_page_is_whole_escaped_and_deterministic():
    page = _text(gates=[_gate(True)])
    assert page == _text(gates=[_gate(True)])
    assert page.count("<svg") == 6
    assert "Energy &amp; &lt;Gas&gt;" in page
    assert "<script" not in page
    for heading in ("In short", "Gates", "Does it rank stocks?", "What does it earn?", "Could it be luck?"):
        assert heading in page


def test_good_news_only_when_everything_holds():
    assert "Every question below is answered with yes" in _text(gates=[_gate(True)])


@pytest.mark.parametrize(
    ("changes", "gates", "sentence"),
    [
        ([("test.stack.rank_ic_t", 2.9)], None, "Not proven: the signal shows no reliable skill"),
        ([("test.stack.rank_ic", -0.01), ("test.stack.rank_ic_t", -4.0)], None, "No skill seen out of sample"),
        ([("test.stack.rank_ic_t", None)], None, "Not proven"),
        ([("backtest.net_sharpe", -0.2)], None, "Skill without profit"),
        ([("holdout.stack.rank_ic", -0.004)], None, "The final holdout does not confirm it"),
        ([("holdout.stack.days", 0)], None, "There is no final holdout"),
        ([("overfitting.dsr", 0.5)], None, "Luck is not ruled out"),
        ([("overfitting.dsr", None)], None, "Luck is not ruled out"),
        ([("calibration.coverage", 0.8)], None, "Its certainty is misstated"),
        ([], [_gate(False)], "Not to be promoted as it is. Failed gates: net_sharpe."),
        ([], [_gate(False, "warn")], "Promising, with reservations. Failed gates: net_sharpe."),
    ],
)
def test_the_verdict_is_never_better_than_the_evidence(changes, gates, sentence):
    page = _text(changes, gates)
    assert sentence in page
    assert "Every question below is answered with yes" not in page


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("overfitting.pbo", "cannot be told"), ("overfitting.min_trl_days", "it is not above zero")],
)
def test_an_unknown_figure_is_said_to_be_unknown(path, sentence):
    assert sentence in _text([(path, None)])
