"""The evaluation as a page: does the signal work, is it luck, what does it earn, when does it fail?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reporting import figures
from reporting.page import Card, Page, Verdict
from reporting.verdict import LUCK_RULED_OUT, SUPERIOR_P, TOLD_APART, claims_of, headline, number, told_p

_Metrics = Mapping[str, Any]


def evaluation_page(
    metrics: _Metrics,
    tables: Mapping[str, pd.DataFrame],
    gates: Sequence[Mapping[str, Any]] | None = None,
    title: str = "Evaluation",
    subtitle: str = "",
) -> str:
    """Self-contained HTML of an evaluation, for a portfolio manager.

    Parameters
    ----------
    metrics, tables
        As `models.evaluation.evaluate` gives them; a figure that could not be told may be NaN or None.
    gates
        Verdicts of the promotion gates, with `gate, passed, severity, measured, bound, detail`.
    """
    gates = list(gates or [])
    claims = claims_of(metrics)
    page = Page(title, subtitle)
    text, verdict = headline(claims, gates)
    page.banner(text, verdict)
    page.section("In short").bullets([claim.text for claim in claims]).cards(_cards(metrics))
    if gates:
        _gates(page, gates)
    _skill(page, tables)
    _layers(page, metrics, tables)
    _money(page, metrics, tables)
    _certainty(page, metrics, tables)
    _where(page, tables)
    _luck(page, metrics, tables)
    return page.render()


def _cards(metrics: _Metrics) -> list[Card]:
    test, held, money = metrics["test"]["stack"], metrics["holdout"].get("stack", {}), metrics["backtest"]
    luck, sure = metrics["overfitting"], metrics["calibration"]

    def card(label: str, block: _Metrics, key: str, spec: str, note: str = "", good: float | None = None) -> Card:
        value = number(block, key)
        verdict: Verdict | None = None if good is None else ("good" if value >= good else "bad")
        return Card(label, value, note, verdict, spec)

    return [
        card("Rank IC, test", test, "rank_ic", ".4f", f"t = {number(test, 'rank_ic_t'):.1f}"),
        card("Rank IC, final holdout", held, "rank_ic", ".4f", f"t = {number(held, 'rank_ic_t'):.1f}", 0.0),
        card("Net Sharpe", money, "net_sharpe", ".2f", f"before costs {number(money, 'gross_sharpe'):.2f}", 0.0),
        card("Worst drawdown", money, "max_drawdown", ".1%", "after costs"),
        card("Turnover a day", money, "turnover", ".1%", f"costs {number(money, 'cost_annual'):.1%} a year"),
        card("Deflated Sharpe", luck, "dsr", ".2f", f"{luck.get('trials', 0)} trials counted", LUCK_RULED_OUT),
        card("Interval coverage", sure, "coverage", ".1%", f"claimed {number(sure, 'level'):.0%}"),
    ]


def _gates(page: Page, gates: list[Mapping[str, Any]]) -> None:
    frame = pd.DataFrame([
        {
            "gate": gate["gate"],
            "verdict": "pass" if gate["passed"] else ("fail" if gate.get("severity", "block") == "block" else "warn"),
            "measured": gate.get("measured"),
            "required": gate.get("bound", ""),
            "detail": gate.get("detail", ""),
        }
        for gate in gates
    ])  # fmt: skip
    page.section("Gates", "What a version must pass before it may be promoted.").table(frame)


def _skill(page: Page, tables: Mapping[str, pd.DataFrame]) -> None:
    intro = (
        "Rank IC: the daily correlation of the signal's ranks with the ranks of the residual returns that followed; "
        "its t-value allows for overlapping outcomes (Newey-West). Decile spread: best minus worst tenth, a year, net."
    )
    page.section("Does it rank stocks?", intro)
    daily = tables["daily_ic"]
    page.figure(figures.cumulative(daily), "Cumulative daily rank IC; shaded: the final holdout.")
    names = ["layer", "part", "rank_ic", "rank_ic_t", "icir", "ic", "decile_spread", "hit_rate", "days", "rows"]
    formats = {"rank_ic": ".4f", "rank_ic_t": ".1f", "icir": ".3f", "ic": ".4f", "decile_spread": ".1%"}
    page.table(
        tables["scores"][names],
        "The stack and its layers, out of sample.",
        formats={**formats, "hit_rate": ".0%"},
        headings={"rank_ic": "rank IC", "rank_ic_t": "t", "icir": "ICIR", "ic": "IC", "hit_rate": "days above 0"},
    )
    page.figure(figures.bars(tables["by_year"], "year"), "Rank IC by year, with its t-value.")
    page.figure(
        figures.deciles(tables["deciles"]), "Mean residual return over the holding period by tenth of the signal."
    )


def _layers(page: Page, metrics: _Metrics, tables: Mapping[str, pd.DataFrame]) -> None:
    intro = (
        "The stack is worth its trouble where it ranks stocks better than its best layer, and a layer earns its place "
        "where the stack leans on it. Differences are taken day by day on the test part; a |t| below "
        f"{TOLD_APART:.0f} may be chance. Seeds are fits that differ by chance alone, scored on their validation days: "
        "a difference between layers no larger than their spread means little."
    )
    page.section("Which layer earns its place?", intro)
    formats = {"test": ".4f", "test_t": ".1f", "holdout": ".4f", "holdout_t": ".1f", "stack_less_layer": "+.4f"}
    page.table(
        _standing(metrics, tables),
        "Rank IC, the stack's lead over each layer, the mean weight of the layer over the blocks.",
        formats={**formats, "t": ".1f", "mean_weight": ".2f"},
        headings={"test_t": "t", "holdout_t": "t", "t": "t of the lead"},
    )
    comparison, ladder = _table(tables, "comparison"), _table(tables, "ladder")
    if {"rung", "rank_ic", "difference", "difference_t"} <= set(comparison.columns):
        shown = ["rung", "rank_ic", "t", "days", "against", "difference", "difference_t", "chosen"]
        page.table(
            comparison[[name for name in shown if name in comparison]],
            "The ladder of ways to combine the layers, before the holdout: each rung against the one next below. "
            "The days on which they were fitted differ: compare by the difference. The chosen one serves from now on.",
            formats={"rank_ic": ".4f", "difference": "+.4f", "difference_t": ".1f"}
            | ({"t": ".1f"} if "t" in comparison else {}),
            headings={"rank_ic": "rank IC", "difference_t": "t of the difference"},
            empty="No rung was compared.",
        )
        page.paragraph(_rung_that_serves(comparison))
    if len(ladder) and {"fold", "rung", "t", "chosen", "sessions"} <= set(ladder.columns):
        page.table(
            _climbs(ladder), "What each block of history was served by, and the t of each rung's gain until then."
        )
    if len(_table(tables, "weights")):
        page.figure(figures.weights(tables["weights"]), "Mean weight of each layer, block by block.")
    seeds = _table(tables, "seeds")
    if len(seeds):
        spread = seeds.groupby("layer")["rank_ic"].agg(["size", "min", "mean", "max", "std"]).reset_index()
        page.table(
            spread,
            "Rank IC of fits that differ by their seed alone, on validation days.",
            formats=dict.fromkeys(("min", "mean", "max", "std"), ".4f"),
            headings={"size": "seeds", "min": "lowest", "max": "highest", "std": "standard deviation"},
        )
    if len(_table(tables, "attribution")):
        page.figure(
            figures.attribution(tables["attribution"]),
            "What each layer leans on most: shares of its fit, not of its success.",
        )


def _table(tables: Mapping[str, pd.DataFrame], name: str) -> pd.DataFrame:
    """A table that may not have been made."""
    return tables.get(name, pd.DataFrame())


def _standing(metrics: _Metrics, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One line for the stack and each layer."""
    paired, weights = metrics.get("paired") or {}, _table(tables, "weights")
    mean = weights.groupby("layer")["weight"].mean() if len(weights) else pd.Series(dtype=float)
    lines = []
    for name, test in metrics["test"].items():
        held, lead = metrics["holdout"].get(name), paired.get(name)
        lines.append(
            {
                "layer": name,
                "test": number(test, "rank_ic"),
                "test_t": number(test, "rank_ic_t"),
                "holdout": number(held, "rank_ic"),
                "holdout_t": number(held, "rank_ic_t"),
                "stack_less_layer": number(lead, "difference"),
                "t": number(lead, "difference_t"),
                "mean_weight": float(mean.get(name, np.nan)),
            }
        )
    return pd.DataFrame(lines)


