"""Accounting of a session: yesterday's orders are filled, what is held is carried to the close, costs are paid.

The only place where positions drift and costs are charged: for the book, the rank portfolio and the pods.

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
from portfolio.book_rule import BookRule
from portfolio.costs import BPS
from portfolio.holdings import BookState
from portfolio.overlay import adjust, carry
from portfolio.performance import SESSIONS_PER_YEAR
from portfolio.sessions import Day

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Moves:
    """How a session moves positions, `(N,)` by symbol, whoever holds them.

    Attributes
    ----------
    open
        Whether an order can be filled.
    fill, growth
        Price of a fill, and the close, over the last close; 1 where an order cannot be filled or a value stays.
    gone
        Whether positions turn into cash.
    """

    open: Mask
    fill: Array
    growth: Array
    gone: Mask

    @classmethod
    def of(cls, last: Array, day: Day, execution: str) -> Moves:
        """From the last known closes, `(N,)`, NaN where there is none."""
        steady = np.isfinite(last) & ~day.level_break
        priced = np.isfinite(day.close) & (day.close > 0)
        price = day.price(execution)
        with np.errstate(invalid="ignore"):
            open_ = day.trades & steady & np.isfinite(price) & (price > 0)
        return cls(
            open_,
            np.divide(price, last, out=np.ones_like(price), where=open_),
            np.divide(day.close, last, out=np.ones_like(last), where=priced & steady),
            day.delisted,
        )

    def carry(self, value: Array, orders: Array) -> Array:
        """Positions at the close, `(..., N)` as the arguments, of those at the last close and the orders then."""
        return np.where(self.gone, 0.0, (value + np.where(self.open, orders, 0.0)) * self.growth)


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
    moves
        How the session moved the positions.
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
    moves: Moves

    @property
    def gain(self) -> float:
        """Before costs."""
        return self.positions + self.delisted + self.hedge

    @property
    def cost(self) -> float:
        """All costs."""
        return self.commission + self.impact + self.borrow + self.hedge_cost

    def figures(self, weights: Array) -> dict[str, float]:
        """The session in a daily frame (`portfolio.backtest.Backtest`), with the `(N,)` weights at the close."""
        return {
            "gross": self.gain / self.before,
            "cost": self.cost / self.before,
            "net": self.after / self.before - 1.0,
            "turnover": 0.5 * float(np.abs(self.filled).sum()) / self.before,
            "long": float(weights[weights > 0].sum()),
            "short": float(weights[weights < 0].sum()),
            "names": int((weights != 0).sum()),
        }


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
    moves = Moves.of(state.last, day, rule.execution)
    filled = np.where(moves.open, state.orders, 0.0)
    paid = filled * moves.fill
    size = np.abs(paid)
    linear, impact = rule.construction.costs.coefficients(1.0, state.adv, state.volatility)
    commission, moved = float(linear @ size), float(impact @ size**1.5)
    shorts = float(-state.value[state.value < 0].sum())
    borrow = rule.construction.costs.borrow_bps * BPS / SESSIONS_PER_YEAR * shorts
    positions = float((state.value * (moves.growth - 1.0)).sum() + (filled * moves.growth - paid).sum())
    # Of what is delisted nothing is filled.
    closed = float((state.value * moves.growth)[moves.gone & (state.value != 0)].sum())
    proceeds = closed * (1.0 + rule.delisting_return)
    lost = proceeds - closed
    value = moves.carry(state.value, state.orders)
    last = np.where(np.isfinite(day.close) & (day.close > 0), day.close, np.where(day.level_break, np.nan, state.last))
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
        np.where(moves.open, 0.0, state.orders), moves,
    )  # fmt: skip


def _later(state: BookState) -> int | None:
    return None if state.since is None else state.since + 1
