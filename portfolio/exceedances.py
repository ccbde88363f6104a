"""Does a value-at-risk forecast keep its promise? Counts of losses beyond it, and whether they cluster.

A hit is a session whose loss exceeds its forecast. A right forecast at level 1 - p has independent hits of
probability p. With l(q) the log-likelihood of hits of probability q:

    unconditional coverage   LR = 2 [l(x / T) - l(p)]             chi2(1)   Kupiec (1995)
    independence             LR = 2 [l(pi_01, pi_11) - l(pi)]     chi2(1)   Christoffersen (1998)
    conditional coverage     LR = 2 [l(pi_01, pi_11) - l(p)]      chi2(2)   Christoffersen (1998)

where pi_ij is the share of state j after state i and pi the share of hits after any state.

References
----------
Kupiec, P. H. (1995). Techniques for verifying the accuracy of risk measurement models. Journal of Derivatives 3(2).
Christoffersen, P. F. (1998). Evaluating interval forecasts. International Economic Review 39(4).
Basel Committee on Banking Supervision (1996). Supervisory framework for the use of "backtesting" in conjunction
with the internal models approach to market risk capital requirements.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy
from scipy.stats import binom, chi2

from core.errors import ConfigError, DataError

Hits = NDArray[np.bool_]
Zone = Literal["green", "yellow", "red"]

BASEL_WINDOW = 250
"""Sessions that the supervisor counts."""
_YELLOW, _RED = 0.95, 0.9999


class LikelihoodRatio(NamedTuple):
    """A likelihood-ratio test: its statistic, and the probability of a higher one under the null."""

    statistic: float
    p_value: float


class Transitions(NamedTuple):
    """Number of steps from one session to the next, by hit (1) or none (0) before and after."""

    n00: int
    n01: int
    n10: int
    n11: int


class TrafficLight(NamedTuple):
    """The supervisor's zone, and the probability of this many hits or fewer under a right forecast."""

    zone: Zone
    cumulative: float


@dataclass(frozen=True)
class Coverage:
    """How often losses exceeded a forecast, and what the tests say of it.

    Attributes
    ----------
    sessions, hits
        Sessions with a forecast, and those of them whose loss exceeded it.
    level
        Confidence of the forecast: 0.99 promises a hit in 1 % of the sessions.
    unconditional, independence, conditional
        Kupiec's and Christoffersen's tests over all the sessions.
    recent_hits, light
        Hits of the last 250 sessions (of all where they are fewer), and the zone they lie in.
    """

    sessions: int
    hits: int
    level: float
    unconditional: LikelihoodRatio
    independence: LikelihoodRatio
    conditional: LikelihoodRatio
    recent_hits: int
    light: TrafficLight

    @property
    def rate(self) -> float:
        """Share of the sessions that were hits."""
        return self.hits / self.sessions


def find_hits(returns: ArrayLike, forecast: ArrayLike) -> Hits:
    """Sessions whose loss exceeded the forecast, of those that have one.

    Parameters
    ----------
    returns
        `(T,)` realised returns, fractions.
    forecast
        `(T,)` value at risk of the same sessions, made before them, loss > 0; NaN where there is none.

    Returns
    -------
    array
        `(n,)` in order of time, n the number of sessions with a forecast.

    Raises
    ------
    DataError
        The shapes differ, no session has a forecast, or a return that one was made for is not finite.
    """
    realised, promised = np.asarray(returns, np.float64), np.asarray(forecast, np.float64)
    if realised.ndim != 1 or realised.shape != promised.shape:
        raise DataError(
            f"exceedances: returns {realised.shape} and forecasts {promised.shape}: give one series each, equally long"
        )
    made = ~np.isnan(promised)
    if not made.any():
        raise DataError("exceedances: no session has a forecast: give a longer history or a shorter window")
    bad = np.flatnonzero(made & ~np.isfinite(realised))
    if len(bad):
        raise DataError(f"exceedances: return {bad[0]} is {realised[bad[0]]}: give every session with a forecast one")
    hits: Hits = -realised[made] > promised[made]
    return hits


def kupiec(hits: int, sessions: int, probability: float) -> LikelihoodRatio:
    """Test that hits come with the promised probability.

    Parameters
    ----------
    hits, sessions
        Number of hits x and of sessions T.
    probability
        Promised p: 0.01 for a forecast at 99 %.

    References
    ----------
    Kupiec (1995), proportion of failures.
    """
    count, total, promised = _counts(hits, sessions, probability)
    return _test(_log_likelihood(total - count, count, count / total), _log_likelihood(total - count, count, promised))


def non_rejection(sessions: int, probability: float, confidence: float = 0.95) -> tuple[int, int]:
    """Fewest and most hits that Kupiec's test does not reject.

    Raises
    ------
    DataError
        Every number of hits is rejected: the sessions are too few.

    References
    ----------
    Kupiec (1995), non-rejection regions. (His "N < 7" at 255 sessions and 1 % leaves out that no hit is rejected too.)
    """
    _, total, promised = _counts(0, sessions, probability)
    if not 0 < confidence < 1:
        raise ConfigError(f"exceedances: confidence {confidence}: choose one between 0 and 1")
    x = np.arange(total + 1)
    ratio = 2 * (_log_likelihood(total - x, x, x / total) - _log_likelihood(total - x, x, promised))
    kept = np.flatnonzero(ratio < chi2.ppf(confidence, 1))
    if not len(kept):
        raise DataError(f"exceedances: {total} sessions are too few to keep any number of hits: give more")
    return int(kept[0]), int(kept[-1])


