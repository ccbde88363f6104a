"""Parquet, whoever wrote it: the types of DuckDB, Spark, Snowflake, PostgreSQL and others, files and folders."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.errors import DataError
from sources.columns import WANTED, Kind
from sources.reading.frame import find_columns, to_frame
from sources.schemas import SCHEMAS, no_rows

_TYPES: dict[Kind, pa.DataType] = {
    "label": pa.large_string(),
    "text": pa.large_string(),
    "number": pa.float64(),
    "integer": pa.int64(),
    "flag": pa.bool_(),
    "date": pa.timestamp("ms"),
    "time": pa.timestamp("us", "UTC"),
}
"""What a column without any value is read as."""
_SELECTED = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
"""Types whose rows the library cannot select, and what they are read as."""
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_EXACT, _EXACT_POWER = 2**53, 22
"""Whole numbers and powers of ten that a float64 holds exactly."""


def read_parquet_table(
    path: Path, table: str, start: datetime.date | None = None, end: datetime.date | None = None
) -> pd.DataFrame:
    """Raw rows of a Parquet file or folder: see `sources.reading.read_table`."""
    with _readable(path):
        parts = [_part(file, path, table, start, end) for file in _files(path)]
        if not sum(rows for rows, _ in parts):
            raise no_rows(table, str(path))
        return to_frame(pa.concat_tables([part for _, part in parts], promote_options="permissive"))


def newest_day(path: Path, column: str) -> np.datetime64 | None:
    """The latest day of a column of dates; None where it is no such column, or holds none."""
    newest = []
    with _readable(path):
        for file in _files(path):
            schema = pq.read_schema(file)
            if column not in schema.names or not pa.types.is_date(schema.field(column).type):
                return None
            latest = pc.max(pq.read_table(file, columns=[column], partitioning=None)[column])
            if latest.is_valid:
                newest.append(np.datetime64(latest.cast(pa.date32()).cast(pa.int32()).as_py(), "D"))
    return max(newest, default=None)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what Parquet refuses into a `DataError`."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is not readable Parquet ({reason}): restore or rewrite the file") from error


def _files(path: Path) -> list[Path]:
    """The file itself, or the Parquet files of a folder, sorted; names that begin with `_` or `.` are notes of writers.

    Raises
    ------
    DataError
        The folder holds another kind of table, or none.
    """
    if not path.is_dir():
        return [path]
    if (path / "_delta_log").is_dir():
        raise DataError(f"{path} is a Delta table, whose files hold deleted rows too: export it to plain Parquet")
    inside = [file for file in sorted(path.rglob("*")) if file.is_file()]
    files = [file for file in inside if not any(part[0] in "_." for part in file.relative_to(path).parts)]
    other = next((file for file in files if file.suffix != ".parquet"), None)
    if other is not None or not files:
        found = f"{other.relative_to(path)}, which is not named .parquet" if other else "no Parquet file"
        raise DataError(f"{path} is a folder that holds {found}: it may hold Parquet files of one table and no others")
    return files


def _part(
    file: Path, path: Path, table: str, start: datetime.date | None, end: datetime.date | None
) -> tuple[int, pa.Table]:
    """Rows that one file has, and its columns of the schema in the window, with those that its folders name."""
    schema = SCHEMAS[table]
    with pq.ParquetFile(file) as opened:
        stored, rows = opened.schema_arrow, opened.metadata.num_rows
    folders = (part.partition("=") for part in file.relative_to(path).parts[:-1])
    named = {key: unquote(value) for key, sign, value in folders if sign and key not in stored.names}
    columns = find_columns(schema, [*stored.names, *named], str(file))
    inside = {name: heading for name, heading in columns.items() if heading not in named}
    known = inside.get(schema.known or "")
    read = pq.read_table(
        file,
        columns=list(inside.values()),
        schema=pa.schema([field.with_type(_SELECTED.get(field.type, field.type)) for field in stored]),
        filters=_window(known, stored.field(known).type, schema.columns[schema.known].kind, start, end)
        if rows and known is not None and schema.known is not None
        else None,
        partitioning=None,
    )
    typed = {}
    for name, heading in columns.items():
        if heading in named:
            value = None if named[heading] == _NULL_PARTITION else named[heading]
            typed[name] = pa.chunked_array([pa.repeat(pa.scalar(value, pa.large_string()), len(read))])
        else:
            typed[name] = _typed(read[heading], schema.columns[name].kind, f"{file}: column {heading!r}")
    return rows, pa.table(typed)


def _window(known: str, stored: pa.DataType, kind: Kind, start: datetime.date | None, end: datetime.date | None) -> Any:
    """Row filter on the known time; None where the column is of no type that compares with a date."""
    if not (pa.types.is_date(stored) or pa.types.is_timestamp(stored)):
        return None

    def bound(day: datetime.date) -> pa.Scalar:
        if pa.types.is_date(stored):
            return pa.scalar(day, type=stored)
        # A day is one of the column's own zone, as `sources.columns` reads it; a time is UTC.
        zone = stored.tz and ("UTC" if kind == "time" else stored.tz)
        return pa.scalar(pd.Timestamp(day, tz=zone), type=stored)

    # A row without a known time must come along, so that it is refused and not lost.
    keep = None
    if start is not None:
        keep = pc.field(known) >= bound(start)
    if end is not None:
        before = pc.field(known) < bound(end + datetime.timedelta(days=1))
        keep = before if keep is None else keep & before
    return None if keep is None else keep | pc.field(known).is_null()


def _typed(column: pa.ChunkedArray, kind: Kind, where: str) -> pa.ChunkedArray:
    """One column in one of few types that `normalise` takes; the same numbers are the same bits, however stored."""
    is_ = pa.types
    if is_.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    stored = column.type
    if is_.is_null(stored):
        return column.cast(_TYPES[kind])
    texts = (is_.is_string, is_.is_large_string, is_.is_binary, is_.is_large_binary, is_.is_fixed_size_binary)
    if any(fits(stored) for fits in texts):
        try:
            column = column.cast(pa.large_string())
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            raise DataError(f"{where} holds bytes that are not UTF-8 text: write it as UTF-8") from error
        return column
    if kind in ("number", "integer", "flag") and is_.is_decimal(stored):
        return _from_decimals(column, kind)
    if is_.is_float16(stored) or (kind == "number" and (is_.is_floating(stored) or is_.is_integer(stored))):
        return column.cast(pa.float64(), safe=False)
    simple = (is_.is_boolean, is_.is_integer, is_.is_floating, is_.is_date, is_.is_timestamp)
    if any(fits(stored) for fits in simple):
        return column
    raise DataError(f"{where} is of the type {stored}: it must be {WANTED[kind]}; convert it where it is written")


def _from_decimals(column: pa.ChunkedArray, kind: Kind) -> pa.ChunkedArray:
    """Decimals as whole numbers, or as the nearest float64: the library's own cast misses it for every third."""
    if kind != "number":
        with contextlib.suppress(pa.ArrowInvalid):  # a fraction, or beyond 64 bits
            return column.cast(pa.int64())
    return pa.chunked_array([_nearest(chunk) for chunk in column.chunks], pa.float64())


def _nearest(chunk: pa.Array) -> pa.Array:
    stored = chunk.type
    if pa.types.is_decimal128(stored) and 0 <= stored.scale <= _EXACT_POWER and len(chunk):
        words = np.frombuffer(chunk.buffers()[1], "<i8").reshape(-1, 2)[chunk.offset :][: len(chunk)]
        low, high = words[:, 0], words[:, 1]
        known = chunk.is_valid().to_numpy(zero_copy_only=False)
        if (((low >> 63) == high) & (np.abs(low) < _EXACT) | ~known).all():
            return pa.array(low / 10.0**stored.scale, mask=~known)  # one division of exact numbers: one rounding
    return chunk.cast(pa.string()).cast(pa.float64())
