"""How good a cross-sectional prediction is: information coefficients, their t-values, decile spreads.

Rows are `(R,)` arrays with the session index of each row; rows in which the prediction or the
outcome is NaN are left out, and so are days with fewer than `min_names` remaining rows.

References
----------
Grinold, R. C. and Kahn, R. N. (2000). Active Portfolio Management. McGraw-Hill.
Newey, W. K. and West, K. D. (1987). A simple, positive semi-definite, heteroskedasticity and
autocorrelation consistent covariance matrix. Econometrica 55(3).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from core.errors import DataError
from core.jit import njit

SESSIONS_PER_YEAR = 252
MIN_NAMES = 20
"""Symbols that a cross-section needs: for a rank correlation to count, and for the daily job to serve a session."""


@njit()
def average_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks 1..n, ties share their average rank; `values` must be finite."""
    order = np.argsort(values, kind="mergesort")
    n = len(values)
    out = np.empty(n)
    i = 0
    while i < n:
        j = i
        while j + 1 < n and values[order[j + 1]] == values[order[i]]:
            j += 1
        shared = 0.5 * (i + j) + 1.0
        for k in range(i, j + 1):
            out[order[k]] = shared
        i = j + 1
    return out


@njit()
def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    mx, my = x.mean(), y.mean()
    sxy = sxx = syy = 0.0
    for i in range(len(x)):
        dx, dy = x[i] - mx, y[i] - my
        sxy += dx * dy
        sxx += dx * dx
        syy += dy * dy
    if sxx <= 0.0 or syy <= 0.0:
        return np.nan
    return sxy / np.sqrt(sxx * syy)


@njit()
def _daily(
    x: NDArray[np.float64], y: NDArray[np.float64], starts: NDArray[np.int64], ranked: bool
) -> NDArray[np.float64]:
    out = np.empty(len(starts) - 1)
    for d in range(len(starts) - 1):
        a, b = x[starts[d] : starts[d + 1]], y[starts[d] : starts[d + 1]]
        out[d] = _correlation(average_ranks(a), average_ranks(b)) if ranked else _correlation(a, b)
    return out


def rank_ic(pred: ArrayLike, outcome: ArrayLike, session: ArrayLike, min_names: int = MIN_NAMES) -> pd.Series:
    """Daily Spearman correlation (average ties) of prediction and outcome, indexed by session.

    A day on which either side is constant is left out: it has no ranking to judge.
    """
    return _daily_correlation(pred, outcome, session, min_names, ranked=True)


def ic(pred: ArrayLike, outcome: ArrayLike, session: ArrayLike, min_names: int = MIN_NAMES) -> pd.Series:
    """Daily Pearson correlation of prediction and outcome, indexed by session."""
    return _daily_correlation(pred, outcome, session, min_names, ranked=False)


def rank_ic_by(
    pred: ArrayLike, outcome: ArrayLike, session: ArrayLike, group: ArrayLike, min_names: int = 5
) -> pd.DataFrame:
    """Daily rank IC inside each group of rows (sector, size class): sessions x sorted group labels."""
    pred, outcome, session = (np.asarray(values) for values in (pred, outcome, session))
    codes, labels = pd.factorize(np.asarray(group), sort=True)
    columns = {}
    for code, label in enumerate(labels):
        rows = codes == code
        columns[label] = rank_ic(pred[rows], outcome[rows], session[rows], min_names)
    return pd.DataFrame(columns).sort_index()


def icir(series: ArrayLike) -> float:
    """Mean over standard deviation (ddof 1) of a daily IC series."""
    values = _finite(series)
    if len(values) < 2:
        return float("nan")
    spread = values.std(ddof=1)
    return float(values.mean() / spread) if spread > 0 else float("nan")


def newey_west_variance(series: ArrayLike, lags: int) -> float:
    """Long-run variance g0 + 2 sum_l (1 - l/(L+1)) g_l of a series (Bartlett weights, divisor T)."""
    values = _finite(series)
    count = len(values)
    if count < 2:
        return float("nan")
    centred = values - values.mean()
    total = centred @ centred
    for lag in range(1, min(lags, count - 1) + 1):
        total += 2.0 * (1.0 - lag / (lags + 1.0)) * (centred[lag:] @ centred[:-lag])
    return float(total / count)


