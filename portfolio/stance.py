"""When to be long, short, flat or hedged: declared rules that turn today's state into a stance.

The book has a mode. Below `calm` the probability of stress asks for the active one, up to `stress` for the
scaled one (sizes times 1 - p_stress, no market beta), above it, or while the systemic index is above
its own trailing quantile, for the defensive one: passive, or hedged by an index future or put
(`portfolio.hedge`). The defensive mode is left only below `calm`. A mode is kept for `dwell` sessions, unless a more
cautious one is asked for.

A symbol has a side. It becomes long when the probability that it will rise is above `enter`, and stays so until that
is below `leave`, and the mirror image for short; a side is kept for `dwell` sessions. The size of a side that is wrong
with probability p is max(0, 1 - 2 p), the even-odds bet of Kelly, so that a side in doubt costs little while it waits;
it is told in units of the edge that the policy calls `full`, up to 1.

Two rules stand above. Nothing crowded is newly bought: no longs for symbols in the top part of the crowd's
cost. After a panic, while short-dated implied volatility falls back below the longer-dated one, symbols that
were sold in panic may be bought, small, in every mode.

Each day is one step from the state of the day before, which is a small value that can be saved: what
comes later cannot change it.

References
----------
Kelly, J. L. (1956). A new interpretation of information rate. Bell System Technical Journal 35(4).
Kritzman, M., Li, Y., Page, S. and Rigobon, R. (2011). Principal components as a measure of systemic risk.
Journal of Portfolio Management 37(4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import DataError
from portfolio.policy import Mode, Reason, Stance, StancePolicy

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]

_TEXT = "U80"
_LONG_AGO = 1_000_000


@dataclass(frozen=True, eq=False)
class StanceState:
    """What the next day must know of this one.

    Attributes
    ----------
    mode, mode_age
        Of the book, and for how many sessions.
    since_inversion
        Sessions since implied volatility of one month was last at or above that of three.
    side, side_age
        `(N,)` -1, 0 or 1, and for how many sessions.
    contrarian
        `(N,)` sessions for which a contrarian long is still held.
    """

    mode: Mode
    mode_age: int
    since_inversion: int
    side: Counts
    side_age: Counts
    contrarian: Counts

    @classmethod
    def start(cls, count: int) -> StanceState:
        """Before the first day of N symbols: active, no side, free to change at once."""
        zero = np.zeros(count, dtype=np.int64)
        return cls(Mode.ACTIVE, _LONG_AGO, _LONG_AGO, zero, zero.copy(), zero.copy())

    def reordered(self, places: ArrayLike) -> StanceState:
        """For another list of symbols: `places` says where each was in the old one, -1 for a new symbol."""
        at = np.asarray(places, dtype=np.int64)
        side, age, contrarian = (
            np.where(at >= 0, np.append(values, 0)[at], 0) for values in (self.side, self.side_age, self.contrarian)
        )
        return StanceState(self.mode, self.mode_age, self.since_inversion, side, age, contrarian)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name).tolist() for name in ("side", "side_age", "contrarian")} | {
            "mode": self.mode.value,
            "mode_age": self.mode_age,
            "since_inversion": self.since_inversion,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StanceState:
        """The state that `to_dict` wrote.

        Raises
        ------
        DataError
            The values are not of such a state.
        """
        try:
            arrays = [np.asarray(values[name], dtype=np.int64) for name in ("side", "side_age", "contrarian")]
            state = cls(Mode(values["mode"]), int(values["mode_age"]), int(values["since_inversion"]), *arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"stance: the saved state cannot be read ({error}): start anew or restore it") from None
        if (
            len({array.shape for array in arrays}) > 1
            or arrays[0].ndim != 1
            or not np.isin(state.side, (-1, 0, 1)).all()
        ):
            raise DataError("stance: the saved state is damaged: start anew or restore it")
        return state


@dataclass(frozen=True, eq=False)
class Today:
    """What is known at the close of a session.

    Attributes
    ----------
    p_stress
        Filtered probability of the stressed regime; NaN counts as stress.
    systemic
        Percentile of the systemic index in its own trailing history, 0 to 1; NaN where not known.
    implied_ratio
        Implied volatility of one month over that of three; NaN where not known.
    signal
        `(N,)`, its sign is the forecast's; NaN without one.
    p_wrong
        `(N,)` probability that this sign is wrong; NaN without one.
    crowd_cost
        `(N,)` cost of what the crowd holds, over the size of its mean flow; NaN where not known.
    panic
        `(N,)` percentile of panic selling in the symbol's own trailing history; NaN where not known.
    """

    p_stress: float
    systemic: float
    implied_ratio: float
    signal: Array
    p_wrong: Array
    crowd_cost: Array
    panic: Array


@dataclass(frozen=True, eq=False)
class Decision:
    """The stance of a session.

    Attributes
    ----------
    mode, mode_reason
        Of the book.
    exposure
        What sizes are multiplied by, in `size` already.
    beta_neutral
        Whether the book must have no market beta.
    hedge
        "future" or "put" where the book's beta is to be hedged, None elsewhere.
    stance, reason
        `(N,)` `Stance` and `Reason` values.
    size
        `(N,)` signed part of a full position, -1 to 1.
    no_new_longs
        `(N,)`, True where nothing may be bought beyond closing a short.
    """

    mode: Mode
    mode_reason: Reason
    exposure: float
    beta_neutral: bool
    hedge: str | None
    stance: NDArray[np.str_]
    reason: NDArray[np.str_]
    size: Array
    no_new_longs: Mask

    def alpha(self, forecast: Array) -> Array:
        """`(N,)` forecasts for a construction: their size times the stance's, NaN where flat or without a forecast."""
        return np.where(self.size != 0, np.abs(forecast) * self.size, np.nan)


