"""How sure a prediction is: conformal predictive systems, their intervals, and adaptive coverage.

Residuals R = (y - yhat) / scale of rows whose outcome is already known form the calibration set;
dividing by a volatility known at the prediction keeps them comparable, and calibrating inside
groups of similar rows (Mondrian) keeps the guarantee inside each group.

References
----------
Vovk, V., Shen, J., Manokhin, V. and Xie, M. (2017). Nonparametric predictive distributions based
on conformal prediction. COPA 2017.
Gibbs, I. and Candès, E. (2021). Adaptive conformal inference under distribution shift. NeurIPS 34.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, DataError

Array = NDArray[np.float64]


def p_wrong(prediction: ArrayLike, residuals: Array, count: int | None = None) -> Array:
    """Probability that the outcome has not the sign of the prediction.

    For yhat > 0 (#{R <= -yhat} + 1) / (n + 1), mirrored for yhat < 0, one half for yhat = 0.

    Parameters
    ----------
    prediction
        `(M,)` predictions, in units of the residuals' scale.
    residuals
        Calibration residuals y - yhat in the same units, ascending.
    count
        Number of residuals that `residuals` summarises, where it is a sample of quantiles.

    Returns
    -------
    `(M,)`; NaN where the prediction is NaN or there is no residual.
    """
    yhat = np.asarray(prediction, dtype=np.float64)
    if not len(residuals):
        return np.full(yhat.shape, np.nan)
    n = len(residuals) if count is None else count
    below = np.searchsorted(residuals, -yhat, side="right")
    above = len(residuals) - np.searchsorted(residuals, -yhat, side="left")
    misses = np.where(yhat > 0, below, above) * (n / len(residuals))
    out = np.where(yhat == 0, 0.5, (misses + 1.0) / (n + 1.0))
    return np.where(np.isnan(yhat), np.nan, out)


def residual_bounds(residuals: Array, alpha: float, count: int | None = None) -> tuple[float, float]:
    """Ends of the equal-tailed 1 - alpha prediction interval of a residual.

    The ranks floor(alpha/2 (n+1)) and ceil((1-alpha/2)(n+1)) of the ascending residuals; an end whose
    rank does not exist is infinite. alpha <= 0 gives the whole line, alpha >= 1 an empty interval (NaN).
    """
    if alpha >= 1 or not len(residuals):
        return np.nan, np.nan
    size = len(residuals)
    n = size if count is None else count
    # A hair of tolerance, or 0.05 * 20 would round to a rank below the one it is.
    low = int(np.floor(alpha / 2 * (n + 1) * (size / n) + 1e-9))
    high = int(np.ceil((1 - alpha / 2) * (n + 1) * (size / n) - 1e-9))
    return (
        float(residuals[low - 1]) if low >= 1 and alpha > 0 else -np.inf,
        float(residuals[high - 1]) if high <= size and alpha > 0 else np.inf,
    )


def aci(alpha: float, errors: ArrayLike, gamma: float, start: float | None = None) -> Array:
    """Adaptive miss rates alpha_{t+1} = alpha_t + gamma (alpha - err_t) (Gibbs and Candès 2021).

    Parameters
    ----------
    alpha
        Miss rate aimed at.
    errors
        `(T,)` misses: 0/1, or the share of a day's intervals that missed; NaN leaves alpha as it is.
    start
        First value; `alpha` by default.

    Returns
    -------
    `(T,)` the values after each error.
    """
    steps = gamma * (alpha - np.asarray(errors, dtype=np.float64))
    return (alpha if start is None else start) + np.cumsum(np.where(np.isnan(steps), 0.0, steps))


@dataclass(frozen=True)
class Calibrator:
    """Residual distributions by group, small enough to be stored as JSON.

    Attributes
    ----------
    samples
        Ascending scaled residuals per group code, or `size` quantiles of them.
    counts
        Number of residuals behind each sample.
    alpha
        Miss rate that the adaptive recursion had reached; the level used where it is not given.
    """

    samples: Mapping[int, Array]
    counts: Mapping[int, int]
    alpha: float = 0.1

    @classmethod
    def fit(
        cls, residual: ArrayLike, scale: ArrayLike, group: ArrayLike | None = None, alpha: float = 0.1, size: int = 2000
    ) -> Calibrator:
        """Summarise residuals y - yhat, divided by `scale` (> 0), per group; NaN rows are left out.

        Raises
        ------
        DataError
            No usable residual is left.
        """
        scaled = _scaled(np.asarray(residual, dtype=np.float64), np.asarray(scale, dtype=np.float64))
        codes = _codes(group, len(scaled))
        usable = np.isfinite(scaled) & (codes >= 0)
        if not usable.any():
            raise DataError("calibration: no row has both a known residual and a positive scale: use a longer history")
        samples, counts = {}, {}
        for code in np.unique(codes[usable]).tolist():
            ordered = np.sort(scaled[usable & (codes == code)])
            counts[code] = len(ordered)
            if len(ordered) > size:
                ordered = np.quantile(ordered, (np.arange(size) + 0.5) / size)
            samples[code] = ordered
        return cls(samples, counts, float(alpha))

    def p_wrong(self, prediction: ArrayLike, scale: ArrayLike, group: ArrayLike | None = None) -> Array:
        """`(M,)` probability of a wrong sign; NaN for a group that was not calibrated."""
        yhat, width, codes = self._rows(prediction, scale, group)
        out = np.full(len(yhat), np.nan)
        for code, sample in self.samples.items():
            rows = codes == code
            out[rows] = p_wrong(_scaled(yhat[rows], width[rows]), sample, self.counts[code])
        return out

    def interval(
        self, prediction: ArrayLike, scale: ArrayLike, level: float | None = None, group: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        """`(M,)` low and high ends of the prediction interval; `level` 0.9 means 90 % coverage."""
        yhat, width, codes = self._rows(prediction, scale, group)
        alpha = self.alpha if level is None else 1.0 - level
        low, high = np.full(len(yhat), np.nan), np.full(len(yhat), np.nan)
        for code, sample in self.samples.items():
            rows = codes == code
            below, above = residual_bounds(sample, alpha, self.counts[code])
            low[rows] = yhat[rows] + width[rows] * below
            high[rows] = yhat[rows] + width[rows] * above
        return low, high

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        groups = {
            str(code): {"count": self.counts[code], "residuals": sample.tolist()}
            for code, sample in sorted(self.samples.items())
        }
        return {"alpha": self.alpha, "groups": groups}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Calibrator:
        """The calibrator that `to_dict` described.

        Raises
        ------
        DataError
            A part is missing or of the wrong kind.
        """
        try:
            groups = {int(code): part for code, part in state["groups"].items()}
            samples = {code: np.asarray(part["residuals"], dtype=np.float64) for code, part in groups.items()}
            counts = {code: int(part["count"]) for code, part in groups.items()}
            alpha = float(state["alpha"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"calibrator: cannot be read ({error!r}): write the bundle again") from error
        return cls(samples, counts, alpha)

    @staticmethod
    def _rows(prediction: ArrayLike, scale: ArrayLike, group: ArrayLike | None) -> tuple[Array, Array, NDArray]:
        yhat = np.asarray(prediction, dtype=np.float64)
        return yhat, np.broadcast_to(np.asarray(scale, dtype=np.float64), yhat.shape), _codes(group, len(yhat))


@dataclass(frozen=True)
class ConformalWalk:
    """Row-wise output of `conformal_walk`.

    Attributes
    ----------
    p_wrong, low, high
        `(R,)`; NaN where the calibration set was still too small.
    alpha
        `(S,)` miss rate used in each session of `sessions`.
    final_alpha
        Miss rate to go on with after every known outcome.
    """

    p_wrong: Array
    low: Array
    high: Array
    sessions: NDArray[Any]
    alpha: Array
    final_alpha: float


def conformal_walk(
    pred: ArrayLike,
    outcome: ArrayLike,
    scale: ArrayLike,
    session: ArrayLike,
    *,
    horizon: int,
    level: float = 0.9,
    window_sessions: int = 504,
    group: ArrayLike | None = None,
    update: int = 5,
    gamma: float = 0.02,
    min_rows: int = 200,
) -> ConformalWalk:
    """Calibrate day by day: session s uses only residuals known at its close.

    A row of session t enters the calibration set at t + H <= s, H = horizon + 1, and leaves it after
    `window_sessions`; the miss rate of session t moves the adaptive level at t + H, not before.

    Parameters
    ----------
    pred, outcome, scale
        `(R,)` prediction, outcome (NaN where unknown) and a positive volatility known at the
        prediction, all in units of the outcome.
    session
        `(R,)` session index, ascending.
    level
        Coverage aimed at.
    group
        `(R,)` Mondrian group code; rows below 0 get no calibration.
    update
        Sessions between two refreshes of the calibration set.
    gamma
        Step of the adaptive recursion; 0 keeps the level fixed.
    min_rows
        Smallest calibration set of a group that is used.

    Raises
    ------
    ConfigError
        A parameter is out of range.
    DataError
        The rows are not ordered by session.
    """
    if not 0 < level < 1 or gamma < 0 or update < 1 or window_sessions < 1 or horizon < 1:
        raise ConfigError(
            f"conformal: level {level}, gamma {gamma}, update {update}, window_sessions {window_sessions}, horizon "
            f"{horizon}: need 0 < level < 1, gamma >= 0 and the others at least 1"
        )
    yhat, y, width = (np.asarray(values, dtype=np.float64) for values in (pred, outcome, scale))
    days = np.asarray(session, dtype=np.int64)
    if (np.diff(days) < 0).any():
        raise DataError("conformal: rows must be ordered by session: sort them first")
    scaled = _scaled(yhat, width)
    residual = _scaled(y - yhat, width)
    codes = _codes(group, len(yhat))
    sessions, starts = np.unique(days, return_index=True)
    ends = np.append(starts[1:], len(days))

    held = horizon + 1
    pools = {code: _Pool() for code in np.unique(codes[codes >= 0]).tolist()}
    out = {name: np.full(len(yhat), np.nan) for name in ("p_wrong", "low", "high")}
    miss = np.full(len(sessions), np.nan)
    used = np.empty(len(sessions))
    alpha, learned, loaded, next_update = 1.0 - level, 0, 0, None
    for i, (s, start, end) in enumerate(zip(sessions.tolist(), starts.tolist(), ends.tolist(), strict=True)):
        known = int(np.searchsorted(sessions, s - held, side="right"))
        if known > learned:
            alpha = float(aci(1.0 - level, miss[learned:known], gamma, alpha)[-1])
            learned = known
        if next_update is None or s >= next_update:
            stop = ends[known - 1] if known else 0
            for code, pool in pools.items():
                rows = slice(loaded, stop)
                fresh = (codes[rows] == code) & np.isfinite(residual[rows])
                pool.refresh(residual[rows][fresh], days[rows][fresh], s - window_sessions)
            loaded, next_update = int(stop), s + update
        used[i] = alpha
        for code, pool in pools.items():
            rows = start + np.flatnonzero(codes[start:end] == code)
            if len(pool.values) < min_rows or not len(rows):
                continue
            out["p_wrong"][rows] = p_wrong(scaled[rows], pool.values)
            below, above = residual_bounds(pool.values, alpha)
            out["low"][rows] = yhat[rows] + width[rows] * below
            out["high"][rows] = yhat[rows] + width[rows] * above
        today = slice(start, end)
        judged = ~np.isnan(out["p_wrong"][today]) & np.isfinite(residual[today])
        if judged.any():
            # An empty interval (NaN ends) is a miss.
            inside = (y[today] >= out["low"][today]) & (y[today] <= out["high"][today])
            miss[i] = 1.0 - inside[judged].mean()
    tail = aci(1.0 - level, miss[learned:], gamma, alpha)
    return ConformalWalk(**out, sessions=sessions, alpha=used, final_alpha=float(tail[-1]) if len(tail) else alpha)


class _Pool:
    """Ascending residuals of a trailing window, each with the session it came from."""

    def __init__(self) -> None:
        self.values = np.empty(0)
        self.sessions = np.empty(0, dtype=np.int64)

    def refresh(self, values: Array, sessions: NDArray[np.int64], oldest: int) -> None:
        """Drop what comes from a session before `oldest`, and merge what became known since."""
        young, fresh = self.sessions >= oldest, sessions >= oldest
        order = np.argsort(values[fresh], kind="stable")
        added = values[fresh][order]
        place = np.searchsorted(self.values[young], added, side="right")
        self.values = np.insert(self.values[young], place, added)
        self.sessions = np.insert(self.sessions[young], place, sessions[fresh][order])


def _scaled(values: Array, scale: Array) -> Array:
    """values / scale, NaN where the scale is not a positive number."""
    scale = np.broadcast_to(scale, values.shape)
    return np.divide(values, scale, out=np.full(values.shape, np.nan), where=scale > 0)


def _codes(group: ArrayLike | None, count: int) -> NDArray[np.int64]:
    return np.zeros(count, dtype=np.int64) if group is None else np.asarray(group, dtype=np.int64)
