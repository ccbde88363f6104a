"""The tear sheet names every part, its numbers are the record's, and what it cannot tell it says."""

import numpy as np
import pandas as pd
import pytest

from market.catalogue import Scenario
from models.overfitting import dsr, min_trl, moments, psr
from portfolio.book_risk import Holdings, book_risk
from portfolio.exceedances import coverage
from portfolio.forecasts import DEFAULT, Judged
from portfolio.performance import drawdown_state, summarise
from portfolio.styles import Loadings
from reporting.page import format_value
from reporting.risk import drawdown_words, plain, risk_page
from reporting.tearsheet import Record, tear_sheet

SECTIONS = (
    "In short",
    "Equity and drawdown",
    "Rolling Sharpe and beta",
    "Returns by year, month and state",
    "Exposures",
    "Turnover and costs",
    "Value at risk",
    "Is it luck?",
    "What is missing",
)
OF_A_BOOK = (
    "The book at the end",
    "Where is the book exposed?",
    "Which names carry the risk?",
    "What would a crisis do?",
)


def daily(sessions, **columns):
    rng = np.random.default_rng(6)
    net = rng.normal(5e-4, 0.005, sessions)
    values = {"gross": net + 1e-4, "cost": 1e-4, "net": net, "turnover": 0.1, "long": 0.5, "short": -0.5, "names": 40}
    market = rng.normal(0, 0.01, sessions)
    return pd.DataFrame({"date": pd.bdate_range("2014-01-02", periods=sessions), **values, "market": market, **columns})


def book():
    rng = np.random.default_rng(2)
    told = Loadings(np.ones(3), np.zeros((3, 1)), ("size",), np.zeros(1), np.zeros(3, dtype=bool))
    held = Holdings(
        "2016-01-04", ["A<b>", "B", "C"], ["Energy", "", "Energy"], np.array([0.4, -0.3, -0.2]),
        rng.normal(0, 0.01, (520, 3)), told,
    )  # fmt: skip
    return book_risk(held, {"crash": Scenario("crash", "The & crash", -0.3)})


BOOK = book()
RECORD = daily(400)


def judged(net, loss, model=DEFAULT):
    forecast = np.full(len(net), loss)
    return Judged(model, 0.95, forecast, forecast, coverage(net, forecast, 0.95))


def whole(**changes):
    regime = pd.Series(["calm", "stress"] * 200, index=RECORD["date"])
    loss = float(np.quantile(-RECORD["net"], 0.95))
    values = {
        "daily": RECORD,
        "labels": {"regime": regime},
        "judged": [judged(RECORD["net"], loss), judged(RECORD["net"], loss / 3, "normal")],
        "trials": 30,
        "trial_variance": 0.003,
        "book": BOOK,
    }
    return Record(**{**values, **changes})


PAGE, FIGURES = tear_sheet(whole())


def test_every_section_is_there_whole_and_escaped():
    for heading in (*SECTIONS, *OF_A_BOOK):
        assert f">{heading}</h2>" in PAGE or heading in PAGE, heading
    assert PAGE.count("<svg") == 8
    assert "<script" not in PAGE
    assert "A&lt;b&gt;" in PAGE
    assert "The &amp; crash" in PAGE
    assert tear_sheet(whole())[0] == PAGE
    assert "By regime." in PAGE


def test_the_numbers_are_the_records():
    ratio, skewness, kurt, periods = moments(RECORD["net"])
    luck = FIGURES["luck"]
    assert FIGURES["summary"] == summarise(RECORD)
    assert luck["psr"] == psr(ratio, periods, skewness, kurt)
    assert luck["dsr"] == dsr(ratio, periods, 30, 0.003, skewness, kurt) < luck["psr"]
    assert luck["min_trl_days"] == min_trl(ratio, 0.0, skewness, kurt)
    for value, spec in ((luck["psr"], ".3f"), (luck["dsr"], ".3f"), (FIGURES["summary"]["net_sharpe"], ".2f")):
        assert format_value(value, spec) in PAGE


def test_a_model_that_does_not_pass_is_said_so_plainly():
    right, wrong = FIGURES["value_at_risk"]
    assert (right["verdict"], wrong["verdict"]) == ("pass", "fail")
    assert right["exceedances"] == 20
    assert right["expected"] == pytest.approx(20)
    assert "passes its tests: 20 of 400 sessions lost more" in PAGE
    page, _ = tear_sheet(whole(judged=[judged(RECORD["net"], 0.002)]))
    assert f"Value at risk at 95% by {DEFAULT} does NOT pass: Kupiec, p = " in page


def test_costs_by_part_where_they_are_known():
    page, figures = tear_sheet(whole(daily=daily(400, commission=6e-5, impact=4e-5)))
    assert ">commission<" in page
    assert ">impact<" in page
    assert not any("costs by part" in text for text in figures["missing"])
    assert any("costs by part" in text for text in FIGURES["missing"])


def test_three_days_say_what_is_missing():
    nothing = np.full(3, np.nan)
    short = Judged(DEFAULT, 0.99, nothing, nothing, None, "3 sessions: 750 are needed")
    page, figures = tear_sheet(Record(daily(3), judged=[short]))
    assert all(heading in page for heading in SECTIONS)
    told = " ".join(figures["missing"])
    for text in ("3 sessions, 252 are needed", "750 are needed", "number of trials", "no book was given"):
        assert text in told
        assert text in page
    assert "could not be judged" in page


def test_one_day_is_no_sharpe_ratio():
    page, figures = tear_sheet(Record(daily(1)))
    assert "the record is too short or never moves" in page
    assert figures["luck"]["psr"] is None or np.isnan(figures["luck"]["psr"])


def test_a_record_that_loses_is_never_long_enough():
    page, _ = tear_sheet(Record(daily(300).assign(net=lambda d: d["net"] - 0.002)))
    assert "never: the ratio is not above 0" in page


def test_labels_of_other_days_are_no_labels():
    other = pd.Series(["calm"], index=pd.to_datetime(["1999-01-04"]))
    page, _ = tear_sheet(whole(labels={"regime": other}))
    assert "By regime: no session of the record has one." in page


def test_the_risk_page():
    state = drawdown_state(RECORD)
    page = risk_page(BOOK, state, "Risk", "today", ["PREVIEW <only>"])
    for heading in ("In short", "What may the next session lose?", *OF_A_BOOK[1:], "Drawdown"):
        assert heading in page
    assert "PREVIEW &lt;only&gt;" in page
    assert f"{state.now:.1%} below its" in page
    believed = BOOK.tails[(BOOK.tails["model"] == DEFAULT) & (BOOK.tails["level"] == 0.99)].iloc[0]
    assert f"{believed['var']:.2%}" in page
    assert "crash" in plain(BOOK, None)["stress"][0]["scenario"]
    assert "no backtest" in risk_page(BOOK, None, "Risk", "")


def test_a_drawdown_in_words():
    assert "at its peak" in drawdown_words(drawdown_state(daily(2).assign(net=0.01)))
    assert "below its start, 2 sessions ago" in drawdown_words(drawdown_state(daily(2).assign(net=-0.01)))
