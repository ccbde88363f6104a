"""The index position that hedges a book, carried from session to session.

A future pays its change every session into the cash. A put is bought at its Black-Scholes premium, carried at that
of today's index level, implied volatility and remaining life, and pays what it is worth at its end; `portfolio.hedge`
has its price. Puts are kept to their end or until no hedge is wanted, and not resized.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from core.errors import DataError
from portfolio.hedge import HedgeRule, hedge, put_payoff, put_price
from portfolio.performance import SESSIONS_PER_YEAR


@dataclass(frozen=True)
class Overlay:
    """An index position, or none.

    Attributes
    ----------
    kind
        "future", "put" or "none".
    notional
        Currency. Of a future its index value, short negative; of puts the index value insured when bought.
    strike, level
        Of puts: strike and index level over the index when bought.
    left
        Of puts: sessions to their end.
    mark
        What puts are worth, currency; a future is worth nothing after its daily settlement.
    """

    kind: str = "none"
    notional: float = 0.0
    strike: float = 0.0
    level: float = 1.0
    left: int = 0
    mark: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Overlay:
        """The overlay that `to_dict` wrote."""
        return cls(**values)


NO_OVERLAY = Overlay()


def carry(overlay: Overlay, index_return: float, volatility: float) -> tuple[Overlay, float]:
    """Over one session: what the position gained, currency. Of puts the gain is in their mark until their end.

    Raises
    ------
    DataError
        A position is held and the index has no return, or puts and there is no implied volatility.
    """
    if overlay.kind == "none":
        return overlay, 0.0
    if not np.isfinite(index_return):
        raise DataError("book: an index hedge is held and the index has no return today: give index_return")
    if overlay.kind == "future":
        return replace(overlay, notional=overlay.notional * (1.0 + index_return)), overlay.notional * index_return
    level, left = overlay.level * (1.0 + index_return), overlay.left - 1
    if left == 0:
        return NO_OVERLAY, overlay.notional * put_payoff(overlay.strike, level - 1.0) - overlay.mark
    premium, _ = put_price(overlay.strike / level, volatility, left / SESSIONS_PER_YEAR)
    mark = overlay.notional * level * premium
    return replace(overlay, level=level, left=left, mark=mark), mark - overlay.mark


def adjust(
    overlay: Overlay, kind: str, notional: float, equity: float, rule: HedgeRule, volatility: float
) -> tuple[Overlay, float]:
    """Trade towards the hedge that is wanted, and what that costs with a session of holding it, currency.

    Parameters
    ----------
    kind, notional
        As in `Overlay`; a put of no notional, or "none", ends what is held.
    equity
        Currency, > 0.
    volatility
        Implied, of the index, a year; a put is bought with it.
    """
    ends = kind == "none" or (kind == "put" and notional <= 0)
    if overlay.kind == kind == "put" and not ends:
        return overlay, 0.0
    cost, now = 0.0, overlay
    if overlay.kind == "put":
        now, cost = NO_OVERLAY, overlay.mark * rule.put_markup
    elif overlay.kind == "future" or kind == "future":
        target = notional if kind == "future" else 0.0
        cost = hedge("future", -target / equity, rule, before=overlay.notional / equity).cost * equity
        now = Overlay("future", target) if kind == "future" else NO_OVERLAY
    if kind == "future" and overlay.kind == "put":
        cost += hedge("future", -notional / equity, rule).cost * equity
        now = Overlay("future", notional)
    if kind == "put" and not ends:
        premium, _ = put_price(rule.moneyness, volatility, rule.put_sessions / SESSIONS_PER_YEAR)
        now = Overlay("put", notional, rule.moneyness, 1.0, rule.put_sessions, notional * premium)
        cost += now.mark * rule.put_markup
    return now, cost
