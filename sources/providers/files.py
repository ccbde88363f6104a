"""A folder of Parquet or CSV files, one a table."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from core.errors import ConfigError, DataError
from core.params import Params
from sources.base import PROVIDERS
from sources.schemas import TABLES, TIME, normalise

_STEMS = {"posts": ("posts", "social")}
_SUFFIXES = (".parquet", ".csv")
_UNKNOWN = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]


class FilesParams(Params):
    """What a folder cannot say by itself."""

    lag_days: dict[str, Annotated[int, Field(ge=0, le=3660)]] = Field(default={})
    """By series of the table `alternative`: days after `date` at which a row without `available_date` was known."""


@PROVIDERS.register("files")
class Files:
    """Tables from `<table>.parquet` or `<table>.csv` in a folder; other files are ignored.

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
            raise DataError(f"{self.path} holds neither prices.parquet nor prices.csv: add one, or correct data.path")

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
        frame = _parquet(file, table, start, end) if file.suffix == ".parquet" else _csv(file, table)
        bounded = start is not None or end is not None
        empty = bounded and file.suffix == ".parquet"
        out = normalise(table, frame, str(file), allow_empty=empty, lag_days=self.params.lag_days)
        known = TABLES[table].known
        if known is None or not bounded:
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
        newest = _newest(file, "date") if file.suffix == ".parquet" else None
        if newest is None:
            newest = self.read("prices")["date"].max().to_numpy().astype("datetime64[D]")
        return newest


def table_files(folder: Path) -> dict[str, Path]:
    """The file of each table that a folder holds, in the order of the schemas.

    Raises
    ------
    DataError
        A table has two files.
    """
    return {table: file for table in TABLES if (file := _find(folder, table)) is not None}


def _find(folder: Path, table: str) -> Path | None:
    names = [stem + suffix for stem in _STEMS.get(table, (table,)) for suffix in _SUFFIXES]
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) > 1:
        listed = " and ".join(file.name for file in found)
        raise DataError(f"{folder}: table {table!r} is there twice ({listed}): keep one file")
    return found[0] if found else None


def _parquet(file: Path, table: str, start: datetime.date | None, end: datetime.date | None) -> pd.DataFrame:
    """The schema's columns of the rows in the window, as far as the file's types let Parquet select them."""
    with _readable(file):
        with pq.ParquetFile(file) as opened:
            schema, rows = opened.schema_arrow, opened.metadata.num_rows
        columns = [name for name in TABLES[table].columns if name in schema.names]
        if any(column.required and name not in columns for name, column in TABLES[table].columns.items()):
            columns = list(schema.names)  # so that the message can name what is there instead
        read = pq.read_table(
            file, columns=columns, filters=_window(schema, table, start, end) if rows else None, partitioning=None
        )
    if not rows:
        raise DataError(f"{file}: the table {table!r} has no rows: provide at least one, or remove the file")
    return read.to_pandas(date_as_object=False, ignore_metadata=True)


def _newest(file: Path, column: str) -> np.datetime64 | None:
    """The latest day of a column of dates; None where it is no such column, or holds none."""
    with _readable(file):
        schema = pq.read_schema(file)
        if column not in schema.names or not pa.types.is_date(schema.field(column).type):
            return None
        newest = pc.max(pq.read_table(file, columns=[column], partitioning=None)[column]).as_py()
    return None if newest is None else np.datetime64(newest, "D")


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn what Parquet refuses into a `DataError`."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{file} is not readable Parquet ({reason}): restore or rewrite the file") from error


def _window(schema: pa.Schema, table: str, start: datetime.date | None, end: datetime.date | None) -> Any:
    """Row filter on the known time; None where the column is of no type that compares with a date."""
    known = TABLES[table].known
    if known is None or known not in schema.names:
        return None
    kind = schema.field(known).type
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        return None

    def bound(day: datetime.date) -> pa.Scalar:
        moment = datetime.datetime.combine(day, datetime.time())
        zoned = moment.replace(tzinfo=datetime.UTC) if getattr(kind, "tz", None) else moment
        return pa.scalar(day if pa.types.is_date(kind) else zoned, type=kind)

    # A row without a known time must come along, so that it is refused and not lost.
    keep = None
    if start is not None:
        keep = pc.field(known) >= bound(start)
    if end is not None:
        before = pc.field(known) < bound(end + datetime.timedelta(days=1))
        keep = before if keep is None else keep & before
    return None if keep is None else keep | pc.field(known).is_null()


def _csv(file: Path, table: str) -> pd.DataFrame:
    """Text columns and dates as text (a symbol may read NA or TRUE), the rest as pandas infers it."""
    columns = TABLES[table].columns
    text = {name: "str" for name, column in columns.items() if column.kind in ("text", "date", "time")}
    unknown = {name: [""] if column.kind == "text" else _UNKNOWN for name, column in columns.items()}
    try:
        return pd.read_csv(
            file, dtype=text, keep_default_na=False, na_values=unknown, low_memory=False, encoding="utf-8"
        )
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{file} is empty: it needs a header line and rows") from error
    except (pd.errors.ParserError, UnicodeDecodeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{file} is not readable CSV ({reason}): write it as UTF-8 with one header line") from error
