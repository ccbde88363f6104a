"""The risk of a book as a page: what it may lose, where it is exposed, which names carry it, what a crisis would do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from market.scenarios import PARTS
from portfolio.book_risk import SHORTFALL_LEVEL, BookRisk
from portfolio.forecasts import DEFAULT
from portfolio.performance import DrawdownState
from reporting import tearplots
from reporting.page import Card, Page

TOP = 10
"""Names shown at each end of the contributions."""
CONTRIBUTION_FORMATS = {
    "weight": ".2%",
    "marginal_volatility": ".4f",
    "volatility_share": ".1%",
    "marginal_shortfall": ".4f",
    "shortfall_share": ".1%",
}


def risk_page(
    risk: BookRisk, drawdown: DrawdownState | None, title: str, subtitle: str, warnings: Sequence[str] = ()
) -> str:
    """Self-contained HTML of a book's risk.

    Parameters
    ----------
    drawdown
        Of the backtest; None where there is none.
    warnings
        Shown above everything else.
    """
    page = Page(title, subtitle)
    for warning in warnings:
        page.banner(warning, "warn")
    page.section("In short").cards(_cards(risk, drawdown))
    if risk.notes:
        page.bullets(risk.notes)
    tails_section(page, risk)
    book_sections(page, risk)
    page.section("Drawdown").paragraph(drawdown_words(drawdown))
    return page.render()


def cash_page(why: str, drawdown: DrawdownState | None, title: str, subtitle: str, warnings: Sequence[str] = ()) -> str:
    """Self-contained HTML of a book that holds nothing, and why."""
    page = Page(title, subtitle)
    for warning in warnings:
        page.banner(warning, "warn")
    page.section("In short").paragraph(f"The book is in cash: {why}.")
    page.section("Drawdown").paragraph(drawdown_words(drawdown))
    return page.render()


def _cards(risk: BookRisk, drawdown: DrawdownState | None) -> list[Card]:
    believed = risk.tails[risk.tails["model"] == DEFAULT].sort_values("level").iloc[-1]
    figures = risk.figures
    worst = risk.stress.iloc[0] if len(risk.stress) else None
    return [
        Card(f"VaR {believed['level']:.0%}, one session", believed["var"], DEFAULT, None, ".2%"),
        Card("Expected shortfall", believed["es"], f"beyond that VaR; {DEFAULT}", None, ".2%"),
        Card("Volatility a year", figures["volatility"], "of the present weights", None, ".1%"),
        Card("Beta", figures["beta"], "to the equal-weight market", None, ".2f"),
        Card("Names", figures["names"], f"as concentrated as {figures['effective_names']:.0f} equal ones"),
        Card("Gross / net", f"{figures['gross']:.0%} / {figures['net']:.0%}", "of the capital"),
        Card("Worst scenario", None if worst is None else worst["total"], "" if worst is None else worst["title"],
             None, ".1%"),
        Card("Drawdown now", None if drawdown is None else drawdown.now, "of the backtest", None, ".1%"),
    ]  # fmt: skip


def tails_section(page: Page, risk: BookRisk) -> None:
    """VaR and ES of the next session by model."""
    intro = (
        f"What the present weights would have earned over the last {len(risk.history)} sessions, and what each model "
        "makes of it: the loss that the next session exceeds with a probability of one less the level (VaR), and the "
        f"mean loss of the sessions that do (ES). {DEFAULT} is believed; where models differ much, none is sure."
    )
    page.section("What may the next session lose?", intro)
    table = risk.tails.copy()
    headings = {"var": "VaR", "es": "ES", "why": "not told because"}
    if not table["why"].any():
        table, headings = table.drop(columns="why"), {"var": "VaR", "es": "ES"}
    page.table(table, formats={"level": ".0%", "var": ".2%", "es": ".2%"}, headings=headings)


def book_sections(page: Page, risk: BookRisk) -> None:
    """Exposures, contributions and stress of a book; the tear sheet and the risk page have them alike."""
    page.section(
        "Where is the book exposed?",
        "Beta to the equal-weight market, and loadings on long-short style portfolios: an exposure of 0.1 gains 0.1 % "
        "of the capital where the style gains 1 %.",
    )
    page.table(risk.exposures, "By factor.", formats={"exposure": "+.3f"})
    page.table(risk.sectors, "By sector, fractions of the capital.", formats={"net": "+.1%", "gross": ".1%"})
    page.section(
        "Which names carry the risk?",
        "Marginal: what one more unit of the weight adds to the risk of a session. Share: the part of the whole that "
        f"the position carries, negative for a hedge; shares add up to 100 %. Shortfall: at {SHORTFALL_LEVEL:.0%}, "
        "over the same history. The book is as concentrated as "
        f"{risk.figures['effective_names']:.1f} equal positions would be.",
    )
    ends = top_and_bottom(risk.contributions)
    page.figure(tearplots.contributions(risk.contributions.head(TOP)), "Greatest shares of the volatility.")
    page.table(ends, f"The {TOP} greatest and the {TOP} least.", formats=CONTRIBUTION_FORMATS)
    page.section(
        "What would a crisis do?",
        "Each scenario's moves of market, styles and sectors on the book's loadings; a style of which a scenario says "
        "nothing moves as it usually does with the market. Unmet: what the scenario moves and the book has no loading "
        "on, so that it is not counted.",
    )
    if len(risk.stress):
        page.figure(tearplots.stress(risk.stress), "Gain or loss of the present book.")
    formats = dict.fromkeys(("total", *PARTS), "+.1%")
    page.table(risk.stress, "Gain or loss by part, fractions of the capital; worst first.", formats=formats)


def top_and_bottom(contributions: pd.DataFrame) -> pd.DataFrame:
    """The names with the greatest shares of the volatility and those with the least."""
    if len(contributions) <= 2 * TOP:
        return contributions
    return pd.concat([contributions.head(TOP), contributions.tail(TOP)], ignore_index=True)


def drawdown_words(state: DrawdownState | None) -> str:
    """Where the backtest stands below its peak, in a sentence."""
    if state is None:
        return "There is no backtest on disk that reaches this session, so no drawdown can be told."
    peak = "its start" if state.peak is None else f"its peak of {state.peak:%Y-%m-%d}"
    if state.now == 0.0:
        return f"The backtest is at its peak; its worst drawdown was {state.worst:.1%}."
    return (
        f"The backtest is {state.now:.1%} below {peak}, {state.sessions} sessions ago; its worst drawdown was "
        f"{state.worst:.1%}."
    )


def plain(risk: BookRisk, drawdown: DrawdownState | None) -> dict[str, object]:
    """The book's risk in values for machines."""
    return {
        "date": risk.date,
        "figures": dict(risk.figures),
        "history_sessions": len(risk.history),
        "worst_session": float(np.min(risk.history)),
        "notes": list(risk.notes),
        **{
            name: getattr(risk, name).to_dict("records")
            for name in ("tails", "exposures", "sectors", "contributions", "stress")
        },
        "drawdown": _plain_drawdown(drawdown),
    }


def plain_cash(date: str, why: str, drawdown: DrawdownState | None) -> dict[str, object]:
    """What there is to say of a book that holds nothing, in values for machines."""
    figures = dict.fromkeys(("gross", "net", "long", "short", "volatility", "beta"), 0.0)
    return {"date": date, "figures": {**figures, "names": 0}, "notes": [why], "drawdown": _plain_drawdown(drawdown)}


def _plain_drawdown(state: DrawdownState | None) -> dict[str, object] | None:
    if state is None:
        return None
    return {**state._asdict(), "peak": None if state.peak is None else f"{state.peak:%Y-%m-%d}"}
