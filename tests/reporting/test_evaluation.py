import copy
import re

import numpy as np
import pandas as pd
import pytest

from reporting.evaluation import evaluation_page


def _metrics():
    score = {"rank_ic": 0.031, "rank_ic_t": 6.2, "icir": 0.3, "ic": 0.03, "decile_spread": 0.1, "hit_rate": 0.6}
    score |= {"days": 1500, "rows": 60000}
    return {
        "test": {
            "stack": score,
            "linear": {**score, "rank_ic": 0.025},
            "trees & <leaves>": {**score, "rank_ic": 0.02},
        },
        "holdout": {"stack": {**score, "rank_ic": 0.02, "rank_ic_t": 2.1, "days": 250}},
        "paired": {
            "linear": {"difference": 0.006, "difference_t": 2.4, "days": 1500},
            "trees & <leaves>": {"difference": 0.011, "difference_t": 3.4, "days": 1500},
        },
        "overfitting": {
            "trials": 12, "effective_trials": 4.2, "expected_max_sharpe": 0.02, "sharpe_daily": 0.09, "psr": 0.99,
            "dsr": 0.97, "pbo": 0.2, "min_trl_days": 400.0, "days": 1750, "skewness": -0.3, "kurtosis": 5.5,
            "spa_p": 0.013, "spa_p_lower": 0.012, "spa_p_upper": 0.02, "paths_worst_ic": 0.011,
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
        "by_size": pd.DataFrame({"size": ["small", "large"], **lines}),
        "ladder": pd.DataFrame({
            "fold": [0, 0, 1, 1], "rung": ["equal", "ridge"] * 2, "against": ["", "equal"] * 2,
            "difference": [np.nan, np.nan, np.nan, 0.002], "t": [np.nan, np.nan, np.nan, 1.7],
            "sessions": [0, 0, 0, 189], "chosen": [True, False, False, True],
        }),
        "comparison": pd.DataFrame({
            "rung": ["equal", "ridge"], "level": [0, 1], "rank_ic": [0.0291, 0.0317], "t": [5.0, 5.5],
            "days": [700, 511], "against": ["", "equal"], "difference": [np.nan, 0.0026],
            "difference_t": [np.nan, 1.31], "chosen": [False, True],
        }),
        "weights": pd.DataFrame({"fold": [0, 0, 1, 1], "layer": ["linear", "trees & <leaves>"] * 2,
                                 "weight": [0.5, 0.5, 0.74, 0.26], "sessions": [0, 0, 189, 189]}),
        "paths": pd.DataFrame({"rung": ["equal"] * 2 + ["ridge"] * 2, "path": [0, 1] * 2,
                               "rank_ic": [0.029, 0.029, 0.011, 0.033], "rank_ic_t": 4.0, "sharpe": 1.0}),
        "seeds": pd.DataFrame({"layer": ["trees & <leaves>"] * 3, "seed": range(3), "rank_ic": [0.012, 0.021, 0.0186]}),
        "attribution": pd.DataFrame({"layer": ["linear"] * 2 + ["trees & <leaves>"], "feature": ["x", "y", "x"],
                                     "share": [0.7, 0.3, 1.0]}),
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


MADE_ELSEWHERE = ("by_size", "ladder", "comparison", "weights", "paths", "seeds", "attribution")


def _text(changes=(), gates=None, leave_out=()):
    metrics = copy.deepcopy(_metrics())
    for path, value in changes:
        *parents, last = path.split(".")
        block = metrics
        for part in parents:
            block = block[part]
        block[last] = value
    tables = {name: table for name, table in _tables().items() if name not in leave_out}
    return evaluation_page(metrics, tables, gates, "Evaluation")


@pytest.fixture
def _no_pictures(monkeypatch):
    """Nine pictures take a second, and most tests read the words."""
    monkeypatch.setattr("reporting.page.figure_svg", lambda figure, prefix: "")


words = pytest.mark.usefixtures("_no_pictures")


def test_page_is_whole_escaped_and_deterministic():
    page = _text(gates=[_gate(True)])
    assert page == _text(gates=[_gate(True)])
    assert page.count("<svg") == 9
    assert "Energy &amp; &lt;Gas&gt;" in page
    assert "<script" not in page
    headings = ["In short", "Gates", "Does it rank stocks?", "Which layer earns its place?", "What does it earn?"]
    for heading in (*headings, "Could it be luck?"):
        assert heading in page


def _cells(page, caption):
    """Cells of the row-wise table under a caption, without markup."""
    table = page[page.index(caption) :]
    table = table[: table.index("</table>")]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row, flags=re.DOTALL) for row in table.split("<tr")[1:]]
    return [[re.sub("<[^>]*>", "", cell).strip() for cell in row] for row in rows if row]


