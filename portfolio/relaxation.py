"""What gives way where limits cannot all hold.

Two steps, each the least that is needed. First, rows that the hard limits alone put out of reach (a stock
that is halted above its cap) are moved to where they can be met. Then, if the limits still conflict, each
kind is given its smallest total excess in turn, the most important kind first, while those before it
keep what they have and those after it do not count: the order is lexicographic, so that an important
limit never gives way to spare a lesser one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import ConvergenceError
from portfolio.limits import Limit

Array = NDArray[np.float64]

ROUNDING = 1e-7
"""An excess up to this is the solver's rounding, not a conflict."""
MARGIN, MARGIN_SHARE = 1e-5, 0.01
"""Added to the excess of a relaxed row, absolute and as a share of it, the larger: the set of allowed weights
keeps an interior, which the solver needs. Without it the weights would be those of the least excess alone."""


@dataclass(frozen=True)
class Relaxation:
    """A row of a limit that was widened.

    Attributes
    ----------
    kind, member
        Which limit, and which symbol, sector or factor of it.
    asked, given
        The bound as declared, and the one in force instead.
    forced
        Whether the hard limits alone put it out of reach; otherwise it conflicted with other limits.
    """

    kind: str
    member: str
    asked: float
    given: float
    forced: bool

    def __str__(self) -> str:
        why = "out of reach of today's trades" if self.forced else "in conflict with limits that matter more"
        return f"{self.kind} {self.member}: {self.asked:.6g} -> {self.given:.6g} ({why})"


def within_reach(limits: Sequence[Limit], lower: Array, upper: Array) -> tuple[list[Limit], tuple[Relaxation, ...]]:
    """Widen the rows that no weights in the box lower <= w <= upper can meet."""
    out: list[Limit] = []
    relaxed: list[Relaxation] = []
    for limit in limits:
        least, most = limit.least(lower, upper)
        above, below = least - limit.high, limit.low - most
        wider, notes = _widen(limit, below, above, forced=True)
        out.append(wider)
        relaxed += notes
    return out, tuple(relaxed)


def relax(
    limits: Sequence[Limit],
    order: Sequence[str],
    least_excess: Callable[[Sequence[Limit], Limit], tuple[Array, Array] | None],
) -> tuple[list[Limit], tuple[Relaxation, ...]]:
    """Widen limits that conflict, the first kind of `order` the most readily.

    Parameters
    ----------
    limits
        One limit of a kind.
    order
        Kinds that may give way; the others do not.
    least_excess
        Of the limits that hold and one that may give way: `(M,)` excesses of its rows below and above, with
        the smallest sum; None where the limits that hold cannot.

    Raises
    ------
    ConvergenceError
        The limits that may not give way conflict.
    """
    of_kind = {limit.kind: limit for limit in limits}
    yielding = [of_kind[kind] for kind in order if kind in of_kind]
    # The longest run of the most important limits that can hold together keeps all it has.
    for dropped in range(1, len(yielding) + 1):
        loose = yielding[:dropped]
        kept = [limit for limit in limits if limit not in loose]
        found = least_excess(kept, loose[-1])
        if found is not None:
            break
    else:
        kinds = ", ".join(limit.kind for limit in limits if limit not in yielding)
        raise ConvergenceError(
            f"construction: the limits {kinds} cannot all hold, even with the others dropped: widen one of them, or "
            "name it in relax"
        )
    relaxed: tuple[Relaxation, ...] = ()
    while loose:
        limit = loose.pop()
        excess = found if found is not None else least_excess(kept, limit)
        found = None
        if excess is None:
            raise ConvergenceError(
                f"construction: the solver lost its way relaxing {limit.kind}: check the limits' scale"
            )
        wider, notes = _widen(limit, *excess, forced=False)
        kept.append(wider)
        relaxed += notes
    return kept, relaxed


def _widen(limit: Limit, below: Array, above: Array, *, forced: bool) -> tuple[Limit, tuple[Relaxation, ...]]:
    add_below, add_above = (_with_margin(side) for side in (below, above))
    wider = limit.widened(add_below, add_above)
    notes = [
        Relaxation(limit.kind, limit.members[row], float(asked[row]), float(given[row]), forced)
        for asked, given, added in ((limit.low, wider.low, add_below), (limit.high, wider.high, add_above))
        for row in np.flatnonzero(added)
    ]
    return wider, tuple(notes)


def _with_margin(excess: Array) -> Array:
    return np.where(excess > ROUNDING, excess + np.maximum(MARGIN, MARGIN_SHARE * excess), 0.0)