def _rung_that_serves(comparison: pd.DataFrame) -> str:
    """Whether more than equal weights pays, in words."""
    chosen = comparison[comparison["chosen"].fillna(False).astype(bool)] if "chosen" in comparison else comparison[:0]
    if not len(chosen):
        return "Which rung serves from now on is not known."
    line = chosen.iloc[0]
    gap, t = float(line["difference"]), float(line["difference_t"])
    if not np.isfinite(t):
        return f"{line['rung']} serves from now on: the lowest rung, equal weights for every layer."
    below = str(line.get("against") or "the rung below")
    word = "is significantly better" if t >= TOLD_APART else "is not significantly better"
    return f"{line['rung']} serves from now on; it {word} than {below}: rank IC {gap:+.4f} day by day, t = {t:.1f}."


def _climbs(ladder: pd.DataFrame) -> pd.DataFrame:
    """One line a block: what served it, the sessions that were known, the t of each rung's gain."""
    gains = ladder.pivot_table(index="fold", columns="rung", values="t", aggfunc="first", sort=False)
    blocks = ladder.groupby("fold")
    served = ladder[ladder["chosen"].astype(bool)].groupby("fold")["rung"].first()
    table = pd.DataFrame({"served_by": served.reindex(list(blocks.groups)), "known_sessions": blocks["sessions"].max()})
    for rung in (name for name in dict.fromkeys(ladder["rung"]) if name in gains):
        table[f"t of {rung}"] = [format(t, ".1f") if np.isfinite(t) else "–" for t in gains[rung].reindex(table.index)]
    return table.rename_axis("block").reset_index()


