"""Signals of the user's own, as pods beside the layers: a file that params.yaml names with its digest."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from core.files import digest_file
from features.panel import Panel, pivot
from portfolio.pod_walk import OwnSignal
from sources.reading import read_table
from sources.schemas import SIGNAL, normalise
from sources.symbols import spelt_otherwise


def read_own(root: Path, name: str, own: OwnSignal, panel: Panel) -> NDArray[np.float64]:
    """Signals of a file, CSV or Parquet, read as every other table is.

    Parameters
    ----------
    root
        Folder that `own.path` starts from.
    name
        Name of the pod, for messages.
    own
        The file and its digest.
    panel
        Sessions and symbols; rows of others are left out, and counted on stderr where they look like a slip.

    Returns
    -------
    `(T, N)` float64
        NaN where the file has no signal.

    Raises
    ------
    DataError
        The file is missing, is another one than params.yaml names, or is no table of signals.
    """
    path, where = root / own.path, f"portfolio.pods.own.{name}: {own.path}"
    if not path.is_file():
        raise DataError(f"{where} does not exist: put it there, or leave the pod out")
    found = digest_file(path)
    if found != own.digest:
        raise DataError(f"{where} has the digest {found}, not the one named: write it down if it is meant")
    table = normalise(SIGNAL, read_table(path, SIGNAL), where)
    days = table["date"].to_numpy().astype("datetime64[D]")
    known_day, known_symbol = np.isin(days, panel.dates), table["symbol"].isin(panel.symbols).to_numpy()
    if not (known_day & known_symbol).any():
        raise DataError(f"{where} has no row of a session and symbol of the data: look at its dates and symbols")
    inside = ~known_day & (days > panel.dates[0]) & (days < panel.dates[-1])
    if inside.any():
        first = days[inside][0]
        print(f"{where}: {inside.sum():,} rows are of no session and left out (first {first})", file=sys.stderr)
    if others := spelt_otherwise(table["symbol"].unique(), panel.symbols.tolist()):
        spelt, meant = next(iter(others.items()))
        found = f"first {spelt!r}; the data has {meant!r}"
        print(f"{where}: {len(others)} symbols are not in the data and left out ({found})", file=sys.stderr)
    return pivot(table[known_day & known_symbol], "signal", panel.dates, panel.symbols)
