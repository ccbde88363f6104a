"""What each feature says by itself: coverage, turnover, rank IC, and which others say the same.

A screen is a description, not a choice: the features of a model are weighed together, out of fold. Whoever
drops or flips a feature for what its own rank IC was has tried as many strategies as there are features; the
thresholds here say how large a t-value must be to stand out of so many. For the same reason a screen is
told where the holdout begins, and looks at no outcome that reaches into it.

References
----------
Benjamini, Y. and Hochberg, Y. (1995). Controlling the false discovery rate. JRSS B 57(1).
Stambaugh, R. F. (1999). Predictive regressions. Journal of Financial Economics 54(3).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from core.errors import DataError
from core.jit import compiled
from features.kernels.blocks import dense, over_blocks
from features.panel import Array, Dates, Mask
from models.folds import known_before
from models.scoring import MIN_NAMES, default_lags, newey_west_t

CORRELATION_EVERY = 5
"""Correlations between features move slowly: one session a week tells their mean as well as all of them."""

# Doubled ranks are kept in 16 bits.
_MOST_NAMES = np.iinfo(np.uint16).max // 2
# Of n times the sum of squares: what rounding leaves of the variance of a constant in float32.
_NO_VARIANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Screen:
    """Measurements of F features over T sessions.

    Attributes
    ----------
    dates : (T,)
    judged : (T,) bool
        Sessions whose outcome ends before the holdout; the others have no `ic`, and no `timing`.
    horizon
        Sessions that an outcome spans.
    names : (T,)
        Size of the universe.
    present : (F, T)
        Names of the universe with a value.
    ic : (F, T)
        Spearman correlation with the outcome; NaN with too few names, or where either side is constant.
    persistence : (F, T)
        Spearman correlation with the session before, over the names known in both.
    common : (F, T)
        The one value of all names, NaN where they differ or none has a value.
    market_wide : (F,) bool
        Features that never tell two names apart.
    market : (T,)
        What the market returns over the horizon; NaN where not judged.
    correlation : (F, F)
        Mean over every `CORRELATION_EVERY`-th session of the correlation of ranks, over the names that have both;
        NaN where two features never meet.
    """

    dates: Dates
    judged: Mask
    horizon: int
    names: NDArray[np.int64]
    present: NDArray[np.int64]
    ic: Array
    persistence: Array
    common: Array
    market_wide: Mask
    market: Array
    correlation: Array


def screen(
    values: Iterable[Array],
    dates: Dates,
    universe: Mask,
    outcome: Array,
    market: Array,
    *,
    horizon: int,
    holdout_start: int,
    min_names: int = MIN_NAMES,
) -> Screen:
    """Measure features one by one; a feature may be forgotten as soon as the next one is asked for.

    Parameters
    ----------
    values
        `(T, N)` values of each feature, NaN where undefined.
    dates
        `(T,)` sessions.
    universe
        `(T, N)` rows that count.
    outcome
        `(T, N)` return that followed (residual forward return), NaN where unknown.
    market
        `(T,)` market return over the same horizon.
    horizon
        Sessions held, after one session's delay.
    holdout_start
        First session of the holdout, T where there is none.
    min_names
        Fewest names for a correlation of one session.

    Returns
    -------
    Screen
        Bits that do not depend on the order of the symbols, `correlation` apart, which is summed in float32.
    """
    shape = universe.shape
    if shape[1] > _MOST_NAMES:
        raise DataError(f"screening: {shape[1]} symbols are more than {_MOST_NAMES}: screen fewer at a time")
    judged = known_before(np.arange(shape[0]), holdout_start, horizon)
    seen = np.where(judged[:, None] & universe, outcome, np.nan)
    order = np.argsort(seen, axis=1)
    known = np.isfinite(seen).sum(axis=1)
    rows: dict[str, list[NDArray]] = {name: [] for name in ("present", "ic", "persistence", "common", "differ")}
    sampled: list[NDArray[np.uint16]] = []
    for x in values:
        ranks = np.zeros(shape, dtype=np.uint16)
        present, differ = np.zeros(shape[0], dtype=np.int64), np.zeros(shape[0], dtype=bool)
        ic, persistence, common = (np.full(shape[0], np.nan) for _ in range(3))
        over_blocks(
            _measure, shape[0], dense(x), np.ascontiguousarray(universe), seen, order, known,
            min_names, ranks, present, differ, ic, persistence, common,
        )  # fmt: skip
        sampled.append(ranks[::CORRELATION_EVERY].copy())
        for name, row in zip(rows, (present, ic, persistence, common, differ), strict=True):
            rows[name].append(row)
    measured = {name: np.array(found).reshape(len(found), shape[0]) for name, found in rows.items()}
    apart = measured.pop("differ").any(axis=1)
    return Screen(
        dates=dates,
        judged=judged,
        horizon=horizon,
        names=universe.sum(axis=1),
        market_wide=np.asarray(~apart & (measured["present"] > 1).any(axis=1)),
        market=np.where(judged, market, np.nan),
        correlation=_correlate(sampled, min_names),
        **measured,
    )


@compiled
def _doubled_ranks(order, n, value, keep, out):
    """Twice the average ranks among the kept of `order[:n]`, which sorts `value`; their number."""
    count = 0
    i = 0
    while i < n:
        j = i
        same = 0
        while j < n and value[order[j]] == value[order[i]]:
            same += keep[order[j]]
            j += 1
        for k in range(i, j):
            if keep[order[k]]:
                out[order[k]] = 2 * count + same + 1
        count += same
        i = j
    return count


@compiled
def _spearman(x, y, keep, n):
    """Correlation of doubled ranks; integers up to the last step, so that no order of the names shows."""
    xx = yy = xy = 0
    for j in range(len(keep)):
        if keep[j]:
            xx += x[j] * x[j]
            yy += y[j] * y[j]
            xy += x[j] * y[j]
    square = n * (n + 1) * (n + 1)
    vx, vy = xx - square, yy - square
    if vx <= 0 or vy <= 0:
        return np.nan
    return (xy - square) / np.sqrt(float(vx) * float(vy))


@compiled
def _measure(
    low, high, x, universe, outcome, outcome_order, known, least, ranks, present, differ, ic, persistence, common
):
    size = x.shape[1]
    here, before, keep = np.zeros(size, np.bool_), np.zeros(size, np.bool_), np.zeros(size, np.bool_)
    order, order_before = np.empty(size, np.int64), np.empty(size, np.int64)
    value, place = np.empty(size, x.dtype), np.empty(size, np.int64)
    first, second = np.zeros(size, np.int64), np.zeros(size, np.int64)
    n_before = 0
    for t in range(max(low - 1, 0), high):
        n = 0
        for j in range(size):
            here[j] = universe[t, j] and np.isfinite(x[t, j])
            if here[j]:
                value[n] = x[t, j]
                place[n] = j
                n += 1
        sorted_ = np.argsort(value[:n])
        for i in range(n):
            order[i] = place[sorted_[i]]
        if t >= low:
            present[t] = n
            _doubled_ranks(order, n, x[t], here, first)
            for i in range(n):
                ranks[t, order[i]] = first[order[i]]
            if n > 0:
                differ[t] = x[t, order[0]] != x[t, order[n - 1]]
                if not differ[t]:
                    common[t] = x[t, order[0]]
            for j in range(size):
                keep[j] = here[j] and np.isfinite(outcome[t, j])
            count = _doubled_ranks(order, n, x[t], keep, first)
            if count >= least:
                _doubled_ranks(outcome_order[t], known[t], outcome[t], keep, second)
                ic[t] = _spearman(first, second, keep, count)
            if t > 0:
                for j in range(size):
                    keep[j] = here[j] and before[j]
                count = _doubled_ranks(order, n, x[t], keep, first)
                if count >= least:
                    _doubled_ranks(order_before, n_before, x[t - 1], keep, second)
                    persistence[t] = _spearman(first, second, keep, count)
        before[:] = here
        order_before[:] = order
        n_before = n


def _correlate(sampled: list[NDArray[np.uint16]], least: int) -> Array:
    """Mean correlation of the doubled ranks of F features over their sessions; 0 stands for no value."""
    size = len(sampled)
    total, sessions = np.zeros((size, size)), np.zeros((size, size))
    for t in range(len(sampled[0]) if sampled else 0):
        ranks = np.array([feature[t] for feature in sampled], dtype=np.float32)
        some = ranks.any(axis=0)
        if some.sum() < least:
            continue
        ranks = ranks[:, some]
        has = (ranks > 0).astype(np.float32)
        count = has.sum(axis=1, keepdims=True)
        # Ranks about 0 and within -1..1: float32 has the digits for what follows.
        z = has * (ranks - (count + 1)) / np.maximum(count, 1)
        both, product, sums, squares = has @ has.T, z @ z.T, z @ has.T, (z * z) @ has.T
        variance = both * squares - sums**2
        usable = (both >= least) & (variance > _NO_VARIANCE * both * squares)
        usable &= usable.T
        with np.errstate(divide="ignore", invalid="ignore"):
            found = (both * product - sums * sums.T) / np.sqrt(variance * variance.T)
        total += np.where(usable, found, 0.0)
        sessions += usable
    with np.errstate(invalid="ignore"):
        mean = np.where(sessions > 0, total / sessions, np.nan)
    mean[np.diag_indices(size)] = np.where(np.isnan(np.diag(mean)), np.nan, 1.0)
    return np.clip(mean, -1.0, 1.0)


def summarise(found: Screen) -> pd.DataFrame:
    """One row a feature.

    Returns
    -------
    DataFrame
        `coverage` (share of the universe's rows with a value), `turnover` (1 minus the mean persistence), `ic` and
        `t` (mean daily rank IC and its Newey-West t-value), `days` that they rest on, `market_wide`. Of a
        market-wide feature `turnover` and `ic` are NaN, and `t` is that of its `timing`: the Spearman correlation over
        time with the market's return over the horizon.
    """
    timing = [
        timing_of(series, found.market, found.horizon) if wide else (float("nan"), float("nan"), 0)
        for series, wide in zip(found.common, found.market_wide, strict=True)
    ]
    ic = [daily[np.isfinite(daily)] for daily in found.ic]
    t = [newey_west_t(daily, default_lags(len(daily), found.horizon)) for daily in ic]
    wide = found.market_wide
    return pd.DataFrame(
        {
            "coverage": found.present.sum(axis=1) / max(found.names.sum(), 1),
            "turnover": [1.0 - _mean(daily) for daily in found.persistence],
            "ic": [_mean(daily) for daily in ic],
            "timing": [correlation for correlation, _, _ in timing],
            "t": np.where(wide, [value for _, value, _ in timing], t),
            "days": np.where(wide, [days for _, _, days in timing], [len(daily) for daily in ic]),
            "market_wide": wide,
        }
    )


def timing_of(series: ArrayLike, market: ArrayLike, horizon: int) -> tuple[float, float, int]:
    """Spearman correlation over time of a market-wide series and the return that followed, its t-value, sessions.

    The t-value is the Newey-West one of the mean product of the standardised ranks. It is too large for a series that
    moves as slowly as an interest rate, whatever the lags (Stambaugh 1999).
    """
    x, y = np.asarray(series, dtype=np.float64), np.asarray(market, dtype=np.float64)
    both = np.isfinite(x) & np.isfinite(y)
    days = int(both.sum())
    x, y = rankdata(x[both]), rankdata(y[both])
    if days < MIN_NAMES or x.std() == 0 or y.std() == 0:
        return float("nan"), float("nan"), days
    product = (x - x.mean()) * (y - y.mean()) / (x.std() * y.std())
    return float(product.mean()), newey_west_t(product, default_lags(days, horizon)), days


def ic_by_year(found: Screen, min_days: int = MIN_NAMES) -> pd.DataFrame:
    """Mean daily rank IC of each feature (rows) in each year (columns); NaN for a year of few days."""
    return _by_year(pd.DataFrame(found.ic.T), found.dates, min_days)


def coverage_by_year(found: Screen) -> pd.DataFrame:
    """Share of the universe's rows with a value, of each feature (rows) in each year (columns)."""
    year = _years(found.dates)
    present = pd.DataFrame(found.present.T).groupby(year).sum()
    names = pd.Series(found.names).groupby(year).sum()
    return present[names > 0].div(names[names > 0], axis=0).T


def nearest(correlation: Array, count: int) -> list[list[tuple[int, float]]]:
    """For each feature the others that rank names most alike, or most oppositely: position and correlation."""
    out = []
    for row in range(len(correlation)):
        strength = np.abs(correlation[row])
        strength[row] = np.nan
        by_strength = np.argsort(-np.nan_to_num(strength, nan=-1.0), kind="stable")[:count]
        out.append([(int(at), float(correlation[row, at])) for at in by_strength if np.isfinite(strength[at])])
    return out


def bonferroni_t(tests: int, level: float = 0.05) -> float:
    """The |t| that one of so many worthless features reaches with probability `level` at most."""
    return float(-ndtri(level / (2 * tests))) if tests > 0 else float("nan")


def benjamini_hochberg_t(t: ArrayLike, level: float = 0.05) -> float:
    """The smallest |t| among those found at which the expected share of false discoveries is `level`; inf if none.

    Holds for independent tests and for positively dependent ones; normal p-values, two-sided.
    """
    sizes = np.sort(np.abs(np.asarray(t, dtype=np.float64)))[::-1]
    sizes = sizes[np.isfinite(sizes)]
    p = 2.0 * ndtr(-sizes)
    passed = np.flatnonzero(p <= level * np.arange(1, len(p) + 1) / len(p)) if len(p) else np.empty(0, int)
    return float(sizes[passed[-1]]) if len(passed) else float("inf")


def _mean(values: NDArray[np.float64]) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def _years(dates: Dates) -> NDArray[np.int64]:
    return dates.astype("datetime64[Y]").astype(np.int64) + 1970


def _by_year(daily: pd.DataFrame, dates: Dates, least: int) -> pd.DataFrame:
    groups = daily.groupby(_years(dates))
    means = groups.mean().where(groups.count() >= least)
    return means.dropna(axis=0, how="all").T
