"""What was served, read back: whole days as rows, and the state of every session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.dates import parse_date
from core.errors import DataError
from core.files import read_parquet
from core.progress import progress
from governance.outputs import MANIFEST, read_output
from monitoring.upkeep import BROKEN, HINDSIGHT, MISSING, SERVED
from sources.calendar import sessions_until

_NEEDED = ("date", "symbol", "signal", "expected_return", "interval_low", "interval_high", "p_wrong")
_WORDS = ("behaviour", "stance", "top_reasons")
_AFTERWARDS = "made afterwards, when nothing had been in production yet: it was not served"
_NEVER_SERVED = (
    "every session judged here was made afterwards, by a version that was not in production then: this is what it "
    "would have said, not what was traded"
)


@dataclass(frozen=True, eq=False)
class History:
    """Signals of a span of sessions.

    Attributes
    ----------
    rows
        Rows of whole days: the numbers of signals.parquet and not its words, `version` and `in_sample`; by date.
    days
        A row a session from the first folder on: `date, state, version, in_sample, warnings, problem`.
    notes
        What to know before any of it is judged.
    """

    rows: pd.DataFrame
    days: pd.DataFrame
    notes: tuple[str, ...] = ()


def read_history(folder: Path, last: np.datetime64, limit: int) -> History:
    """Signals of up to `limit` sessions ending with `last`; a day that is not whole is told and left out.

    A day's files are checked against its manifest, so that what is judged is what was served. Days made in hindsight
    are left out too, unless there are no others.

    Raises
    ------
    DataError
        Not one folder of signals lies in the span.
    """
    found = _folders(folder)
    span = sessions_until(last, limit)
    inside = sorted(day for day in found if span[0] <= day <= last)
    if not inside:
        raise DataError(
            f"{folder.name}/ holds no signals between {span[0]} and {last}: run `signals infer` for these sessions"
        )
    trading = {*span.tolist()}
    frames: dict[str, list[pd.DataFrame]] = {SERVED: [], HINDSIGHT: []}
    lines = []
    for day in progress(np.union1d(span[span >= inside[0]], inside), "signals"):
        if day.item() not in trading:
            lines.append((day, BROKEN, np.nan, False, 0, f"{found[day].name} is no session of the exchange"))
            continue
        if day not in found:
            lines.append((day, MISSING, np.nan, False, 0, "no signals"))
            continue
        try:
            manifest, rows = _read_day(found[day], day)
        except DataError as error:
            lines.append((day, BROKEN, np.nan, False, 0, str(error)))
            continue
        version, in_sample = int(manifest["version"]), bool(manifest.get("in_sample", False))
        state, problem = (HINDSIGHT, _AFTERWARDS) if manifest.get("hindsight") else (SERVED, "")
        lines.append((day, state, version, in_sample, len(manifest.get("warnings", ())), problem))
        frames[state].append(rows.assign(version=version, in_sample=in_sample))
    days = pd.DataFrame(lines, columns=["date", "state", "version", "in_sample", "warnings", "problem"])
    days["date"] = days["date"].astype("datetime64[ns]")
    hindsight = bool(frames[HINDSIGHT]) and not frames[SERVED]
    kept = frames[HINDSIGHT if hindsight else SERVED]
    rows = pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=[*_NEEDED, "version", "in_sample"])
    if hindsight:
        days.loc[days["state"] == HINDSIGHT, ["state", "problem"]] = SERVED, ""
    return History(rows.drop(columns=[*_WORDS], errors="ignore"), days, (_NEVER_SERVED,) if hindsight else ())


def _folders(folder: Path) -> dict[np.datetime64, Path]:
    found: dict[np.datetime64, Path] = {}
    for path in sorted(folder.glob("date=*")):
        try:
            day = parse_date(path.name.removeprefix("date="))
        except ValueError:
            raise DataError(f"{path} is no folder of a session: move it away") from None
        found[np.datetime64(day, "D")] = path
    return found


def _read_day(folder: Path, day: np.datetime64) -> tuple[Mapping[str, Any], pd.DataFrame]:
    """Manifest and rows of one day.

    Raises
    ------
    DataError
        Something is missing, altered, of another day, or no signals at all.
    """
    manifest, problems = read_output(folder)
    if problems:
        raise DataError(f"{folder.name}/{problems[0]} after it was written")
    lacking = [name for name in ("version", "symbols") if not isinstance(manifest.get(name), int)]
    if lacking:
        raise DataError(f"{folder.name}/{MANIFEST} has no valid {lacking[0]!r}")
    rows = read_parquet(folder / "signals.parquet")
    missing = [name for name in _NEEDED if name not in rows]
    if missing:
        raise DataError(f"{folder.name}/signals.parquet lacks the column {missing[0]!r}")
    if len(rows) != manifest["symbols"] or rows["symbol"].duplicated().any() or not _all_of(rows["date"], day):
        raise DataError(f"{folder.name}/signals.parquet does not hold one row a symbol of that day")
    return manifest, rows.assign(date=rows["date"].astype("datetime64[ns]"))


def _all_of(dates: pd.Series, day: np.datetime64) -> bool:
    told: NDArray[np.datetime64] = dates.to_numpy("datetime64[D]")
    return bool((told == day).all())
