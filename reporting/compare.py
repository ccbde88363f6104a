"""Two versions side by side as a page: is the challenger better, where, and does it show in money?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reporting.page import Card, Page, Verdict, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from models.comparison import Comparison

_BANNERS: dict[str, Verdict] = {"better": "good", "worse": "bad", "cannot be told apart": "warn"}
RANK_FORMATS = {"challenger": ".4f", "champion": ".4f", "difference": "+.4f", "t": ".1f", "correlation": ".2f"}
MONEY_FORMATS = {
    "challenger_sharpe": ".2f", "champion_sharpe": ".2f", "difference_a_year": "+.1%", "t": ".1f", "correlation": ".2f",
    "challenger_turnover": ".1%", "champion_turnover": ".1%", "challenger_cost": ".4%", "champion_cost": ".4%",
}  # fmt: skip


def comparison_page(comparison: Comparison, challenger: str, champion: str, notes: Sequence[str] = ()) -> str:
    """Self-contained HTML of a comparison, for who decides which version serves.

    Parameters
    ----------
    comparison
        As `models.comparison.compare` gives it.
    challenger, champion
        What to call the two.
    notes
        Reasons other than the models why they may differ.
    """
    figures, tables = comparison.figures, comparison.tables
    page = Page(
        f"{challenger} against {champion}".capitalize(),
        f"{figures['days']:,} common days, {figures['first']:%Y-%m-%d} to {figures['last']:%Y-%m-%d}; outcomes over "
        f"{figures['horizon']} sessions",
    )
    page.banner(comparison.sentence, _BANNERS[comparison.word])
    for note in notes:
        page.banner(note[:1].upper() + note[1:] + ".", "warn")
    headings = {"challenger": challenger, "champion": champion, "t": "t of the difference"}
    page.section("In short").cards(_cards(figures))
    page.section(
        "Which ranks stocks better?",
        "Mean daily rank IC of the two on the days that both have, and the difference day by day; its t allows for "
        "overlapping outcomes (Newey-West). Below 2 in size, chance may explain it. The holdout is the part on which "
        "nothing was chosen; the tables below look at many groups, so single large t-values are expected.",
    )
    page.table(tables["rank_ic"], "By part of history.", formats=RANK_FORMATS, headings=headings)
    page.figure(_gap(tables["daily"]), f"Summed daily rank IC of {challenger} less that of {champion}.")
    for name, caption in {"by_regime": "By market volatility.", "by_year": "By year."}.items():
        table = tables[name].astype({tables[name].columns[0]: str})
        page.table(table, caption, formats=RANK_FORMATS, headings=headings, verdicts={"difference": _sign})
    page.table(
        tables["layers"],
        "Mean rank IC of each layer on the same days; a version without the layer has none.",
        formats={name: RANK_FORMATS[name] for name in ("challenger", "champion")},
        headings={"challenger": challenger, "champion": champion},
    )
    page.section(
        "Which earns more after costs?",
        "Sharpe ratio a year of each book, net, on common days, and the difference of their daily returns. Turnover "
        "and cost are daily means. It is a model of trading, not a record of it.",
    )
    _money(page, tables["net"], challenger, champion)
    page.figure(_growth(tables["daily"], challenger, champion), "Growth of the two books on common days, net.")
    return page.render()


def _money(page: Page, table: pd.DataFrame, challenger: str, champion: str) -> None:
    """Two tables: one of eleven columns would not fit the page."""
    headings = {
        str(name): str(name).replace("challenger", challenger).replace("champion", champion).replace("_", " ")
        for name in table.columns
    } | {"t": "t of the difference", "difference_a_year": "difference of returns a year"}
    traded = [name for name in table.columns if str(name).endswith(("_turnover", "_cost"))]
    earned = table.drop(columns=traded)
    shown = {"What they earn.": earned, **({"What they trade.": table[["part", *traded]]} if traded else {})}
    for caption, part in shown.items():
        page.table(
            part,
            caption,
            formats={name: spec for name, spec in MONEY_FORMATS.items() if name in part},
            headings={name: text for name, text in headings.items() if name in part},
        )


def _cards(figures: Any) -> list[Card]:
    def card(label: str, part: str) -> Card:
        line = figures["rank_ic"][part]
        return Card(label, line["difference"], f"t = {line['t']:.1f} over {line['days']:,} days", None, "+.4f")

    money = figures["net"]["all"]
    return [
        card("Rank IC, difference, all days", "all"),
        card("Rank IC, difference, test", "test"),
        card("Rank IC, difference, holdout", "holdout"),
        Card("Net, difference a year", money["difference_a_year"], f"t = {money['t']:.1f}", None, "+.1%"),
        Card("Correlation of daily rank ICs", figures["correlation"], "1 = the same signal", None, ".2f"),
    ]


def _sign(value: Any) -> Verdict | None:
    return "bad" if value is not None and value < 0 else None


def _shade_holdout(axes: Any, daily: pd.DataFrame) -> None:
    held = daily.loc[daily["part"] == "holdout", "date"]
    if len(held):
        axes.axvspan(held.iloc[0], held.iloc[-1], color="#8a8f98", alpha=0.15, linewidth=0)


def _gap(daily: pd.DataFrame) -> Figure:
    figure, axes = new_figure()
    axes.plot(daily["date"], (daily["challenger"] - daily["champion"]).fillna(0.0).cumsum())
    axes.axhline(0.0, color="#8a8f98", linewidth=1, linestyle="--")
    _shade_holdout(axes, daily)
    axes.set_ylabel("summed difference")
    return figure


def _growth(daily: pd.DataFrame, challenger: str, champion: str) -> Figure:
    figure, axes = new_figure()
    both = daily.dropna(subset=["net_challenger", "net_champion"])
    for column, label in (("net_challenger", challenger), ("net_champion", champion)):
        axes.plot(both["date"], np.cumprod(1.0 + both[column].to_numpy()), label=label)
    _shade_holdout(axes, both)
    axes.legend(loc="upper left")
    axes.set_ylabel("growth of 1")
    return figure
