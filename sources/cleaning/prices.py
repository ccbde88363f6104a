"""Daily bars: impossible values, bars that contradict themselves, spikes, and broken levels.

A spike can be told from a true jump only by what follows, and what follows is not known at the
close. So the first day at a new level is quarantined (dropped), whichever it is: a spike vanishes
and its reversal is accepted; a lasting jump loses its first day and no more. Nothing is repaired.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sources.cleaning.findings import Findings
from sources.schemas import DATE

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

REACH = 10
"""Sessions within which an earlier bar still says something about today's level."""
VOLATILITY_WINDOW = 63
LOOKBACK = REACH + VOLATILITY_WINDOW + 1
"""Sessions, the row's own included, that the fate of a row depends on."""

REFERENCE_ROWS = 5
JUMP_FLOOR = 0.35
JUMP_SIGMAS = 8.0
MIN_RETURNS = 20
STRAY = np.log(2.0)
LEVEL_RATIOS = np.array([1 / 10, 1 / 7, 1 / 5, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 2, 2, 3, 4, 5, 7, 10])
LEVEL_TOLERANCE = 0.06

FIELDS = ("open", "high", "low", "close", "volume", "close_unadjusted")


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
        `date, symbol, open, high, low, close, volume, close_unadjusted, level_break`, by date and symbol.
    DataFrame
        Findings of the wanted rows.
    """
    codes, names = pd.factorize(frame["symbol"], sort=True)
    day = frame["date"].to_numpy().astype("datetime64[D]")
    session = np.searchsorted(calendar, day)
    on_session = calendar[np.minimum(session, len(calendar) - 1)] == day
    # By symbol, then date: a bar's past is then the rows just above it.
    order = np.lexsort((session, codes))
    codes, day, session, on_session = codes[order], day[order], session[order], on_session[order]
    wanted = day >= first
    field = {
        name: frame[name].to_numpy(np.float64)[order] if name in frame else np.full(len(frame), np.nan)
        for name in FIELDS
    }
    findings = Findings("prices", np.asarray(names)[codes])

    def file(rule: str, action: str, hit: Mask, column: str = "close") -> None:
        findings.add(rule, action, hit & wanted, lambda row: f"{day[row]} {column} {field[column][row]:.6g}")

    file("not_a_session", "row dropped", ~on_session)
    valued = field["close"] > 0
    file("close_not_positive", "row dropped", on_session & ~valued)
    keep = on_session & valued
    codes, day, session, wanted = codes[keep], day[keep], session[keep], wanted[keep]
    field = {name: values[keep] for name, values in field.items()}
    findings_of_kept = Findings("prices", np.asarray(names)[codes])
    dropped, findings = findings, findings_of_kept

    for name in ("open", "high", "low"):
        hit = field[name] <= 0
        file(f"{name}_not_positive", "field unknown", hit, name)
        field[name][hit] = np.nan
    field["close_unadjusted"][~(field["close_unadjusted"] > 0)] = np.nan

    past = _Past(codes, session)
    close = field["close"]
    before = past.shifted(close, 1)
    _volume(field, before, file)
    _envelope(field, file)

    reference = _median_of_last([past.shifted(close, back) for back in range(1, REFERENCE_ROWS + 1)])
    off_level, off_previous = _distance(close, reference), _distance(close, before)
    candidate = np.flatnonzero((off_level > JUMP_FLOOR) & (off_previous > JUMP_FLOOR))
    limit = jump_limit(candidate, close, past)
    quarantined = np.zeros(len(close), bool)
    quarantined[candidate] = (off_level[candidate] > limit) & (off_previous[candidate] > limit)
    findings.add(
        "first_day_at_new_level", "row dropped", quarantined & wanted,
        lambda row: f"{day[row]} close {close[row]:.6g} after a level of {reference[row]:.6g}",
    )  # fmt: skip

    _stray(field, before, ~quarantined, file)
    accepted = past.last(~quarantined, close)
    broken = level_breaks(close, accepted, ~quarantined, past)
    findings.add(
        "level_break", "row marked", broken & wanted,
        lambda row: f"{day[row]} close {close[row]:.6g} after {accepted[row]:.6g}",
    )  # fmt: skip
    _gaps(findings, session, codes, wanted, calendar)

    out = wanted & ~quarantined
    # Back to the order by date, then symbol.
    rows = np.flatnonzero(out)
    rows = rows[np.lexsort((codes[rows], session[rows]))]
    cleaned = pd.DataFrame({"date": day[rows].astype(DATE), "symbol": pd.Series(names).astype("str").to_numpy()[codes[rows]]})
    cleaned["symbol"] = cleaned["symbol"].astype("str")
    for name, values in field.items():
        cleaned[name] = values[rows]
    cleaned["level_break"] = broken[rows].astype(np.float64)
    return cleaned, pd.concat([dropped.frame(), findings.frame()], ignore_index=True)


class _Past:
    """Looks up the rows above a row: same symbol, at most `REACH` sessions earlier."""

    def __init__(self, codes: NDArray[np.int64], session: NDArray[np.int64]) -> None:
        self.codes, self.session = codes, session

    def _holds(self, row: NDArray[np.int64], earlier: NDArray[np.int64], reach: int) -> Mask:
        safe = np.maximum(earlier, 0)
        near = self.session[row] - self.session[safe] <= reach
        return (earlier >= 0) & (self.codes[row] == self.codes[safe]) & near

    def shifted(self, values: Values, back: int) -> Values:
        """Value of the `back`-th row above; NaN where there is none within reach."""
        out = np.full(len(values), np.nan)
        if len(values) > back:
            near = self.session[back:] - self.session[:-back] <= REACH
            same = self.codes[back:] == self.codes[:-back]
            out[back:] = np.where(near & same, values[:-back], np.nan)
        return out

    def last(self, allowed: Mask, values: Values) -> Values:
        """Value of the last allowed row above; NaN where there is none within reach."""
        row = np.arange(len(values))
        latest = np.maximum.accumulate(np.where(allowed, row, -1))
        earlier = np.concatenate([[-1], latest[:-1]]) if len(values) else latest
        return np.where(self._holds(row, earlier, REACH), values[np.maximum(earlier, 0)], np.nan)

    def window(self, rows: NDArray[np.int64], values: Values, sessions: int) -> Values:
        """`(K, sessions)` values of the rows above within the last `sessions` sessions, today's not included."""
        earlier = rows[:, None] - np.arange(1, sessions + 1)
        held = self._holds(rows[:, None], earlier, sessions)
        return np.where(held, values[np.maximum(earlier, 0)], np.nan)


