"""The evaluation as a page: does the signal work, is it luck, what does it earn, when does it fail?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reporting.page import Card, Page, Verdict, new_figure
from reporting.verdict import LUCK_RULED_OUT, claims_of, headline, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    _skill(page, metrics, tables)
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


def _skill(page: Page, metrics: _Metrics, tables: Mapping[str, pd.DataFrame]) -> None:
    intro = (
        "Rank IC: the daily correlation of the signal's ranks with the ranks of the residual returns that followed; "
        "its t-value allows for overlapping outcomes (Newey-West). Decile spread: best minus worst tenth, a year, net."
    )
    page.section("Does it rank stocks?", intro)
    daily = tables["daily_ic"]
    page.figure(_cumulative(daily), "Cumulative daily rank IC; shaded: the final holdout.")
    names = ["layer", "part", "rank_ic", "rank_ic_t", "icir", "ic", "decile_spread", "hit_rate", "days", "rows"]
    formats = {"rank_ic": ".4f", "rank_ic_t": ".1f", "icir": ".3f", "ic": ".4f", "decile_spread": ".1%"}
    page.table(
        tables["scores"][names],
        "The stack and its layers, out of sample.",
        formats={**formats, "hit_rate": ".0%"},
        headings={"rank_ic": "rank IC", "rank_ic_t": "t", "icir": "ICIR", "ic": "IC", "hit_rate": "days above 0"},
    )
    page.figure(_bars(tables["by_year"], "year"), "Rank IC by year, with its t-value.")
    page.figure(_deciles(tables["deciles"]), "Mean residual return over the holding period by tenth of the signal.")


def _money(page: Page, metrics: _Metrics, tables: Mapping[str, pd.DataFrame]) -> None:
    intro = (
        "A dollar-neutral book traded at the next session's close, after commission, spread, impact and borrowing. "
        "It is a model of trading, not a record of it."
    )
    page.section("What does it earn?", intro).figure(_equity(tables["equity"]), "Growth and drawdown of the book.")
    rows = {
        "Return a year, net": ("net_return", ".1%"),
        "Return a year, gross": ("gross_return", ".1%"),
        "Costs a year": ("cost_annual", ".1%"),
        "Volatility a year": ("volatility", ".1%"),
        "Sharpe, net": ("net_sharpe", ".2f"),
        "Sharpe, net, final holdout": ("holdout_net_sharpe", ".2f"),
        "Worst drawdown": ("max_drawdown", ".1%"),
        "Turnover a day, one way": ("turnover", ".1%"),
        "Stocks held": ("names", ".0f"),
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
        _reliability(tables["calibration"]),
        "Tenths of the rows; on the line, what it states is what happens. Bars: two standard errors.",
    )
    page.figure(_coverage(tables["coverage"], number(sure, "level")), "Share of outcomes inside the interval.")


def _where(page: Page, tables: Mapping[str, pd.DataFrame]) -> None:
    page.section("Where does it work?", "A signal that lives in one sector or one kind of market is fragile.")
    formats = {"rank_ic": ".4f", "rank_ic_t": ".1f", "icir": ".3f"}
    headings = {"rank_ic": "rank IC", "rank_ic_t": "t", "icir": "ICIR"}
    captions = {
        "by_regime": "By market volatility, told from the past alone.",
        "by_sector": "Inside each sector.",
        "by_year": "By year.",
    }
    for name, caption in captions.items():
        page.table(
            tables[name].astype({tables[name].columns[0]: str}),
            caption,
            formats=formats,
            headings=headings,
            verdicts={"rank_ic": _sign},
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
        f"worthless trial: {number(luck, 'dsr'):.2f}.",
    ]
    if np.isfinite(needed):
        texts.append(f"A record of {needed:,.0f} days would prove a Sharpe above zero; there are {days:,.0f}.")
    else:
        texts.append("No length of record would prove a Sharpe above zero: it is not above zero.")
    if np.isfinite(pbo):
        texts.append(f"Probability that picking the best trial was overfitting: {pbo:.2f} (a noisy figure).")
    else:
        texts.append("The probability of overfitting cannot be told: it needs two trials with enough days in common.")
    page.section("Could it be luck?").bullets(texts)
    trials = tables["trials"].assign(sharpe_annual=tables["trials"]["sharpe_daily"] * np.sqrt(252))
    summary = trials.groupby("layer", sort=True)["sharpe_annual"].agg(["size", "min", "median", "max"]).reset_index()
    page.table(
        summary,
        "Yearly Sharpe ratio of the trials' decile spreads, before the first test block.",
        formats=dict.fromkeys(("min", "median", "max"), ".2f"),
        headings={"size": "trials", "min": "worst", "max": "best"},
        empty="No trial was recorded.",
    )


def _sign(value: Any) -> Verdict | None:
    return "bad" if value is not None and value < 0 else None


def _shade_holdout(axes: Any, daily: pd.DataFrame) -> None:
    held = daily.loc[daily["holdout"].astype(bool), "date"]
    if len(held):
        axes.axvspan(held.iloc[0], held.iloc[-1], color="#8a8f98", alpha=0.15, linewidth=0)


def _cumulative(daily: pd.DataFrame) -> Figure:
    figure, axes = new_figure()
    names = [name for name in daily.columns if name not in ("date", "holdout")]
    for name in names:
        axes.plot(
            daily["date"], daily[name].fillna(0.0).cumsum(), label=name, linewidth=2.0 if name == "stack" else 1.0
        )
    _shade_holdout(axes, daily)
    axes.legend(loc="upper left")
    axes.set_ylabel("sum of daily rank IC")
    return figure


def _bars(table: pd.DataFrame, key: str) -> Figure:
    figure, axes = new_figure(height=2.6)
    values = table["rank_ic"].to_numpy(dtype=np.float64)
    bars = axes.bar(table[key].astype(str), values, color=["#3fa27a" if v > 0 else "#c7566f" for v in values])
    axes.bar_label(bars, [f"t = {t:.1f}" for t in table["rank_ic_t"]], padding=2, fontsize=8)
    axes.margins(y=0.15)
    axes.set_ylabel("rank IC")
    return figure


def _deciles(table: pd.DataFrame) -> Figure:
    figure, axes = new_figure(height=2.4)
    axes.bar(table["decile"], table["forward"] * 1e4)
    axes.set_xticks(table["decile"])
    axes.set_xlabel("tenth of the signal (10 = strongest buy)")
    axes.set_ylabel("basis points")
    return figure


def _equity(equity: pd.DataFrame) -> Figure:
    figure, (top, bottom) = new_figure(2, 1, height=4.2, sharex=True, height_ratios=[2, 1])
    for name in ("gross", "net"):
        if name in equity:
            top.plot(equity["date"], (1.0 + equity[name]).cumprod(), label=name)
    top.legend(loc="upper left")
    top.set_ylabel("growth of 1")
    wealth = np.concatenate([[1.0], (1.0 + equity["net"]).cumprod()])
    bottom.fill_between(
        equity["date"], (wealth / np.maximum.accumulate(wealth) - 1.0)[1:] * 100, alpha=0.5, linewidth=0
    )
    bottom.set_ylabel("drawdown, %")
    return figure


def _reliability(table: pd.DataFrame) -> Figure:
    figure, axes = new_figure(width=5.0, height=3.2)
    # Two standard deviations of a share; overlapping outcomes make the true noise larger still.
    noise = 2 * np.sqrt(table["realised"] * (1 - table["realised"]) / table["rows"])
    axes.axline((0.5, 0.5), slope=1.0, color="#8a8f98", linewidth=1, linestyle="--")
    axes.errorbar(table["stated"], table["realised"], noise, marker="o", markersize=4, linestyle="none")
    axes.set_xlabel("stated probability of a wrong sign")
    axes.set_ylabel("share that was wrong")
    return figure


def _coverage(table: pd.DataFrame, level: float) -> Figure:
    figure, axes = new_figure(height=2.2)
    axes.plot(table["date"], table["rolling"] * 100)
    axes.axhline(level * 100, color="#8a8f98", linewidth=1, linestyle="--")
    axes.set_ylabel("coverage, %, rolling year")
    return figure
