"""The data-quality report: what cleaning found, what it did, and how complete the data are.

A page for people and a dictionary for machines, both made from the same three frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reporting.page import PALETTE, Card, Page, new_figure
from sources.cleaning.filings import ZERO_MEANS_MISSING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RULES: dict[str, str] = {
    # prices
    "not_a_session": "A bar on a day when the exchange was closed. Nobody could trade at it.",
    "close_not_positive": "A close that is empty, zero or negative. Without a close the bar says nothing.",
    "open_not_positive": "An open of zero or less stands for 'not recorded'. The open becomes unknown, the bar stays.",
    "high_not_positive": "A high of zero or less stands for 'not recorded'. The high becomes unknown, the bar stays.",
    "low_not_positive": "A low of zero or less stands for 'not recorded'. The low becomes unknown, the bar stays.",
    "first_day_at_new_level": "The close jumped far beyond the symbol's usual moves. Whether that is a bad tick or a "
    "true jump is known only later, so the first day is set aside either way and nothing is repaired with hindsight.",
    "level_break": "The price stays at a new level: at a split's ratio, and no more money than usual changed hands, or "
    "beyond belief. Most likely a missed split or a spin-off; features and targets do not reach across it.",
    "another_company": "A broken level after more than a month without a price: another company under the ticker, or "
    "new shares. Nothing from before gets into what is computed after it.",
    "volume_negative": "A negative number of shares is impossible. The volume becomes unknown.",
    "volume_zero_while_price_moved": "No shares traded, it says, yet the price moved. The volume becomes unknown.",
    "high_below_low": "High and low are exchanged. They are widened to hold the open and the close.",
    "open_or_close_above_high": "The bar's high lies below its open or close. The high is raised.",
    "open_or_close_below_low": "The bar's low lies above its open or close. The low is lowered.",
    "open_stray": "The open is a factor of two away from both this close and the last one. It becomes unknown.",
    "high_stray": "The high is a factor of two away from both this close and the last one. It becomes unknown.",
    "low_stray": "The low is a factor of two away from both this close and the last one. It becomes unknown.",
    "missing_sessions": "Sessions without a bar between two bars of a symbol. They stay empty: filling invents trades.",
    "gap_over_10_sessions": "More than ten sessions in a row without a bar. They stay empty.",
    # every table
    "symbol_spelt_otherwise": "A symbol that has no prices, and differs from one that has in case, blanks or "
    "separators alone (brk-b, BRK.B); in prices, two such symbols. It counts as another symbol.",
    # fundamentals
    "period_after_available": "A filing that describes a period which had not ended. It is removed.",
    "known_too_early": "A filing known within a week of its period's end, before any company files. It is removed.",
    "repeated_in_one_session": "One period filed more than once for the same session. The last one counts.",
    "other_entity": "Assets and revenue of another size than the firm's usual ones: most likely a subsidiary's filing. "
    "It is removed.",
    "revenue_jump": "Revenue at another level than in the filings before. Until it is confirmed it is unknown.",
    "shares_jump": "Shares outstanding at another level than before, on one split basis. Until confirmed, unknown.",
    **dict.fromkeys(
        (f"{item}_zero" for items in ZERO_MEANS_MISSING.values() for item in items),
        "This source writes 0 for 'not reported'. The item becomes unknown.",
    ),
    # earnings, posts, macro
    "no_actual_figure": "An announcement without the announced figure. It is removed.",
    "available_before_announced": "An announcement that was available before it was made. It is removed.",
    "no_text": "A post without text. It is removed.",
    "repeated_text": "The same text about the same symbol within days: a retweet or an advertisement. It is marked, "
    "and is no news.",
    "no_value": "A market-wide series without a value that day, such as a holiday. It is removed.",
    "known_on_the_day_observed": "A value known on the day that it describes: right for a price at the close, "
    "look-ahead for a figure of the whole day, week or month. It is kept; where it is, give a later available_date.",
    "available_before_observed": "A value that was available before the day it describes. It is removed.",
}
"""What each rule means and why it acts as it does, in plain words."""

WORST = 20
"""Symbols listed as the worst."""


def quality_summary(findings: pd.DataFrame, coverage: pd.DataFrame, tables: pd.DataFrame) -> dict[str, Any]:
    """What was found, for a JSON file: per table, per rule, per symbol.

    Parameters
    ----------
    findings
        `table, rule, symbol, rows, action, example`: one row per rule and symbol.
    coverage
        `date, symbols_with_price, universe_size` and a count of new events per event table, one row a session.
    tables
        `table, rows, first, last, symbols`, and `rows_clean` where known.
    """
    by_table = findings.groupby("table")["rows"].sum()
    per_rule = findings.groupby(["table", "rule"], as_index=False)
    by_rule = per_rule.agg(rows=("rows", "sum"), symbols=("symbol", "nunique"))
    symbols: dict[str, dict[str, dict[str, int]]] = {}
    for found in findings.sort_values(["symbol", "table", "rule"], kind="stable").to_dict("records"):
        rules = symbols.setdefault(found["symbol"], {}).setdefault(found["table"], {})
        rules[found["rule"]] = rules.get(found["rule"], 0) + int(found["rows"])
    return {
        "tables": {
            str(row["table"]): {
                **{str(name): value for name, value in row.items() if name != "table"},
                "findings": int(by_table.get(row["table"], 0)),
            }
            for row in tables.to_dict("records")
        },
        "rules": by_rule.to_dict("records"),
        "symbols": symbols,
        "coverage": _coverage_figures(coverage),
    }


def _coverage_figures(coverage: pd.DataFrame) -> dict[str, Any]:
    if coverage.empty:
        return {"sessions": 0}
    dates = pd.to_datetime(coverage["date"])
    return {
        "sessions": len(coverage),
        "first": f"{dates.iloc[0]:%Y-%m-%d}",
        "last": f"{dates.iloc[-1]:%Y-%m-%d}",
        "universe_mean": float(coverage["universe_size"].mean()),
        "universe_last": int(coverage["universe_size"].iloc[-1]),
        "symbols_with_price_last": int(coverage["symbols_with_price"].iloc[-1]),
    }


def quality_page(
    findings: pd.DataFrame,
    coverage: pd.DataFrame,
    tables: pd.DataFrame,
    title: str = "Data quality",
    subtitle: str = "",
) -> str:
    """The report as one HTML page; parameters as in `quality_summary`.

    Returns
    -------
    str
        A self-contained document: the same inputs give the same bytes.
    """
    page = Page(title, subtitle or "What cleaning found in the raw tables, and what it did about it.")
    figures = _coverage_figures(coverage)
    raw, found = int(tables["rows"].sum()), int(findings["rows"].sum())
    page.banner(
        f"{found:,} findings in {raw:,} raw rows, by {findings['rule'].nunique()} rules. Every rule looks at the row's "
        "own past only, so nothing here changes when more data arrive.",
        "info",
    )
    page.cards(
        [
            Card("Sessions", figures["sessions"], f"{figures.get('first', '–')} to {figures.get('last', '–')}"),
            Card("Raw rows", raw, f"{len(tables)} tables"),
            Card("Findings", found, f"{found / raw:.2%} of the raw rows" if raw else ""),
            Card("Universe", figures.get("universe_last"), "symbols that may be held on the last session"),
        ]
    )
    _tables_section(page, findings, tables)
    _rules_section(page, findings)
    _coverage_section(page, coverage)
    _symbols_section(page, findings)
    return page.render()


def _tables_section(page: Page, findings: pd.DataFrame, tables: pd.DataFrame) -> None:
    page.section("Tables", "What the source delivered, and how much of it was kept.")
    counts = findings.groupby("table")["rows"].sum()
    shown = tables.sort_values("table").assign(
        findings=lambda frame: frame["table"].map(counts).fillna(0).astype(int),
        findings_share=lambda frame: frame["findings"] / frame["rows"].where(frame["rows"] > 0),
    )
    headings = {"rows_clean": "rows kept", "findings_share": "findings / rows"}
    page.table(
        shown,
        formats={"findings_share": ".2%"},
        headings={name: text for name, text in headings.items() if name in shown},
        empty="No table was read.",
    )


def _rules_section(page: Page, findings: pd.DataFrame) -> None:
    page.section(
        "Rules",
        "One row may be found by several rules. 'Dropped' rows are gone, 'marked' rows stay and later steps heed the "
        "mark, and a field made unknown leaves the rest of its row in use.",
    )
    if findings.empty:
        page.paragraph("No rule found anything.")
        return
    totals = findings.groupby(["table", "rule"])["rows"].sum().sort_values(ascending=True, kind="stable")
    page.figure(_rules_figure(totals), "Findings by rule (logarithmic scale)")
    for table, group in findings.groupby("table", sort=True):
        worst = group.loc[group.groupby("rule")["rows"].idxmax()].set_index("rule")
        grouped = group.groupby("rule")
        shown = pd.DataFrame({"rows": grouped["rows"].sum(), "symbols": grouped["symbol"].nunique()})
        shown["action"] = worst["action"]
        shown["example"] = worst["symbol"] + ": " + worst["example"]
        shown["meaning"] = [explain(str(rule)) for rule in shown.index]
        shown = shown.sort_values("rows", ascending=False, kind="stable").reset_index()
        shown["rule"] = shown["rule"].str.replace("_", " ")
        page.table(shown, f"Table {table}")


def explain(rule: str) -> str:
    """Plain words for a rule; a rule without an entry is spelled out by its name."""
    return RULES.get(rule, rule.replace("_", " ").capitalize() + ".")


def _rules_figure(totals: pd.Series) -> Figure:
    figure, axes = new_figure(width=9.0, height=0.9 + 0.26 * len(totals))
    names = sorted({str(table) for table, _ in totals.index})
    colour = {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(names)}
    axes.barh(np.arange(len(totals)), totals.to_numpy(), color=[colour[str(table)] for table, _ in totals.index])
    axes.set_yticks(np.arange(len(totals)), [f"{table}: {rule.replace('_', ' ')}" for table, rule in totals.index])
    axes.set_xscale("log")
    axes.set_xlim(left=0.8)
    axes.set_xlabel("rows")
    axes.grid(axis="y", visible=False)
    return figure


def _coverage_section(page: Page, coverage: pd.DataFrame) -> None:
    page.section(
        "Coverage over time",
        "The universe holds the symbols that are liquid, priced and have enough history on that day; it starts empty "
        "until enough history has passed. Missing is the share of symbols once seen that have no close that day.",
    )
    if coverage.empty:
        page.paragraph("No session to show.")
        return
    dates = pd.to_datetime(coverage["date"]).to_numpy()
    priced = coverage["symbols_with_price"].to_numpy(float)
    figure, (top, bottom) = new_figure(2, 1, height=4.6, sharex=True)
    top.plot(dates, priced, label="with a price", color=PALETTE[0])
    top.plot(dates, coverage["universe_size"].to_numpy(), label="in the universe", color=PALETTE[1])
    top.set_ylabel("symbols")
    top.set_ylim(bottom=0)
    top.legend(loc="lower right")
    seen = np.maximum.accumulate(priced)
    missing = 1.0 - np.divide(priced, seen, out=np.ones_like(priced), where=seen > 0)
    bottom.fill_between(dates, 100.0 * missing, color=PALETTE[3], alpha=0.7, linewidth=0)
    bottom.set_ylabel("missing, %")
    page.figure(figure, "Symbols with a price, size of the universe, and share of prices missing")

    events = [name for name in coverage.columns if name not in ("date", "symbols_with_price", "universe_size")]
    if events:
        page.figure(events_figure(coverage, events), "Events that became known, per month")


def events_figure(coverage: pd.DataFrame, events: Sequence[str]) -> Figure:
    """Bars of the events of each kind, one a month."""
    figure, axes = new_figure(len(events), 1, height=0.6 + 1.4 * len(events), sharex=True, squeeze=False)
    month = pd.to_datetime(coverage["date"]).to_numpy().astype("datetime64[M]").astype("datetime64[D]")
    # A plain number would be taken in the unit of the dates, and the bars would be too thin to see.
    width = np.timedelta64(24, "D")
    for position, name in enumerate(events):
        monthly = coverage[name].groupby(month).sum()
        axes[position, 0].bar(monthly.index.to_numpy(), monthly.to_numpy(), width=width, color=PALETTE[position + 2])
        axes[position, 0].set_ylabel(name)
    return figure


def _symbols_section(page: Page, findings: pd.DataFrame) -> None:
    page.section("Symbols", f"The {WORST} symbols with the most findings. All are in the JSON file beside this.")
    if findings.empty:
        page.paragraph("No symbol has a finding.")
        return
    wide = findings.pivot_table(index="symbol", columns="table", values="rows", aggfunc="sum", fill_value=0)
    wide = wide.assign(total=wide.sum(axis=1)).sort_values("total", ascending=False, kind="stable").head(WORST)
    top = findings.loc[findings.groupby("symbol")["rows"].idxmax()].set_index("symbol")
    wide["most often"] = top["rule"].reindex(wide.index).str.replace("_", " ")
    wide.columns = pd.Index([str(name) for name in wide.columns])
    page.table(wide.reset_index())
