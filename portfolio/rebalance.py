"""New weights at the close of a session: what the stance wants, within the limits, at today's prices.

What the stance does not want is closed first, as far as a day's volume allows. The rest is constructed
(`portfolio.construction`): the best book of the forecasts, or the one nearest to an allocation scheme's. That one has

    max  gamma (Sigma w*)'w - gamma/2 w'Sigma w,

the least tracking variance against the scheme's w*, so that limits bind, and are relaxed, in one place.
The gross limit shrinks with the exposure of the stance and with the drawdown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from portfolio.allocation import allocate
from portfolio.book_rule import OPTIMISED, BookRule
from portfolio.construction import Construction, ConstructionRule, construct
from portfolio.costs import CostRule
from portfolio.covariance.form import Covariance
from portfolio.drawdown import drawdown_factor
from portfolio.limits import LimitRule
from portfolio.policy import Reason
from portfolio.prospects import Prospects
from portfolio.risk_model import covariance_of
from portfolio.sessions import Day
from portfolio.stance import Decision

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MARKET = "market"
_FREE = CostRule(commission_bps=0.0, half_spread_bps=0.0, impact=0.0, borrow_bps=0.0)


@dataclass(frozen=True, eq=False)
class Rebalance:
    """Weights that a session asks for.

    Attributes
    ----------
    weights
        `(N,)` fractions of the equity.
    adv, volatility
        `(N,)` that the orders are sized with.
    construction
        Of the symbols in `members`, `(M,)` columns; None where there was nothing to construct.
    """

    weights: Array
    adv: Array
    volatility: Array
    construction: Construction | None
    members: NDArray[np.int64]


def rebalance(held: Array, decision: Decision, day: Day, rule: BookRule, equity: float, brake: float) -> Rebalance:
    """The book that is wanted after a close.

    Parameters
    ----------
    held
        `(N,)` weights at the close.
    brake
        0 to 1, what the drawdown leaves of the gross limit.
    """
    adv, volatility = day.liquidity(rule)
    risk = covariance_of(day.returns, rule.risk, rule.rebalance_sessions)
    limits = _limits(rule, decision, brake)
    exposures, exposed = _exposures(day, limits)
    forecast = day.today.signal * min(rule.rebalance_sessions / rule.horizon, 1.0)
    alpha = np.where(exposed, decision.alpha(forecast), np.nan)
    closing = _closing(held, decision, rule) if brake > 0 else held != 0
    weights, closed = _closed(held, closing & day.trades, limits.participation * adv / equity)
    # Without a covariance, or with nothing wanted, what is not closed stays.
    if risk is None or brake == 0:
        return Rebalance(weights, adv, volatility, None, np.zeros(0, dtype=np.int64))
    covariance, known = risk
    alpha = np.where(known & ~closing, alpha, np.nan)
    members = np.flatnonzero(np.isfinite(alpha) | (weights != 0))
    if not (np.isfinite(alpha[members]) | ~closing[members]).any():
        return Rebalance(weights, adv, volatility, None, members)
    if limits.turnover is not None:
        limits = limits.model_copy(update={"turnover": max(0.0, limits.turnover - closed)})
    covariance = Covariance(covariance.loadings[members], covariance.specific[members])
    asked, costs = alpha[members], rule.construction.costs
    if rule.scheme != OPTIMISED:
        asked, costs = _towards(rule, limits.gross, covariance, asked, decision.size[members]), _FREE
    found = construct(
        Prospects(
            symbols=[day.symbols[i] for i in members],
            alpha=asked,
            covariance=covariance,
            held=weights[members],
            adv=adv[members],
            volatility=volatility[members],
            tradable=(day.trades & ~closing)[members],
            sector=None if day.sector is None else day.sector[members],
            industry=None if day.industry is None else day.industry[members],
            factors={name: values[members] for name, values in exposures.items()},
            no_new_longs=decision.no_new_longs[members],
        ),
        _construction(rule, limits, costs, equity),
    )
    weights[members] = found.weights
    return Rebalance(weights, adv, volatility, found, members)


def brake_of(wealth: tuple[float, ...], rule: BookRule) -> float:
    """What the drawdown leaves of the exposure, 0 to 1."""
    if rule.drawdown is None:
        return 1.0
    fall = 1.0 - wealth[-1] / max(wealth)
    return float(drawdown_factor(fall, rule.drawdown.soft, rule.drawdown.hard))


def market_beta(day: Day) -> Array:
    """`(N,)` market exposures, the mean where one is unknown.

    Raises
    ------
    DataError
        There are none.
    """
    return _filled(_MARKET, day.factors)[0]


def _limits(rule: BookRule, decision: Decision, brake: float) -> LimitRule:
    limits = rule.construction.limits
    # Contrarian longs are there, small, in every mode.
    part = max(decision.exposure, float(np.abs(decision.size).max(initial=0.0)))
    update: dict[str, object] = {"gross": limits.gross * part * brake}
    if decision.beta_neutral:
        neutral = min(limits.factors.get(_MARKET, rule.neutral_beta), rule.neutral_beta)
        update["factors"] = {**limits.factors, _MARKET: neutral}
    return limits.model_copy(update=update)


def _construction(rule: BookRule, limits: LimitRule, costs: CostRule, equity: float) -> ConstructionRule:
    update = {"limits": limits, "costs": costs, "capital": equity, "sessions": rule.rebalance_sessions}
    return rule.construction.model_copy(update=update)


def _exposures(day: Day, limits: LimitRule) -> tuple[dict[str, Array], Mask]:
    """Exposures that the limits need, and which symbols have them all."""
    filled = {name: _filled(name, day.factors) for name in limits.factors}
    exposed = np.ones(len(day.symbols), dtype=bool)
    for _, known in filled.values():
        exposed &= known
    return {name: values for name, (values, _) in filled.items()}, exposed


def _filled(name: str, factors: Mapping[str, Array]) -> tuple[Array, Mask]:
    if name not in factors:
        raise DataError(f"book: no exposures to {name}, which the stance or a limit needs: give factors[{name!r}]")
    values = factors[name]
    known = np.isfinite(values)
    return np.where(known, values, values[known].mean() if known.any() else 0.0), known


def _closing(held: Array, decision: Decision, rule: BookRule) -> Mask:
    flat = (held != 0) & (decision.size == 0)
    if decision.exposure == 0:
        return flat
    return flat & (decision.reason != Reason.DOUBT) if rule.close_flat else np.zeros(len(held), dtype=bool)


def _closed(held: Array, closing: Mask, most: Array) -> tuple[Array, float]:
    """Weights after closing, and how much that trades."""
    room = np.where(closing & np.isfinite(most), np.nan_to_num(most), 0.0)
    weights = np.where(np.abs(held) <= room, 0.0, held - np.sign(held) * room)
    return weights, float(np.abs(weights - held).sum())


def _towards(rule: BookRule, gross: float, covariance: Covariance, alpha: Array, size: Array) -> Array:
    """`(M,)` expected returns whose best book is the scheme's, NaN where it has no side."""
    sided = np.flatnonzero(np.isfinite(alpha))
    wanted = np.zeros(len(alpha))
    if len(sided):
        sign = np.sign(size[sided])
        # Of a short the scheme sees the return that the short earns.
        matrix = covariance.matrix()[np.ix_(sided, sided)] * np.outer(sign, sign)
        part = allocate(rule.scheme, matrix) * size[sided]
        wanted[sided] = gross * part / max(float(np.abs(part).sum()), 1e-12)
    pull = covariance.loadings @ (covariance.loadings.T @ wanted) + covariance.specific * wanted
    return np.where(np.isfinite(alpha), rule.construction.risk_aversion * pull, np.nan)
