"""CSV, read strictly: every row has as many fields as the heading, and a file that may have been cut is refused."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from core.errors import DataError
from sources.columns import Kind
from sources.reading.frame import find_columns, to_frame
from sources.schemas import SCHEMAS, no_rows

_DELIMITERS = ",;\t|"
_BOM = b"\xef\xbb\xbf"
_UNKNOWN = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
_TYPES: dict[Kind, tuple[pa.DataType, ...]] = {
    "number": (pa.float64(),),
    "integer": (pa.int64(), pa.float64()),
    "flag": (pa.bool_(),),
}
_BLOCK_BYTES = 2**24
"""A row may not be longer than this."""


def read_csv_table(path: Path, table: str) -> pd.DataFrame:
    """Raw rows of a CSV file: see `sources.reading.read_table`."""
    from pyarrow import csv as arrow_csv  # only users of CSV need it loaded

    data = _content(path)
    if re.search(rb"\S", data) is None:
        raise DataError(f"{path} is empty: it needs a header line and rows")
    _refuse_damaged(data, path)
    first = next(line.group() for line in re.finditer(rb"[^\r\n]+", data)).decode()
    delimiter = max(_DELIMITERS, key=first.count)
    _refuse_stray_quotes(data, delimiter, path)
    columns = find_columns(SCHEMAS[table], next(csv.reader([first], delimiter=delimiter)), str(path))
    try:
        read = arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=b'"' in data),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(columns.values()), column_types=dict.fromkeys(columns.values(), pa.string())
            ),
        )
    except (pa.ArrowException, KeyError) as error:
        _refuse_uneven(data, delimiter, path)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is not readable CSV ({reason}): write it with one header line") from error
    if not read.num_rows:
        raise no_rows(table, str(path))
    kinds = {name: SCHEMAS[table].columns[name].kind for name in columns}
    return to_frame(pa.table({name: _typed(read[heading], kinds[name]) for name, heading in columns.items()}))


def _content(path: Path) -> bytes:
    """The bytes of a file, uncompressed, whatever its name says."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is not readable ({error}): it is cut or damaged; restore or rewrite it") from error
    return data.removeprefix(_BOM)


def _line(data: bytes, position: int) -> int:
    """Number of the line of a byte, from 1."""
    return data.count(_newline(data), 0, position) + 1


def _newline(data: bytes) -> bytes:
    return b"\n" if b"\n" in data else b"\r"


def _refuse_damaged(data: bytes, path: Path) -> None:
    """Refuse what is no complete UTF-8 text."""
    if not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path} is not UTF-8 text at line {_line(data, error.start)} (byte {data[error.start]:#04x}): save it "
                "with the encoding UTF-8"
            ) from error
    if (at := data.find(b"\0")) >= 0:
        raise DataError(
            f"{path} is not readable CSV: line {_line(data, at)} holds NUL bytes, as UTF-16 text and files "
            "damaged in a power cut do; save it as UTF-8, or restore it"
        )
    if data[-1:] not in (b"\n", b"\r"):
        raise DataError(
            f"{path} is not readable CSV: line {_line(data, len(data))}, the last, does not end with a line break, so "
            "the file may be cut inside a value; deliver it again, or add the line break if it is complete"
        )


def _refuse_stray_quotes(data: bytes, delimiter: str, path: Path) -> None:
    """Refuse quotes that neither enclose a field nor are doubled inside one: where a field ends would be a guess."""
    if b'"' not in data:
        return
    raw = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(raw == ord('"'))
    # Quotes alternate between opening and closing; a doubled one inside a field closes and opens at once.
    pairs = quotes[: len(quotes) // 2 * 2].reshape(-1, 2)
    border = np.zeros(256, bool)
    border[list(f'{delimiter}\r\n"'.encode())] = True
    stray = ~border[raw[pairs - [[1, -1]]]]  # before the first byte comes the last, a line break
    if stray.any():
        at = int(pairs[stray][0])
        raise DataError(
            f"{path} is not readable CSV: line {_line(data, at)} holds a quote inside a field: enclose the field in "
            'quotes and double those inside it ("the ""big"" one")'
        )
    if len(quotes) % 2:
        raise DataError(
            f"{path} is not readable CSV: the quote on line {_line(data, int(quotes[-1]))} is not closed: the file is "
            "cut, or a quote inside a field is not doubled"
        )


def _refuse_uneven(data: bytes, delimiter: str, path: Path) -> None:
    """Refuse rows with more or fewer fields than the heading."""
    raw = np.frombuffer(data, np.uint8)
    outside = np.bitwise_xor.accumulate((raw == ord('"')).view(np.uint8)) == 0
    ends = np.flatnonzero(outside & (raw == _newline(data)[0]))
    commas = np.searchsorted(np.flatnonzero(outside & (raw == ord(delimiter))), ends)
    fields = np.diff(commas, prepend=0) + 1
    starts = np.concatenate([[0], ends[:-1] + 1])
    filled = ~((starts == ends) | (raw[starts] == ord("\r")))
    wrong = np.flatnonzero(filled & (fields != fields[filled][0]))
    if len(wrong):
        at = int(wrong[0])
        raise DataError(
            f"{path} is not readable CSV: line {_line(data, int(starts[at]))} has {fields[at]} fields, the heading has "
            f"{fields[filled][0]}: quote values that hold {delimiter!r}, remove what is too much, or restore the file"
        )


def _typed(column: pa.ChunkedArray, kind: Kind) -> pa.ChunkedArray:
    """Text as the type of its kind; as text where a value does not fit, so that `normalise` can name it."""
    if kind != "text":
        column = pc.utf8_trim_whitespace(column)
    unknown = pa.array([""] if kind in ("text", "label") else _UNKNOWN)
    column = pc.if_else(pc.is_in(column, unknown), pa.scalar(None, pa.string()), column)
    for target in _TYPES.get(kind, ()):
        try:
            return column.cast(target)
        except pa.ArrowInvalid:
            continue
    return column