def step(state: StanceState, today: Today, policy: StancePolicy) -> tuple[StanceState, Decision]:
    """One session: yesterday's state and what is known today give the stance, and the state for tomorrow.

    Raises
    ------
    DataError
        Arrays differ in length, or a probability or percentile is outside 0 to 1.
    """
    _check(state, today)
    mode, mode_reason = _mode(state, today, policy)
    mode_age = state.mode_age + 1 if mode is state.mode else 1
    exposure = 1.0 if mode is Mode.ACTIVE else 1.0 - (today.p_stress if np.isfinite(today.p_stress) else 1.0)
    hedge = policy.defence if mode is Mode.DEFENSIVE and policy.defence != "passive" else None
    if mode is Mode.DEFENSIVE and hedge is None:
        exposure = 0.0
    side, reason, right = _sides(state, today, policy)
    age = np.where(side == 0, 0, np.where(side == state.side, state.side_age + 1, 1))
    size = side.astype(np.float64) * np.clip((2.0 * right - 1.0) / policy.full, 0.0, 1.0)
    stance = np.select([size > 0, size < 0], [Stance.LONG, Stance.SHORT], Stance.FLAT).astype(_TEXT)
    reason[(side != 0) & (size == 0)] = Reason.DOUBT
    size *= exposure
    if mode is Mode.DEFENSIVE:
        reason[stance != Stance.FLAT] = Reason.PASSIVE if hedge is None else Reason.HEDGED
        stance[stance != Stance.FLAT] = Stance.FLAT if hedge is None else Stance.HEDGE

    since = _since_inversion(state, today)
    crowded = _top(today.crowd_cost, policy.crowded)
    ending = 0 < since <= policy.inversion_memory
    sold = (today.panic > policy.panic) & ~crowded if ending else np.zeros(len(side), dtype=bool)
    contrarian = np.where(sold, policy.contrarian_sessions, np.maximum(state.contrarian - 1, 0))
    against = (contrarian > 0) & (size <= policy.contrarian_size)
    size[against], stance[against], reason[against] = policy.contrarian_size, Stance.LONG, Reason.CONTRARIAN
    # A long that was there before the crowd came stays; only the stance of a new one is refused.
    fresh = crowded & (size > 0) & ~((state.side > 0) | (state.contrarian > 0))
    size[fresh], stance[fresh], reason[fresh] = 0.0, Stance.FLAT, Reason.CROWDED
    side, age = np.where(fresh & (side > 0), 0, side), np.where(fresh & (side > 0), 0, age)

    after = StanceState(mode, mode_age, since, side, age, contrarian)
    neutral = mode is Mode.SCALED
    return after, Decision(mode, mode_reason, exposure, neutral, hedge, stance, reason, size, crowded)


