"""Tables at rest: one Parquet file a table, prices by year."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def read_securities(folder: Path) -> pd.DataFrame | None:
    """The table of securities in a folder of clean tables; None where the source has none."""
    file = folder / "securities.parquet"
    return read_parquet(file) if file.is_file() else None


def sectors_of(securities: pd.DataFrame | None) -> dict[str, str]:
    """Sector by symbol; those that have none, or an empty one, are left out."""
    if securities is None:
        return {}
    known = securities[securities["sector"].notna() & (securities["sector"] != "")]
    return dict(zip(known["symbol"], known["sector"], strict=True))


def read_outcomes(folder: Path, values: Sequence[str] = ("forward",)) -> pd.DataFrame:
    """Outcomes of the dataset's rows, by date and symbol.

    Parameters
    ----------
    folder : Path
        Written by the stage `dataset`.
    values : Sequence[str], default ("forward",)
        Columns wanted: `forward` is the residual return, `raw` the total.

    Returns
    -------
    DataFrame
        `date, symbol` and the values, in the order of the dataset.
    """
    rows = read_parquet(folder / "rows.parquet", columns=["session", "symbol", *values])
    dates = read_parquet(folder / "sessions.parquet", columns=["date"])["date"].to_numpy()
    names = read_parquet(folder / "symbols.parquet", columns=["symbol"])["symbol"].to_numpy()
    keys = {"date": dates[rows["session"]], "symbol": names[rows["symbol"]]}
    return pd.DataFrame({**keys, **{name: rows[name] for name in values}})
