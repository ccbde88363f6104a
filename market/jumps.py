"""Calm or stress, as a statistical jump model: clusters in time that one must pay to leave.

The fit minimises sum_t 1/2 ||x_t - theta_{s_t}||^2 + lambda #{t: s_t != s_{t-1}} over states and
centres. The path that minimises it knows the future; what may make a signal is the online state,
the last state of the best path over the observations so far: argmin_k V_t(k) with
V_t(k) = l_t(k) + min(V_{t-1}(k), min_j V_{t-1}(j) + lambda) and l_t(k) = 1/2 ||x_t - theta_k||^2.

A row of which a column is not finite is unobserved: it costs nothing in every state.

References
----------
Nystrup, P., Lindström, E. and Madsen, H. (2020). Learning hidden Markov models with persistent states
by penalizing jumps. Expert Systems with Applications 150.
Shu, Y., Yu, C. and Mulvey, J. M. (2024). Downside risk reduction using regime-switching signals: a
statistical jump model approach. Journal of Asset Management 25.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, DataError
from core.jit import compiled

Array = NDArray[np.float64]
States = NDArray[np.int64]


UNKNOWN = -1
"""Online state where nothing has been observed yet."""

HALF_LIVES = (5, 20, 60)
"""Half-lives of the risk features, in sessions: a week, a month, a quarter."""


@dataclass(frozen=True)
class JumpModel:
    """Centres of the states, the price of a jump, and the scaler both were fitted with.

    Attributes
    ----------
    centres
        `(K, D)` in scaled units.
    penalty
        Cost lambda of a change of state, in scaled squared units.
    mean, scale
        `(D,)` the features are scaled as (X - mean) / scale.

    Raises
    ------
    DataError
        The shapes do not fit, a number is not finite, a scale is not positive or the penalty negative.
    """

    centres: Array
    penalty: float
    mean: Array
    scale: Array

    def __post_init__(self) -> None:
        for name in ("centres", "mean", "scale"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float64))
        if self.centres.ndim != 2 or not self.mean.shape == self.scale.shape == (self.centres.shape[1],):
            raise DataError(
                f"jumps: centres {self.centres.shape}, mean {self.mean.shape} and scale {self.scale.shape} do not "
                "belong together: need (K, D), (D,), (D,)"
            )
        if not all(np.isfinite(v).all() for v in (self.centres, self.mean, self.scale)) or not (self.scale > 0).all():
            raise DataError("jumps: centres and mean must be finite and scales positive: fit the model again")
        if not 0 <= self.penalty < np.inf:
            raise DataError(f"jumps: penalty {self.penalty}: need a finite one of at least 0")

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        parts = {name: getattr(self, name).tolist() for name in ("centres", "mean", "scale")}
        return {**parts, "penalty": float(self.penalty)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> JumpModel:
        """The model that `to_dict` described.

        Raises
        ------
        DataError
            A part is missing or of the wrong kind.
        """
        try:
            centres, mean, scale = (np.array(state[name], np.float64) for name in ("centres", "mean", "scale"))
            return cls(centres, float(state["penalty"]), mean, scale)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"jumps: cannot be read ({error!r}): fit the model again") from error


def online_states(model: JumpModel, X: ArrayLike) -> States:
    """`(T,)` state of each row given the rows up to it, 0 to K - 1; UNKNOWN before the first observed row.

    Parameters
    ----------
    X
        `(T, D)` features, unscaled.
    """
    loss, known = _losses(model, X)
    states = _values(loss, model.penalty).argmin(axis=1)
    return np.where(np.cumsum(known) > 0, states, UNKNOWN)


def online_window(model: JumpModel, X: ArrayLike, window: int) -> States:
    """`(T,)` online states, row t from its own `window` rows alone.

    Entry t is the last entry of `online_states` on X[max(0, t - window + 1) .. t].

    Raises
    ------
    ConfigError
        `window` is below 1.
    """
    if window < 1:
        raise ConfigError(f"jumps: window {window}: choose at least 1")
    loss, known = _losses(model, X)
    out = np.empty(len(loss), dtype=np.int64)
    _online_windows(loss, model.penalty, window, out)
    seen = np.append(0, np.cumsum(known))
    low = np.maximum(np.arange(1, len(loss) + 1) - window, 0)
    return np.where(seen[1:] > seen[low], out, UNKNOWN)


def offline_states(model: JumpModel, X: ArrayLike) -> States:
    """`(T,)` states of the path with the least objective over ALL rows: for a fit, never for a signal.

    It looks into the future: whether a row begins a regime is decided by the rows that follow it.
    """
    return _path(_losses(model, X)[0], model.penalty)


def objective(model: JumpModel, X: ArrayLike, states: ArrayLike) -> float:
    """Sum of 1/2 squared scaled distances from the states' centres, plus the penalty per jump.

    Parameters
    ----------
    states
        `(T,)` states 0 to K - 1.
    """
    return _cost(_losses(model, X)[0], np.asarray(states, dtype=np.int64), model.penalty)


def fit_jumps(
    X: ArrayLike,
    states: int = 2,
    penalty: float = 50.0,
    *,
    order_by: int = 0,
    iterations: int = 100,
    min_rows: int = 20,
) -> JumpModel:
    """Fit by coordinate descent (Nystrup et al. 2020): the best path given centres, the centres given a path.

    Each descent begins with the rows cut into equal groups along one direction: the first principal
    axis, and each feature in turn. The lowest objective is kept, which may still be that of a local
    minimum; no random number is drawn.

    Parameters
    ----------
    X
        `(T, D)` features in time order; scaled here to mean 0 and deviation 1.
    penalty
        Cost of a jump in scaled squared units; 0 is k-means.
    order_by
        Column by whose centre the states are ordered, ascending: where it measures risk, the last
        state is stress.
    iterations
        Cap on the steps of each descent; it ends before where the path no longer changes.
    min_rows
        Rows without NaN needed.

    Raises
    ------
    ConfigError
        A parameter is out of range.
    DataError
        There are too few usable rows, a column never varies, or no path with every state pays.
    """
    if states < 1 or iterations < 1 or not 0 <= penalty < np.inf:
        raise ConfigError(
            f"jumps: states {states}, iterations {iterations}, penalty {penalty}: need states and iterations of at "
            "least 1 and a finite penalty of at least 0"
        )
    values = _rows(X)
    if not 0 <= order_by < values.shape[1]:
        raise ConfigError(f"jumps: order_by {order_by}: choose a column from 0 to {values.shape[1] - 1}")
    # A row that costs nothing in every state changes no path: unobserved rows can go.
    values = values[np.isfinite(values).all(axis=1)]
    needed = max(min_rows, 2 * states)
    if len(values) < needed:
        raise DataError(f"jumps: {len(values)} rows without NaN, {needed} are needed: give a longer history")
    mean, scale = values.mean(axis=0), values.std(axis=0)
    flat = np.flatnonzero(~(scale > 1e-12 * np.abs(values).max(axis=0)))
    if len(flat):
        raise DataError(f"jumps: column {int(flat[0])} never varies: leave it out")
    scaled = (values - mean) / scale
    # Last digits of a projection depend on the linear algebra library; they only choose a start.
    axis = np.linalg.eigh(np.cov(scaled, rowvar=False, ddof=0).reshape(scaled.shape[1], -1))[1][:, -1]
    runs = [_descend(scaled, line, states, penalty, iterations) for line in (scaled @ axis, *scaled.T)]
    centres, path, _ = min(runs, key=lambda run: run[2])
    if len(np.unique(path)) < states:
        raise DataError(
            f"jumps: at penalty {penalty} the best path over {len(values)} rows does not visit all {states} states: "
            "lower the penalty or give a longer history"
        )
    return JumpModel(centres[np.argsort(centres[:, order_by], kind="stable")], float(penalty), mean, scale)


def risk_features(
    returns: ArrayLike,
    half_lives: Sequence[float] = HALF_LIVES,
    window: int = 252,
    *,
    minimum: int | None = None,
    floor: float = 1e-4,
) -> Array:
    """Return and downside risk over several memories, the features of Shu, Yu and Mulvey (2024).

    Per half-life h, with weights w_i = 2^(-i/h) for the return i sessions ago, i < `window`, scaled
    to sum to one over the known returns:

    - mean: sum w r;
    - log downside deviation: log d, d = sqrt(sum w min(r, 0)^2), about zero and not about the mean;
    - Sortino ratio: mean / d.

    The definitions are those of the worked example of the authors' library jumpmodels, whose averages
    never forget; here row t reads its own `window` returns and nothing else.

    Parameters
    ----------
    returns
        `(T,)` daily returns as fractions; entries that are not finite are left out.
    half_lives
        In sessions.
    window
        Sessions that a row reads.
    minimum
        Known returns among them that a row needs; half of the window, rounded up, by default.
    floor
        Least d, a daily fraction: a spell without a loss has neither log d = -inf nor an infinite ratio.

    Returns
    -------
    `(T, 3 H)`: mean, log downside deviation and Sortino ratio of the first half-life, then of the
    next; NaN where fewer than `minimum` returns are known.

    Raises
    ------
    ConfigError
        A parameter is out of range.
    DataError
        The returns are not one series.
    """
    least = (window + 1) // 2 if minimum is None else minimum
    lives = np.asarray(half_lives, dtype=np.float64)
    if lives.ndim != 1 or not len(lives) or not (lives > 0).all() or not 1 <= least <= window or not floor > 0:
        raise ConfigError(
            f"risk features: half_lives {half_lives}, window {window}, minimum {least}, floor {floor}: need positive "
            "half-lives, 1 <= minimum <= window and floor > 0"
        )
    values = np.ascontiguousarray(returns, dtype=np.float64)
    if values.ndim != 1:
        raise DataError(f"risk features: returns of shape {values.shape}: give one series, (T,)")
    weights = 0.5 ** (np.arange(window) / lives[:, None])
    out = np.empty((len(values), 3 * len(lives)))
    _risk(values, weights, least, floor, out)
    return out


def _rows(X: ArrayLike) -> Array:
    values = np.ascontiguousarray(X, dtype=np.float64)
    if values.ndim != 2:
        raise DataError(f"jumps: features of shape {values.shape}: give (T, D)")
    return values


def _losses(model: JumpModel, X: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    """`(T, K)` costs of a row in each state, and which rows are observed."""
    values = _rows(X)
    if values.shape[1] != len(model.mean):
        raise DataError(f"jumps: {values.shape[1]} features, the model was fitted on {len(model.mean)}: give the same")
    known: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=1))
    return _squares((values - model.mean) / model.scale, model.centres, known), known


def _cost(loss: Array, states: States, penalty: float) -> float:
    return float(loss[np.arange(len(loss)), states].sum() + penalty * np.count_nonzero(np.diff(states)))


def _descend(scaled: Array, line: Array, states: int, penalty: float, iterations: int) -> tuple[Array, States, float]:
    """Centres, path and objective of one descent, begun from equal groups along `line`."""
    path = np.empty(len(line), dtype=np.int64)
    path[np.argsort(line, kind="stable")] = np.arange(len(line)) * states // len(line)
    known = np.ones(len(line), dtype=np.bool_)
    centres = np.zeros((states, scaled.shape[1]))
    for _ in range(iterations):
        # A state that the path no longer visits keeps its centre: it may be worth a jump again.
        for k in np.unique(path).tolist():
            centres[k] = scaled[path == k].mean(axis=0)
        loss = _squares(scaled, centres, known)
        last, path = path, _path(loss, penalty)
        if np.array_equal(last, path):
            break
    return centres, path, _cost(loss, path, penalty)


@compiled
def _squares(scaled, centres, known):
    """Half the squared distance of each row from each centre; 0 for a row that is not known."""
    out = np.zeros((len(scaled), len(centres)))
    for t in range(len(scaled)):
        if known[t]:
            for k in range(len(centres)):
                for d in range(scaled.shape[1]):
                    gap = scaled[t, d] - centres[k, d]
                    out[t, k] += 0.5 * gap * gap
    return out


@compiled
def _advance(last, loss, penalty, out):
    """One step of the recursion: the least cost of a path that ends in each state."""
    cheapest = last[0]
    for k in range(1, len(last)):
        cheapest = min(cheapest, last[k])
    for k in range(len(last)):
        out[k] = loss[k] + min(last[k], cheapest + penalty)


@compiled
def _values(loss, penalty):
    """`(T, K)` least cost of a path over the rows so far that ends in each state."""
    out = np.empty_like(loss)
    if len(loss):
        out[0] = loss[0]
    for t in range(1, len(loss)):
        _advance(out[t - 1], loss[t], penalty, out[t])
    return out


@compiled
def _path(loss, penalty):
    """States of the cheapest path over all rows."""
    values = _values(loss, penalty)
    out = np.empty(len(loss), dtype=np.int64)
    if len(loss):
        out[-1] = np.argmin(values[-1])
    for t in range(len(loss) - 2, -1, -1):
        best = np.argmin(values[t])
        out[t] = out[t + 1] if values[t, out[t + 1]] <= values[t, best] + penalty else best
    return out


@compiled
def _online_windows(loss, penalty, window, out):
    """Fill the last states of the cheapest paths that begin `window - 1` rows before each row."""
    cost = np.empty(loss.shape[1])
    for t in range(len(loss)):
        low = max(0, t - window + 1)
        cost[:] = loss[low]
        for u in range(low + 1, t + 1):
            # In place: every state's new cost reads its own old one and the minimum taken before.
            _advance(cost, loss[u], penalty, cost)
        out[t] = np.argmin(cost)


@compiled
def _risk(returns, weights, minimum, floor, out):
    """Fill the risk features, each row summed afresh from its newest return to its oldest."""
    count, window = weights.shape
    for t in range(len(returns)):
        span = min(window, t + 1)
        seen = 0
        for i in range(span):
            if np.isfinite(returns[t - i]):
                seen += 1
        for h in range(count):
            if seen < minimum:
                out[t, 3 * h : 3 * h + 3] = np.nan
                continue
            mass, total, square = 0.0, 0.0, 0.0
            for i in range(span):
                r = returns[t - i]
                if np.isfinite(r):
                    mass += weights[h, i]
                    total += weights[h, i] * r
                    if r < 0.0:
                        square += weights[h, i] * r * r
            mean = total / mass
            downside = max(np.sqrt(square / mass), floor)
            out[t, 3 * h] = mean
            out[t, 3 * h + 1] = np.log(downside)
            out[t, 3 * h + 2] = mean / downside