def _mode(state: StanceState, today: Today, policy: StancePolicy) -> tuple[Mode, Reason]:
    p, order = today.p_stress, list(Mode)
    if not np.isfinite(p):
        return Mode.DEFENSIVE, Reason.UNKNOWN_STRESS
    if today.systemic > policy.systemic:
        return Mode.DEFENSIVE, Reason.SYSTEMIC
    if p > policy.stress:
        return Mode.DEFENSIVE, Reason.STRESS
    if p < policy.calm:
        wanted, reason = Mode.ACTIVE, Reason.CALM
    elif state.mode is Mode.DEFENSIVE:
        return Mode.DEFENSIVE, Reason.LINGERING
    else:
        wanted, reason = Mode.SCALED, Reason.UNCERTAIN
    bolder = order.index(wanted) < order.index(state.mode)
    return (state.mode, Reason.WAITING) if bolder and state.mode_age < policy.dwell else (wanted, reason)


def _sides(state: StanceState, today: Today, policy: StancePolicy) -> tuple[Counts, NDArray[np.str_], Array]:
    """Side of each symbol, why, and the probability that it is right."""
    known = np.isfinite(today.signal) & np.isfinite(today.p_wrong) & (today.signal != 0)
    rise = np.where(today.signal > 0, 1.0 - today.p_wrong, today.p_wrong)
    old = state.side
    right = np.where(old > 0, rise, 1.0 - rise)
    taken = np.select([rise > policy.enter, 1.0 - rise > policy.enter], [1, -1], 0)
    waits = (old != 0) & (state.side_age < policy.dwell) & (taken != old)
    keeps = (old != 0) & (right >= policy.leave)
    side = np.select([~known, waits, keeps], [0, old, old], taken)
    reason = np.select(
        [~known, (side != 0) & (side == taken), waits, side != 0],
        [Reason.NO_FORECAST, Reason.CONFIDENT, Reason.DWELL, Reason.HELD],
        Reason.UNSURE,
    ).astype(_TEXT)
    return side.astype(np.int64), reason, np.where(known, np.where(side > 0, rise, 1.0 - rise), 0.0)


def _since_inversion(state: StanceState, today: Today) -> int:
    if today.implied_ratio >= 1.0:
        return 0
    return min(state.since_inversion + 1, _LONG_AGO)


def _top(values: Array, quantile: float) -> Mask:
    """Whether a symbol is above the quantile of the known values."""
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(len(values), dtype=bool)
    with np.errstate(invalid="ignore"):
        return values > np.quantile(values[known], quantile)


def _check(state: StanceState, today: Today) -> None:
    for name in ("signal", "p_wrong", "crowd_cost", "panic"):
        values = getattr(today, name)
        if values.shape != state.side.shape:
            raise DataError(f"stance: {name} has shape {values.shape}, the state has {len(state.side)} symbols")
    for name in ("p_stress", "systemic", "p_wrong", "panic"):
        values = np.asarray(getattr(today, name), dtype=np.float64)
        if ((values < 0) | (values > 1)).any():
            raise DataError(f"stance: {name} leaves the range 0 to 1: give a probability or a percentile")