def _money(page: Page, metrics: _Metrics, tables: Mapping[str, pd.DataFrame]) -> None:
    intro = (
        "The book of the out-of-fold signals, within its limits, its orders filled in the session after; after "
        "commission, spread, impact, borrowing and hedges. It is a model of trading, not a record of it."
    )
    page.section("What does it earn?", intro).figure(
        figures.equity_curve(tables["equity"]), "Growth and drawdown of the book."
    )
    rows = {
        "Return a year, net": ("net_return", ".1%"),
        "Return a year, gross": ("gross_return", ".1%"),
        "Costs a year": ("cost_annual", ".1%"),
        "Volatility a year": ("volatility", ".1%"),
        "Sharpe, net": ("net_sharpe", ".2f"),
        "Sharpe, net, final holdout": ("holdout_net_sharpe", ".2f"),
        "Worst drawdown": ("max_drawdown", ".1%"),
        "Worst drawdown, in volatilities a year": ("drawdown_volatilities", ".1f"),
        "Longest drawdown, sessions": ("longest_drawdown", ".0f"),
        "Turnover a day, one way": ("turnover", ".1%"),
        "Stocks held": ("names", ".0f"),
        "As concentrated as equal positions, median": ("effective_names", ".0f"),
        "Largest weight ever": ("largest_weight", ".1%"),
        "Beta to the equal-weight market": ("beta", ".2f"),
    }
    money = metrics["backtest"]
    lines = [
        {"figure": label, "value": format(number(money, key), spec)}
        for label, (key, spec) in rows.items()
        if key in money
    ]
    page.table(pd.DataFrame(lines, columns=["figure", "value"]))


def _certainty(page: Page, metrics: _Metrics, tables: Mapping[str, pd.DataFrame]) -> None:
    sure = metrics["calibration"]
    base, brier = number(sure, "brier_of_base_rate"), number(sure, "brier")
    better = "better than" if brier < base else "no better than"
    intro = (
        f"Stated probability of a wrong sign against how often it was wrong. Brier score {brier:.4f}, {better} always "
        f"stating the average ({base:.4f}); calibration error {number(sure, 'ece'):.4f}."
    )
    page.section("Does it know when it is wrong?", intro)
    page.figure(
        figures.reliability(tables["calibration"]),
        "Tenths of the rows; on the line, what it states is what happens. Bars: two standard errors.",
    )
    page.figure(figures.coverage(tables["coverage"], number(sure, "level")), "Share of outcomes inside the interval.")


def _where(page: Page, tables: Mapping[str, pd.DataFrame]) -> None:
    page.section("Where does it work?", "A signal that lives in one sector or one kind of market is fragile.")
    formats = {"rank_ic": ".4f", "rank_ic_t": ".1f", "icir": ".3f"}
    headings = {"rank_ic": "rank IC", "rank_ic_t": "t", "icir": "ICIR"}
    captions = {
        "by_regime": "By market volatility, told from the past alone.",
        "by_sector": "Inside each sector.",
        "by_size": "Inside each third by size, told by the value traded over the last quarter.",
        "by_year": "By year.",
    }
    for name, caption in captions.items():
        if name not in tables:
            continue
        page.table(
            tables[name].astype({tables[name].columns[0]: str}),
            caption,
            formats=formats,
            headings=headings,
            verdicts={"rank_ic": _sign},
            empty=f"{caption} Nothing is known.",
        )


