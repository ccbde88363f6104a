"""Signals of the user's own, as pods beside the layers: a file that params.yaml names with its digest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import DataError
from core.files import digest_file, read_parquet
from features.panel import Panel, pivot
from portfolio.pod_walk import OwnSignal

_COLUMNS = ["date", "symbol", "signal"]


def read_own(root: Path, name: str, own: OwnSignal, panel: Panel) -> NDArray[np.float64]:
    """`(T, N)` signals of a file, CSV or Parquet; rows of other sessions or symbols than the panel's are left out.

    Raises
    ------
    DataError
        The file is missing, is another one than params.yaml names, or is no table of signals.
    """
    path, where = root / own.path, f"portfolio.pods.own.{name}"
    if not path.is_file():
        raise DataError(f"{where}: {own.path} does not exist: put it there, or leave the pod out")
    found = digest_file(path)
    if found != own.digest:
        raise DataError(f"{where}: {own.path} has the digest {found}, not the one named: write it down if it is meant")
    table = pd.read_csv(path, parse_dates=["date"]) if path.suffix == ".csv" else read_parquet(path)
    missing = [column for column in _COLUMNS if column not in table]
    if missing:
        raise DataError(f"{where}: {own.path} has no column {missing[0]!r}: give {', '.join(_COLUMNS)}")
    dates = table["date"].to_numpy("datetime64[D]")
    known = np.isin(dates, panel.dates) & table["symbol"].isin(panel.symbols).to_numpy()
    if not known.any():
        raise DataError(f"{where}: {own.path} has no row of a session and symbol of the data: look at its dates")
    return pivot(table.loc[known, _COLUMNS], "signal", panel.dates, panel.symbols)
