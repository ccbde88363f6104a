"""One session of a book, the same in a backtest and in production.

    state, settlement, orders = step(state, day, rule)

The orders of the last session are filled and what is held is carried to the close (`portfolio.settlement`). Then what
is known at that close decides: the stance of the book and of each symbol (`portfolio.stance`), every few sessions new
weights (`portfolio.rebalance`), and the index hedge. The orders are filled in the next session.

The state is small and can be saved as plain values, so that a daily job goes on where the last one ended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from portfolio.book_rule import BookRule
from portfolio.construction import Construction
from portfolio.holdings import BookState
from portfolio.rebalance import brake_of, market_beta, rebalance
from portfolio.sessions import Day
from portfolio.settlement import Settlement, settle
from portfolio.stance import Decision
from portfolio.stance import step as take_stance

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Orders:
    """What a session decided, to be done in the next one.

    Attributes
    ----------
    notional
        `(N,)` currency at the close, short negative.
    weights
        `(N,)` of the equity that the orders aim at, at the close.
    decision
        The stance, with its reasons.
    because
        "" where the session does not rebalance, else why it does: "start", "schedule", "mode" or "closing".
    construction, members
        With the limits that bind and those that were relaxed, and the columns it is about; None without one.
    hedge_kind, hedge_notional
        Index position that is wanted, currency.
    """

    notional: Array
    weights: Array
    decision: Decision
    because: str
    construction: Construction | None
    members: NDArray[np.int64]
    hedge_kind: str
    hedge_notional: float


def step(state: BookState, day: Day, rule: BookRule) -> tuple[BookState, Settlement, Orders]:
    """Settle the session's orders and decide the next one's.

    Raises
    ------
    ConfigError
        The scheme or the estimator of the rule is unknown.
    DataError
        The day cannot be used, see `portfolio.settlement.settle` and `portfolio.stance.step`; or exposures are missing.
    ConvergenceError
        See `portfolio.construction.construct`.
    """
    settled, settlement = settle(state, day, rule)
    after, orders = decide(settled, day, rule)
    return after, settlement, orders


def decide(state: BookState, day: Day, rule: BookRule) -> tuple[BookState, Orders]:
    """The orders that a settled session asks for; a daily job calls it on the positions that it really has."""
    stance, decision = take_stance(state.stance, day.today, rule.stance)
    equity, held = state.equity, state.weights
    brake = brake_of(state.wealth, rule)
    because = _because(state, stance.mode is not state.stance.mode, decision, day, rule, brake)
    weights, construction, members = held, None, np.zeros(0, dtype=np.int64)
    adv = volatility = np.full(len(held), np.nan)
    if because:
        found = rebalance(held, decision, day, rule, equity, brake)
        weights, construction, members = found.weights, found.construction, found.members
        adv, volatility = found.adv, found.volatility
    # A position that is to be closed is closed to the last bit, and one that is to stay is not traded.
    target = np.where(weights == 0, 0.0, weights * equity)
    notional = np.where(weights == held, 0.0, target - state.value)
    kind, hedge = _hedge(decision, day, weights, equity)
    # Until something could be held the first rebalance is still to come.
    waiting = not because or (state.since is None and not (notional.any() or held.any()))
    after = replace(
        state,
        orders=notional,
        adv=adv,
        volatility=volatility,
        hedge_kind=kind,
        hedge_notional=hedge,
        stance=stance,
        since=state.since if waiting else 0,
    )
    return after, Orders(notional, weights, decision, because, construction, members, kind, hedge)


def _because(state: BookState, moved: bool, decision: Decision, day: Day, rule: BookRule, brake: float) -> str:
    """Why the session rebalances, "" where it does not."""
    if state.since is None:
        return "start"
    if state.since >= rule.rebalance_sessions:
        return "schedule"
    if moved and rule.rebalance_on_mode:
        return "mode"
    # What must be out and did not fit into a day's volume goes on.
    out = (decision.exposure == 0) & (decision.size == 0) | (brake == 0)
    return "closing" if bool((out & (state.value != 0) & day.trades).any()) else ""


def _hedge(decision: Decision, day: Day, weights: Array, equity: float) -> tuple[str, float]:
    """Kind and notional of the index position that takes the book's beta away."""
    if decision.hedge is None or not weights.any():
        return "none", 0.0
    beta = float(market_beta(day) @ weights)
    # A book that gains when the market falls needs no put.
    return decision.hedge, (-beta if decision.hedge == "future" else max(beta, 0.0)) * equity
