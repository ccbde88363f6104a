"""What a book has between two sessions: cash, positions, the index hedge, and the orders that are on their way.

Positions are currency at the last close. A share count would say the same until a price level breaks; the value does
not change then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from portfolio.overlay import NO_OVERLAY, Overlay
from portfolio.stance import StanceState

Array = NDArray[np.float64]

_ARRAYS = ("value", "last", "orders", "adv", "volatility")


@dataclass(frozen=True, eq=False)
class BookState:
    """What the next session must know of this one.

    Attributes
    ----------
    symbols
        Names of the N columns.
    cash
        Currency.
    value, last
        `(N,)` positions at the last close, currency, short negative; and that close, NaN where there was none.
    orders
        `(N,)` to be filled in the next session, currency at the last close; as a number of shares they do not change.
    adv, volatility
        `(N,)` average traded value and daily volatility that the orders were sized with.
    overlay
        The index position; `hedge_kind` and `hedge_notional` are what it is traded to at the next close.
    stance
        Modes and sides.
    since
        Sessions since the last rebalance, None before the first.
    wealth
        Equity of the last sessions, the last one last.
    """

    symbols: tuple[str, ...]
    cash: float
    value: Array
    last: Array
    orders: Array
    adv: Array
    volatility: Array
    overlay: Overlay
    hedge_kind: str
    hedge_notional: float
    stance: StanceState
    since: int | None
    wealth: tuple[float, ...]

    @classmethod
    def start(cls, symbols: Sequence[str], capital: float) -> BookState:
        """All in cash."""
        count = len(symbols)
        zero, unknown = np.zeros(count), np.full(count, np.nan)
        return cls(
            tuple(symbols), capital, zero, unknown, zero, unknown, unknown, NO_OVERLAY, "none", 0.0,
            StanceState.start(count), None, (capital,),
        )  # fmt: skip

    @property
    def equity(self) -> float:
        """Currency: cash, positions and puts."""
        return self.cash + float(self.value.sum()) + self.overlay.mark

    @property
    def weights(self) -> Array:
        """`(N,)` positions over the equity."""
        return self.value / self.equity

    def reordered(self, symbols: Sequence[str]) -> BookState:
        """For another list of symbols.

        Raises
        ------
        DataError
            A symbol that is held, or has an order, is not in the list.
        """
        place = {name: at for at, name in enumerate(self.symbols)}
        at = np.array([place.get(name, -1) for name in symbols], dtype=np.int64)
        left = set(self.symbols) - set(symbols)
        held = [name for name in self.symbols if name in left and (self.value[place[name]] or self.orders[place[name]])]
        if held:
            raise DataError(f"book: {held[0]} is held and not among the symbols: keep it until it is sold or delisted")
        empty = {"value": 0.0, "orders": 0.0}
        arrays: dict[str, Any] = {
            name: np.where(at >= 0, np.append(getattr(self, name), np.nan)[at], empty.get(name, np.nan))
            for name in _ARRAYS
        }
        return replace(self, symbols=tuple(symbols), stance=self.stance.reordered(at), **arrays)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a number that is not known is None."""
        arrays = {
            name: [None if np.isnan(number) else number for number in getattr(self, name).tolist()] for name in _ARRAYS
        }
        return arrays | {
            "symbols": list(self.symbols),
            "cash": self.cash,
            "overlay": self.overlay.to_dict(),
            "hedge_kind": self.hedge_kind,
            "hedge_notional": self.hedge_notional,
            "stance": self.stance.to_dict(),
            "since": self.since,
            "wealth": list(self.wealth),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BookState:
        """The state that `to_dict` wrote.

        Raises
        ------
        DataError
            The values are not of such a state.
        """
        try:
            arrays = {name: np.array(values[name], dtype=np.float64) for name in _ARRAYS}
            state = cls(
                symbols=tuple(values["symbols"]),
                cash=float(values["cash"]),
                overlay=Overlay.from_dict(values["overlay"]),
                hedge_kind=str(values["hedge_kind"]),
                hedge_notional=float(values["hedge_notional"]),
                stance=StanceState.from_dict(values["stance"]),
                since=None if values["since"] is None else int(values["since"]),
                wealth=tuple(float(number) for number in values["wealth"]),
                **arrays,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"book: the saved state cannot be read ({error}): restore it or start anew") from None
        count = (len(state.symbols),)
        damaged = any(array.shape != count for array in (*arrays.values(), state.stance.side))
        if damaged or not state.wealth or not np.isfinite([state.cash, *state.value, *state.orders]).all():
            raise DataError("book: the saved state is damaged: restore it or start anew")
        return state
