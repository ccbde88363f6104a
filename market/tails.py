"""The tail of losses beyond a threshold: the generalised Pareto law of the peaks, and the risk measures it implies.

Above a high threshold u the excesses follow a generalised Pareto law of scale beta and shape xi, whatever the law of
the losses. With zeta the probability of exceeding u,

    VaR_p = u + (beta / xi) [((1 - p) / zeta)^(-xi) - 1],    ES_p = VaR_p / (1 - xi) + (beta - xi u) / (1 - xi).

The UPPER tail of the sample counts: pass losses as positive numbers (minus returns). Entries that are not finite are
unknown and left out.

A fit takes the losses for independent and alike, which those of sessions are not: wild times come together, and a tail
fitted to raw returns is that of the average day. For the tail of the NEXT session, fit to standardised losses
z_t = -r_t / sigma_t (`market.volatility.standardised_returns`) and scale the law back by that session's forecast,
`fit_peaks(z, share=0.1).scaled(sigma_next)` (McNeil and Frey 2000).

References
----------
Grimshaw, S. D. (1993). Computing maximum likelihood estimates for the generalized Pareto distribution.
Technometrics 35.
McNeil, A. J. (1999). Extreme value theory for risk managers. In: Internal Modelling and CAD II, Risk Books.
McNeil, A. J. and Frey, R. (2000). Estimation of tail-related risk measures for heteroscedastic financial time series:
an extreme value approach. Journal of Empirical Finance 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import exprel

from core.errors import ConfigError, ConvergenceError, DataError
from market.hill import known_values, tail_size

Array = NDArray[np.float64]

MINIMUM_PEAKS = 30
"""Excesses that a fit needs: with fewer, the error of the shape, (1 + xi) / sqrt(n), is as large as the shape."""

_EDGE = 1e-9  # a level of 0.95 is the edge of an exceedance of 0.05, though 1 - 0.05 is not 0.95 in binary
_SCORE = 1e-5  # what a fit may leave of the likelihood equations


@dataclass(frozen=True)
class ParetoTail:
    """Law of losses above a threshold, fitted or given.

    Attributes
    ----------
    threshold
        u, in units of the losses.
    scale
        beta, in the same units.
    shape
        xi; 0 is the exponential law.
    exceedance
        zeta, the probability that a loss exceeds u: N_u / n in a sample.

    Raises
    ------
    DataError
        A number is not finite, the scale not positive, or the exceedance not within (0, 1].
    """

    threshold: float
    scale: float
    shape: float
    exceedance: float

    def __post_init__(self) -> None:
        numbers = (self.threshold, self.scale, self.shape, self.exceedance)
        if not np.isfinite(numbers).all() or not self.scale > 0 or not 0 < self.exceedance <= 1:
            raise DataError(
                f"tails: threshold, scale, shape, exceedance {numbers}: need finite numbers, a positive scale and an "
                "exceedance within (0, 1]"
            )

    def value_at_risk(self, level: float) -> float:
        """Loss that is exceeded with probability 1 - level.

        Raises
        ------
        ConfigError
            The level is not below 1, or below 1 - exceedance: there the law says nothing.

        References
        ----------
        McNeil (1999).
        """
        if not 1 - self.exceedance - _EDGE <= level < 1:
            raise ConfigError(
                f"tails: level {level} lies outside the tail of exceedance {self.exceedance}: choose one from "
                f"{1 - self.exceedance:.6g} to below 1, or a lower threshold"
            )
        growth = -np.log((1 - level) / self.exceedance)
        # exprel(x) = (e^x - 1) / x keeps its digits near zero, where the law is the exponential one.
        return float(self.threshold + self.scale * growth * exprel(self.shape * growth))

    def expected_shortfall(self, level: float) -> float:
        """Mean of the losses beyond the value at risk; infinite for a shape of 1 or more.

        Raises
        ------
        ConfigError
            As in `value_at_risk`.

        References
        ----------
        McNeil (1999).
        """
        quantile = self.value_at_risk(level)
        if self.shape >= 1:
            return np.inf
        return float((quantile + self.scale - self.shape * self.threshold) / (1 - self.shape))

    def scaled(self, factor: float) -> ParetoTail:
        """The law of the losses times `factor`: from standardised losses to those of a session of that volatility.

        Raises
        ------
        ConfigError
            The factor is not a positive finite number.
        """
        if not 0 < factor < np.inf:
            raise ConfigError(f"tails: factor {factor}: give a positive volatility")
        return ParetoTail(self.threshold * factor, self.scale * factor, self.shape, self.exceedance)


def fit_peaks(
    losses: ArrayLike,
    *,
    threshold: float | None = None,
    share: float | None = None,
    minimum: int = MINIMUM_PEAKS,
) -> ParetoTail:
    """Fit the generalised Pareto law to the excesses over a threshold by maximum likelihood.

    Parameters
    ----------
    losses
        Values of any shape, losses positive.
    threshold, share
        One of them: u itself, or the share of the sample that should exceed it; u is then the largest loss that does
        not belong to that share. McNeil and Frey (2000) use a tenth.
    minimum
        Excesses needed.

    Raises
    ------
    ConfigError
        Not one of `threshold` and `share` is given, or it is out of range.
    DataError
        There are fewer than `minimum` excesses, or they are all equal.
    ConvergenceError
        The likelihood has no inner maximum, as where the tail ends at a bound.

    References
    ----------
    McNeil and Frey (2000), section 2.2; Grimshaw (1993).
    """
    values = known_values(losses)
    if (threshold is None) == (share is None):
        raise ConfigError("tails: give either a threshold or a share")
    u = np.sort(values)[::-1][tail_size(len(values), None, share)] if threshold is None else threshold
    excess = values[values > u] - u
    if len(excess) < max(minimum, 2):
        raise DataError(
            f"tails: {len(excess)} of {len(values)} losses exceed {u:.6g}, {max(minimum, 2)} are needed: lower the "
            "threshold or give a longer history"
        )
    mean = excess.mean()
    if not np.ptp(excess) > 1e-9 * mean:
        raise DataError(f"tails: the {len(excess)} excesses over {u:.6g} are all equal: look for stale or clipped data")
    shape, scale = _most_likely(excess / mean)
    return ParetoTail(float(u), float(scale * mean), float(shape), len(excess) / len(values))


def _most_likely(excess: Array) -> tuple[float, float]:
    """Shape and scale at the highest inner maximum of the likelihood, of excesses of mean 1.

    Given theta = xi / beta the best shape is mean log(1 + theta y), so that one number remains to be searched, between
    the end that the largest excess allows and a bound above which no maximum lies (Grimshaw 1993). Near that
    end the likelihood grows without bound, so that a maximum must have points on both sides; its shape is above -1.
    """

    def shape(theta: float) -> float:
        return float(np.log1p(theta * excess).mean())

    def minus(theta: float) -> float:
        best = shape(theta)
        return float(np.log(best / theta) + best) if theta != 0 else 0.0

    least = excess.min()
    below = (np.geomspace(1e-9, 1, 60, endpoint=False) - 1) / excess.max()
    grid = np.append(below, np.geomspace(1e-3, max(2 * (1 - least) / least**2, 1.0), 120))
    cost = np.array([minus(theta) for theta in grid])
    inner = 1 + np.flatnonzero((cost[1:-1] <= cost[:-2]) & (cost[1:-1] <= cost[2:]))
    if len(inner):
        at = inner[cost[inner].argmin()]
        ends = (grid[at - 1], grid[at + 1])
        theta = minimize_scalar(minus, bounds=ends, method="bounded", options={"xatol": 1e-9 * (ends[1] - ends[0])}).x
        found = (shape(theta), shape(theta) / theta if theta != 0 else 1.0)
        if _solves(excess, *found):
            return found
    raise ConvergenceError(
        f"tails: the likelihood of {len(excess)} excesses has no maximum with a shape above -1: the tail seems to "
        "end at a bound; choose another threshold or give more losses"
    )


def _solves(excess: Array, shape: float, scale: float) -> bool:
    """Whether the likelihood equations hold: mean log(1 + theta y) = xi and mean 1 / (1 + theta y) = 1 / (1 + xi)."""
    inner = 1 + shape / scale * excess
    left = (np.log(inner).mean() - shape, (1 / inner).mean() * (1 + shape) - 1)
    return bool(np.abs(left).max() < _SCORE)