def _luck(page: Page, metrics: _Metrics, tables: Mapping[str, pd.DataFrame]) -> None:
    luck = metrics["overfitting"]
    pbo, needed, days = (number(luck, key) for key in ("pbo", "min_trl_days", "days"))
    texts = [
        f"{int(luck.get('trials', 0))} trials were run and all count ({number(luck, 'effective_trials'):.1f} if only "
        "independent ones did).",
        f"The best of as many worthless trials would show a daily Sharpe of {number(luck, 'expected_max_sharpe'):.3f}; "
        f"the stack shows {number(luck, 'sharpe_daily'):.3f}.",
        f"Probability that the true Sharpe is above zero: {number(luck, 'psr'):.2f}; above that of the luckiest "
        f"worthless trial: {number(luck, 'dsr'):.2f}. Luck is how trials of one layer differ, and no less than a "
        "worthless trial's own error.",
    ]
    if np.isfinite(needed):
        texts.append(f"A record of {needed:,.0f} days would prove a Sharpe above zero; there are {days:,.0f}.")
    else:
        texts.append("No length of record would prove a Sharpe above zero: it is not above zero.")
    if np.isfinite(pbo):
        texts.append(f"Probability that picking the best trial was overfitting: {pbo:.2f} (a noisy figure).")
    else:
        texts.append("The probability of overfitting cannot be told: it needs two trials with enough days in common.")
    skewness, kurtosis = number(luck, "skewness"), number(luck, "kurtosis")
    if np.isfinite(skewness):
        texts.append(
            f"The book's daily returns have a skewness of {skewness:.2f} and a kurtosis of {kurtosis:.1f} (a normal "
            "has 0 and 3); the figures above allow for it."
        )
    texts.append(_superior(luck))
    page.section("Could it be luck?").bullets(texts)
    _paths(page, luck, _table(tables, "paths"))
    trials = tables["trials"].assign(sharpe_annual=tables["trials"]["sharpe_daily"] * np.sqrt(252))
    summary = trials.groupby("layer", sort=True)["sharpe_annual"].agg(["size", "min", "median", "max"]).reset_index()
    page.table(
        summary,
        "Yearly Sharpe ratio of the trials' decile spreads, before the first test block.",
        formats=dict.fromkeys(("min", "median", "max"), ".2f"),
        headings={"size": "trials", "min": "worst", "max": "best"},
        empty="No trial was recorded.",
    )


def _superior(luck: _Metrics) -> str:
    p = number(luck, "spa_p")
    if not np.isfinite(p):
        return "Whether the best of the stack and its layers beats cash in the holdout cannot be told: it is too short."
    bounds = f"{number(luck, 'spa_p_lower'):.2f} to {number(luck, 'spa_p_upper'):.2f}"
    return (
        f"Holdout, net: the best of the stack and its layers beats cash with {told_p(p)} (bounds {bounds}; the bar is "
        f"{SUPERIOR_P}), allowed for looking at all of them. On so short a part the test is on the optimistic side."
    )


def _paths(page: Page, luck: _Metrics, table: pd.DataFrame) -> None:
    """Other orders of history."""
    if not len(table):
        page.paragraph("No other path through history was tried.")
        return
    summary = table.groupby("rung", sort=False)["rank_ic"].agg(["size", "min", "median", "max"]).reset_index()
    caption = (
        "Rank IC along combinatorial paths before the holdout: parts of history predicted by fits on the other parts, "
        "later ones too. It tells how much hangs on the order of history, not what could have been earned. "
        f"Worst path of the rung that serves: {number(luck, 'paths_worst_ic'):.4f}."
    )
    page.figure(figures.paths(table), "Each mark is one path through all of history.")
    page.table(
        summary,
        caption,
        formats=dict.fromkeys(("min", "median", "max"), ".4f"),
        headings={"size": "paths", "min": "worst", "max": "best"},
        verdicts={"min": _sign},
    )


def _sign(value: Any) -> Verdict | None:
    return "bad" if value is not None and value < 0 else None
