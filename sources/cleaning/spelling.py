"""Symbols of every table against those of the prices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from core.errors import DataError
from sources.cleaning.findings import Findings, join
from sources.symbols import spelt_otherwise, spelt_twice


def check_symbols(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Findings on the symbols of tables against those of the prices.

    Symbols without prices are no fault by themselves: a table may cover more.

    Parameters
    ----------
    tables
        Normalised tables by name, with `prices`.

    Returns
    -------
    DataFrame
        As `sources.cleaning.Cleaned.findings`: rule `symbol_spelt_otherwise`, one row per table and symbol.

    Raises
    ------
    DataError
        Not one symbol of a table has prices.
    """
    priced = tables["prices"]["symbol"].unique()
    found = []
    for name, table in sorted(tables.items()):
        if "symbol" not in table or table.empty:
            continue
        symbols = table["symbol"].unique()
        others = spelt_otherwise(symbols, priced) if name != "prices" else spelt_twice(priced)
        if name != "prices" and not np.isin(symbols, priced).any():
            likely = next((f" ({spelt!r} may be {meant!r})" for spelt, meant in others.items()), "")
            raise DataError(
                f"{name}: none of its {len(symbols)} symbols (first {symbols[0]!r}) is in the prices (first "
                f"{priced[0]!r}){likely}: spell them alike, or remove the table"
            )
        if others:
            findings = Findings(name, table["symbol"])
            action = "matches no price" if name != "prices" else "taken as another symbol"
            rows = table["symbol"].isin(list(others)).to_numpy()
            spelling = ("prices have " + table["symbol"].map(others)).tolist()
            findings.add("symbol_spelt_otherwise", action, rows, spelling.__getitem__)
            found.append(findings.frame())
    return join(found)
