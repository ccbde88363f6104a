"""What cleaning found and did, counted by table, rule and symbol."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

COLUMNS = ("table", "rule", "symbol", "rows", "action", "example")


class Findings:
    """Counts of one table's rows by rule and symbol, each with its first case as an example.

    Parameters
    ----------
    table
        Name of the table.
    symbols
        `(R,)` symbol (or series) of every row.
    """

    def __init__(self, table: str, symbols: pd.Series | pd.Categorical) -> None:
        self.table = table
        codes, names = pd.factorize(pd.Series(symbols), sort=True)
        self._codes, self._names = codes, names
        self._records: list[tuple[str, str, str, int, str, str]] = []

    def add(
        self, rule: str, action: str, hit: NDArray[np.bool_] | NDArray[np.int64], example: Callable[[int], str]
    ) -> None:
        """File the rows `hit` (a mask or positions); `example` puts one row into words."""
        rows = np.flatnonzero(hit) if hit.dtype == bool else hit
        codes, first, counts = np.unique(self._codes[rows], return_index=True, return_counts=True)
        for code, at, count in zip(codes, first, counts, strict=True):
            record = (self.table, rule, str(self._names[code]), int(count), action, example(int(rows[at])))
            self._records.append(record)

    def frame(self) -> pd.DataFrame:
        """Findings sorted by rule and symbol."""
        return join([pd.DataFrame(self._records, columns=list(COLUMNS))])


def join(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """One sorted frame of several tables' findings."""
    text = {name: "str" for name in COLUMNS if name != "rows"}
    frames = [part.astype({**text, "rows": np.int64}) for part in parts]
    empty = pd.DataFrame({name: [] for name in COLUMNS}).astype({**text, "rows": np.int64})
    found = [frame for frame in frames if len(frame)]
    frame = pd.concat(found, ignore_index=True) if found else empty
    return frame.sort_values(["table", "rule", "symbol"], kind="stable", ignore_index=True)
