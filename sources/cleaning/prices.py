"""Daily bars: impossible values, bars that contradict themselves, spikes, and broken levels.

A spike can be told from a true jump only by what follows, and what follows is not known at the
close. So the first day at a new level is quarantined (dropped), whichever it is: a spike vanishes
and its reversal is accepted; a lasting jump loses its first day and no more. Nothing is repaired.

Every rule looks at ratios of prices and at trading that did or did not happen, so rescaling a
symbol's history changes no decision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sources.cleaning.findings import Findings, join
from sources.cleaning.past import Mask, Past, Positions, Values, log_distance, median_of_known
from sources.columns import DATE
from sources.identity import ANOTHER_COMPANY, LONG_GAP, SHORT_GAP

FIELDS = ("open", "high", "low", "close", "volume", "close_unadjusted", "vwap")

REACH = 10
"""Sessions within which an earlier close still says something about today's level."""
VOLATILITY_WINDOW = 63
"""Sessions whose daily moves tell how far a symbol usually moves."""
LEVEL_REACH = LONG_GAP
"""Sessions within which an earlier accepted close is compared to find a broken level."""
LOOKBACK = LEVEL_REACH + VOLATILITY_WINDOW + 1
"""Sessions, the row's own included, that the fate of a row depends on."""

REFERENCE_ROWS = 5
JUMP_FLOOR = 0.35
JUMP_SIGMAS = 8.0
MIN_RETURNS = 20
STRAY = float(np.log(2.0))
# Beyond this a lasting move is far more often a reorganisation or a spin-off than a return.
LEVEL_LIMIT = float(np.log(2.5))
LEVEL_RATIOS = np.array([1 / 10, 1 / 7, 1 / 5, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 2, 2, 3, 4, 5, 7, 10])
LEVEL_TOLERANCE = 0.06
TRADED_ROWS = 21
MIN_TRADED = 5
# A split changes prices and share counts, not the money traded; news that moves a price by a third brings more.
BUSY = 3.0


@dataclass
class _Bars:
    """Bars ordered by symbol, then session, as equally long columns."""

    names: NDArray[np.object_]
    code: Positions
    session: Positions
    day: NDArray[np.datetime64]
    wanted: Mask
    field: dict[str, Values]

    def take(self, rows: Mask | Positions) -> _Bars:
        columns = {name: values[rows] for name, values in self.field.items()}
        return _Bars(self.names, self.code[rows], self.session[rows], self.day[rows], self.wanted[rows], columns)

    def findings(self) -> Findings:
        return Findings("prices", pd.Categorical.from_codes(self.code, pd.Index(self.names)))

    def reporter(self, findings: Findings) -> Callable[..., None]:
        """Files wanted rows under a rule, with the value of one column as the example."""

        def report(rule: str, action: str, hit: Mask, column: str = "close", after: Values | None = None) -> None:
            def example(row: int) -> str:
                origin = "" if after is None else f" after {after[row]:.6g}"
                return f"{self.day[row]} {column} {self.field[column][row]:.6g}{origin}"

            findings.add(rule, action, hit & self.wanted, example)

        return report


