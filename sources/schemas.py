"""What a table must look like, and the one function that makes it so.

Every table is long, and every row carries the time it became known. A provider hands its raw
frame to `normalise`; what comes back has one set of dtypes and one order, whatever the origin.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from pandas.api import types

from core.errors import ConfigError, DataError

Kind = Literal["text", "number", "integer", "flag", "date", "time"]

DATE = np.dtype("datetime64[ms]")
TIME = pd.DatetimeTZDtype("us", "UTC")

FUNDAMENTAL_VALUES = (
    "revenue", "operating_income", "net_income", "eps_basic", "eps_diluted", "dividends_per_share",
    "assets", "current_assets", "liabilities", "current_liabilities", "cash", "equity",
    "long_term_debt", "goodwill_intangibles", "preferred_equity", "noncontrolling_interest",
    "cash_flow_operating", "cash_flow_investing", "cash_flow_financing", "capex",
)  # fmt: skip
FUNDAMENTAL_EXTRAS = ("gross_profit",)
"""Statement items that not every source has."""

RETWEET = r"^(?:RT @\w+:?\s*)+"
"""What leads a text that repeats another's."""


@dataclass(frozen=True)
class Column:
    """One column: its kind, and whether it may be absent or hold unknown values."""

    kind: Kind
    required: bool = True
    nullable: bool = False


@dataclass(frozen=True)
class TableSchema:
    """One kind of table.

    Attributes
    ----------
    columns
        Columns by name, in the order of the normalised frame.
    key
        Columns that order the rows.
    known
        Column with the time at which a row became known; None where rows are not dated.
    unique
        Whether a key may occur only once. Elsewhere (restated filings, posts) repeats are data.
    own
        Whether it holds series of the user's own: no source is expected to have it, and a row that does not say when
        it became known counts from a declared lag after its `date`.
    """

    columns: Mapping[str, Column]
    key: tuple[str, ...]
    known: str | None
    unique: bool = False
    own: bool = False


_TEXT, _DATE, _FLAG = Column("text"), Column("date"), Column("flag")
_INTEGER, _LABEL = Column("integer"), Column("text", nullable=True)
_NUMBER = Column("number", nullable=True)
_EXTRA = Column("number", required=False, nullable=True)

TABLES: Mapping[str, TableSchema] = {
    "prices": TableSchema(
        {
            "date": _DATE, "symbol": _TEXT, "open": _NUMBER, "high": _NUMBER, "low": _NUMBER, "close": _NUMBER,
            "volume": _NUMBER, "close_unadjusted": _EXTRA, "vwap": _EXTRA,
        },
        key=("date", "symbol"), known="date", unique=True,
    ),
    "fundamentals": TableSchema(
        {
            "symbol": _TEXT, "available_date": _DATE, "period_end": _DATE, "source": _TEXT, "fiscal_period": _TEXT,
            "amended": _FLAG, "income_months": _INTEGER, "cashflow_months": _INTEGER,
            **dict.fromkeys((*FUNDAMENTAL_VALUES, "shares_outstanding", "split_factor_2017"), _NUMBER),
            **dict.fromkeys(FUNDAMENTAL_EXTRAS, _EXTRA),
        },
        key=("symbol", "available_date", "period_end", "source", "fiscal_period", "amended"), known="available_date",
    ),
    "earnings": TableSchema(
        {
            "symbol": _TEXT, "announce_date": _DATE, "available_date": _DATE,
            "eps_estimate": _NUMBER, "eps_actual": _NUMBER, "surprise": _NUMBER,
        },
        key=("symbol", "available_date", "announce_date"), known="available_date",
    ),
    "posts": TableSchema(
        {
            "symbol": _TEXT, "created_at": Column("time"), "user_hash": _INTEGER, "followers": _INTEGER,
            "is_retweet": _FLAG, "lang": _LABEL, "text": _LABEL, "novelty": _EXTRA,
        },
        key=("symbol", "created_at", "user_hash"), known="created_at",
    ),
    "securities": TableSchema(
        {"symbol": _TEXT, "name": _LABEL, "exchange": _LABEL, "sector": _LABEL, "industry": _LABEL},
        key=("symbol",), known=None, unique=True,
    ),
    "macro": TableSchema(
        {"series": _TEXT, "date": _DATE, "available_date": _DATE, "value": _NUMBER},
        key=("series", "available_date", "date"), known="available_date", unique=True,
    ),
    "alternative": TableSchema(
        {
            "series": _TEXT, "symbol": _TEXT, "date": _DATE,
            "available_date": Column("date", required=False, nullable=True), "value": _NUMBER,
        },
        key=("series", "symbol", "available_date", "date"), known="available_date", unique=True, own=True,
    ),
}  # fmt: skip


