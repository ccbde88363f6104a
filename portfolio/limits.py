"""Limits of a book: what each one bounds, declared once and read by the optimiser and by its check.

A limit is low <= f(w) <= high, row by row, with f linear (M w), a sum of absolute values or a Euclidean
norm of w - c. Two kinds are hard and never give way: the share of a day's volume and the direction of
trades. Holding what is held satisfies both, so that they never conflict. The others may be relaxed
(`portfolio.relaxation`).

Weights are fractions of the capital, short negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy import sparse

from core.params import Params
from portfolio.covariance.form import Covariance

Array = NDArray[np.float64]
Kind = Literal["turnover", "correlation", "concentration", "industry", "sector", "factor", "position", "net", "gross"]
RELAXED_FIRST: tuple[Kind, ...] = get_args(Kind)
"""The usual order in which limits give way: bounds of trades before bounds of risks, parts before the whole."""

NO_SECTOR = -1
"""Code of a symbol whose sector or industry is not known; it counts in none."""


class LimitRule(Params):
    """Limits; None switches one off.

    Attributes
    ----------
    gross
        Sum of absolute weights.
    net_low, net_high
        Range of the sum of weights; equal: the budget.
    position
        Absolute weight of a symbol.
    sector, industry
        Absolute net weight of each sector and industry.
    factors
        Absolute exposure of the book to each named factor.
    turnover
        Sum of absolute changes of weights, bought plus sold, in one rebalance.
    participation
        Share of a symbol's average traded value that one rebalance may trade; hard.
    effective_names
        The least 1 / sum w^2.
    correlation, correlated_weight
        Symbols whose correlation with one is at least `correlation` in size count as the same position:
        with the sign of that correlation, their weights and its own together stay within `correlated_weight`.
    relax
        Which limits give way where not all can hold, the first one first. One left out never does.
    """

    gross: float = Field(default=1.0, gt=0, le=100)
    net_low: float | None = -0.05
    net_high: float | None = 0.05
    position: float | None = Field(default=0.02, gt=0)
    sector: float | None = Field(default=0.05, ge=0)
    industry: float | None = Field(default=None, ge=0)
    factors: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default={"market": 0.05, "size": 0.3, "momentum": 0.3, "low_volatility": 0.3}
    )
    turnover: float | None = Field(default=None, ge=0)
    participation: float = Field(default=0.05, gt=0, le=1)
    effective_names: float | None = Field(default=30.0, ge=1)
    correlation: float | None = Field(default=None, gt=0, le=1)
    correlated_weight: float | None = Field(default=None, gt=0)
    relax: list[Kind] = Field(default_factory=lambda: list(RELAXED_FIRST))

    @model_validator(mode="after")
    def _belong_together(self) -> LimitRule:
        if self.net_low is not None and self.net_high is not None and self.net_low > self.net_high:
            raise ValueError(f"net_low {self.net_low} is above net_high {self.net_high}")
        if (self.correlation is None) != (self.correlated_weight is None):
            raise ValueError("give correlation and correlated_weight together, or neither")
        if len(set(self.relax)) != len(self.relax):
            raise ValueError("relax names a limit twice")
        return self


@dataclass(frozen=True, eq=False)
class Limit:
    """low <= f(w) <= high for each of M rows.

    Attributes
    ----------
    kind
        Name of the limit in `LimitRule`; "participation" and "direction" are the hard ones.
    members
        What each row is about: a symbol, a sector, a factor.
    low, high
        `(M,)`, infinite where that side is open.
    matrix
        `(M, N)` of the linear f; None for the norms, which have one row.
    power
        1 or 2 of the norm of w - `centre`; 0 for the linear f.
    centre
        `(N,)` c of the norms.
    """

    kind: str
    members: tuple[str, ...]
    low: Array
    high: Array
    matrix: sparse.csr_array | None = None
    power: int = 0
    centre: Array = field(default_factory=lambda: np.zeros(0))

    @property
    def hard(self) -> bool:
        """Whether the limit never gives way."""
        return self.kind in ("participation", "direction")

    @property
    def per_symbol(self) -> bool:
        """Whether row i is the weight of symbol i and nothing else."""
        return self.hard or self.kind == "position"

    def value(self, weights: Array) -> Array:
        """`(M,)` f(w)."""
        if self.matrix is not None:
            return np.asarray(self.matrix @ weights)
        return np.array([np.linalg.norm(weights - self.centre, self.power)])

    def excess(self, weights: Array) -> Array:
        """`(M,)` by how much each row is violated, 0 where it holds."""
        value = self.value(weights)
        return np.maximum(np.maximum(self.low - value, value - self.high), 0.0)

    def scale(self) -> Array:
        """`(M,)` change of f(w) for one unit of the weight that moves it most, at least 1."""
        if self.matrix is None or self.per_symbol:
            return np.ones(len(self.members))
        return np.maximum(abs(self.matrix).max(axis=1).toarray().ravel(), 1.0)

    def least(self, lower: Array, upper: Array) -> tuple[Array, Array]:
        """Least and greatest f(w) over the box lower <= w <= upper; the greatest of a norm is given as infinite."""
        if self.matrix is not None:
            up, down = self.matrix.maximum(0), self.matrix.minimum(0)
            return np.asarray(up @ lower + down @ upper), np.asarray(up @ upper + down @ lower)
        away = np.maximum(np.maximum(lower - self.centre, self.centre - upper), 0.0)
        return np.array([np.linalg.norm(away, self.power)]), np.array([np.inf])

    def widened(self, below: Array, above: Array) -> Limit:
        """The limit with its rows moved outwards."""
        return replace(self, low=self.low - below, high=self.high + above)


def declare(
    rule: LimitRule,
    symbols: Sequence[str],
    held: Array,
    covariance: Covariance,
    *,
    most_traded: Array,
    lower: Array,
    upper: Array,
    sector: NDArray[np.int64] | None = None,
    industry: NDArray[np.int64] | None = None,
    factors: Mapping[str, Array],
) -> list[Limit]:
    """Every limit of a rule for one rebalance.

    Parameters
    ----------
    held
        `(N,)` weights before trading.
    most_traded
        `(N,)` largest absolute change of weight that the participation allows.
    lower, upper
        `(N,)` range that the direction of trades allows, `held` within.
    sector, industry
        `(N,)` codes, `NO_SECTOR` where unknown.
    factors
        `(N,)` exposures by name; has every factor of the rule.
    """
    count = len(symbols)
    each = sparse.csr_array(sparse.eye_array(count))
    names = tuple(symbols)

    def within(kind: str, members: Sequence[str], matrix: sparse.csr_array, bound: float | Array) -> Limit:
        size = np.broadcast_to(np.asarray(bound, dtype=np.float64), (len(members),))
        return Limit(kind, tuple(members), -size, size, matrix)

    def norm(kind: str, power: int, centre: Array, high: float) -> Limit:
        return Limit(kind, (kind,), np.array([-np.inf]), np.array([high]), None, power, centre)

    out = [
        Limit("participation", names, held - most_traded, held + most_traded, each),
        Limit("direction", names, lower, upper, each),
        norm("gross", 1, np.zeros(count), rule.gross),
    ]
    if rule.net_low is not None or rule.net_high is not None:
        low = -np.inf if rule.net_low is None else rule.net_low
        high = np.inf if rule.net_high is None else rule.net_high
        ones = sparse.csr_array(np.ones((1, count)))
        out.append(Limit("net", ("net",), np.array([low]), np.array([high]), ones))
    if rule.position is not None:
        out.append(within("position", names, each, rule.position))
    for kind, bound, codes in (("sector", rule.sector, sector), ("industry", rule.industry, industry)):
        if bound is not None and codes is not None:
            known = np.unique(codes[codes != NO_SECTOR])
            matrix = sparse.csr_array((codes[None, :] == known[:, None]).astype(np.float64))
            out.append(within(kind, [str(code) for code in known], matrix, bound))
    if rule.factors:
        matrix = sparse.csr_array(np.array([factors[name] for name in rule.factors]))
        out.append(within("factor", list(rule.factors), matrix, np.array(list(rule.factors.values()))))
    if rule.turnover is not None:
        out.append(norm("turnover", 1, held, rule.turnover))
    if rule.effective_names is not None:
        out.append(norm("concentration", 2, np.zeros(count), 1.0 / np.sqrt(rule.effective_names)))
    if rule.correlation is not None and rule.correlated_weight is not None:
        members, matrix = _alike(covariance.correlation(), rule.correlation, names)
        if members:
            out.append(within("correlation", members, matrix, rule.correlated_weight))
    return [limit for limit in out if limit.members]


def _alike(correlation: Array, least: float, names: tuple[str, ...]) -> tuple[tuple[str, ...], sparse.csr_array]:
    """Rows that add up each symbol and those that move as it does, without rows of one symbol and without repeats."""
    rows = np.where(np.abs(correlation) >= least - 1e-12, np.sign(correlation), 0.0)
    several = np.flatnonzero(np.count_nonzero(rows, axis=1) > 1)
    kept = several[np.sort(np.unique(rows[several], axis=0, return_index=True)[1])]
    return tuple(names[i] for i in kept), sparse.csr_array(rows[kept])
