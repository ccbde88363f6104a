"""Feature values at rest: one Parquet file a year, a row for each (date, symbol) of the universe, float32 columns.

The values are written as they are: float32 features shrink by a quarter at best, and packing them takes longer than
making them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.errors import DataError
from core.files import atomic_directory
from features.kernels.blocks import threads
from features.panel import Dates, Mask

KEYS = ("date", "symbol")


def write_values(
    folder: Path, values: Mapping[str, NDArray[np.float32]], dates: Dates, symbols: NDArray[np.str_], rows: Mask
) -> None:
    """Write features as `folder/year=YYYY/part.parquet`, replacing the folder atomically.

    Parameters
    ----------
    values
        `(T, N)` arrays by name.
    dates, symbols
        `(T,)` sessions and `(N,)` names.
    rows
        `(T, N)` True where there is a row; ordered by date, then symbol.
    """
    named = pa.array(symbols.astype(object), pa.string())
    years = dates.astype("datetime64[Y]").astype(np.int64) + 1970

    def write(year: int, parent: Path) -> None:
        first, last = np.searchsorted(years, [year, year + 1])
        place = np.flatnonzero(rows[first:last])
        if not len(place):
            return
        session, symbol = np.divmod(place, len(symbols))
        columns = {
            "date": pa.array(dates[first:last][session].astype("datetime64[ms]")),
            "symbol": named.take(pa.array(symbol)),
        }
        for name, array in values.items():
            flat = array[first:last].reshape(-1)
            columns[name] = pa.array(flat if len(place) == len(flat) else flat[place])
        file = parent / f"year={year}" / "part.parquet"
        file.parent.mkdir()
        pq.write_table(
            pa.table(columns), file, compression="none", use_dictionary=list(KEYS), write_statistics=list(KEYS)
        )

    with atomic_directory(folder) as temporary, ThreadPoolExecutor(threads()) as pool:
        for done in [pool.submit(write, int(year), temporary) for year in np.unique(years)]:
            done.result()


def read_values(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Every row of a folder that `write_values` wrote, of all columns or of some.

    Raises
    ------
    DataError
        There is no such folder, or a file in it is broken.
    """
    files = sorted(folder.glob("year=*/part.parquet"))
    if not files:
        raise DataError(f"{folder} holds no feature values: run the stage that writes it (`dvc repro`)")
    names = list(columns) if columns is not None else None
    try:
        return pa.concat_tables([pq.read_table(file, columns=names, partitioning=None) for file in files])
    except pa.ArrowInvalid as error:
        raise DataError(f"{folder} is not readable Parquet ({str(error).splitlines()[0]}): restore it") from error
