"""Calm or stress, as a hidden Markov chain behind one series of returns.

x_t given state k is normal with that state's mean and deviation; the states follow a Markov chain.
What may make a signal is the filter P(s_t | x_1..x_t), f_t ∝ (f_{t-1} A) ∘ b(x_t). The smoother
P(s_t | x_1..x_T) knows how the story ended: it serves the fit and nothing else.

An entry that is not finite is unobserved: its likelihood is 1 in every state, and time passes.

References
----------
Hamilton, J. D. (1989). A new approach to the economic analysis of nonstationary time series and the
business cycle. Econometrica 57(2).
Kim, C.-J. (1994). Dynamic linear models with Markov-switching. Journal of Econometrics 60(1-2).
Baum, L. E., Petrie, T., Soules, G. and Weiss, N. (1970). A maximization technique occurring in the
statistical analysis of probabilistic functions of Markov chains. Annals of Mathematical Statistics 41(1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, DataError
from core.jit import compiled

Array = NDArray[np.float64]


STAY = 0.95
"""Chance of staying in a state with which the fit begins: about a month of sessions."""

SPANS = (1, 21)
"""Observations over which |x - median| is averaged to sort days into first states: one start a span."""


@dataclass(frozen=True)
class GaussianHMM:
    """A hidden Markov model with normal observations; the last state is the most volatile one.

    Attributes
    ----------
    start
        `(K,)` probabilities of the states before the first observation.
    transition
        `(K, K)`; row i holds the probabilities of the next state when this one is i.
    mean, deviation
        `(K,)` in units of the observations; deviations are positive and ascending.

    Raises
    ------
    DataError
        The shapes do not fit, a row of probabilities does not sum to one, or the deviations are not
        positive and ascending.
    """

    start: Array
    transition: Array
    mean: Array
    deviation: Array

    def __post_init__(self) -> None:
        for name in ("start", "transition", "mean", "deviation"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float64))
        k = self.start.size
        shapes = (self.start.shape, self.transition.shape, self.mean.shape, self.deviation.shape)
        if k < 1 or shapes != ((k,), (k, k), (k,), (k,)):
            raise DataError(f"hmm: shapes {shapes} are not (K,), (K, K), (K,), (K,): give one number a state")
        rows = np.vstack([self.start, self.transition])
        if not (rows >= 0).all() or not (np.abs(rows.sum(axis=1) - 1) < 1e-8).all():
            raise DataError("hmm: start and each row of transition must be probabilities that sum to 1: normalise them")
        if not np.isfinite(self.mean).all() or not (self.deviation > 0).all() or not np.isfinite(self.deviation).all():
            raise DataError("hmm: means must be finite and deviations positive: fit the model again")
        if (np.diff(self.deviation) < 0).any():
            raise DataError("hmm: deviations must ascend, the last state is stress: reorder the states")

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, for JSON."""
        return {name: getattr(self, name).tolist() for name in ("start", "transition", "mean", "deviation")}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> GaussianHMM:
        """The model that `to_dict` described.

        Raises
        ------
        DataError
            A part is missing or of the wrong kind.
        """
        try:
            return cls(*(np.array(state[name], np.float64) for name in ("start", "transition", "mean", "deviation")))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"hmm: cannot be read ({error!r}): fit the model again") from error


def filtered(model: GaussianHMM, x: ArrayLike) -> Array:
    """`(T, K)` probabilities of the states given the observations up to and including each one.

    Parameters
    ----------
    x
        `(T,)` observations.
    """
    return _filter_all(model, _series(x))[1]


def predicted(model: GaussianHMM, f: ArrayLike) -> Array:
    """`(T, K)` probabilities of the next session's states, from the filtered ones of this session."""
    probabilities = np.asarray(f, dtype=np.float64)
    # A matrix product may round differently for another number of rows; this sum does not.
    out: Array = (probabilities[..., :, None] * model.transition).sum(axis=-2)
    return out


def filtered_window(model: GaussianHMM, x: ArrayLike, window: int) -> Array:
    """`(T, K)` filtered probabilities, row t from its own `window` observations alone.

    Row t has the bits of the last row of `filtered` on x[max(0, t - window + 1) .. t]: whoever holds
    those observations gets the same number, however long a history the other side read.

    Raises
    ------
    ConfigError
        `window` is below 1.
    """
    if window < 1:
        raise ConfigError(f"hmm: window {window}: choose at least 1")
    values = _series(x)
    out = np.empty((len(values), len(model.start)))
    _filter_windows(model.start, model.transition, _log_densities(values, model.mean, model.deviation), window, out)
    return out


