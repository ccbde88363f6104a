"""Hedging the market beta of a book with an index future or put, and what that costs a session.

A future takes beta away for a small cost and takes the market's gains with it. A put leaves the gains and costs
its premium, here written off evenly over its life; what it pays at its end is `put_payoff`.

References
----------
Black, F. and Scholes, M. (1973). The pricing of options and corporate liabilities. Journal of Political Economy 81(3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field
from scipy.special import ndtr

from core.errors import ConfigError, DataError
from core.params import Params
from portfolio.costs import BPS
from portfolio.performance import SESSIONS_PER_YEAR


class HedgeRule(Params):
    """What hedges cost.

    Attributes
    ----------
    future_bps
        Per unit of notional traded, one way, in basis points: commission and half the spread.
    roll_bps
        Yearly cost of rolling the future, of its notional.
    moneyness
        Strike of the put over the index.
    put_sessions
        Sessions from buying a put to its end.
    put_markup
        Part of the fair premium that is paid on top of it: half the spread.
    """

    future_bps: float = Field(default=0.5, ge=0)
    roll_bps: float = Field(default=10.0, ge=0)
    moneyness: float = Field(default=0.95, gt=0, le=1.5)
    put_sessions: int = Field(default=63, ge=1)
    put_markup: float = Field(default=0.05, ge=0)


@dataclass(frozen=True)
class Hedge:
    """A position in the index, in fractions of the capital.

    Attributes
    ----------
    kind
        "future" or "put".
    notional
        Index value of the position: of a future signed, short negative; of puts the value insured, >= 0.
    cost
        Of this session.
    beta
        Of the book with the hedge, the put at its delta when bought.
    """

    kind: str
    notional: float
    cost: float
    beta: float


def hedge(kind: str, beta: float, rule: HedgeRule, *, volatility: float = float("nan"), before: float = 0.0) -> Hedge:
    """Take away a book's market beta.

    Parameters
    ----------
    beta
        Of the book without a hedge: sum of weights times betas.
    volatility
        Implied, of the index, a year; a put is priced with it.
    before
        Notional of the same hedge in the session before; a future's change is traded.

    Raises
    ------
    ConfigError
        No such kind.
    DataError
        A number is missing, or a put is to insure a book that gains when the market falls.
    """
    if not np.isfinite(beta) or not np.isfinite(before):
        raise DataError(f"hedge: beta {beta} and position before {before} must be finite: estimate the betas first")
    if kind == "future":
        traded, held = abs(-beta - before), abs(beta)
        cost = traded * rule.future_bps * BPS + held * rule.roll_bps * BPS / SESSIONS_PER_YEAR
        return Hedge(kind, -beta, cost, 0.0)
    if kind != "put":
        raise ConfigError(f"hedge {kind!r}: choose future or put")
    if beta < 0:
        raise DataError(f"hedge: a put insures no book of beta {beta:.3g}: hedge it with a future")
    premium, delta = put_price(rule.moneyness, volatility, rule.put_sessions / SESSIONS_PER_YEAR)
    return Hedge(kind, beta, beta * premium * (1.0 + rule.put_markup) / rule.put_sessions, beta * (1.0 + delta))


def put_price(moneyness: float, volatility: float, years: float) -> tuple[float, float]:
    """Premium over the index, and delta, of a European put without interest and dividends.

    Raises
    ------
    DataError
        The volatility is not a positive number.
    """
    if not volatility > 0 or not np.isfinite(volatility):
        raise DataError(f"hedge: implied volatility {volatility}: give that of the index, as a fraction a year")
    spread = volatility * np.sqrt(years)
    d1 = -np.log(moneyness) / spread + 0.5 * spread
    return float(moneyness * ndtr(spread - d1) - ndtr(-d1)), float(-ndtr(-d1))


def put_payoff(moneyness: float, index_return: float) -> float:
    """What a put pays at its end, over the index when it was bought."""
    return max(moneyness - 1.0 - index_return, 0.0)
