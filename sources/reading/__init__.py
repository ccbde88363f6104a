"""Strict readers of users' tables: CSV (plain or gzip) and Parquet (a file or a partitioned folder).

What is certain is read, whoever wrote it; what would have to be guessed is refused in one line.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import pandas as pd

from sources.reading.columnar import newest_day, read_parquet_table
from sources.reading.delimited import read_csv_table

__all__ = ["SUFFIXES", "is_csv", "newest_day", "read_table"]

SUFFIXES = (".parquet", ".csv", ".csv.gz")
"""How the name of a table ends."""


def is_csv(path: Path) -> bool:
    """Whether a table is CSV by its name; what is not is Parquet."""
    return path.name.lower().endswith((".csv", ".csv.gz"))


def read_table(
    path: Path, table: str, start: datetime.date | None = None, end: datetime.date | None = None
) -> pd.DataFrame:
    """Raw rows of a table's file, for `sources.schemas.normalise`.

    Parameters
    ----------
    path
        CSV or Parquet, by its name; a folder holds Parquet files.
    table
        Name in `sources.schemas.SCHEMAS`.
    start, end
        Days in which the rows became known, as far as the file lets them be selected; the rest comes along.

    Returns
    -------
    DataFrame
        The schema's columns that the file has, under the schema's names.

    Raises
    ------
    DataError
        The file is damaged or may have been cut, lacks a column, has one twice, or holds no row. Names the file, and
        the line or the column.
    """
    return read_csv_table(path, table) if is_csv(path) else read_parquet_table(path, table, start, end)
