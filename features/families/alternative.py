"""Series of the user's own: satellite counts, card spending, web traffic, whatever is dated and about a symbol.

A series is declared, not programmed: its name, and how it behaves. At every moment at which something became known,
its observations are put in the order of the dates that they describe, each as last revised by then. An observation
that arrives late or is revised takes its own place among them; only a later date is news. What follows from them
stands until the next moment, and for at most `max_age` sessions from the newest observation's arrival.

Only rows that became known within `window` sessions up to the moment are looked at: so a value depends on the last
`window + max_age - 1` sessions and on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.jit import compiled
from core.params import Params
from features.asof import ratio
from features.memo import remembered
from features.panel import OWN_SERIES, Array, Events, Panel
from features.registry import Family

NOISE = 1e-12
"""A deviation below this share of the largest value is rounding: equal values would make any surprise enormous."""

Sessions = Annotated[int, Field(ge=1, le=2520)]
Observations = Annotated[int, Field(ge=1, le=520)]


class SeriesParams(Params):
    """One series, and how far its figures reach: in its own observations, bounded in sessions."""

    name: str = Field(pattern=r"^[A-Za-z0-9_]+$")
    """As the column `series` says it; it becomes a part of the names of the features."""
    max_age: Sessions = 63
    """Sessions for which an observation stands."""
    window: Sessions = 504
    """Sessions in which the observations behind a change and a surprise became known."""
    change: Observations = 1
    """Observations back that a change is measured from."""
    relative: bool = False
    """Whether a change is a fraction of the earlier value: for positive amounts that differ in size among symbols."""
    season: int = Field(default=0, ge=0, le=520)
    """Observations after which the series repeats itself; 0 where it does not."""
    surprises: Annotated[int, Field(ge=2, le=520)] = 8
    """Earlier observations that tell what is usual."""


class AlternativeParams(Params):
    """The series to make features of; none by default."""

    series: list[SeriesParams] = Field(default=[])


alternative = Family("alternative", AlternativeParams)

own = partial(
    alternative.feature,
    over="series",
    lookback=lambda series: series.window + series.max_age - 1,
    inputs=(OWN_SERIES + ":{series.name}",),
)


# --- what the features share ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """What was known of a series at each moment at which something became known.

    Attributes
    ----------
    session, symbol
        `(C,)` positions in the panel, ordered by symbol, then session.
    since
        `(C,)` session in which the newest observation became known.
    level, earlier
        `(C,)` value of the newest observation, and of the one that a change is measured from.
    surprise
        `(C,)` standardised; NaN where an observation is missing or the earlier ones do not vary.
    """

    session: NDArray[np.int64]
    symbol: NDArray[np.int64]
    since: NDArray[np.int64]
    level: Array
    earlier: Array
    surprise: Array

    def spread(self, values: Array, shape: tuple[int, int], max_age: int) -> Array:
        """`(T, N)`: each moment's value until the next one, NaN once its newest observation is too old."""
        out = np.full(shape, np.nan)
        _spread(self.session, self.symbol, self.since, values, max_age, out)
        return out


@remembered
def known(events: Events, window: int, change: int, season: int, surprises: int) -> Known:
    """Level, earlier value and surprise at every moment.

    With `x` the value less that of a season before (or the value itself where there is no season), the surprise is
    `(x - mean) / sd` of the `surprises` observations before (ddof 1).

    Parameters
    ----------
    events
        Rows with `date` and `value`, one a session, symbol and date.
    window
        Sessions, up to the moment, in which a row must have become known to be looked at.
    """
    date = np.asarray(events.values["date"], dtype="datetime64[D]").astype(np.int64)
    value = np.asarray(events.values["value"], dtype=np.float64)
    order = np.lexsort((value, date, events.session, events.symbol))
    session, symbol = events.session[order], events.symbol[order]
    depth = max(change, season + surprises) + 1
    moments, since, level, earlier, surprise = _figures(
        session, symbol, date[order], value[order], window, change, season, surprises, depth
    )
    return Known(session[moments], symbol[moments], since, level, earlier, surprise)


