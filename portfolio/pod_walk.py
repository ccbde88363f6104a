"""Pods through history: each signal's rank portfolio is a pod, and the pods share one capital (`portfolio.pods`).

At every review a pod's budget is told by its own net returns so far, earned alone and out of sample: nothing that it
did after the review counts. Between reviews the shares stand. Trades are netted over the pods before they cost
anything. The timing is that of `portfolio.backtest`: what is known at the close of D is traded at the close of D+1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from core.errors import DataError
from core.params import Params
from portfolio.backtest import (
    SESSIONS_PER_YEAR,
    BacktestRule,
    backtest,
    liquidity,
    price_returns,
    summarise,
    target_weights,
)
from portfolio.costs import BPS
from portfolio.pods import PodRule, combine, net_trades, pod_budgets, pod_shares

Array = NDArray[np.float64]
Evidence = Callable[[Array], float]
"""Probabilistic Sharpe ratio of a pod's net returns, 0 to 1; NaN where they do not tell."""


class OwnSignal(Params):
    """A file of signals: a table with `date, symbol, signal`, known at the close of the date.

    Attributes
    ----------
    path
        From the root of the checkout.
    digest
        SHA-256 of the file: a run is of that content and no other.
    """

    path: str
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")


class PodsRule(PodRule):
    """Who is a pod, and when their shares are told anew.

    Attributes
    ----------
    own
        Pods of the user's own, beside the layers and the stack.
    review_sessions
        Sessions between two reviews of the shares.
    evidence_sessions, least_sessions
        Net returns that a review looks back on, and how many it needs; before that the pods share alike.
    """

    own: dict[str, OwnSignal] = Field(default_factory=dict)
    review_sessions: int = Field(default=21, ge=1)
    evidence_sessions: int = Field(default=504, ge=20)
    least_sessions: int = Field(default=126, ge=20)


@dataclass(frozen=True, eq=False)
class PodWalk:
    """How the pods fared.

    Attributes
    ----------
    daily
        As `portfolio.backtest.Backtest.daily`, of all pods together, with `crossed` (trades done among the pods, of the
        capital) and `saved` (cost of the same trades sent pod by pod, less that of the net).
    alone
        Of each pod by itself, as `portfolio.backtest.Backtest.daily`; the evidence.
    reviews
        A row a review and pod: `date, pod, psr, budget, share`.
    bound
        How many sessions each limit scaled a book down.
    """

    daily: pd.DataFrame
    alone: dict[str, pd.DataFrame]
    reviews: pd.DataFrame
    bound: dict[str, int]

    @property
    def figures(self) -> dict[str, Any]:
        """`summarise` of all pods together, the shares of the last review, and what netting did, a year."""
        last = self.reviews[self.reviews["date"] == self.reviews["date"].max()]
        netted = {name: float(self.daily[name].mean()) * SESSIONS_PER_YEAR for name in ("crossed", "saved")}
        shares = dict(zip(last["pod"], last["share"], strict=True))
        return summarise(self.daily) | netted | {"shares": shares, "bound": self.bound}


def walk_pods(
    signals: Mapping[str, Array],
    close: Array,
    volume: Array,
    dates: NDArray[np.datetime64],
    rank: BacktestRule,
    rule: PodsRule,
    evidence: Evidence,
    *,
    sector: NDArray[np.int64] | None = None,
    level_break: Array | None = None,
) -> PodWalk:
    """Run the pods.

    Parameters
    ----------
    signals
        `(T, N)` of each pod, as in `portfolio.backtest.backtest`; likewise the other arrays.

    Raises
    ------
    DataError
        There are fewer than two pods, or a signal cannot be traded.
    """
    if len(signals) < 2:
        raise DataError(f"pods: {len(signals)} signal(s): name two or more, or drop portfolio.pods")
    names = list(signals)
    books = np.stack([target_weights(signal, rank, sector) for signal in signals.values()])
    alone = {
        name: backtest(signal, close, volume, dates, rank, sector=sector, level_break=level_break).daily
        for name, signal in signals.items()
    }
    net = pd.concat({name: daily.set_index("date")["net"] for name, daily in alone.items()}, axis=1)
    earned = net.reindex(np.asarray(dates).astype("datetime64[ns]")).to_numpy()
    returns, index = price_returns(close, level_break)
    adv, sigma = liquidity(close, volume, returns, rank)
    can = np.isfinite(close) & (adv > 0) & np.isfinite(sigma)
    first = int(np.flatnonzero(np.abs(books).sum(axis=(0, 2)) > 0)[0]) + 1
    borrow = rank.costs.borrow_bps * BPS / SESSIONS_PER_YEAR
    parts = np.zeros(books[:, 0].shape)
    rows: list[dict[str, Any]] = []
    reviews: list[dict[str, Any]] = []
    bound: dict[str, int] = {}
    shares = np.full(len(names), 1.0 / len(names))
    for row, day in enumerate(range(first, len(dates))):
        if row % rule.review_sessions == 0:
            # Known at the close before: the day of the trade is not.
            past = earned[max(0, day - rule.evidence_sessions) : day]
            psr, budgets, shares = _review(past, rule, evidence)
            told = zip(names, psr, budgets, shares, strict=True)
            date = pd.Timestamp(dates[day - 1])
            reviews += [{"date": date, "pod": n, "psr": p, "budget": b, "share": s} for n, p, b, s in told]
        before = parts.sum(axis=0)
        fee = borrow * float(-before[before < 0].sum())
        gross = float(before @ returns[day])
        parts = parts * (1.0 + returns[day]) / (1.0 + gross)
        wanted = combine(books[:, day - 1], shares, rule)
        for limit in wanted.bound:
            kind = limit.split(" of ")[0]
            bound[kind] = bound.get(kind, 0) + 1
        trades = np.where(can[day], wanted.parts - parts, 0.0)
        sent = net_trades(trades, rank.costs, rank.capital, adv[day], sigma[day])
        cost = fee + float(sent.cost.sum())
        parts = (parts + trades) / (1.0 - cost)
        held = parts.sum(axis=0)
        after = (1.0 + gross) * (1.0 - cost) - 1.0
        rows.append(
            {
                "date": pd.Timestamp(dates[day]),
                "gross": gross,
                "cost": gross - after,
                "net": after,
                "turnover": 0.5 * float(np.abs(sent.trades).sum()),
                "long": float(held[held > 0].sum()),
                "short": float(held[held < 0].sum()),
                "names": int((np.abs(held) > 0).sum()),
                "crossed": sent.crossed,
                "saved": sent.saved,
                "market": index[day],
            }
        )
    return PodWalk(pd.DataFrame(rows), alone, pd.DataFrame(reviews), bound)


def _review(past: Array, rule: PodsRule, evidence: Evidence) -> tuple[Array, Array, Array]:
    """PSR, budget and share of each pod, from net returns so far."""
    count = past.shape[1]
    seen = past[np.isfinite(past).all(axis=1)]
    if len(seen) < rule.least_sessions:
        alike = np.full(count, 1.0 / count)
        return np.full(count, np.nan), alike, alike
    psr = np.array([evidence(seen[:, k]) for k in range(count)])
    budgets = pod_budgets(psr, rule.budget)
    return psr, budgets, pod_shares(budgets, np.cov(seen, rowvar=False))