@words
def test_each_layer_is_shown_with_the_lead_of_the_stack_over_it():
    rows = _cells(_text(), "Rank IC, the stack&#39;s lead over each layer")
    assert rows == [
        ["stack", "0.0310", "6.2", "0.0200", "2.1", "–", "–", "–"],
        ["linear", "0.0250", "6.2", "–", "–", "+0.0060", "2.4", "0.62"],
        ["trees &amp; &lt;leaves&gt;", "0.0200", "6.2", "–", "–", "+0.0110", "3.4", "0.38"],
    ]


@words
def test_the_evidence_of_the_ladder_is_shown():
    page = _text()
    assert _cells(page, "The ladder of ways to combine the layers")[1] == [
        "ridge", "0.0317", "5.5", "511", "equal", "+0.0026", "1.3", "yes"
    ]  # fmt: skip
    assert "ridge serves from now on; it is not significantly better than equal: rank IC +0.0026" in page
    rows = _cells(page, "What each block of history was served by")
    assert rows == [["0", "equal", "0", "–"], ["1", "ridge", "189", "1.7"]]


@words
def test_spread_of_paths_sizes_and_seeds_is_shown():
    page = _text()
    assert _cells(page, "Rank IC along combinatorial paths")[1] == ["ridge", "2", "0.0110", "0.0220", "0.0330"]
    assert "Worst path of the rung that serves: 0.0110." in page
    assert _cells(page, "Inside each third by size")[1][:3] == ["large", "20", "-0.0100"]
    assert _cells(page, "differ by their seed alone, on")[0][:5] == [
        "trees &amp; &lt;leaves&gt;", "3", "0.0120", "0.0172", "0.0210"
    ]  # fmt: skip
    assert "skewness of -0.30 and a kurtosis of 5.5" in page
    assert "p = 0.013 (bounds 0.01 to 0.02; the bar is 0.05)" in page


def test_what_was_not_made_is_left_out():
    page = _text([("overfitting", {"trials": 3, "dsr": 0.97, "days": 9})], leave_out=MADE_ELSEWHERE)
    assert page.count("<svg") == 6
    assert "No other path through history was tried." in page
    empty = {name: _tables()[name].head(0) for name in MADE_ELSEWHERE}
    whole = evaluation_page(_metrics(), {**_tables(), **empty})
    assert whole.count("<svg") == 6
    assert "Inside each third by size, told by the value traded over the last quarter. Nothing is known." in whole


@words
def test_good_news_only_when_everything_holds():
    assert "Every question below is answered with yes" in _text(gates=[_gate(True)])


@words
@pytest.mark.parametrize(
    ("changes", "gates", "sentence"),
    [
        ([("test.stack.rank_ic_t", 2.9)], None, "Not proven: the signal shows no reliable skill"),
        ([("test.stack.rank_ic", -0.01), ("test.stack.rank_ic_t", -4.0)], None, "No skill seen out of sample"),
        ([("test.stack.rank_ic_t", None)], None, "Not proven"),
        ([("backtest.net_sharpe", -0.2)], None, "Skill without profit"),
        ([("holdout.stack.rank_ic", -0.004)], None, "The final holdout does not confirm it"),
        ([("holdout.stack.rank_ic_t", 1.9)], None, "Alone it proves nothing: t is below 2"),
        ([("holdout.stack.rank_ic_t", None)], None, "Alone it proves nothing"),
        ([("holdout.stack.days", 0)], None, "There is no final holdout"),
        ([("paired.linear.difference_t", 1.9)], None, "not significantly better than its best layer, linear"),
        ([("paired.linear.difference_t", -2.3)], None, "ranks stocks worse than its best layer, linear"),
        ([("paired.linear.difference_t", None)], None, "its best layer (linear) cannot be told"),
        ([("paired", None)], None, "its best layer (linear) cannot be told"),
        ([("overfitting.spa_p", 0.06)], None, "does not provably beat cash after costs: p = 0.060, not below 0.05"),
        ([("overfitting.spa_p", 0.05)], None, "does not provably beat cash"),
        ([("overfitting.spa_p", None)], None, "beats cash in the holdout cannot be told"),
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


@words
def test_a_single_layer_is_no_stack_to_judge():
    only = {"stack": _metrics()["test"]["stack"], "linear": _metrics()["test"]["linear"]}
    page = _text([("test", only), ("paired.linear.difference_t", 0.0)])
    assert "best layer, linear" not in page
    assert "Every question below is answered with yes" in page


@words
def test_a_bootstrap_cannot_tell_zero():
    page = _text([("overfitting.spa_p", 0.0)])
    assert "p = 0.000" not in page
    assert "p below 0.001" in page


@words
@pytest.mark.parametrize(
    ("path", "sentence"),
    [("overfitting.pbo", "cannot be told"), ("overfitting.min_trl_days", "it is not above zero")],
)
def test_an_unknown_figure_is_said_to_be_unknown(path, sentence):
    assert sentence in _text([(path, None)])
