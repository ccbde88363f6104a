"""Conversion of a raw column to the dtype of its kind, with the values that do not fit."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from sources.symbols import clean_label

Kind = Literal["label", "text", "number", "integer", "flag", "date", "time"]
"""`label` identifies or groups (symbol, series, sector); `text` is prose, kept as it is."""

DATE = np.dtype("datetime64[ms]")
TIME = pd.DatetimeTZDtype("us", "UTC")

WANTED: dict[Kind, str] = {
    "label": "text",
    "text": "text",
    "number": "a number, not text",
    "integer": "a whole number that 64 bits hold, stored as an integer where it is 2^53 or more (a float rounds it)",
    "flag": "true or false",
    "date": "a date such as 2016-10-18, without a time of day",
    "time": "a time with its zone, such as 2014-01-02T15:04:05Z",
}
"""What a value of each kind must be, for messages."""

_EXACT = 2**53
"""Below it every whole number is a float64 of its own."""

Converted = tuple[pd.Series, NDArray[np.bool_]]
"""A column in its dtype, and where a value does not fit."""


def convert(column: pd.Series, kind: Kind) -> Converted:
    """Convert a raw column.

    Parameters
    ----------
    column
        Raw values, of any dtype.
    kind
        What the column holds.

    Returns
    -------
    Series
        Labels and texts `str`, numbers float64 (infinite is unknown), integers int64, flags bool, dates
        `datetime64[ms]`, times `datetime64[us, UTC]`.
    ndarray
        `(R,)` whether the value does not fit; unknown values of integers and flags do not.
    """
    return {
        "label": _labels,
        "text": _text,
        "number": _numbers,
        "integer": _integers,
        "flag": _flags,
        "date": _dates,
        "time": _times,
    }[kind](column)


def representable(column: pd.Series) -> pd.Series:
    """The column, moments outside the years 1 to 9999 moved to their ends: no unit overflows, and each can be shown."""
    if not (types.is_datetime64_dtype(column) or isinstance(column.dtype, pd.DatetimeTZDtype)):
        return column
    if column.dt.unit == "ns":  # spans the years 1678 to 2262
        return column
    low, high = (pd.Timestamp(day, tz=column.dt.tz) for day in ("0001-01-01", "9999-12-31"))
    early, late = column < low, column > high
    return column.mask(early, low).mask(late, high) if (early | late).any() else column


def _labels(column: pd.Series) -> Converted:
    out, bad = _text(column)
    spelt = {value: clean_label(value) for value in out.dropna().unique()}
    if any(value != clean for value, clean in spelt.items()):
        out = out.map(spelt).astype("str")
    return out, bad


def _text(column: pd.Series) -> Converted:
    known = column.notna().to_numpy()
    strings = types.is_string_dtype(column) or not known.any()
    return column.astype("str"), known & (not strings)


def _numbers(column: pd.Series) -> Converted:
    if not types.is_numeric_dtype(column) or types.is_bool_dtype(column):
        known = column.notna()
        parsed = pd.to_numeric(column.astype("str"), errors="coerce")
        text = known & parsed.isna()
        return parsed.astype(float), (text if text.any() else known).to_numpy()
    values = column.to_numpy(np.float64, na_value=np.nan)
    if np.isinf(values).any():
        values = np.where(np.isinf(values), np.nan, values)
    return pd.Series(values), np.zeros(len(column), bool)


def _integers(column: pd.Series) -> Converted:
    if types.is_integer_dtype(column):
        bad = column.isna()
        if types.is_unsigned_integer_dtype(column):
            bad |= (column > np.iinfo(np.int64).max).fillna(False)
        return (column.mask(bad, 0) if bad.any() else column).astype(np.int64), bad.to_numpy(bool)
    if not types.is_float_dtype(column):
        return _numbers(column)
    values = column.to_numpy(np.float64, na_value=np.nan)
    bad = ~((np.abs(values) < _EXACT) & (values == np.round(values)))
    return pd.Series(np.where(bad, 0, values).astype(np.int64)), bad


def _flags(column: pd.Series) -> Converted:
    fits = column.isin([True, False]).to_numpy() & (not types.is_string_dtype(column))
    return column.where(fits, False).astype(bool), ~fits


def _dates(column: pd.Series) -> Converted:
    known = column.notna().to_numpy()
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_localize(None)  # the day where the zone is: midnight in Berlin is not the day before
    if types.is_datetime64_dtype(column):
        return column.astype(DATE), known & (column != column.dt.normalize()).to_numpy()
    if types.is_numeric_dtype(column):
        return pd.Series(pd.NaT, index=column.index, dtype=DATE), known
    form = "%Y-%m-%d" if types.is_string_dtype(column) else None
    out = pd.to_datetime(column, format=form, errors="coerce").astype(DATE)
    return out, known & out.isna().to_numpy()


def _times(column: pd.Series) -> Converted:
    known = column.notna().to_numpy()
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column.astype(TIME), np.zeros(len(column), bool)
    if types.is_numeric_dtype(column) or types.is_datetime64_dtype(column):
        return pd.Series(pd.NaT, index=column.index, dtype=TIME), known
    zoned = column.astype("str").str.contains(r"(?:Z|[+-]\d\d:?\d\d)$", na=False).to_numpy()
    out = pd.to_datetime(column.where(zoned), format="ISO8601", utc=True, errors="coerce").astype(TIME)
    return out, known & out.isna().to_numpy()
