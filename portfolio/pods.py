"""Several strategies under one roof: risk budgets earned out of sample, limits per pod and in all, netted trades.

A pod's budget is proportional to max(0, PSR - 1/2), its evidence that its Sharpe ratio is above zero, up to a cap.
The capital shares are those with which each pod contributes its budget of the variance (`portfolio.budgets`).
Trades of the pods are netted before anything is sent, so that costs fall on the net; the pods share them by
what each wanted to trade. A pod whose information coefficient decays goes to shadow: it runs, and holds nothing.

References
----------
Bailey, D. H. and López de Prado, M. (2012). The Sharpe ratio efficient frontier. Journal of Risk 15(2).
Page, E. S. (1954). Continuous inspection schemes. Biometrika 41.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from core.errors import DataError
from core.params import Params
from portfolio.budgets import risk_budgets
from portfolio.costs import CostRule

Array = NDArray[np.float64]


class PodRule(Params):
    """How pods share the capital.

    Attributes
    ----------
    budget
        The most of the risk that one pod may have.
    pod_gross
        Sum of absolute weights of a pod, of its own capital.
    gross, position
        Of all pods together: sum of absolute net weights, and the absolute net weight of a symbol.
    """

    budget: float = Field(default=0.5, gt=0, le=1)
    pod_gross: float = Field(default=1.0, gt=0)
    gross: float = Field(default=1.0, gt=0)
    position: float | None = Field(default=0.02, gt=0)


@dataclass(frozen=True, eq=False)
class Pods:
    """The book of all pods.

    Attributes
    ----------
    weights
        `(N,)` net, fractions of the total capital.
    parts
        `(K, N)` of each pod, which add up to `weights`.
    bound
        Which limits scaled something down: "pod 0 gross", "gross", "position of symbol 3".
    """

    weights: Array
    parts: Array
    bound: tuple[str, ...]


def pod_budgets(psr: ArrayLike, cap: float) -> Array:
    """`(K,)` risk budgets proportional to max(0, PSR - 1/2), none above `cap`; what the cap takes goes to the others.

    Parameters
    ----------
    psr
        `(K,)` probabilistic Sharpe ratios of returns out of sample; NaN (no evidence) earns nothing.

    Returns
    -------
    Array
        They sum to 1, or to less where the pods with evidence are too few to fill it under the cap: the rest is cash.
    """
    values = np.asarray(psr, dtype=np.float64)
    if values.ndim != 1 or ((values < 0) | (values > 1)).any():
        raise DataError("pods: PSR is a probability: give (K,) values from 0 to 1, NaN without evidence")
    earned = np.maximum(np.nan_to_num(values, nan=0.0) - 0.5, 0.0)
    out = np.zeros(len(earned))
    open_ = earned > 0
    while open_.any():
        out[open_] = (1.0 - out[~open_].sum()) * earned[open_] / earned[open_].sum()
        over = open_ & (out > cap)
        if not over.any():
            break
        out[over], open_ = cap, open_ & ~over
    return out


def pod_shares(budgets: ArrayLike, covariance: ArrayLike) -> Array:
    """`(K,)` shares of the capital with which each pod contributes its part of the variance.

    Parameters
    ----------
    budgets
        `(K,)` from `pod_budgets`; their sum is the part of the capital that works.
    covariance
        `(K, K)` of the pods' returns out of sample.
    """
    values = np.asarray(budgets, dtype=np.float64)
    total = float(values.sum())
    return risk_budgets(covariance, values / total) * total if total > 0 else np.zeros(len(values))


def combine(targets: ArrayLike, shares: ArrayLike, rule: PodRule) -> Pods:
    """Add up the pods' books, each scaled into its own limits, and scale the sum into the total ones.

    Parameters
    ----------
    targets
        `(K, N)` weights of each pod, fractions of its own capital.
    shares
        `(K,)` shares of the capital.
    """
    books, parts_of_capital = np.asarray(targets, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    if books.ndim != 2 or parts_of_capital.shape != books.shape[:1]:
        raise DataError(f"pods: targets {books.shape} and shares {parts_of_capital.shape}: give (K, N) and (K,)")
    if not np.isfinite(books).all() or not np.isfinite(parts_of_capital).all() or (parts_of_capital < 0).any():
        raise DataError("pods: targets and shares must be finite, and shares not negative")
    bound = []
    own = np.abs(books).sum(axis=1)
    scale = np.minimum(1.0, np.divide(rule.pod_gross, own, out=np.ones_like(own), where=own > 0))
    bound += [f"pod {k} gross" for k in np.flatnonzero(scale < 1.0)]
    parts = books * (scale * parts_of_capital)[:, None]
    net = np.abs(parts.sum(axis=0))
    if rule.position is not None:
        # All pods give way in proportion: what offsets another pod's position is cut with it.
        cut = np.minimum(1.0, np.divide(rule.position, net, out=np.ones_like(net), where=net > 0))
        bound += [f"position of symbol {i}" for i in np.flatnonzero(cut < 1.0)]
        parts = parts * cut
        net = np.abs(parts.sum(axis=0))
    if net.sum() > rule.gross:
        bound.append("gross")
        parts = parts * (rule.gross / net.sum())
    return Pods(parts.sum(axis=0), parts, tuple(bound))


@dataclass(frozen=True, eq=False)
class Netting:
    """Trades of all pods, crossed inside before they are sent.

    Attributes
    ----------
    trades
        `(N,)` net, to be sent.
    crossed
        Sum of absolute trades that the pods did among themselves.
    cost
        `(K,)` of each pod, fractions of the total capital.
    saved
        Cost of the same trades sent pod by pod, less that.
    """

    trades: Array
    crossed: float
    cost: Array
    saved: float


def net_trades(trades: ArrayLike, costs: CostRule, capital: float, adv: ArrayLike, volatility: ArrayLike) -> Netting:
    """Net the pods' trades, and share the cost of the net by what each pod wanted to trade.

    Parameters
    ----------
    trades
        `(K, N)` changes of weights, fractions of the total capital.
    adv, volatility
        `(N,)` as in `CostRule.rate`.
    """
    wanted = np.asarray(trades, dtype=np.float64)
    if wanted.ndim != 2 or not np.isfinite(wanted).all():
        raise DataError("pods: trades must be finite (K, N)")
    linear, impact = costs.coefficients(capital, adv, volatility)

    def cost(size: Array) -> Array:
        return linear * size + impact * size**1.5

    net, sizes = wanted.sum(axis=0), np.abs(wanted)
    each = np.divide(sizes, sizes.sum(axis=0), out=np.zeros_like(sizes), where=sizes.sum(axis=0) > 0)
    shared = (each * cost(np.abs(net))).sum(axis=1)
    saved = float(cost(sizes).sum() - shared.sum())
    return Netting(net, float(sizes.sum() - np.abs(net).sum()), shared, saved)


class DecayRule(Params):
    """When a pod's information coefficient has decayed: S = max(0, S + m0 - k - IC) above h.

    Attributes
    ----------
    expected
        m0, the coefficient that the pod was admitted with.
    slack
        k, the shortfall that is forgiven each time.
    limit
        h.
    """

    expected: float = Field(default=0.03)
    slack: float = Field(default=0.01, ge=0)
    limit: float = Field(default=0.5, gt=0)


def decay(score: float, coefficients: Sequence[float], rule: DecayRule) -> tuple[float, bool]:
    """Carry the score over new coefficients; True when the pod goes to shadow.

    A NaN coefficient (a day that could not be judged) leaves the score. The first crossing decides.
    """
    for value in coefficients:
        if np.isfinite(value):
            score = max(0.0, score + rule.expected - rule.slack - value)
            if score > rule.limit:
                return score, True
    return score, False
