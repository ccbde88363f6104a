"""What a table must look like, and the one function that makes it so.

Every table is long, and every row carries the time it became known. A provider hands its raw
frame to `normalise`; what comes back has one set of dtypes and one order, whatever the origin.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api import types

from core.errors import ConfigError, DataError
from sources.columns import DATE, WANTED, Kind, convert, representable

FIRST_DAY = pd.Timestamp("1800-01-01")
"""No table has a date before it: it is a typing error, or a number that stands for an unknown date."""
MAX_LAG_DAYS = 3660
"""The longest time after its date, and after today, at which a row of the user's own may become known."""

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
    finite: bool = False
    """Whether an infinite number is refused; elsewhere it is unknown."""


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


_KEY, _DATE, _FLAG = Column("label"), Column("date"), Column("flag")
_INTEGER, _LABEL = Column("integer"), Column("label", nullable=True)
_NUMBER = Column("number", nullable=True)
_EXTRA = Column("number", required=False, nullable=True)

TABLES: Mapping[str, TableSchema] = {
    "prices": TableSchema(
        {
            "date": _DATE, "symbol": _KEY, "open": _NUMBER, "high": _NUMBER, "low": _NUMBER, "close": _NUMBER,
            "volume": _NUMBER, "close_unadjusted": _EXTRA, "vwap": _EXTRA,
        },
        key=("date", "symbol"), known="date", unique=True,
    ),
    "fundamentals": TableSchema(
        {
            "symbol": _KEY, "available_date": _DATE, "period_end": _DATE, "source": _KEY, "fiscal_period": _KEY,
            "amended": _FLAG, "income_months": _INTEGER, "cashflow_months": _INTEGER,
            **dict.fromkeys((*FUNDAMENTAL_VALUES, "shares_outstanding", "split_factor_2017"), _NUMBER),
            **dict.fromkeys(FUNDAMENTAL_EXTRAS, _EXTRA),
        },
        key=("symbol", "available_date", "period_end", "source", "fiscal_period", "amended"), known="available_date",
    ),
    "earnings": TableSchema(
        {
            "symbol": _KEY, "announce_date": _DATE, "available_date": _DATE,
            "eps_estimate": _NUMBER, "eps_actual": _NUMBER, "surprise": _NUMBER,
        },
        key=("symbol", "available_date", "announce_date"), known="available_date",
    ),
    "posts": TableSchema(
        {
            "symbol": _KEY, "created_at": Column("time"), "user_hash": _INTEGER, "followers": _INTEGER,
            "is_retweet": _FLAG, "lang": _LABEL, "text": Column("text", nullable=True), "novelty": _EXTRA,
        },
        key=("symbol", "created_at", "user_hash"), known="created_at",
    ),
    "securities": TableSchema(
        {"symbol": _KEY, "name": _LABEL, "exchange": _LABEL, "sector": _LABEL, "industry": _LABEL},
        key=("symbol",), known=None, unique=True,
    ),
    "macro": TableSchema(
        {"series": _KEY, "date": _DATE, "available_date": _DATE, "value": _NUMBER},
        key=("series", "available_date", "date"), known="available_date", unique=True,
    ),
    "alternative": TableSchema(
        {
            "series": _KEY, "symbol": _KEY, "date": _DATE,
            "available_date": Column("date", required=False, nullable=True), "value": _NUMBER,
        },
        key=("series", "symbol", "available_date", "date"), known="available_date", unique=True, own=True,
    ),
}  # fmt: skip
"""Tables that a source may offer."""

SIGNAL = "signal"
SCHEMAS: Mapping[str, TableSchema] = {
    **TABLES,
    SIGNAL: TableSchema(
        {"date": _DATE, "symbol": _KEY, "signal": Column("number", nullable=True, finite=True)},
        key=("date", "symbol"),
        known="date",
        unique=True,
    ),
}
"""Every table that is read from a user's file."""


def require_columns(schema: TableSchema, found: Sequence[str], where: str) -> None:
    """Refuse a table that lacks a column.

    Parameters
    ----------
    schema
        What the table must have.
    found
        Names of the columns that are there.
    where
        File or feed, for the message.

    Raises
    ------
    DataError
        Names the first column that is missing, and those found.
    """
    for name, column in schema.columns.items():
        if column.required and name not in found:
            empty = " (leave it empty where unknown)" if column.nullable else ""
            listed = ", ".join(found)
            raise DataError(f"{where}: column {name!r} is missing: add it{empty}; the columns found are {listed}")


