"""The tear sheet: everything that a strategy's daily record says, on one page; what it cannot say, it says.

References
----------
Bailey, D. H. and López de Prado, M. (2012). The Sharpe ratio efficient frontier. Journal of Risk 15(2).
Bailey, D. H. and López de Prado, M. (2014). The deflated Sharpe ratio. Journal of Portfolio Management 40(5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from models.overfitting import dsr, min_trl, moments, psr
from portfolio.book_risk import BookRisk
from portfolio.forecasts import DEFAULT, SIGNIFICANCE, Judged
from portfolio.performance import (
    MONTHS,
    SESSIONS_PER_YEAR,
    by_label,
    by_year,
    checked_daily,
    drawdown_state,
    month_table,
    rolling_beta,
    rolling_sharpe,
    summarise,
    worst_drawdowns,
)
from portfolio.walk import COST_PARTS
from reporting import figures, tearplots
from reporting.page import Card, Page, Verdict
from reporting.risk import book_sections, drawdown_words, plain
from reporting.tearbook import BookRun, run_sections
from reporting.verdict import LUCK_RULED_OUT

WINDOW = 252
"""Sessions of the rolling figures."""
_GROUPS = {
    "net_return": ".1%",
    "volatility": ".1%",
    "net_sharpe": ".2f",
    "max_drawdown": ".1%",
    "cost_annual": ".2%",
    "turnover": ".1%",
    "beta": ".2f",
}


@dataclass(frozen=True, eq=False)
class Record:
    """What a tear sheet is made of.

    Attributes
    ----------
    daily
        Daily frame of a backtest; the columns of `portfolio.walk.COST_PARTS` are parts of its cost.
    labels
        Label of sessions by name, indexed by date: regimes, parts of the record.
    judged
        Value-at-risk models held against the record.
    trials, trial_variance
        Trials behind the strategy and the variance of their daily Sharpe ratios; None where unknown.
    book
        Risk of the book at the end of the record.
    missing
        What could not be had, in words.
    """

    daily: pd.DataFrame
    labels: Mapping[str, pd.Series] = field(default_factory=dict)
    judged: Sequence[Judged] = ()
    trials: int | None = None
    trial_variance: float | None = None
    book: BookRisk | None = None
    missing: Sequence[str] = ()
    run: BookRun | None = None


def tear_sheet(record: Record, title: str = "Tear sheet", warnings: Sequence[str] = ()) -> tuple[str, dict[str, Any]]:
    """Self-contained HTML, and the figures behind it for machines.

    Raises
    ------
    DataError
        The daily frame is none of a backtest; see `portfolio.performance.checked_daily`.
    """
    daily = checked_daily(record.daily)
    told = _figures(daily, record)
    missing = list(record.missing)
    first, last = daily["date"].iloc[0], daily["date"].iloc[-1]
    page = Page(title, f"{len(daily):,} sessions, {first:%Y-%m-%d} to {last:%Y-%m-%d}, after costs")
    for warning in warnings:
        page.banner(warning, "warn")
    _verdict_of_risk(page, record.judged)
    page.section("In short").cards(_cards(told))
    page.section("Equity and drawdown").figure(figures.equity_curve(daily), "Growth of 1 and drawdown.")
    page.paragraph(drawdown_words(drawdown_state(daily)))
    page.table(
        worst_drawdowns(daily),
        "The deepest drawdowns; sessions from the peak until it was reached again.",
        formats={"depth": ".1%"},
        empty="No session ended below an earlier one.",
    )
    _rolling(page, daily, missing)
    _calendar(page, daily, record.labels)
    page.section("Exposures", "Of the book after each session's trades, short negative.")
    page.figure(tearplots.exposures(daily), "Long, short, net; names held.")
    _costs(page, daily, missing)
    if record.run is None:
        missing.append("limits, capacity and other ways to run the book: the backtest was not of a walked book")
    else:
        run_sections(page, daily, record.run)
    _value_at_risk(page, daily, record.judged, missing)
    _luck(page, told, missing)
    if record.book is None:
        missing.append("the book's exposures, contributions and stress: no book was given")
    else:
        page.section("The book at the end", f"Target weights at the close of {record.book.date}.")
        if record.book.notes:
            page.bullets(record.book.notes)
        book_sections(page, record.book)
    page.section("What is missing")
    if missing:
        page.bullets(missing)
    else:
        page.paragraph("Nothing.")
    return page.render(), {**told, "missing": missing}


def _figures(daily: pd.DataFrame, record: Record) -> dict[str, Any]:
    ratio, skewness, kurt, periods = moments(daily["net"])
    known = record.trials is not None and record.trial_variance is not None
    luck = {
        "sharpe_daily": ratio,
        "skewness": skewness,
        "kurtosis": kurt,
        "psr": psr(ratio, periods, skewness, kurt),
        "dsr": dsr(ratio, periods, record.trials or 0, record.trial_variance or 0.0, skewness, kurt) if known else None,
        "trials": record.trials,
        "min_trl_days": min_trl(ratio, 0.0, skewness, kurt),
        "days": periods,
    }
    state = drawdown_state(daily)
    return {
        "summary": summarise(daily),
        "drawdown": {**state._asdict(), "peak": None if state.peak is None else f"{state.peak:%Y-%m-%d}"},
        "luck": luck,
        "value_at_risk": [_line(one) for one in record.judged],
        "book": None if record.book is None else plain(record.book, state),
    }


def _cards(told: Mapping[str, Any]) -> list[Card]:
    money, luck = told["summary"], told["luck"]
    deflated = luck["dsr"]
    sure: Verdict | None = (
        None if deflated is None or np.isnan(deflated) else ("good" if deflated >= LUCK_RULED_OUT else "bad")
    )
    return [
        Card("Return a year, net", money["net_return"], f"gross {money['gross_return']:.1%}", None, ".1%"),
        Card("Volatility a year", money["volatility"], "", None, ".1%"),
        Card("Sharpe, net", money["net_sharpe"], f"gross {money['gross_sharpe']:.2f}", None, ".2f"),
        Card("Worst drawdown", money["max_drawdown"], f"now {told['drawdown']['now']:.1%}", None, ".1%"),
        Card("Beta", money["beta"], "to the equal-weight market", None, ".2f"),
        Card("Turnover a day", money["turnover"], "one way", None, ".1%"),
        Card("Costs a year", money["cost_annual"], "", None, ".2%"),
        Card("Probabilistic Sharpe", luck["psr"], "that the true ratio is above 0", None, ".2f"),
        Card("Deflated Sharpe", deflated, f"{luck['trials'] if luck['trials'] is not None else 'unknown'} trials",
             sure, ".2f"),
    ]  # fmt: skip


def _rolling(page: Page, daily: pd.DataFrame, missing: list[str]) -> None:
    page.section("Rolling Sharpe and beta", f"Over the last {WINDOW} sessions at each date.")
    if len(daily) < WINDOW:
        text = f"rolling Sharpe and beta: {len(daily)} sessions, {WINDOW} are needed"
        missing.append(text)
        page.paragraph(f"Not told: {text}.")
        return
    net, market = daily["net"], daily["market"]
    page.figure(tearplots.rolling(daily["date"], rolling_sharpe(net, WINDOW), rolling_beta(net, market, WINDOW)))


def _calendar(page: Page, daily: pd.DataFrame, labels: Mapping[str, pd.Series]) -> None:
    yearly = by_year(daily)
    page.section(
        "Returns by year, month and state", "After costs; compounded in a year or month, arithmetic otherwise."
    )
    page.figure(tearplots.years(yearly), "Net return by year.")
    shown = ["year", "return", *_GROUPS, "days"]
    years = {**_GROUPS, "return": ".1%", "year": "d"}
    page.table(yearly[shown], "By year.", formats=years)
    months = {**dict.fromkeys((*MONTHS, "Year"), ".1%"), "year": "d"}
    page.table(month_table(daily), "By month.", formats=months)
    for name, series in labels.items():
        given = series.reindex(daily["date"]).to_numpy()
        if pd.isna(given).all():
            page.paragraph(f"By {name}: no session of the record has one.")
            continue
        page.table(by_label(daily, given, name)[[name, *_GROUPS, "days"]], f"By {name}.", formats=_GROUPS)


def _costs(page: Page, daily: pd.DataFrame, missing: list[str]) -> None:
    parts = [name for name in COST_PARTS if name in daily]
    page.section("Turnover and costs", "Turnover is one way: half of what is traded, as a fraction of the capital.")
    page.figure(tearplots.trading(daily, parts), "Turnover a session; costs added up.")
    shown = {"cost": daily["cost"], **{name: daily[name] for name in parts}}
    gross = float(daily["gross"].sum())
    rows = [
        {
            "part": name,
            "a_year": float(values.mean() * SESSIONS_PER_YEAR),
            "of_gross_return": float(values.sum() / gross) if gross > 0 else float("nan"),
        }
        for name, values in shown.items()
    ]
    page.table(pd.DataFrame(rows), "Costs.", formats={"a_year": ".2%", "of_gross_return": ".0%"})
    if not parts:
        missing.append("costs by part (commission, spread, impact, borrowing): the backtest wrote their sum alone")


def _line(judged: Judged) -> dict[str, Any]:
    found = judged.coverage
    line: dict[str, Any] = {"model": judged.model, "level": judged.level}
    if found is not None:
        line |= {
            "sessions": found.sessions,
            "expected": found.sessions * (1 - judged.level),
            "exceedances": found.hits,
            "kupiec_p": found.unconditional.p_value,
            "independence_p": found.independence.p_value,
            "conditional_p": found.conditional.p_value,
            "basel_zone": found.light.zone,
        }
    word = "unknown" if found is None else "fail" if judged.failures else "pass"
    return {**line, "verdict": word, "why": judged.why or "; ".join(judged.failures)}


def _verdict_of_risk(page: Page, judged: Sequence[Judged]) -> None:
    for one in (one for one in judged if one.model == DEFAULT):
        what = f"Value at risk at {one.level:.0%} by {one.model}"
        if one.coverage is None:
            page.banner(f"{what} could not be judged: {one.why}", "warn")
        elif one.failures:
            page.banner(f"{what} does NOT pass: {'; '.join(one.failures)}", "bad")
        else:
            found = one.coverage
            page.banner(f"{what} passes its tests: {found.hits} of {found.sessions} sessions lost more", "good")


def _value_at_risk(page: Page, daily: pd.DataFrame, judged: Sequence[Judged], missing: list[str]) -> None:
    page.section(
        "Value at risk",
        "Each session's loss against a forecast made before it from the book's own returns. Kupiec: do losses beyond "
        "it come as often as promised? Christoffersen: do they come alone, and both at once? A model fails where a "
        f"p-value is below {SIGNIFICANCE:.0%} or the supervisor's zone is red (the last 250 sessions).",
    )
    if not judged:
        missing.append("value at risk: no model was asked for")
        page.paragraph("Not told: no model was asked for.")
        return
    for one in judged:
        if one.model == DEFAULT and one.coverage is not None:
            page.figure(tearplots.exceedances(daily, one), f"{one.model} at {one.level:.0%}.")
        if one.coverage is None:
            missing.append(f"value at risk by {one.model} at {one.level:.0%}: {one.why}")
    formats = {"level": ".0%", "expected": ".1f", "kupiec_p": ".3f", "independence_p": ".3f", "conditional_p": ".3f"}
    table = pd.DataFrame([_line(one) for one in judged])
    page.table(table, "Models compared.", formats={k: v for k, v in formats.items() if k in table})


def _luck(page: Page, told: Mapping[str, Any], missing: list[str]) -> None:
    luck = told["luck"]
    page.section(
        "Is it luck?",
        "PSR: probability that the true Sharpe ratio is above 0, given the length of the record, its skewness and its "
        "kurtosis. DSR: the same against the best of as many worthless trials as were run. MinTRL: sessions that a "
        "record of this Sharpe ratio needs to be believed at 95 %.",
    )
    rows = {
        "Sharpe ratio a session": ("sharpe_daily", ".4f"),
        "Skewness": ("skewness", ".2f"),
        "Kurtosis (3 for a normal)": ("kurtosis", ".1f"),
        "PSR": ("psr", ".3f"),
        "DSR": ("dsr", ".3f"),
        "Trials": ("trials", "d"),
        "MinTRL, sessions": ("min_trl_days", ".0f"),
        "Sessions of the record": ("days", "d"),
    }
    cells = {name: luck[key] for name, (key, _) in rows.items()}
    lines = [{"figure": name, "value": _told(cells[name], rows[name][1])} for name in rows]
    page.table(pd.DataFrame(lines))
    if luck["dsr"] is None:
        missing.append("deflated Sharpe ratio: the number of trials is not known")
    if np.isnan(luck["sharpe_daily"]):
        missing.append("Sharpe ratio, PSR and MinTRL: the record is too short or never moves")
    elif luck["min_trl_days"] > luck["days"]:
        page.paragraph("The record is shorter than MinTRL: at 95 % it does not show a Sharpe ratio above 0.")


def _told(value: float | None, spec: str) -> str:
    if value is None or np.isnan(value):
        return "–"
    return "never: the ratio is not above 0" if np.isinf(value) else format(value, spec)