def transitions(hits: ArrayLike) -> Transitions:
    """Count the steps of a series of hits.

    Parameters
    ----------
    hits
        `(T,)` booleans in order of time, T >= 2.
    """
    marks = np.asarray(hits)
    if marks.ndim != 1 or marks.dtype != np.bool_ or len(marks) < 2:
        raise DataError(f"exceedances: hits {marks.shape} of {marks.dtype}: give a series of two booleans or more")
    step = np.bincount(2 * marks[:-1].astype(np.int64) + marks[1:], minlength=4)
    return Transitions(*step.tolist())


def christoffersen_independence(steps: Transitions) -> LikelihoodRatio:
    """Test that a hit is no likelier after a hit than after none.

    Where no step begins with a hit the statistic is 0: nothing speaks against independence.

    References
    ----------
    Christoffersen (1998), test of independence against a first-order Markov chain.
    """
    n00, n01, n10, n11 = _checked(steps)
    share = (n01 + n11) / (n00 + n01 + n10 + n11)
    return _test(_markov(steps), _log_likelihood(n00 + n10, n01 + n11, share))


def conditional_coverage(steps: Transitions, probability: float) -> LikelihoodRatio:
    """Test that hits have the promised probability whatever came before.

    The statistic is the sum of Kupiec's, over the sessions that steps lead to, and that of independence.

    References
    ----------
    Christoffersen (1998), joint test of coverage and independence.
    """
    n00, n01, n10, n11 = _checked(steps)
    _, _, promised = _counts(n01 + n11, n00 + n01 + n10 + n11, probability)
    return _test(_markov(steps), _log_likelihood(n00 + n10, n01 + n11, promised), freedom=2)


def traffic_light(hits: int, sessions: int = BASEL_WINDOW, probability: float = 0.01) -> TrafficLight:
    """Zone of a number of hits: yellow from a cumulative probability of 95 % on, red from 99.99 % on.

    References
    ----------
    Basel Committee (1996): at 250 sessions and 99 %, green to 4 hits, yellow to 9, red from 10 on.
    """
    count, total, promised = _counts(hits, sessions, probability)
    cumulative = float(binom.cdf(count, total, promised))
    zone: Zone = "green" if cumulative < _YELLOW else "yellow" if cumulative < _RED else "red"
    return TrafficLight(zone, cumulative)


def coverage(returns: ArrayLike, forecast: ArrayLike, level: float) -> Coverage:
    """Hold a series of forecasts against what happened.

    Parameters
    ----------
    returns, forecast
        See `find_hits`.
    level
        Confidence of the forecasts, as in `portfolio.value_at_risk`.
    """
    hits = find_hits(returns, forecast)
    steps, recent = transitions(hits), hits[-BASEL_WINDOW:]
    count, probability = int(hits.sum()), 1.0 - level
    return Coverage(
        sessions=len(hits),
        hits=count,
        level=level,
        unconditional=kupiec(count, len(hits), probability),
        independence=christoffersen_independence(steps),
        conditional=conditional_coverage(steps, probability),
        recent_hits=int(recent.sum()),
        light=traffic_light(int(recent.sum()), len(recent), probability),
    )


def _counts(hits: int, sessions: int, probability: float) -> tuple[int, int, float]:
    try:
        count, total = operator.index(hits), operator.index(sessions)
    except TypeError:
        raise DataError(f"exceedances: {hits!r} hits of {sessions!r} sessions: give whole numbers") from None
    if total < 1 or not 0 <= count <= total:
        raise DataError(f"exceedances: {count} hits of {total} sessions: give 0 <= hits <= sessions, sessions >= 1")
    if not 0 < probability < 1:
        raise ConfigError(f"exceedances: probability {probability}: choose one between 0 and 1, 0.01 for 99 %")
    return count, total, float(probability)


def _checked(steps: Transitions) -> Transitions:
    if min(steps) < 0 or sum(steps) < 1:
        raise DataError(f"exceedances: transitions {tuple(steps)}: give counts of at least one step")
    return steps


def _log_likelihood(misses: ArrayLike, hits: ArrayLike, share: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(xlogy(misses, np.subtract(1.0, share)) + xlogy(hits, share))


def _markov(steps: Transitions) -> NDArray[np.float64]:
    """Greatest log-likelihood of a first-order chain; a state that was never left has no say."""
    quiet, hit = steps.n00 + steps.n01, steps.n10 + steps.n11
    return _log_likelihood(steps.n00, steps.n01, steps.n01 / max(quiet, 1)) + _log_likelihood(
        steps.n10, steps.n11, steps.n11 / max(hit, 1)
    )


def _test(free: NDArray[np.float64], bound: NDArray[np.float64], freedom: int = 1) -> LikelihoodRatio:
    # The free likelihood is the greater one; rounding alone can put it below.
    statistic = max(0.0, 2.0 * float(free - bound))
    return LikelihoodRatio(statistic, float(chi2.sf(statistic, freedom)))
