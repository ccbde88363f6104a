"""From events to dense arrays: what was the last known value, how old is it, how many rows came in.

Everything here looks back only. An event is visible from its own session on, and a carried value is dropped
`max_age` sessions after the event became known: so the value of a session depends on the last `max_age`
sessions and on nothing else.

Results do not depend on the order of the input rows: ties are broken by period, by amendment, and at last by
the value itself, and sums are taken in the order of the values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from core.jit import compiled
from features.panel import Array, Events

Shape = tuple[int, int]


def carry(events: Events, values: NDArray, shape: Shape, max_age: int) -> Array:
    """Last known value at each session's close.

    Of several events of one symbol in one session the one with the latest `period_end` counts, and of those the
    amended one, where the events have these columns.

    Parameters
    ----------
    events
        E rows.
    values
        `(E,)` one number an event; NaN means that the event says nothing and the earlier value stands.
    shape
        `(T, N)` of the panel.
    max_age
        Sessions for which a value stands, the one in which it became known included.

    Returns
    -------
    `(T, N)`, NaN where nothing is known or what is known is too old.
    """
    values = _numbers(events, values)
    said = np.isfinite(values)
    rows = events.take(said)
    values = values[said]
    order = _arrival_order(rows, values)
    out = np.full(shape, np.nan)
    # An integer-array assignment leaves the last of repeated positions unspecified, so keep only the winners.
    flat = (rows.session * shape[1] + rows.symbol)[order]
    winner = np.append(flat[1:] != flat[:-1], True) if len(flat) else np.zeros(0, dtype=bool)
    out.reshape(-1)[flat[winner]] = values[order][winner]
    return fill_forward(out, max_age)


def age(events: Events, shape: Shape, max_age: int) -> Array:
    """Sessions since the last event: 0 in its own session, NaN from `max_age` sessions on or before the first."""
    known_at = carry(events, events.session.astype(np.float64), shape, max_age)
    return np.arange(shape[0], dtype=np.float64)[:, None] - known_at


def bucket_count(events: Events, shape: Shape) -> Array:
    """Number of events per session and symbol, `(T, N)`; 0.0 where there is none."""
    return bucket_sum(events, np.ones(len(events)), shape)


def bucket_sum(events: Events, values: NDArray, shape: Shape) -> Array:
    """Sum of the values per session and symbol, `(T, N)`; NaN values are left out, 0.0 where there is none."""
    values = _numbers(events, values)
    known = np.isfinite(values)
    values = values[known]
    flat = events.session[known] * shape[1] + events.symbol[known]
    order = np.lexsort((values, flat))
    total = np.bincount(flat[order], weights=values[order], minlength=shape[0] * shape[1])
    return np.asarray(total, dtype=np.float64).reshape(shape)


def bucket_mean(events: Events, values: NDArray, shape: Shape) -> Array:
    """Mean of the values per session and symbol, `(T, N)`; NaN where there is none."""
    values = _numbers(events, values)
    count = bucket_sum(events, np.where(np.isfinite(values), 1.0, np.nan), shape)
    return ratio(bucket_sum(events, values, shape), count)


def ratio(numerator: Array, denominator: Array) -> Array:
    """Quotient where the denominator is positive, NaN elsewhere."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


@compiled
def fill_forward(values: Array, max_age: int) -> Array:
    """Carry the last finite value down each column for at most `max_age` sessions, its own included."""
    rows, columns = values.shape
    out = np.full((rows, columns), np.nan)
    for column in range(columns):
        last = -max_age
        for row in range(rows):
            if np.isfinite(values[row, column]):
                last = row
            if row - last < max_age:
                out[row, column] = values[last, column]
    return out


def _numbers(events: Events, values: NDArray) -> Array:
    """The values as float64, one an event."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape != (len(events),):
        raise DataError(f"got values of shape {numbers.shape} for {len(events)} events: pass one number an event")
    return numbers


def _arrival_order(events: Events, values: Array) -> NDArray[np.intp]:
    """Positions by (session, symbol, period_end, amended, value), the later ones winning."""
    keys: list[NDArray] = [values]
    if "amended" in events.values:
        keys.append(np.asarray(events.values["amended"], dtype=np.float64))
    if "period_end" in events.values:
        keys.append(np.asarray(events.values["period_end"], dtype="datetime64[D]").astype(np.int64))
    return np.lexsort((*keys, events.symbol, events.session))
