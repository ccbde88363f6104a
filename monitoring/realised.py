"""What became of past signals, as far as it is known by a session and no further.

A signal of session D is traded at the close of D+1 and held for h sessions: its outcome is known h + 1
sessions after D. Until then it is not due, whatever a table of outcomes may hold.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import DataError
from models.scoring import MIN_NAMES, rank_ic


def is_due(dates: NDArray[np.datetime64], as_of: np.datetime64, horizon: int) -> NDArray[np.bool_]:
    """`(T,)` whether the outcome of a session's signals is known at the close of `as_of`.

    Parameters
    ----------
    dates
        `(T,)` consecutive sessions, ascending.
    horizon
        Sessions held, h.

    Raises
    ------
    DataError
        `as_of` is none of the sessions.
    """
    at = int(np.searchsorted(dates, as_of))
    if at == len(dates) or dates[at] != as_of:
        raise DataError(f"monitoring: {as_of} is none of the {len(dates)} sessions at hand: pick one that the data has")
    return np.arange(len(dates)) + horizon + 1 <= at


def realise(
    rows: pd.DataFrame,
    dates: NDArray[np.datetime64],
    symbols: NDArray[np.str_],
    forward: NDArray[np.floating],
    as_of: np.datetime64,
    horizon: int,
) -> pd.DataFrame:
    """Signals with their outcomes.

    Parameters
    ----------
    rows
        Served rows: `date`, `symbol` and whatever else; kept in their order.
    dates, symbols
        `(T,)` consecutive sessions and `(N,)` names, both ascending.
    forward
        `(T, N)` outcome of each session and symbol, a fraction; NaN where there is none.
    as_of
        Session at whose close is judged.

    Returns
    -------
    DataFrame
        The rows with `due` (bool) and `forward` (float64; NaN where not due, or due and unknown).

    Raises
    ------
    DataError
        A row's date, or `as_of`, is none of the sessions.
    """
    due = is_due(dates, as_of, horizon)
    when = rows["date"].to_numpy("datetime64[D]")
    session = np.searchsorted(dates, when)
    strange = (session == len(dates)) | (dates[np.minimum(session, len(dates) - 1)] != when)
    if strange.any():
        raise DataError(f"monitoring: signals stand for {when[strange][0]}, which is no session of the data at hand")
    names = rows["symbol"].to_numpy(dtype=str)
    symbol = np.minimum(np.searchsorted(symbols, names), len(symbols) - 1)
    found = due[session] & (symbols[symbol] == names)
    outcome = np.where(found, np.asarray(forward, dtype=np.float64)[session, symbol], np.nan)
    return rows.assign(due=due[session], forward=outcome)


def daily_rank_ic(rows: pd.DataFrame, columns: Mapping[str, str], min_names: int = MIN_NAMES) -> pd.DataFrame:
    """Rank IC of each session whose outcomes are known.

    Parameters
    ----------
    rows
        As `realise` gives them.
    columns
        Name in the result by column of `rows`: `{"stack": "signal", "boosting": "signal_a"}`.

    Returns
    -------
    DataFrame
        `date` and a column a name, ascending; NaN where a session has too few names with both, or ranks nothing.
    """
    dates, session = np.unique(rows["date"].to_numpy("datetime64[D]"), return_inverse=True)
    series = {
        name: rank_ic(rows[column], rows["forward"], session, min_names).reindex(range(len(dates)))
        for name, column in columns.items()
    }
    frame = pd.DataFrame(series, dtype=np.float64)
    frame.insert(0, "date", dates.astype("datetime64[ns]"))
    return frame[frame.drop(columns="date").notna().any(axis=1)].reset_index(drop=True)
