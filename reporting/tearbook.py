"""The parts of a tear sheet that only a walked book has: stance, limits, capacity, other ways to run it, pods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from portfolio.book_figures import rebalances
from reporting import tearplots
from reporting.page import Page

_WAY = {
    "net_sharpe": ".2f",
    "net_return": ".1%",
    "volatility": ".1%",
    "max_drawdown": ".1%",
    "cost_annual": ".2%",
    "turnover": ".1%",
}


@dataclass(frozen=True, eq=False)
class BookRun:
    """What a run says of its book beside the daily frame.

    Attributes
    ----------
    limits
        `portfolio.walk.Walk.limits`.
    capacity, compared
        Of `portfolio.capacity`.
    targets
        Of `portfolio.targets`.
    rank
        `summarise` of the rank portfolio, over the whole record.
    pods
        Reviews of `portfolio.pod_walk.PodWalk`; None where there are no pods.
    participation
        The limit that capacity is held against.
    """

    limits: pd.DataFrame
    capacity: pd.DataFrame
    compared: pd.DataFrame
    targets: pd.DataFrame
    rank: Mapping[str, Any]
    pods: pd.DataFrame | None = None
    participation: float = 0.0


def run_sections(page: Page, daily: pd.DataFrame, run: BookRun) -> None:
    """Stance, limits, capacity, other ways, pods and targets."""
    _stance(page, daily)
    _limits(page, daily, run.limits)
    page.section(
        "How much capital does it bear?",
        "The trades of this record at other capitals: by the square-root law their impact grows with the root of the "
        f"capital. Tradable: no order is above {run.participation:.0%} of a symbol's average traded value.",
    )
    if run.capacity["net_sharpe"].notna().any():  # a book that stays in cash has none at any capital
        page.figure(tearplots.capacity(run.capacity), "Net Sharpe ratio by capital.")
    formats = {"capital": ",.0f", "net_sharpe": ".2f", "net_return": ".1%", "cost_annual": ".2%",
               "impact_annual": ".2%", "largest_share": ".1%"}  # fmt: skip
    page.table(run.capacity, "Capacity.", formats=formats)
    _ways(page, run)
    if run.pods is not None:
        _pods(page, run.pods)
    page.section("Targets", "What the strategies are asked to be (portfolio.targets); no gate reads them.")
    page.table(run.targets, formats={"value": ".3g", "bound": ".3g"}, empty="No strategy has a target.")


def _stance(page: Page, daily: pd.DataFrame) -> None:
    page.section("Stance", "Mode of the book and why, by share of the sessions.")
    share = daily.groupby(["mode", "mode_reason"]).size().div(len(daily)).reset_index(name="share")
    page.table(share.sort_values("share", ascending=False), formats={"share": ".1%"}, headings={"mode_reason": "why"})


def _limits(page: Page, daily: pd.DataFrame, limits: pd.DataFrame) -> None:
    count = int((daily["because"] != "").sum())
    page.section(
        "Which limits held it back?",
        f"Of {count} rebalances: those in which a limit of the kind bound, gave way to limits that matter more "
        "(relaxed), or was out of reach of a day's trades (forced), as where a halted position has drifted above its "
        "cap. Direction: what has no forecast is not added to.",
    )
    told = {
        "bound": rebalances(limits[~limits["relaxed"]]),
        "relaxed": rebalances(limits[limits["relaxed"] & ~limits["forced"]]),
        "forced": rebalances(limits[limits["forced"]]),
    }
    table = pd.DataFrame(told).fillna(0).astype(int).rename_axis("kind").reset_index()
    page.table(table.sort_values("bound", ascending=False), empty="No limit bound.")


def _ways(page: Page, run: BookRun) -> None:
    page.section(
        "Would another way have been better?",
        "Other frequencies and weighting schemes, from cash over the same last sessions, through the same stance, "
        "limits and costs. One of several is always best by luck: a reason to look, not to switch.",
    )
    rank = {"way": "rank portfolio, whole record", **{name: run.rank.get(name) for name in (*_WAY, "days")}}
    rows = run.compared.rename(columns={"name": "way"})
    shown = pd.concat([rows.reindex(columns=["way", *_WAY, "days"]), pd.DataFrame([rank])], ignore_index=True)
    page.table(shown, formats=_WAY)


def _pods(page: Page, reviews: pd.DataFrame) -> None:
    page.section(
        "Pods",
        "Layers and stack as strategies that share one capital: budgets of risk by the probability that the Sharpe "
        "ratio so far is above 0 (PSR), at each review from what was known then.",
    )
    page.figure(tearplots.shares(reviews), "Share of the capital.")
    last = reviews[reviews["date"] == reviews["date"].max()].drop(columns="date")
    page.table(last, "At the last review.", formats={"psr": ".3f", "budget": ".1%", "share": ".1%"})
