"""Pods through history: each signal's rank portfolio is a pod, and the pods share one capital (`portfolio.pods`).

At every review a pod's budget is told by its own net returns so far, earned alone and out of sample: nothing that it
did after the review counts. Between reviews the shares stand. Trades are netted over the pods before they cost
anything. Timing and accounting are those of `portfolio.backtest.follow`.
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
from portfolio.backtest import RankRule, backtest, follow, target_weights
from portfolio.book_rule import BookRule
from portfolio.performance import SESSIONS_PER_YEAR, summarise
from portfolio.pods import PodRule, combine, net_trades, pod_budgets, pod_shares
from portfolio.sessions import Market

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
    signals: Mapping[str, Array], market: Market, rank: RankRule, book: BookRule, rule: PodsRule, evidence: Evidence
) -> PodWalk:
    """Run the pods.

    Parameters
    ----------
    signals : mapping of str to Array of shape (T, N)
        Of each pod, as in `portfolio.backtest.backtest`.
    market, rank, book
        As in `portfolio.backtest.backtest`.
    rule : PodsRule
        How the pods share the capital.
    evidence : callable
        Probabilistic Sharpe ratio of net returns.

    Raises
    ------
    DataError
        There are fewer than two pods, or a signal cannot be traded.
    """
    if len(signals) < 2:
        raise DataError(f"pods: {len(signals)} signal(s): name two or more, or drop portfolio.pods")
    alone = {name: backtest(signal, market, rank, book).daily for name, signal in signals.items()}
    net = pd.concat({name: daily.set_index("date")["net"] for name, daily in alone.items()}, axis=1)
    earned = net.reindex(np.asarray(market.dates).astype("datetime64[ns]")).to_numpy()
    targets, reviews, bound = _targets(signals, market, rank, rule, earned, evidence)
    adv, volatility = market.liquidity(book.adv_sessions, book.volatility_sessions)
    rows = []
    for t, weights, done, traded in follow(targets, market, book, rank.rebalance_sessions):
        # Orders are sized and charged with what was known at the close before.
        sent = net_trades(traded / done.before, book.construction.costs, done.before, adv[t - 1], volatility[t - 1])
        further = {"crossed": sent.crossed, "saved": sent.saved, "market": market.index_return[t]}
        rows.append({"date": pd.Timestamp(market.dates[t]), **done.figures(weights), **further})
    return PodWalk(pd.DataFrame(rows), alone, reviews, bound)


def _targets(
    signals: Mapping[str, Array], market: Market, rank: RankRule, rule: PodsRule, earned: Array, evidence: Evidence
) -> tuple[Array, pd.DataFrame, dict[str, int]]:
    """`(K, T, N)` target weights of the pods, fractions of the total capital; the reviews; what limits bound."""
    books = np.stack([target_weights(signal, rank, market.sector) for signal in signals.values()])
    first = int(np.flatnonzero((books != 0).any(axis=(0, 2)))[0])
    targets, reviews, bound = np.zeros(books.shape), [], dict[str, int]()
    shares = np.full(len(signals), 1.0 / len(signals))
    for t in range(first, len(market.dates) - 1):
        if (t - first) % rule.review_sessions == 0:
            psr, budgets, shares = _review(earned[max(0, t + 1 - rule.evidence_sessions) : t + 1], rule, evidence)
            reviews += [
                {"date": pd.Timestamp(market.dates[t]), "pod": pod, "psr": p, "budget": b, "share": s}
                for pod, p, b, s in zip(signals, psr, budgets, shares, strict=True)
            ]
        wanted = combine(books[:, t], shares, rule)
        targets[:, t] = wanted.parts
        for limit in wanted.bound:
            kind = limit.split(" of ")[0]
            bound[kind] = bound.get(kind, 0) + 1
    return targets, pd.DataFrame(reviews), bound


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
