"""The exchange's sessions as a stored table: to work them out takes half a second, which the daily job need not spend.

The table holds what `exchange_calendars` says, and which release of it said so. Under another release it is not
looked at, and the library works the sessions out as it does for other exchanges and years; `python -m
sources.timetable` writes the table anew.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.errors import DataError

Dates = NDArray[np.datetime64]

EXCHANGE = "XNYS"
FIRST, LAST = 2000, 2039
"""Years that the table covers."""
TABLE = Path(__file__).with_suffix(".parquet")
_LIBRARY = "exchange_calendars"


def timetable(exchange: str, first: int, last: int) -> tuple[Dates, Dates]:
    """Sessions of the years `[first, last]` and their closing times (UTC)."""
    if exchange != EXCHANGE or first < FIRST or last > LAST or (table := _stored(TABLE)) is None:
        return computed(exchange, first, last)
    days, closes = table
    years = np.array([first, last + 1]) - 1970
    low, high = np.searchsorted(days, years.astype("datetime64[Y]"))
    return days[low:high].copy(), closes[low:high].copy()


def computed(exchange: str, first: int, last: int) -> tuple[Dates, Dates]:
    """The same from the library."""
    import exchange_calendars

    with warnings.catch_warnings():
        # The library still uses what pandas 4 will change; its result is the same on both.
        warnings.simplefilter("ignore", DeprecationWarning)
        calendar = exchange_calendars.get_calendar(exchange, start=f"{first}-01-01", end=f"{last}-12-31")
    days = calendar.sessions.to_numpy().astype("datetime64[D]")
    return days, calendar.closes.dt.tz_convert(None).to_numpy().astype("datetime64[us]")


@lru_cache(maxsize=1)
def _stored(path: Path) -> tuple[Dates, Dates] | None:
    """The table's sessions and closing times; None where another release of the library wrote it."""
    try:
        table = pq.read_table(path, partitioning=None)
        days, closes = table["session"].to_numpy(), table["close"].to_numpy()
    except (pa.ArrowException, KeyError, OSError) as error:
        raise DataError(f"{path} is not readable: restore it from git, or run `python -m sources.timetable`") from error
    if (table.schema.metadata or {}).get(_LIBRARY.encode()) != version(_LIBRARY).encode():
        return None
    return days.astype("datetime64[D]"), closes.astype("datetime64[us]")


def write(path: Path = TABLE) -> None:
    """Write the table as the installed release of the library has it."""
    days, closes = computed(EXCHANGE, FIRST, LAST)
    table = pa.table({"session": days, "close": closes}).replace_schema_metadata({_LIBRARY: version(_LIBRARY)})
    small = dict.fromkeys(table.column_names, "DELTA_BINARY_PACKED")
    pq.write_table(table, path, compression="zstd", use_dictionary=False, column_encoding=small)


if __name__ == "__main__":
    write()