def smoothed(model: GaussianHMM, x: ArrayLike) -> Array:
    """`(T, K)` probabilities of the states given ALL observations (Kim 1994): for a fit, never for a signal.

    It looks into the future: row t knows what followed. A rule that trades on it shows a profit that
    does not exist. Use `filtered` or `filtered_window` for anything that is traded or judged.
    """
    prior, posterior, _ = _filter_all(model, _series(x))
    return _smooth(model.transition, prior, posterior)[0]


def log_likelihood(model: GaussianHMM, x: ArrayLike) -> float:
    """Natural logarithm of the density of the observed entries."""
    return _filter_all(model, _series(x))[2]


def fit_hmm(
    x: ArrayLike,
    states: int = 2,
    *,
    iterations: int = 1000,
    tolerance: float = 1e-9,
    floor: float = 0.01,
    min_observations: int = 100,
) -> GaussianHMM:
    """Fit by expectation maximisation (Baum et al. 1970) from starts that the data alone decide.

    Days are sorted into first states by |x - median|, once day by day and once averaged over a month;
    the run with the higher likelihood is kept. No random number is drawn.

    The model's `start` is the share of sessions spent in each state, not the smoothed first session:
    a window may begin on any day.

    Parameters
    ----------
    x
        `(T,)` observations in time order, in any unit.
    iterations
        Cap on the steps of each run.
    tolerance
        A run ends when a step raises the log-likelihood by less than this per observation.
    floor
        Least deviation of a state as a share of the deviation of all observations: without it a state
        that holds one day alone has an infinite likelihood.
    min_observations
        Finite entries needed.

    Raises
    ------
    ConfigError
        A parameter is out of range.
    DataError
        There are too few finite observations, or they are all the same.
    """
    if states < 1 or iterations < 1 or not tolerance >= 0 or not 0 < floor < 1:
        raise ConfigError(
            f"hmm: states {states}, iterations {iterations}, tolerance {tolerance}, floor {floor}: need states and "
            "iterations of at least 1, tolerance >= 0 and 0 < floor < 1"
        )
    values = _series(x)
    known = np.isfinite(values)
    needed = max(min_observations, 2 * states)
    if known.sum() < needed:
        raise DataError(
            f"hmm: {int(known.sum())} finite observations, {states} states need {needed}: give a longer history"
        )
    deviation = float(values[known].std())
    if not deviation > 1e-12 * float(np.abs(values[known]).max()):
        raise DataError("hmm: all observations are the same: give a series that moves")
    runs = (
        _maximise(start, values, known, iterations, tolerance, floor * deviation)
        for start in _starts(values[known], states, floor * deviation)
    )
    return max(runs, key=lambda run: run[1])[0]


def _series(x: ArrayLike) -> Array:
    values = np.ascontiguousarray(x, dtype=np.float64)
    if values.ndim != 1:
        raise DataError(f"hmm: observations of shape {values.shape}: give one series, (T,)")
    return values


def _filter_all(model: GaussianHMM, x: Array) -> tuple[Array, Array, float]:
    """Probabilities before and after each observation, and the log-likelihood."""
    prior, posterior = np.empty((len(x), len(model.start))), np.empty((len(x), len(model.start)))
    densities = _log_densities(x, model.mean, model.deviation)
    return prior, posterior, float(_filter(model.start, model.transition, densities, prior, posterior))


def _starts(x: Array, states: int, least: float) -> list[GaussianHMM]:
    """A first model per entry of SPANS, from days sorted by their distance from the median."""
    n = len(x)
    distance = np.abs(x - np.median(x))
    sums = np.append(0.0, np.cumsum(distance))
    transition = np.full((states, states), (1 - STAY) / max(states - 1, 1))
    np.fill_diagonal(transition, STAY if states > 1 else 1.0)
    out = []
    for span in SPANS:
        low = np.maximum(np.arange(1, n + 1) - span, 0)
        trailing = (sums[1:] - sums[low]) / (np.arange(1, n + 1) - low)
        group = np.empty(n, dtype=np.int64)
        group[np.argsort(trailing, kind="stable")] = np.arange(n) * states // n
        parts = [x[group == k] for k in range(states)]
        mean, deviation = np.array([p.mean() for p in parts]), np.array([max(p.std(), least) for p in parts])
        out.append(_ordered(np.full(states, 1 / states), transition, mean, deviation))
    return out


