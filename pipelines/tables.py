"""Tables at rest: one Parquet file a table, prices by year."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from core.errors import DataError
from core.files import atomic_directory, read_parquet, write_by_year, write_parquet

BY_YEAR = ("prices",)


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Replace a folder of tables atomically."""
    with atomic_directory(folder) as temporary:
        for name in sorted(tables):
            if name in BY_YEAR:
                write_by_year(temporary / name, tables[name])
            else:
                write_parquet(temporary / f"{name}.parquet", tables[name])


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Every table of a folder, by name.

    Raises
    ------
    DataError
        The folder is missing or holds no prices.
    """
    if not (folder / "prices").is_dir():
        raise DataError(f"{folder} holds no prices: run the stage that writes it (`dvc repro`)")
    tables = {name: read_parquet(folder / name) for name in BY_YEAR if (folder / name).is_dir()}
    tables |= {file.stem: read_parquet(file) for file in sorted(folder.glob("*.parquet"))}
    return tables