def newey_west_t(series: ArrayLike, lags: int) -> float:
    """t-value of the mean with a Newey-West (1987) standard error; NaN where it is undefined."""
    values = _finite(series)
    variance = newey_west_variance(values, lags)
    return float(values.mean() / np.sqrt(variance / len(values))) if variance > 0 else float("nan")


def default_lags(days: int, horizon: int) -> int:
    """Newey-West lags: the overlap of the outcomes, or 4 (T/100)^(2/9) where that is more."""
    return max(horizon, int(4.0 * (days / 100.0) ** (2.0 / 9.0))) if days > 0 else horizon


def decile_spread(
    pred: ArrayLike,
    forward: ArrayLike,
    session: ArrayLike,
    *,
    horizon: int,
    cost_bps: float = 10.0,
    symbol: ArrayLike | None = None,
    quantiles: int = 10,
    min_names: int = MIN_NAMES,
) -> pd.Series:
    """Net return per day of a book of `horizon` overlapping top-minus-bottom portfolios.

    Each day 1/horizon of the capital buys the top decile and sells the bottom decile, equally
    weighted, for `horizon` sessions. A day's value is the return of the tranche opened on it, over
    its whole life, times 1/horizon, less its costs; neighbouring values overlap, so a t-value or a
    Sharpe ratio of the series needs Newey-West lags of at least `horizon` - 1.

    Parameters
    ----------
    forward
        Return over the holding period, as a fraction.
    cost_bps
        Cost of trading one unit of notional, one way, in basis points.
    symbol
        `(R,)` symbol index; with it only the change from the tranche that expires is charged,
        without it each tranche pays for a full entry and exit of both legs.

    Returns
    -------
    Series indexed by session.
    """
    rows, (x, y) = _prepare(session, pred, forward)
    days, starts = _days(np.asarray(session)[rows])
    keep = np.diff(starts) >= max(min_names, quantiles)
    weights = _decile_weights(x, starts, quantiles) * np.repeat(keep, np.diff(starts))
    gross = np.add.reduceat(weights * y, starts[:-1]) if len(days) else np.empty(0)
    if symbol is None:
        traded = np.full(len(days), 4.0)
    else:
        columns = np.asarray(symbol)[rows]
        book = np.zeros((len(days), int(columns.max()) + 1 if len(columns) else 0))
        book[np.repeat(np.arange(len(days)), np.diff(starts)), columns] = weights
        before = np.vstack([np.zeros_like(book[:horizon]), book[:-horizon]])[: len(book)]
        traded = np.abs(book - before).sum(axis=1)
    net = (gross - traded * cost_bps * 1e-4) / horizon
    return pd.Series(net[keep], index=pd.Index(days[keep], name="session"), name="decile_spread")


def decile_means(
    pred: ArrayLike, forward: ArrayLike, session: ArrayLike, quantiles: int = 10, min_names: int = MIN_NAMES
) -> NDArray[np.float64]:
    """`(quantiles,)` mean over days of the mean outcome in each quantile of the prediction, lowest first."""
    rows, (x, y) = _prepare(session, pred, forward)
    days, starts = _days(np.asarray(session)[rows])
    sizes = np.diff(starts)
    keep = sizes >= max(min_names, quantiles)
    if not keep.any():
        return np.full(quantiles, np.nan)
    bucket = np.minimum((_daily_ranks(x, starts) - 0.5) / np.repeat(sizes, sizes) * quantiles, quantiles - 1)
    cell = np.repeat(np.arange(len(days)), sizes) * quantiles + bucket.astype(np.int64)
    shape = len(days) * quantiles
    with np.errstate(invalid="ignore"):
        means = np.bincount(cell, y, shape) / np.bincount(cell, minlength=shape)
    return np.nanmean(means.reshape(-1, quantiles)[keep], axis=0)