@compiled
def _figures(session, symbol, date, value, window, change, season, surprises, depth):
    """Figures at the last row of every session; rows by symbol, session, date."""
    count = len(session)
    moments = np.empty(count, np.int64)
    since = np.empty(count, np.int64)
    level, earlier, surprise = np.full(count, np.nan), np.full(count, np.nan), np.full(count, np.nan)
    days, first, values = np.empty(depth, np.int64), np.empty(depth, np.int64), np.empty(depth)
    found = 0
    for row in range(count):
        if row + 1 < count and symbol[row + 1] == symbol[row] and session[row + 1] == session[row]:
            continue
        # Newest observation first. Walking back in time, the version met first is the last known one.
        size = 0
        before = row
        while before >= 0 and symbol[before] == symbol[row] and session[before] > session[row] - window:
            place = size
            while place > 0 and days[place - 1] < date[before]:
                place -= 1
            if place > 0 and days[place - 1] == date[before]:
                first[place - 1] = session[before]
            elif place < depth:
                size = min(size + 1, depth)
                for later in range(size - 1, place, -1):
                    days[later], first[later], values[later] = days[later - 1], first[later - 1], values[later - 1]
                days[place], first[place], values[place] = date[before], session[before], value[before]
            before -= 1
        moments[found] = row
        since[found] = first[0]
        level[found] = values[0]
        if change < size:
            earlier[found] = values[change]
        if season + surprises < size:
            surprise[found] = _surprise(values, season, surprises)
        found += 1
    return moments[:found], since[:found], level[:found], earlier[:found], surprise[:found]


@compiled
def _surprise(values, season, surprises):
    """The newest value against the `surprises` before it, each less that of a season before."""
    total = 0.0
    largest = 0.0
    for back in range(surprises + 1):
        x = values[back] - values[back + season] if season > 0 else values[back]
        largest = max(largest, abs(values[back]))
        if back > 0:
            total += x
    mean = total / surprises
    squares = 0.0
    newest = 0.0
    for back in range(surprises + 1):
        x = values[back] - values[back + season] if season > 0 else values[back]
        if back > 0:
            squares += (x - mean) ** 2
        else:
            newest = x
    spread = np.sqrt(squares / (surprises - 1))
    return (newest - mean) / spread if spread > NOISE * largest else np.nan


@compiled
def _spread(session, symbol, since, values, max_age, out):
    """Each moment's value down its column, until the next moment or its age."""
    for at in range(len(session)):
        stop = min(len(out), since[at] + max_age)
        if at + 1 < len(session) and symbol[at + 1] == symbol[at]:
            stop = min(stop, session[at + 1])
        for row in range(session[at], stop):
            out[row, symbol[at]] = values[at]


def _known(panel: Panel, series: SeriesParams) -> Known:
    events = panel.events[f"{OWN_SERIES}:{series.name}"]
    return known(events, series.window, series.change, series.season, series.surprises)


# --- the features of every series ----------------------------------------------------------------------------


@own("alt_{series.name}_level", units="as delivered", reference="Mukherjee, Panayotov and Shon (2021), Eye in the sky")
def level(panel: Panel, series: SeriesParams) -> Array:
    """Value of the newest observation, as last revised."""
    figures = _known(panel, series)
    return figures.spread(figures.level, panel.shape, series.max_age)


@own(
    "alt_{series.name}_change",
    units="as delivered, or a fraction",
    reference="Froot, Kang, Ozik and Sadka (2017), Journal of Financial Economics 125",
)
def change(panel: Panel, series: SeriesParams) -> Array:
    """Value of the newest observation against that of some observations before, as both are known now."""
    figures = _known(panel, series)
    step = ratio(figures.level, figures.earlier) - 1.0 if series.relative else figures.level - figures.earlier
    return figures.spread(step, panel.shape, series.max_age)


@own(
    "alt_{series.name}_surprise",
    units="standard deviations",
    reference="Foster, Olsen and Shevlin (1984), The Accounting Review 59 (seasonal random walk with drift)",
)
def surprise(panel: Panel, series: SeriesParams) -> Array:
    """Newest observation less what is usual for it, over the deviation of the earlier ones."""
    figures = _known(panel, series)
    return figures.spread(figures.surprise, panel.shape, series.max_age)


@own(
    "alt_{series.name}_staleness",
    units="sessions",
    reference="Katona, Painter, Patatoukas and Zeng (2025), On the capital market consequences of big data",
)
def staleness(panel: Panel, series: SeriesParams) -> Array:
    """Sessions since the newest observation became known; a revision is no news."""
    figures = _known(panel, series)
    known_at = figures.spread(figures.since.astype(np.float64), panel.shape, series.max_age)
    return np.arange(panel.shape[0], dtype=np.float64)[:, None] - known_at
