"""The point-in-time universe: which symbols may be held at each session's close.

Nothing here depends on the level of adjusted prices, so a later split cannot reach back: dollar
volume, coverage and sessions since a break do not change when a history is rescaled, and the
minimum price looks only at prices as they were traded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from pydantic import Field

from core.params import Params
from features.companies import Columns, companies
from features.kernels import rolling_count, rolling_median, rolling_sum
from features.panel import Array, Mask


class UniverseRule(Params):
    """What a symbol needs to be held.

    Attributes
    ----------
    min_dollar_volume
        Least median of close x volume (currency a session).
    dollar_volume_sessions
        Window of that median; half of it must be present.
    min_coverage, coverage_sessions
        Least share of the last sessions with a close; so also the least history.
    min_price
        Least close as traded, where it is known.
    break_sessions
        No unresolved jump of the price level in this many sessions; 0 switches the rule off.
    """

    min_dollar_volume: float = Field(1e6, ge=0)
    dollar_volume_sessions: int = Field(63, ge=1)
    min_coverage: float = Field(0.9, gt=0, le=1)
    coverage_sessions: int = Field(252, ge=1)
    min_price: float = Field(1.0, ge=0)
    break_sessions: int = Field(252, ge=0)

    @property
    def lookback(self) -> int:
        """Sessions, the last one included, that membership of a day depends on."""
        return max(self.dollar_volume_sessions, self.coverage_sessions, self.break_sessions, 1)


def universe(fields: Mapping[str, Array], rule: UniverseRule) -> Mask:
    """`(T, N)` True where the symbol may be held: where every one of the `conditions` holds."""
    return np.asarray(np.logical_and.reduce(list(conditions(fields, rule).values())))


def conditions(fields: Mapping[str, Array], rule: UniverseRule) -> dict[str, Mask]:
    """What a symbol needs at each session to be held, `(T, N)` by name; of its company's own history.

    Parameters
    ----------
    fields
        Panel fields: `close`, `volume`, and where present `close_unadjusted` and `level_break`.
    """
    if (company := companies(fields)) is not None:
        columns = Columns.of(company)
        return {name: columns.together(mask) for name, mask in _conditions(columns.fields(fields), rule).items()}
    return _conditions(fields, rule)


def _conditions(fields: Mapping[str, Array], rule: UniverseRule) -> dict[str, Mask]:
    close = fields["close"]
    span = rule.dollar_volume_sessions
    dollar_volume = rolling_median(close * fields["volume"], span, math.ceil(span / 2))
    out = {
        "a close": ~np.isnan(close),
        "min_dollar_volume": dollar_volume >= rule.min_dollar_volume,
        "min_coverage": rolling_count(close, rule.coverage_sessions) >= rule.min_coverage * rule.coverage_sessions,
    }
    if "close_unadjusted" in fields:
        out["min_price"] = ~(fields["close_unadjusted"] < rule.min_price)
    if "level_break" in fields and rule.break_sessions:
        out["break_sessions"] = ~(rolling_sum(fields["level_break"], rule.break_sessions, 1) > 0)
    return out
