"""What signals find of a market whose truth is known.

On a simulated market the outcome of a row is y = e + noise, where e, the sum of the planted sources' parts p_j, is
all that can be foreseen. An information coefficient is a correlation, and that of a signal s is expected to be

    corr(s, y) = corr(s, e) corr(e, y) = sum_j corr(s, p_j) corr(p_j, y),

with the second equality for sources that know nothing of each other. The first says that the share of the oracle's IC
that a signal finds is its correlation with the truth; the second tells from which source it has it. All correlations
here are of ranks, which follows the same lines.

References
----------
Grinold, R. C. and Kahn, R. N. (2000). Active Portfolio Management. McGraw-Hill. Chapter 6 (the transfer of skill).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import DataError
from models.folds import known_before
from models.scoring import MIN_NAMES, default_lags, newey_west_t, rank_ic
from sources.simulation.truth import PART

PARTS = ["test", "holdout"]
EVERY_REGIME = "all"
TOLD_FROM_ZERO = 2.0
"""t of the oracle's IC below which a share of it says nothing."""
_KEY = ["date", "symbol"]


@dataclass(frozen=True)
class Recovery:
    """What each model finds of the truth.

    Attributes
    ----------
    sources
        What is planted; empty where there is nothing to find.
    found
        A line by `part` (`test`, `holdout`), `regime` (`all` or a true one) and `model`: `days`; `rank_ic` and its
        Newey-West `rank_ic_t`; `oracle_rank_ic`, that of the truth on the same rows; `share`, the first over the
        last, NaN where the oracle's cannot be told from zero; `agreement`, the rank correlation with the truth,
        which is what the share comes to without the noise of outcomes.
    by_source
        A line by `part`, `regime`, `model` and `source`: `own_rank_ic` of the source's part alone; `correlation` of
        the model with it; `earned`, what the model's rank IC has from it, of which the sum over sources comes near
        the rank IC; `share`, the correlation over the truth's own with that part: above one where the model leans
        on the source more than the truth does, and a model that knows nothing else.
    """

    sources: tuple[str, ...]
    found: pd.DataFrame
    by_source: pd.DataFrame


def planted_sources(truth: pd.DataFrame) -> tuple[str, ...]:
    """Names of the sources that a truth has a part of."""
    return tuple(name.removeprefix(PART) for name in truth.columns if name.startswith(PART))