def normalise(
    table: str,
    frame: pd.DataFrame,
    where: str,
    allow_empty: bool = False,
    lag_days: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Bring a raw frame into the one form of its table.

    Parameters
    ----------
    table
        Name in `TABLES`.
    frame
        Raw rows; columns that the schema does not name are dropped.
    where
        File or feed, for messages.
    allow_empty
        A short window may hold no row; a whole table may not.
    lag_days
        By series of the user's own, the days after `date` at which a row without an `available_date` became known.

    Returns
    -------
    DataFrame
        The schema's columns; dates `datetime64[ms]`, times `datetime64[us, UTC]`, numbers float64
        (infinite is unknown), text `str`; ordered by key, exact repeats dropped.

    Raises
    ------
    DataError
        A column is missing or of the wrong type, a key is unknown or conflicts with another row, a
        date lies in the future, or the table is empty. Names the file, the column and the first row.
    """
    if table not in TABLES:
        raise ConfigError(f"unknown table {table!r}: choose one of {', '.join(sorted(TABLES))}")
    schema = TABLES[table]
    for name, column in schema.columns.items():
        if column.required and name not in frame.columns:
            empty = " (leave it empty where unknown)" if column.nullable else ""
            found = ", ".join(map(str, frame.columns))
            raise DataError(f"{where}: column {name!r} is missing: add it{empty}; the columns found are {found}")
    if frame.empty and not allow_empty:
        raise DataError(f"{where}: the table {table!r} has no rows: provide at least one, or remove the file")
    present = {name: column for name, column in schema.columns.items() if name in frame.columns}
    raw = frame[list(present)].reset_index(drop=True)
    out = pd.DataFrame({name: _convert(raw, name, column.kind, where, table) for name, column in present.items()})
    for name, column in present.items():
        if not column.nullable:
            unknown = out[name].isna() | (out[name] == "") if column.kind == "text" else out[name].isna()
            if unknown.any():
                row = _row(raw, table, int(unknown.to_numpy().argmax()))
                raise DataError(f"{where}: column {name!r} is empty at {row}: fill it in or remove the row")
    _refuse_future(out, raw, where, table)
    if schema.own:
        out = _dated_by_lag(out, lag_days or {}, where, table)
    return _ordered(out, schema, where, table)


def _convert(raw: pd.DataFrame, name: str, kind: Kind, where: str, table: str) -> pd.Series:
    """One column in the dtype of its kind; the first value that does not fit is an error."""
    column = raw[name]
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if kind == "text":
        out, bad, want = _text(column)
    elif kind == "date":
        out, bad, want = _dates(column)
    elif kind == "time":
        out, bad, want = _times(column)
    elif kind == "flag":
        out, bad, want = _flags(column)
    else:
        out, bad, want = _numbers(column, integer=kind == "integer")
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(
            f"{where}: column {name!r} holds {column.iloc[at]!r} (type {column.dtype}) at {_row(raw, table, at)}: "
            f"it must be {want}"
        )
    return out


def _text(column: pd.Series) -> tuple[pd.Series, np.ndarray, str]:
    known = column.notna().to_numpy()
    strings = types.is_string_dtype(column) or not known.any()
    return column.astype("str"), known & (not strings), "text"


def _numbers(column: pd.Series, integer: bool) -> tuple[pd.Series, np.ndarray, str]:
    want = "a whole number" if integer else "a number, not text"
    if not types.is_numeric_dtype(column) or types.is_bool_dtype(column):
        known = column.notna()
        parsed = pd.to_numeric(column.astype("str"), errors="coerce")
        text = known & parsed.isna()
        return parsed.astype(float), (text if text.any() else known).to_numpy(), want
    if integer and types.is_integer_dtype(column) and not column.hasnans:
        return column.astype(np.int64), np.zeros(len(column), bool), want
    values = column.to_numpy(np.float64, na_value=np.nan)
    if integer:
        bad = ~(np.isfinite(values) & (values == np.round(values)))
        return pd.Series(np.where(bad, 0, values).astype(np.int64)), bad, want
    if np.isinf(values).any():
        values = np.where(np.isinf(values), np.nan, values)
    return pd.Series(values), np.zeros(len(column), bool), want


def _flags(column: pd.Series) -> tuple[pd.Series, np.ndarray, str]:
    fits = column.isin([True, False]).to_numpy() & (not types.is_string_dtype(column))
    return column.where(fits, False).astype(bool), ~fits, "true or false"


def _dates(column: pd.Series) -> tuple[pd.Series, np.ndarray, str]:
    want = "a date such as 2016-10-18, without a time of day"
    known = column.notna().to_numpy()
    if types.is_datetime64_dtype(column):
        out = column.astype(DATE)
        return out, known & (column != column.dt.normalize()).to_numpy(), want
    if types.is_numeric_dtype(column) or isinstance(column.dtype, pd.DatetimeTZDtype):
        return pd.Series(pd.NaT, index=column.index, dtype=DATE), known, want
    form = "%Y-%m-%d" if types.is_string_dtype(column) else None
    out = pd.to_datetime(column, format=form, errors="coerce").astype(DATE)
    return out, known & out.isna().to_numpy(), want


def _times(column: pd.Series) -> tuple[pd.Series, np.ndarray, str]:
    want = "a time with its zone, such as 2014-01-02T15:04:05Z"
    known = column.notna().to_numpy()
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column.astype(TIME), np.zeros(len(column), bool), want
    if types.is_numeric_dtype(column) or types.is_datetime64_dtype(column):
        return pd.Series(pd.NaT, index=column.index, dtype=TIME), known, want
    zoned = column.astype("str").str.contains(r"(?:Z|[+-]\d\d:?\d\d)$", na=False).to_numpy()
    out = pd.to_datetime(column.where(zoned), format="ISO8601", utc=True, errors="coerce").astype(TIME)
    return out, known & out.isna().to_numpy(), want


def _refuse_future(out: pd.DataFrame, raw: pd.DataFrame, where: str, table: str) -> None:
    """No row can have become known, or describe a day, after today."""
    tomorrow = pd.Timestamp(datetime.datetime.now(datetime.UTC).date()) + pd.Timedelta(days=1)
    for name, column in TABLES[table].columns.items():
        # A lag may end after today: such a row is not known yet, and waits.
        waits = TABLES[table].own and name == TABLES[table].known
        if column.kind in ("date", "time") and name in out and not waits:
            limit = tomorrow.tz_localize("UTC") if column.kind == "time" else tomorrow
            future = (out[name] >= limit).to_numpy()
            if future.any():
                row = _row(raw, table, int(future.argmax()))
                raise DataError(f"{where}: column {name!r} lies in the future at {row}: correct the date or remove it")


def _dated_by_lag(out: pd.DataFrame, lag_days: Mapping[str, int], where: str, table: str) -> pd.DataFrame:
    """The day on which every row became known: as it says, else the declared lag after its `date`."""
    told = out["available_date"] if "available_date" in out else pd.Series(pd.NaT, out.index, DATE)
    lag = out["series"].map(dict(lag_days)).astype(np.float64)
    unknown = (told.isna() & lag.isna()).to_numpy()
    if unknown.any():
        at = int(unknown.argmax())
        name = out["series"].iat[at]
        state = "is empty" if "available_date" in out else "is missing"
        raise DataError(
            f"{where}: column 'available_date' {state} at {_row(out, table, at)}, and the series has no declared lag: "
            f"give the day from which the value could be used, or set data.files.lag_days.{name} to the days after "
            "'date' at which it was known"
        )
    filled = told.fillna(out["date"] + pd.to_timedelta(lag, unit="D")).astype(DATE)
    return out.assign(available_date=filled)[list(TABLES[table].columns)]


def _ordered(out: pd.DataFrame, schema: TableSchema, where: str, table: str) -> pd.DataFrame:
    """Rows in the order of their key (then of every other column), repeats dropped."""
    key = list(schema.key)
    ranks = {name: _rank(out[name]) for name in key}
    rows = np.lexsort([ranks[name] for name in reversed(key)])
    if _repeats(ranks, rows):
        out = out.drop_duplicates(ignore_index=True)
        if schema.unique and (conflict := out.duplicated(key, keep=False).to_numpy()).any():
            first = int(conflict.argmax())
            same = (out[key] == out[key].iloc[first]).all(axis=1)
            repeats = out[same]
            differs = next(str(name) for name in out if repeats[name].nunique(dropna=False) > 1)
            values = " and ".join(repr(value) for value in repeats[differs].tolist()[:2])
            raise DataError(
                f"{where}: {_row(out, table, first)} occurs twice with different values in column {differs!r} "
                f"({values}): keep one row"
            )
        order = key if schema.unique else [*key, *(name for name in out if name not in key)]
        rows = np.lexsort([_rank(out[name]) for name in reversed(order)])
    return out.take(rows).reset_index(drop=True)


def _repeats(ranks: Mapping[str, np.ndarray], rows: np.ndarray) -> bool:
    """Whether two of the rows, given in the order of their keys, have the same key."""
    same = np.ones(max(len(rows) - 1, 0), bool)
    for values in ranks.values():
        ordered = values[rows]
        same &= ordered[1:] == ordered[:-1]
    return bool(same.any())


def _rank(column: pd.Series) -> np.ndarray:
    if isinstance(column.dtype, pd.StringDtype):
        return pd.factorize(column, sort=True)[0]
    if isinstance(column.dtype, pd.DatetimeTZDtype):  # as plain moments: sorting its own objects takes long
        column = column.dt.tz_localize(None)
    return column.to_numpy()


def _row(frame: pd.DataFrame, table: str, position: int) -> str:
    """A row in words: its key columns and values."""
    parts = []
    for name in TABLES[table].key[:3]:
        if name in frame:
            value = frame[name].iloc[position]
            shown = f"{value:%Y-%m-%d}" if isinstance(value, datetime.date) and not pd.isna(value) else value
            parts.append(f"{name} {shown}")
    return ", ".join(parts) or f"row {position + 1}"