def jump_limit(rows: NDArray[np.int64], close: Values, past: _Past) -> Values:
    """Log move beyond which a bar stands at a new level: `max(0.35, 8 sigma)`.

    Sigma is 1.4826 times the median absolute daily log return of the `VOLATILITY_WINDOW` sessions
    before, both ends of each return within them, so that the spikes themselves do not widen it.

    Parameters
    ----------
    rows
        `(K,)` positions to judge.
    """
    levels = np.log(past.window(rows, close, VOLATILITY_WINDOW))
    moves = np.abs(levels[:, :-1] - levels[:, 1:])
    counts = np.isfinite(moves).sum(axis=1)
    # The median of the known moves: NaN sorts last.
    moves.sort(axis=1)
    low, high = np.maximum((counts - 1) // 2, 0), np.minimum(counts // 2, max(moves.shape[1] - 1, 0))
    at = np.arange(len(rows))
    sigma = 1.4826 * (moves[at, low] + moves[at, high]) / 2
    return np.maximum(JUMP_FLOOR, JUMP_SIGMAS * np.where(counts >= MIN_RETURNS, sigma, 0.0))


def level_breaks(close: Values, accepted: Values, allowed: Mask, past: _Past) -> Mask:
    """Accepted bars that jumped from the last accepted one by nearly the ratio of a split.

    A missing split and a crash of the same size look alike, so the bar is kept and marked.
    """
    candidate = np.flatnonzero(allowed & (_distance(close, accepted) > JUMP_FLOOR))
    ratio = close[candidate] / accepted[candidate]
    beyond = np.abs(np.log(ratio)) > jump_limit(candidate, close, past)
    like_split = (np.abs(ratio[:, None] / LEVEL_RATIOS - 1) < LEVEL_TOLERANCE).any(axis=1)
    out = np.zeros(len(close), bool)
    out[candidate] = beyond & like_split
    return out


def _volume(field: dict[str, Values], before: Values, file) -> None:  # type: ignore[no-untyped-def]
    volume = field["volume"]
    negative = volume < 0
    moved = (field["close"] != before) & np.isfinite(before) | (field["high"] > field["low"])
    unknown = (volume == 0) & moved
    file("volume_negative", "field unknown", negative, "volume")
    file("volume_zero_while_price_moved", "field unknown", unknown, "volume")
    volume[negative | unknown] = np.nan


def _envelope(field: dict[str, Values], file) -> None:  # type: ignore[no-untyped-def]
    """High and low must enclose open and close; where they do not, they are widened."""
    open_, high, low, close = (field[name] for name in ("open", "high", "low", "close"))
    top, bottom = np.fmax(open_, close), np.fmin(open_, close)
    crossed = high < low
    above, below = ~crossed & (top > high), ~crossed & (bottom < low)
    file("high_below_low", "high and low widened", crossed, "high")
    file("above_high", "high raised", above, "high")
    file("below_low", "low lowered", below, "low")
    highest, lowest = np.fmax(top, np.fmax(high, low)), np.fmin(bottom, np.fmin(high, low))
    field["high"] = np.where(crossed | above, highest, high)
    field["low"] = np.where(crossed | below, lowest, low)


def _stray(field: dict[str, Values], before: Values, allowed: Mask, file) -> None:  # type: ignore[no-untyped-def]
    """An open, high or low more than a factor of two from both today's and the last close is no print."""
    for name in ("open", "high", "low"):
        values = field[name]
        stray = allowed & (_distance(values, field["close"]) > STRAY) & (_distance(values, before) > STRAY)
        file(f"{name}_stray", "field unknown", stray, name)
        values[stray] = np.nan


def _gaps(
    findings: Findings,
    session: NDArray[np.int64],
    codes: NDArray[np.int64],
    wanted: Mask,
    calendar: NDArray[np.datetime64],
) -> None:
    """Sessions without a bar between a symbol's first and last: reported, never filled."""
    later = np.flatnonzero(wanted[1:] & wanted[:-1] & (codes[1:] == codes[:-1])) + 1
    missing = session[later] - session[later - 1] - 1

    def example(row: int) -> str:
        return f"{session[row] - session[row - 1] - 1} sessions before {calendar[session[row]]}"

    findings.add("missing_sessions", "left missing", np.repeat(later, missing), example)
    findings.add("gap_over_10_sessions", "left missing", later[missing > REACH], example)


def _distance(values: Values, other: Values) -> Values:
    """Absolute log ratio, 0 where either is unknown."""
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.abs(np.log(values / other))
    return np.where(np.isfinite(out), out, 0.0)


def _median_of_last(columns: list[Values]) -> Values:
    """Median over the known ones of a few columns; NaN where none is known."""
    stacked = np.stack(columns, axis=1)
    counts = np.isfinite(stacked).sum(axis=1)
    stacked.sort(axis=1)
    row = np.arange(len(stacked))
    return (stacked[row, np.maximum((counts - 1) // 2, 0)] + stacked[row, np.minimum(counts // 2, stacked.shape[1] - 1)]) / 2