def score(
    pred: ArrayLike,
    forward: ArrayLike,
    session: ArrayLike,
    *,
    horizon: int,
    raw: ArrayLike | None = None,
    symbol: ArrayLike | None = None,
    cost_bps: float = 10.0,
    min_names: int = MIN_NAMES,
) -> dict[str, Any]:
    """Every headline figure of one prediction.

    Parameters
    ----------
    pred, forward, session
        `(R,)` prediction, residual forward return (fraction), session index.
    raw
        `(R,)` plain forward return for the decile spread; the residual one where absent.
    cost_bps
        One-way cost of the decile spread, in basis points.

    Returns
    -------
    dict
        `rank_ic`, `rank_ic_t`, `icir`, `ic`, `ic_t`, `decile_spread` (net, per year),
        `hit_rate` (share of days with a positive rank IC), `days`, `rows`.
    """
    ranks = rank_ic(pred, forward, session, min_names)
    linear = ic(pred, forward, session, min_names)
    spread = decile_spread(
        pred,
        forward if raw is None else raw,
        session,
        horizon=horizon,
        cost_bps=cost_bps,
        symbol=symbol,
        min_names=min_names,
    )
    lags = default_lags(len(ranks), horizon)
    rows, _ = _prepare(session, pred, forward)
    nothing = float("nan")
    return {
        "rank_ic": float(ranks.mean()) if len(ranks) else nothing,
        "rank_ic_t": newey_west_t(ranks, lags),
        "icir": icir(ranks),
        "ic": float(linear.mean()) if len(linear) else nothing,
        "ic_t": newey_west_t(linear, lags),
        "decile_spread": float(spread.mean() * SESSIONS_PER_YEAR) if len(spread) else nothing,
        "hit_rate": float((ranks > 0).mean()) if len(ranks) else nothing,
        "days": len(ranks),
        "rows": len(rows),
    }


def _finite(series: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(series, dtype=np.float64)
    return values[np.isfinite(values)]


def _prepare(session: ArrayLike, *columns: ArrayLike) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """Positions of the usable rows, ordered by session, and the columns at those positions."""
    session = np.asarray(session)
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    lengths = {len(session), *map(len, arrays)}
    if len(lengths) > 1:
        raise DataError(f"scoring: rows differ in length ({sorted(lengths)}): hand over arrays of the same rows")
    usable = np.logical_and.reduce([np.isfinite(array) for array in arrays])
    rows = np.flatnonzero(usable)
    ordered = session[rows]
    if (ordered[1:] < ordered[:-1]).any():
        rows = rows[np.argsort(ordered, kind="stable")]
    return rows, [array[rows] for array in arrays]


def _days(session: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Distinct sessions of sorted rows, and the `(days + 1,)` row offsets of each."""
    if not len(session):
        return session, np.zeros(1, dtype=np.int64)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(session)) + 1, [len(session)]]).astype(np.int64)
    return session[starts[:-1]], starts


def _daily_correlation(
    pred: ArrayLike, outcome: ArrayLike, session: ArrayLike, min_names: int, ranked: bool
) -> pd.Series:
    rows, (x, y) = _prepare(session, pred, outcome)
    days, starts = _days(np.asarray(session)[rows])
    values = _daily(x, y, starts, ranked)
    keep = (np.diff(starts) >= min_names) & np.isfinite(values)
    return pd.Series(values[keep], index=pd.Index(days[keep], name="session"), name="rank_ic" if ranked else "ic")


@njit()
def _daily_ranks(x: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    out = np.empty(len(x))
    for d in range(len(starts) - 1):
        out[starts[d] : starts[d + 1]] = average_ranks(x[starts[d] : starts[d + 1]])
    return out


@njit()
def _decile_weights(x: NDArray[np.float64], starts: NDArray[np.int64], quantiles: int) -> NDArray[np.float64]:
    """+1 spread over the rows of the top quantile, -1 over the bottom, day by day; ties fall on one side together."""
    out = np.zeros(len(x))
    for d in range(len(starts) - 1):
        first, last = starts[d], starts[d + 1]
        n = last - first
        ranks = average_ranks(x[first:last])
        low, high = n / quantiles, n + 1 - n / quantiles
        longs = shorts = 0
        for i in range(n):
            longs += ranks[i] >= high
            shorts += ranks[i] <= low
        if longs == 0 or shorts == 0:
            continue
        for i in range(n):
            if ranks[i] >= high:
                out[first + i] = 1.0 / longs
            elif ranks[i] <= low:
                out[first + i] = -1.0 / shorts
    return out
