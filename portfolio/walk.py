"""A book through history, session by session, by the step that a daily job takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import DataError
from portfolio.book import Orders, step
from portfolio.book_rule import BookRule
from portfolio.holdings import BookState
from portfolio.performance import summarise
from portfolio.policy import Reason, Stance
from portfolio.sessions import Market, Signals, day_at
from portfolio.settlement import Settlement

Array = NDArray[np.float64]
Codes = NDArray[np.int8]

COST_PARTS = ("commission", "impact", "borrow", "hedge_cost")
"""Columns of the daily frame that add up to its cost."""
_STANCES, _REASONS = tuple(map(str, Stance)), tuple(map(str, Reason))
_STANCE_CODE = {name: code for code, name in enumerate(_STANCES)}
_REASON_CODE = {name: code for code, name in enumerate(_REASONS)}


@dataclass(frozen=True, eq=False)
class Walk:
    """A backtest and everything that was decided in it.

    Attributes
    ----------
    daily
        One row a session: `date`, `equity` (currency), `gross`, `cost`, `net` (of the equity before; gross less cost),
        the parts `hedge`, `delisted` of the gross and `commission`, `impact`, `borrow`, `hedge_cost` of the cost,
        `turnover` (half the traded notional), `largest_share` (of the average traded value, of a fill), `dropped`
        (orders not filled), `long`, `short`, `index` (exposures at the close), `names`, `effective_names`, `largest`
        (absolute weight), `market` (its return, the hedge's index), `mode`, `mode_reason`, `because` (see `Orders`).
    limits
        A row a limit that bound or was relaxed: `date`, `kind`, `member`, `bound` (in force), `price` (of a binding
        one), `asked`, `forced` (of a relaxed one).
    weights, targets, filled
        `(T, N)` at the close; asked for at the close; traded in the session, of the equity before.
    stance, reason
        `(T, N)` codes into `stances` and `reasons`.
    size
        `(T, N)` sizes that the stance asked for.
    state
        After the last session.
    summary
        See `portfolio.performance.summarise`.
    """

    daily: pd.DataFrame
    limits: pd.DataFrame
    weights: Array
    targets: Array
    filled: Array
    stance: Codes
    reason: Codes
    size: Array
    symbols: tuple[str, ...]
    state: BookState
    summary: dict[str, Any]
    stances: tuple[str, ...] = _STANCES
    reasons: tuple[str, ...] = _REASONS

    def decisions(self, session: int) -> pd.DataFrame:
        """Every symbol's stance, reason, size, weight and target at the close of a session, by its row."""
        return pd.DataFrame(
            {
                "symbol": self.symbols,
                "stance": [self.stances[code] for code in self.stance[session]],
                "reason": [self.reasons[code] for code in self.reason[session]],
                "size": self.size[session],
                "weight": self.weights[session],
                "target": self.targets[session],
            }
        )


def walk(market: Market, signals: Signals, rule: BookRule, *, start: int = 0, state: BookState | None = None) -> Walk:
    """Trade signals through history.

    Parameters
    ----------
    start
        First session; those before it are the past that covariances and volumes are estimated from.
    state
        To go on from, after session `start - 1`; None: all in cash.

    Raises
    ------
    DataError
        The signals are not of the market's panel, no session is left, or a day cannot be used.
    """
    shape = (len(market.dates), len(market.symbols))
    if signals.forecast.shape != shape:
        raise DataError(f"book: signals of shape {signals.forecast.shape} for a market of {shape}: use one panel")
    if not 0 <= start < shape[0]:
        raise DataError(f"book: start {start} of {shape[0]} sessions: choose one of them")
    if rule.execution != "close" and (market.open is None or (rule.execution == "vwap" and market.high is None)):
        raise DataError(f"book: no prices for fills at {rule.execution}: give them, or fill at the close")
    now = BookState.start(market.symbols, rule.construction.capital) if state is None else state
    record = _Record(shape[0] - start, market, now)
    for t in range(start, shape[0]):
        now, settlement, orders = step(now, day_at(market, signals, t, rule), rule)
        record.add(t - start, t, now, settlement, orders)
    return record.finish(market, start, now)


class _Record:
    """Keeps what each session did in arrays: the words of every symbol's stance would not fit in memory."""

    def __init__(self, sessions: int, market: Market, state: BookState) -> None:
        shape = (sessions, len(market.symbols))
        self.weights, self.targets, self.filled, self.size = (np.zeros(shape) for _ in range(4))
        self.stance, self.reason = np.zeros(shape, dtype=np.int8), np.zeros(shape, dtype=np.int8)
        self.rows: list[dict[str, Any]] = []
        self.limits: list[dict[str, Any]] = []
        self.dates = market.dates
        self._adv = state.adv

    def add(self, row: int, t: int, state: BookState, settlement: Settlement, orders: Orders) -> None:
        """Write down a session: the state after it, how its orders were filled, and what it asks for next.

        Parameters
        ----------
        row, t
            Its place in the record and in the market.
        """
        decision, before = orders.decision, settlement.before
        weights = state.weights
        self.weights[row], self.targets[row] = weights, orders.weights
        self.filled[row] = settlement.filled / before
        self.size[row] = decision.size
        self.stance[row] = [_STANCE_CODE[name] for name in decision.stance.tolist()]
        self.reason[row] = [_REASON_CODE[name] for name in decision.reason.tolist()]
        size = np.abs(settlement.filled)
        share = np.divide(size, self._adv, out=np.zeros_like(size), where=size > 0)
        self._adv = state.adv
        squares = float((weights**2).sum())
        self.rows.append(
            {
                "equity": settlement.after,
                **settlement.figures(weights),
                "hedge": settlement.hedge / before,
                "delisted": settlement.delisted / before,
                **{name: getattr(settlement, name) / before for name in COST_PARTS},
                "largest_share": float(share.max(initial=0.0)),
                "dropped": float(np.abs(settlement.dropped).sum()) / before,
                "index": state.overlay.notional / settlement.after,
                "effective_names": float(np.abs(weights).sum() ** 2 / squares) if squares > 0 else 0.0,
                "largest": float(np.abs(weights).max(initial=0.0)),
                "mode": str(decision.mode),
                "mode_reason": str(decision.mode_reason),
                "because": orders.because,
            }
        )
        if orders.construction is not None:
            day = self.dates[t]
            self.limits += [
                {"date": day, "kind": found.kind, "member": found.member, "bound": found.bound, "price": found.price,
                 "asked": found.bound, "relaxed": False, "forced": False}
                for found in orders.construction.binding
            ] + [
                {"date": day, "kind": found.kind, "member": found.member, "bound": found.given, "price": np.nan,
                 "asked": found.asked, "relaxed": True, "forced": found.forced}
                for found in orders.construction.relaxed
            ]  # fmt: skip

    def finish(self, market: Market, start: int, state: BookState) -> Walk:
        """The walk, after its last session."""
        daily = pd.DataFrame(self.rows)
        daily.insert(0, "date", np.asarray(market.dates[start:]).astype("datetime64[ns]"))
        daily["market"] = market.index_return[start:]
        columns = ["date", "kind", "member", "bound", "price", "asked", "relaxed", "forced"]
        return Walk(
            daily=daily,
            limits=pd.DataFrame(self.limits, columns=columns).astype({"relaxed": bool, "forced": bool}),
            weights=self.weights,
            targets=self.targets,
            filled=self.filled,
            stance=self.stance,
            reason=self.reason,
            size=self.size,
            symbols=tuple(market.symbols),
            state=state,
            summary=summarise(daily),
        )
