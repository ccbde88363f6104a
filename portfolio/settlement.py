"""A session of a book: yesterday's orders are filled, what is held is carried to the close, costs are paid.

With v the positions at the last close, q the orders at that close, c the close, p the price of the fill, all of one
symbol:

    v <- (v + q) c / c_last,    cash <- cash - q p / c_last - cost(|q p / c_last|) - borrow of shorts

Nothing is filled, and the order is dropped, where the symbol did not trade or has no such price, and where its price
level breaks: the order was sized at another level. A position without a price, or over such a break, keeps its value. A
position that is delisted turns into cash at its last price, or at a declared return over that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from portfolio.backtest import SESSIONS_PER_YEAR
from portfolio.book_rule import BookRule
from portfolio.costs import BPS
from portfolio.holdings import BookState
from portfolio.overlay import adjust, carry
from portfolio.sessions import Day

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Settlement:
    """How a session went, currency. Equity after is that before, plus the gains, less the costs.

    Attributes
    ----------
    before, after
        Equity at the last close and at this one.
    positions, delisted, hedge
        Gains of the positions, of what was delisted against its last price, and of the index position.
    commission, impact, borrow, hedge_cost
        Costs; the commission with half the spread.
    filled, dropped
        `(N,)` traded at the price of the fill, and orders that were not filled, at the last close; signed.
    """

    before: float
    after: float
    positions: float
    delisted: float
    hedge: float
    commission: float
    impact: float
    borrow: float
    hedge_cost: float
    filled: Array
    dropped: Array

    @property
    def gain(self) -> float:
        """Before costs."""
        return self.positions + self.delisted + self.hedge

    @property
    def cost(self) -> float:
        """All costs."""
        return self.commission + self.impact + self.borrow + self.hedge_cost


def settle(state: BookState, day: Day, rule: BookRule) -> tuple[BookState, Settlement]:
    """Carry a book through a session.

    Raises
    ------
    DataError
        The symbols are not the state's, an index hedge cannot be valued, or the capital is lost.
    """
    if day.symbols != state.symbols:
        raise DataError(f"book: {day.date} has other symbols than the state: bring it into their order (reordered)")
    before = state.equity
    priced = np.isfinite(day.close) & (day.close > 0)
    steady = np.isfinite(state.last) & ~day.level_break
    growth = np.divide(day.close, state.last, out=np.ones_like(state.value), where=priced & steady)
    price = day.price(rule.execution)
    can = (state.orders != 0) & day.trades & steady & np.isfinite(price) & (np.nan_to_num(price) > 0)
    filled = np.where(can, state.orders, 0.0)
    paid = filled * np.divide(price, state.last, out=np.ones_like(price), where=can)
    size = np.abs(paid)
    linear, impact = rule.construction.costs.coefficients(1.0, state.adv, state.volatility)
    commission, moved = float(linear @ size), float(impact @ size**1.5)
    shorts = float(-state.value[state.value < 0].sum())
    borrow = rule.construction.costs.borrow_bps * BPS / SESSIONS_PER_YEAR * shorts
    value = (state.value + filled) * growth
    positions = float((state.value * (growth - 1.0)).sum() + (filled * growth - paid).sum())
    gone = day.delisted & (value != 0)
    proceeds = float(value[gone].sum()) * (1.0 + rule.delisting_return)
    lost = proceeds - float(value[gone].sum())
    value = np.where(gone, 0.0, value)
    last = np.where(priced, day.close, np.where(day.level_break, np.nan, state.last))
    last[day.delisted] = np.nan

    overlay, hedged = carry(state.overlay, day.index_return, day.index_volatility)
    overlay, hedge_cost = adjust(
        overlay, state.hedge_kind, state.hedge_notional, before, rule.hedge, day.index_volatility
    )
    cash = state.cash - float(paid.sum()) + proceeds - commission - moved - borrow
    cash += hedged - hedge_cost - (overlay.mark - state.overlay.mark)
    after = replace(
        state, cash=cash, value=value, last=last, overlay=overlay, orders=np.zeros_like(value), since=_later(state)
    )
    if not after.equity > 0:
        raise DataError(f"book: the capital is lost at {day.date}: lower the gross limit or look for wrong prices")
    keep = 1 if rule.drawdown is None else rule.drawdown.window
    after = replace(after, wealth=(*state.wealth, after.equity)[-keep:])
    return after, Settlement(
        before, after.equity, positions, lost, hedged, commission, moved, borrow, hedge_cost, paid,
        np.where(can, 0.0, state.orders),
    )  # fmt: skip


def _later(state: BookState) -> int | None:
    return None if state.since is None else state.since + 1
