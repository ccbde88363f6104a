"""How a rung would have done along other orders of history: combinatorial purged cross-validation.

History is cut into N groups of sessions. For every choice of k of them a rung is fitted on the other
groups, purged and embargoed around the test groups, and predicts the k. Each group is so predicted
C(N-1, k-1) times, which makes as many paths through the whole of history, each wholly out of sample:
a spread of scores in the place of a single one. A path is no account of what could have been earned,
since a rung may have been fitted on later sessions than those it predicts.

References
----------
López de Prado, M. (2018). Advances in Financial Machine Learning, ch. 12. Wiley.
"""

from __future__ import annotations

from math import comb

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.dataset import Dataset
from models.folds import combinatorial
from models.meta import rung_signal
from models.overfitting import sharpe
from models.rungs.base import RUNGS, RungRule, climb_order, fit_rung
from models.scoring import SESSIONS_PER_YEAR, decile_spread, default_lags, newey_west_t, rank_ic

COLUMNS = ("rung", "path", "rank_ic", "rank_ic_t", "sharpe")

# A triangular autocorrelation needs Bartlett lags well beyond the overlap to be summed in full.
_OVERLAPS_OF_LAGS = 4


def combinatorial_paths(
    scores: NDArray[np.float64],
    states: NDArray[np.float64],
    rows: Dataset,
    horizon: int,
    embargo: int,
    groups: int = 6,
    test_groups: int = 2,
    *,
    rule: RungRule | None = None,
) -> pd.DataFrame:
    """Scores of every rung along every path.

    Parameters
    ----------
    scores : (R, K)
        Layers' out-of-fold z-scores.
    states : (R, J)
        State of the market, as it was told in each row's session.
    rows
        The same rows, with their outcomes; none of the final holdout.
    rule
        How the rungs are fitted: the trees on every `tree_every`-th session only.
    horizon, embargo
        Sessions held, and further sessions left out after a test group.

    Returns
    -------
    DataFrame
        `rung, path, rank_ic, rank_ic_t, sharpe`: mean daily rank IC with its Newey-West t, and the
        yearly Sharpe ratio of the daily decile spread net of costs, its overlap allowed for. A rung that
        cannot be fitted in every split is left out; without as many sessions as groups there is none.

    Raises
    ------
    ConfigError
        The counts of groups are impossible.
    """
    first = int(rows.session[0]) if len(rows) else 0
    sessions = int(rows.session[-1]) - first + 1 if len(rows) else 0
    if sessions < groups:
        return pd.DataFrame({name: [] for name in COLUMNS})
    splits = list(combinatorial(sessions, groups, test_groups, horizon, embargo))
    group_of = np.empty(sessions, dtype=np.int64)
    for group, block in enumerate(np.array_split(np.arange(sessions), groups)):
        group_of[block] = group
    place = rows.session - first
    table = []
    for name in climb_order():
        if RUNGS[name].needs_states and not states.shape[1]:
            continue
        paths = _predict(name, scores, states, rows, place, group_of, splits, rule or RungRule())
        for path, signal in enumerate(paths if paths is not None else ()):
            table.append({"rung": name, "path": path, **_scores(signal, rows, horizon)})
    return pd.DataFrame(table, columns=list(COLUMNS))


def _predict(
    name: str,
    scores: NDArray[np.float64],
    states: NDArray[np.float64],
    rows: Dataset,
    place: NDArray[np.int32],
    group_of: NDArray[np.int64],
    splits: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    rule: RungRule,
) -> NDArray[np.float64] | None:
    """(paths, R) signals of a rung: the j-th prediction of a group goes to path j. None if a fit was not possible."""
    groups = int(group_of[-1]) + 1
    tested = len(np.unique(group_of[splits[0][1]]))
    out = np.full((comb(groups - 1, tested - 1), len(rows)), np.nan)
    filled = np.zeros(groups, dtype=np.int64)
    known = rows.known
    for train, test in splits:
        learn = np.zeros(len(group_of), dtype=bool)
        learn[train] = True
        usable = learn[place] & known
        rung = fit_rung(name, scores[usable], states[usable], rows.label[usable], rows.session[usable], rule)
        if rung is None:
            return None
        for group in np.unique(group_of[test]).tolist():
            begin, stop = np.searchsorted(group_of[place], [group, group + 1])
            part = slice(int(begin), int(stop))
            out[filled[group], part] = rung_signal(rung, scores[part], states[part], rows.session[part])
            filled[group] += 1
    return out


def _scores(signal: NDArray[np.float64], rows: Dataset, horizon: int) -> dict[str, float]:
    ranks = rank_ic(signal, rows.forward, rows.session)
    spread = decile_spread(signal, rows.raw, rows.session, horizon=horizon, symbol=rows.symbol)
    return {
        "rank_ic": float(ranks.mean()) if len(ranks) else float("nan"),
        "rank_ic_t": newey_west_t(ranks, default_lags(len(ranks), horizon)),
        "sharpe": sharpe(spread, _OVERLAPS_OF_LAGS * horizon) * SESSIONS_PER_YEAR**0.5,
    }