def no_rows(table: str, where: str) -> DataError:
    """The error of a table without rows."""
    return DataError(f"{where}: the table {table!r} has no rows: provide at least one, or remove the file")


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
        Name in `SCHEMAS`.
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
        A column is missing or of the wrong type, a key is unknown or conflicts with another row, a date lies before
        `FIRST_DAY` or in the future, or the table is empty. Names the file, the column and the first row.
    """
    if table not in SCHEMAS:
        raise ConfigError(f"unknown table {table!r}: choose one of {', '.join(sorted(TABLES))}")
    schema = SCHEMAS[table]
    require_columns(schema, list(map(str, frame.columns)), where)
    if frame.empty and not allow_empty:
        raise no_rows(table, where)
    present = {name: column for name, column in schema.columns.items() if name in frame.columns}
    raw = frame[list(present)].reset_index(drop=True)
    raw = raw.assign(**{name: representable(raw[name]) for name in present})
    out = pd.DataFrame({name: _convert(raw, name, column, where, table) for name, column in present.items()})
    for name, column in present.items():
        if not column.nullable:
            unknown = out[name].isna() | (out[name] == "") if column.kind == "label" else out[name].isna()
            if unknown.any():
                row = _row(raw, table, int(unknown.to_numpy().argmax()))
                raise DataError(f"{where}: column {name!r} is empty at {row}: fill it in or remove the row")
    _refuse_outside(out, raw, where, table)
    if schema.own:
        out = _dated_by_lag(out, lag_days or {}, where, table)
    return _ordered(out, schema, where, table)


def _convert(raw: pd.DataFrame, name: str, column: Column, where: str, table: str) -> pd.Series:
    """One column in the dtype of its kind; the first value that does not fit is an error."""
    values = raw[name]
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    out, bad = convert(values, column.kind)
    want = WANTED[column.kind]
    if column.finite and not bad.any() and types.is_float_dtype(values):
        bad, want = np.isinf(values.to_numpy(np.float64, na_value=np.nan)), "a finite number, or empty where unknown"
    if bad.any():
        at = int(np.argmax(bad))
        value = values.iloc[at]
        value = value.item() if isinstance(value, np.generic) else value
        raise DataError(
            f"{where}: column {name!r} holds {value!r} (type {values.dtype}) at {_row(raw, table, at)}: "
            f"it must be {want}"
        )
    return out


def _refuse_outside(out: pd.DataFrame, raw: pd.DataFrame, where: str, table: str) -> None:
    """Refuse moments before any exchange, and rows that became known, or describe a day, after today."""
    tomorrow = pd.Timestamp(datetime.datetime.now(datetime.UTC).date()) + pd.Timedelta(days=1)
    schema = SCHEMAS[table]
    for name, column in schema.columns.items():
        if column.kind not in ("date", "time") or name not in out:
            continue
        # A lag may end after today: such a row is not known yet, and waits.
        waits = schema.own and name == schema.known
        limit = tomorrow + pd.Timedelta(days=MAX_LAG_DAYS) if waits else tomorrow
        zone = "UTC" if column.kind == "time" else None
        early, late = out[name] < FIRST_DAY.tz_localize(zone), out[name] >= limit.tz_localize(zone)
        if (early | late).any():
            at = int((early | late).to_numpy().argmax())
            far = f" by more than {MAX_LAG_DAYS} days" if waits else ""
            state = f"is before {FIRST_DAY:%Y-%m-%d}" if early[at] else f"lies in the future{far}"
            raise DataError(
                f"{where}: column {name!r} {state} ({_shown(raw[name][at])}) at {_row(raw, table, at)}: correct "
                "the date or remove the row"
            )


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
    return out.assign(available_date=filled)[list(SCHEMAS[table].columns)]


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
    for name in SCHEMAS[table].key[:3]:
        if name in frame:
            value = frame[name].iloc[position]
            parts.append(f"{name} {_shown(value)}")
    return ", ".join(parts) or f"row {position + 1}"


def _shown(value: object) -> str:
    """A value for a message: a moment by its day."""
    return str(value).partition(" ")[0] if isinstance(value, datetime.date) else str(value)