def _ordered(start: Array, transition: Array, mean: Array, deviation: Array) -> GaussianHMM:
    order = np.argsort(deviation, kind="stable")
    return GaussianHMM(start[order], transition[np.ix_(order, order)], mean[order], deviation[order])


def _maximise(
    model: GaussianHMM, x: Array, known: NDArray[np.bool_], iterations: int, tolerance: float, least: float
) -> tuple[GaussianHMM, float]:
    """The model after the last step, with the shares of the states as its start, and its log-likelihood."""
    last = -np.inf
    seen = x[known]
    for _ in range(iterations):
        prior, posterior, likelihood = _filter_all(model, x)
        weight, pairs = _smooth(model.transition, prior, posterior)
        if likelihood - last < tolerance * len(seen):
            break
        last = likelihood
        mass = weight[known].sum(axis=0)
        left = pairs.sum(axis=1, keepdims=True)
        # A state that no day belongs to any more has no evidence to learn from: it stays as it is.
        transition = np.where(left > 1e-12, pairs / np.maximum(left, 1e-12), model.transition)
        used = mass > 1e-9
        mass = np.where(used, mass, 1.0)
        mean = np.where(used, weight[known].T @ seen / mass, model.mean)
        square = (weight[known] * (seen[:, None] - mean) ** 2).sum(axis=0) / mass
        deviation = np.where(used, np.maximum(np.sqrt(square), least), model.deviation)
        model = _ordered(weight[0], transition / transition.sum(axis=1, keepdims=True), mean, deviation)
    prior, posterior, likelihood = _filter_all(model, x)
    share = _smooth(model.transition, prior, posterior)[0].mean(axis=0)
    return GaussianHMM(share / share.sum(), model.transition, model.mean, model.deviation), likelihood


@compiled
def _log_densities(x, mean, deviation):
    """`(T, K)` log densities; 0 where the observation is not finite."""
    out = np.zeros((len(x), len(mean)))
    for t in range(len(x)):
        if np.isfinite(x[t]):
            for k in range(len(mean)):
                z = (x[t] - mean[k]) / deviation[k]
                out[t, k] = -0.5 * z * z - np.log(deviation[k]) - 0.5 * np.log(2.0 * np.pi)
    return out


@compiled
def _filter(start, transition, log_density, prior, posterior):
    """Fill the probabilities before and after each observation; the log-likelihood is returned."""
    states = len(start)
    total = 0.0
    for t in range(len(log_density)):
        for k in range(states):
            if t == 0:
                prior[t, k] = start[k]
            else:
                prior[t, k] = 0.0
                for j in range(states):
                    prior[t, k] += posterior[t - 1, j] * transition[j, k]
        # Far in the tails every density underflows; relative to the largest possible one, one stays 1.
        top = -np.inf
        for k in range(states):
            if prior[t, k] > 0.0 and log_density[t, k] > top:
                top = log_density[t, k]
        scale = 0.0
        for k in range(states):
            posterior[t, k] = prior[t, k] * np.exp(log_density[t, k] - top) if prior[t, k] > 0.0 else 0.0
            scale += posterior[t, k]
        for k in range(states):
            posterior[t, k] /= scale
        total += np.log(scale) + top
    return total


@compiled
def _filter_windows(start, transition, log_density, window, out):
    """Fill each row with the last row of a filter that begins `window - 1` observations before it."""
    prior = np.empty((window, len(start)))
    posterior = np.empty((window, len(start)))
    for t in range(len(log_density)):
        low = max(0, t - window + 1)
        _filter(start, transition, log_density[low : t + 1], prior, posterior)
        out[t] = posterior[t - low]


@compiled
def _smooth(transition, prior, posterior):
    """Smoothed probabilities `(T, K)`, and the expected number of moves between states `(K, K)`."""
    count, states = posterior.shape
    out = np.empty((count, states))
    pairs = np.zeros((states, states))
    if count:
        out[count - 1] = posterior[count - 1]
    for t in range(count - 2, -1, -1):
        for i in range(states):
            out[t, i] = 0.0
            for j in range(states):
                if prior[t + 1, j] > 0.0:
                    # Bounded by out[t + 1, j]: the prior holds this very product as one of its terms.
                    move = posterior[t, i] * transition[i, j] / prior[t + 1, j] * out[t + 1, j]
                    pairs[i, j] += move
                    out[t, i] += move
    return out, pairs