def join_truth(signals: pd.DataFrame, outcomes: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Signals with their outcomes and with what was true, sorted by date and symbol.

    Parameters
    ----------
    signals
        Out-of-fold rows: `date, symbol, holdout` and the signals.
    outcomes
        `date, symbol, forward`, the residual forward return.
    truth
        `date, symbol, regime, expected` and the sources' parts, as a simulated market has them.

    Raises
    ------
    DataError
        A column is missing, a key repeats, or the truth does not know a signal's row.
    """
    parts = [PART + name for name in planted_sources(truth)]
    tables = {
        "signals": (signals, [*_KEY, "holdout"]),
        "outcomes": (outcomes, [*_KEY, "forward"]),
        "truth": (truth, [*_KEY, "regime", "expected", *parts]),
    }
    for name, (frame, columns) in tables.items():
        missing = [column for column in columns if column not in frame.columns]
        if missing:
            raise DataError(f"truth: {name} lack the column {missing[0]!r}: write the table again")
        if (repeated := frame.duplicated(_KEY)).any():
            row = frame[repeated].iloc[0]
            raise DataError(f"truth: {name} hold {row['symbol']} on {row['date']:%Y-%m-%d} twice: keep one row")
    rows = signals.merge(outcomes[tables["outcomes"][1]], on=_KEY, how="left")
    rows = rows.merge(truth[tables["truth"][1]], on=_KEY, how="left")
    if (unknown := rows["expected"].isna()).any():
        row = rows[unknown].iloc[0]
        raise DataError(
            f"truth: nothing is known of {unknown.sum():,} of {len(rows):,} rows, first {row['symbol']} on "
            f"{row['date']:%Y-%m-%d}: the signals are of another market; run the pipeline on this one"
        )
    return rows.sort_values(_KEY, ignore_index=True)


def recover(rows: pd.DataFrame, models: Mapping[str, str], *, horizon: int, min_names: int = MIN_NAMES) -> Recovery:
    """Set every model's signal against the truth.

    Parameters
    ----------
    rows
        As `join_truth` makes them.
    models
        Column of the signal by model.
    horizon
        Sessions that an outcome spans: test days whose outcomes reach into the holdout are left out.
    min_names
        Fewest rows of a day that counts.

    Raises
    ------
    DataError
        A column is missing, or no day has enough rows to be judged.
    """
    missing = [column for column in models.values() if column not in rows.columns]
    if missing:
        raise DataError(f"truth: signals lack the column {missing[0]!r}: run the stage that writes them again")
    session = np.unique(rows["date"].to_numpy(), return_inverse=True)[1]
    sources = planted_sources(rows)
    days = _days(rows, session, horizon)
    daily = {name: _daily(rows, column, session, sources, min_names) for name, column in models.items()}
    if not any(map(len, daily.values())):
        raise DataError(f"truth: no day has {min_names} rows with a signal and an outcome: nothing can be judged")
    found, by_source = [], []
    for part, regime in _cells(days):
        inside = days.index[(days["part"] == part) & ((days["regime"] == regime) | (regime == EVERY_REGIME))]
        for model, frame in daily.items():
            key = {"part": part, "regime": regime, "model": model}
            judged = frame[frame.index.isin(inside)]
            found.append({**key, **_found(judged, horizon)})
            by_source += [{**key, "source": name, **_from_source(judged, name)} for name in sources]
    return Recovery(sources, pd.DataFrame(found), pd.DataFrame(by_source))


def _days(rows: pd.DataFrame, session: NDArray[np.int64], horizon: int) -> pd.DataFrame:
    """Part and true regime by session; no part for days before the holdout whose outcomes reach into it."""
    days = rows.groupby(session).agg(holdout=("holdout", "max"), regime=("regime", "first"))
    holdout = days["holdout"].to_numpy(dtype=bool)
    first = int(days.index[holdout].min()) if holdout.any() else len(days) + horizon
    before = known_before(days.index, first, horizon)
    return days.assign(part=np.select([before, holdout], PARTS, ""))


def _cells(days: pd.DataFrame) -> list[tuple[str, str]]:
    """The parts and regimes that there are, each part as a whole first."""
    return [
        (part, regime)
        for part in PARTS
        if (days["part"] == part).any()
        for regime in (EVERY_REGIME, *sorted(days.loc[days["part"] == part, "regime"].unique()))
    ]


def _daily(
    rows: pd.DataFrame, column: str, session: NDArray[np.int64], sources: Sequence[str], min_names: int
) -> pd.DataFrame:
    """Rank correlations of each day on which the signal can be judged, all on the same rows."""
    known = (rows[column].notna() & rows["forward"].notna()).to_numpy()
    rows, session = rows[known], session[known]
    signal, forward, truth = (rows[name].to_numpy(dtype=float) for name in (column, "forward", "expected"))

    def daily(first: NDArray[np.float64], second: NDArray[np.float64]) -> pd.Series:
        return rank_ic(first, second, session, min_names)

    out = {"ic": daily(signal, forward), "oracle": daily(truth, forward), "agreement": daily(signal, truth)}
    for name in sources:
        part = rows[PART + name].to_numpy(dtype=float)
        pairs = {"signal": signal, "oracle": truth, "own": forward}
        out |= {f"{kind} {name}": daily(part, other) for kind, other in pairs.items()}
    return pd.DataFrame(out, index=out["ic"].index)


def _found(days: pd.DataFrame, horizon: int) -> dict[str, Any]:
    lags = default_lags(len(days), horizon)
    ic, oracle = days["ic"].mean(), days["oracle"].mean()
    told = newey_west_t(days["oracle"], lags) >= TOLD_FROM_ZERO
    return {
        "days": len(days),
        "rank_ic": ic,
        "rank_ic_t": newey_west_t(days["ic"], lags),
        "oracle_rank_ic": oracle,
        "share": ic / oracle if told else np.nan,
        "agreement": days["agreement"].mean(),
    }


def _from_source(days: pd.DataFrame, name: str) -> dict[str, float]:
    with_signal, with_truth, own = (days[f"{kind} {name}"] for kind in ("signal", "oracle", "own"))
    correlation, truly = with_signal.mean(), with_truth.mean()
    return {
        "own_rank_ic": own.mean(),
        "correlation": correlation,
        # On a day on which the source says nothing there is nothing to earn from it.
        "earned": (with_signal * own).fillna(0.0).mean(),
        "share": correlation / truly if truly > 0 else np.nan,
    }
