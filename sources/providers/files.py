"""A folder of Parquet or CSV files, one a table."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from core.errors import ConfigError, DataError
from core.params import Params
from sources.base import PROVIDERS
from sources.columns import TIME
from sources.reading import SUFFIXES, is_csv, newest_day, read_table
from sources.schemas import MAX_LAG_DAYS, TABLES, normalise

_STEMS = {"posts": ("posts", "social")}
_UNREAD = (".csv.bz2", ".csv.xz", ".csv.zip", ".csv.zst", ".feather", ".json", ".orc", ".pq", ".tsv", ".txt", ".xlsx")
"""Endings of tables that are not read, and not passed over either."""


class FilesParams(Params):
    """What a folder cannot say by itself."""

    lag_days: dict[str, Annotated[int, Field(ge=0, le=MAX_LAG_DAYS)]] = Field(default={})
    """By series of the table `alternative`: days after `date` at which a row without `available_date` was known."""


@PROVIDERS.register("files")
class Files:
    """Tables from `<table>.parquet` (a file or a folder), `<table>.csv` or `<table>.csv.gz`; other files are ignored.

    Parameters
    ----------
    path
        The folder. `prices` must be there; any other table may be missing.

    Raises
    ------
    ConfigError
        No folder is given.
    DataError
        The folder or its prices are missing.
    """

    Params = FilesParams

    def __init__(self, path: Path | None, params: FilesParams) -> None:
        if path is None:
            raise ConfigError("data.path is not set: data.source = files needs the folder that holds prices.parquet")
        self.params = params
        self.path = Path(path)
        if not self.path.is_dir():
            raise DataError(f"{self.path} is no folder: set data.path to the folder that holds prices.parquet")
        self._files = table_files(self.path)
        if "prices" not in self._files:
            raise DataError(
                f"{self.path} holds neither prices.parquet nor prices.csv (or .csv.gz): add one, or correct data.path"
            )

    def tables(self) -> tuple[str, ...]:
        """Names of the tables that have a file, in the order of the schemas."""
        return tuple(self._files)

    def read(self, table: str, start: datetime.date | None = None, end: datetime.date | None = None) -> pd.DataFrame:
        """Normalised rows that became known in `[start, end]`.

        Raises
        ------
        DataError
            There is no file for the table, it cannot be read, or it does not fit the schema.
        """
        if table not in self._files:
            names = " or ".join(f"{stem}.parquet" for stem in _STEMS.get(table, (table,)))
            raise DataError(f"{self.path}: there is no table {table!r}: add {names}, or switch off what needs it")
        file = self._files[table]
        frame = read_table(file, table, start, end)
        out = normalise(table, frame, str(file), allow_empty=True, lag_days=self.params.lag_days)
        known = TABLES[table].known
        if known is None or (start is None and end is None):
            return out
        days = out[known].dt.tz_localize(None) if out[known].dtype == TIME else out[known]
        keep = np.ones(len(out), bool)
        if start is not None:
            keep &= (days >= pd.Timestamp(start)).to_numpy()
        if end is not None:
            keep &= (days < pd.Timestamp(end) + pd.Timedelta(days=1)).to_numpy()
        return out if keep.all() else out[keep].reset_index(drop=True)

    def last_day(self) -> np.datetime64:
        """Last day that has a price: told by the one column where that holds dates, else by the table."""
        file = self._files["prices"]
        newest = None if is_csv(file) else newest_day(file, "date")
        if newest is None:
            newest = self.read("prices")["date"].max().to_numpy().astype("datetime64[D]")
        return newest


def table_files(folder: Path) -> dict[str, Path]:
    """The file of each table that a folder holds, in the order of the schemas.

    Raises
    ------
    DataError
        A table has two files, or one of a format that is not read.
    """
    return {table: file for table in TABLES if (file := _find(folder, table)) is not None}


def _find(folder: Path, table: str) -> Path | None:
    names = [stem + suffix for stem in _STEMS.get(table, (table,)) for suffix in SUFFIXES]
    found = [folder / name for name in names if (folder / name).exists()]
    if len(found) > 1:
        listed = " and ".join(file.name for file in found)
        raise DataError(f"{folder}: table {table!r} is there twice ({listed}): keep one file")
    if found:
        return found[0]
    others = {stem + suffix for stem in _STEMS.get(table, (table,)) for suffix in _UNREAD} | set(names)
    for entry in sorted(folder.iterdir()):
        if entry.name.lower() in others:
            raise DataError(
                f"{entry} is not read: table {table!r} must be one of {', '.join(names)}; convert or rename it"
            )
    return None