def clean_prices(
    frame: pd.DataFrame, calendar: NDArray[np.datetime64], first: np.datetime64
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Clean normalised bars.

    Parameters
    ----------
    frame
        Normalised prices, no row after the last session wanted.
    calendar
        `(T,)` sessions that cover the rows.
    first
        First session whose rows are wanted; earlier rows only serve as the past.

    Returns
    -------
    DataFrame
        `date, symbol, open, high, low, close, volume, close_unadjusted, vwap, level_break`, by date and symbol.
    DataFrame
        Findings of the wanted rows.
    """
    everything = _bars(frame, calendar, first)
    dropped = everything.findings()
    report = everything.reporter(dropped)
    on_session = calendar[np.minimum(everything.session, len(calendar) - 1)] == everything.day
    valued = everything.field["close"] > 0
    report("not_a_session", "row dropped", ~on_session)
    report("close_not_positive", "row dropped", on_session & ~valued)

    bars = everything.take(on_session & valued)
    findings = bars.findings()
    report = bars.reporter(findings)
    past = Past(bars.code, bars.session, REACH)
    close = bars.field["close"]
    before = past.shifted(close, 1)
    _positive(bars.field, report)
    _volume(bars.field, before, report)
    _envelope(bars.field, report)
    strange, reference = new_levels(close, before, past)
    accepted = ~strange
    report("first_day_at_new_level", "row dropped", strange, after=reference)
    _stray(bars.field, before, accepted, report)
    latest = past.last(accepted, close, LEVEL_REACH)
    broken = accepted & level_breaks(close, bars.field["volume"], latest, past)
    report("level_break", "row marked", broken, after=latest)
    apart = broken & ~np.isfinite(past.last(accepted, close, SHORT_GAP))
    report("another_company", "row marked", apart, after=latest)
    _gaps(bars, findings, calendar)

    kept = np.flatnonzero(bars.wanted & accepted)
    kept = kept[np.lexsort((bars.code[kept], bars.session[kept]))]
    out = bars.take(kept)
    absent = np.full(len(kept), np.nan)
    symbol = pd.Series(bars.names).astype("str").take(out.code).reset_index(drop=True)
    cleaned = pd.DataFrame(
        {
            "date": out.day.astype(DATE),
            "symbol": symbol,
            **{name: out.field.get(name, absent) for name in FIELDS},
            "level_break": np.where(apart, ANOTHER_COMPANY, broken)[kept].astype(np.float64),
        }
    )
    return cleaned, join([dropped.frame(), findings.frame()])


def _bars(frame: pd.DataFrame, calendar: NDArray[np.datetime64], first: np.datetime64) -> _Bars:
    code, names = pd.factorize(frame["symbol"], sort=True)
    day = frame["date"].to_numpy().astype("datetime64[D]")
    session = np.searchsorted(calendar, day)
    field = {name: frame[name].to_numpy(np.float64) for name in FIELDS if name in frame}
    bars = _Bars(np.asarray(names, dtype=object), code, session, day, day >= first, field)
    return bars.take(np.lexsort((day, code)))


def jump_limit(rows: Positions, close: Values, past: Past) -> Values:
    """Log move beyond which a bar stands at a new level: `max(0.35, 8 sigma)`.

    Sigma is 1.4826 times the median absolute daily log return of the `VOLATILITY_WINDOW` sessions
    before, both ends of each return within them; a median, so that spikes do not widen it.

    Parameters
    ----------
    rows
        `(K,)` positions to judge.

    Returns
    -------
    `(K,)` log move.
    """
    levels = np.log(past.window(rows, close, VOLATILITY_WINDOW, VOLATILITY_WINDOW))
    sigma = 1.4826 * median_of_known(np.abs(np.diff(levels, axis=1)), MIN_RETURNS)
    return np.maximum(JUMP_FLOOR, JUMP_SIGMAS * np.nan_to_num(sigma))


def new_levels(close: Values, before: Values, past: Past) -> tuple[Mask, Values]:
    """Bars on the first day at a new level: far from the very last close, and from the median of the last ones.

    Returns
    -------
    Mask
        `(R,)` the bars.
    Values
        `(R,)` that median; NaN where the last close is near, since nobody asks there.
    """
    off_before = log_distance(close, before)
    candidate = np.flatnonzero(off_before > JUMP_FLOOR)
    reference = np.full(len(close), np.nan)
    reference[candidate] = median_of_known(past.window(candidate, close, REFERENCE_ROWS, REACH))
    nearer = np.minimum(log_distance(close[candidate], reference[candidate]), off_before[candidate])
    out = np.zeros(len(close), bool)
    out[candidate] = (nearer > JUMP_FLOOR) & (nearer > jump_limit(candidate, close, past))
    return out, reference


def level_breaks(close: Values, volume: Values, latest: Values, past: Past) -> Mask:
    """Bars that jumped from the last accepted close by nearly a split's ratio with no more traded than usual,
    or beyond belief.

    A missing split and a crash can look alike on the day, so the bar is only marked.
    """
    move = log_distance(close, latest)
    candidate = np.flatnonzero(move > JUMP_FLOOR)
    ratio = close[candidate] / latest[candidate]
    like_split = (np.abs(ratio[:, None] / LEVEL_RATIOS - 1) < LEVEL_TOLERANCE).any(axis=1)
    unusual = move[candidate] > jump_limit(candidate, close, past)
    quiet = ~_busy(candidate, close * volume, past)
    out = np.zeros(len(close), bool)
    out[candidate] = unusual & ((like_split & quiet) | (move[candidate] > LEVEL_LIMIT))
    return out


def _busy(rows: Positions, traded: Values, past: Past) -> Mask:
    """Rows on which, or on the row before, far more money was traded than usual; not where that is unknown.

    The row before counts because the first day at a new level is set aside: the news came on it.
    """
    before = past.window(rows, traded, TRADED_ROWS + 1, LEVEL_REACH)
    return np.fmax(traded[rows], before[:, 0]) > BUSY * median_of_known(before[:, 1:], MIN_TRADED)


def _positive(field: dict[str, Values], report: Callable[..., None]) -> None:
    for name in (name for name in FIELDS if name in field and name not in ("close", "volume")):
        hit = field[name] <= 0
        report(f"{name}_not_positive", "field unknown", hit, name)
        field[name][hit] = np.nan


def _volume(field: dict[str, Values], before: Values, report: Callable[..., None]) -> None:
    volume = field["volume"]
    negative = volume < 0
    moved = (np.isfinite(before) & (field["close"] != before)) | (field["high"] > field["low"])
    unknown = (volume == 0) & moved
    report("volume_negative", "field unknown", negative, "volume")
    report("volume_zero_while_price_moved", "field unknown", unknown, "volume")
    volume[negative | unknown] = np.nan


def _envelope(field: dict[str, Values], report: Callable[..., None]) -> None:
    """High and low must enclose open and close; where they do not, they are widened."""
    high, low = field["high"], field["low"]
    top, bottom = np.fmax(field["open"], field["close"]), np.fmin(field["open"], field["close"])
    crossed = high < low
    above, below = ~crossed & (top > high), ~crossed & (bottom < low)
    report("high_below_low", "high and low widened", crossed, "high")
    report("open_or_close_above_high", "high raised", above, "high")
    report("open_or_close_below_low", "low lowered", below, "low")
    up, down = np.flatnonzero(crossed | above), np.flatnonzero(crossed | below)
    raised = np.fmax(top[up], np.fmax(high[up], low[up]))
    lowered = np.fmin(bottom[down], np.fmin(high[down], low[down]))
    high[up], low[down] = raised, lowered


def _stray(field: dict[str, Values], before: Values, accepted: Mask, report: Callable[..., None]) -> None:
    """An open, high, low or average a factor of two away from both today's and the last close is no print."""
    for name in (name for name in ("open", "high", "low", "vwap") if name in field):
        values = field[name]
        stray = accepted & (log_distance(values, field["close"]) > STRAY)
        far = np.flatnonzero(stray)
        stray[far] = log_distance(values[far], before[far]) > STRAY
        report(f"{name}_stray", "field unknown", stray, name)
        values[stray] = np.nan


def _gaps(bars: _Bars, findings: Findings, calendar: NDArray[np.datetime64]) -> None:
    """Sessions without a bar between a symbol's first and last: reported, never filled."""
    later = np.flatnonzero(bars.wanted[1:] & bars.wanted[:-1] & (bars.code[1:] == bars.code[:-1])) + 1
    missing = bars.session[later] - bars.session[later - 1] - 1

    def example(row: int) -> str:
        return f"{bars.session[row] - bars.session[row - 1] - 1} before {calendar[bars.session[row]]}"

    findings.add("missing_sessions", "left missing", np.repeat(later, missing), example)
    findings.add("gap_over_10_sessions", "left missing", later[missing > REACH], example)
