"""Trade crowding: many traders who unwind at once and each of whom reckons with the others, in closed form.

A trader holds q, trades at the rate v, pays v S + kappa v^2, and moves nothing alone; the crowd, whose mean
inventory is E and whose mean rate is mu = E', moves the price by dS = alpha mu dt + sigma dW. Each maximises
the expectation of X_T + Q_T (S_T - A Q_T) - phi int Q^2 dt. With the same preferences for all, the mean
inventory of the Nash equilibrium solves

    2 kappa E'' + alpha E' - 2 phi E = 0,    E(0) = E0,    kappa E'(T) + A E(T) = 0,

whose roots are (-alpha +- sqrt(alpha^2 + 16 kappa phi)) / (4 kappa). Everything here is a sum of positive
terms with exponents of at most zero: a long horizon does not overflow, and alpha = 0 or phi = 0 is no
special case.

Units are the caller's: with inventory in days of average volume, time in sessions and prices in daily
standard deviations, costs are in average volumes times daily standard deviations.

References
----------
Cardaliaguet, P. and Lehalle, C.-A. (2018). Mean field game of controls and an application to trade crowding.
Mathematics and Financial Economics 12 (identical preferences).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import exprel

from core.errors import ConfigError, ConvergenceError

Array = NDArray[np.float64]

STRESS = 2.0
"""By how much a stress multiplies the aversion to inventory, and the inventory."""

_STEPS = 200
_NEAR = 1e-12


@dataclass(frozen=True)
class CrowdingGame:
    """The game's parameters: scalars or arrays that broadcast together; NaN gives NaN.

    Attributes
    ----------
    alpha
        Permanent impact of the crowd's rate on the price, at least 0.
    kappa
        Temporary cost of a squared rate, above 0.
    phi
        Aversion to inventory, a cost per squared inventory and unit of time; at least 0.
    terminal
        A, the cost of a squared inventory at the end; at least 0.
    horizon
        T, the time until the end; at least 0.

    Raises
    ------
    ConfigError
        A parameter is out of its range or infinite, or the shapes do not broadcast together.
    """

    alpha: Array
    kappa: Array
    phi: Array
    terminal: Array
    horizon: Array

    def __post_init__(self) -> None:
        for name in ("alpha", "kappa", "phi", "terminal", "horizon"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            wrong = np.isinf(values) | ((values <= 0) if name == "kappa" else (values < 0))
            if wrong.any():
                bound = "above 0" if name == "kappa" else "of at least 0"
                raise ConfigError(f"crowding: {name} {values[wrong].flat[0]:g}: need finite values {bound}")
            object.__setattr__(self, name, values)
        try:
            np.broadcast_shapes(*(getattr(self, name).shape for name in self.__dataclass_fields__))
        except ValueError as error:
            raise ConfigError(f"crowding: parameters do not broadcast together ({error}): give equal shapes") from error

    @cached_property
    def roots(self) -> tuple[Array, Array]:
        """The positive and the negative root, per unit of time; either may be 0."""
        # The negative one is a sum; their product is -phi / kappa, which gives the other without a difference.
        whole = self.alpha + self._discriminant
        positive = np.divide(4 * self.phi, whole, out=np.zeros(whole.shape), where=whole != 0)
        return positive, -whole / (4 * self.kappa)

    def inventory(self, initial: ArrayLike, time: ArrayLike) -> Array:
        """E(t): the crowd's mean inventory, of the sign of `initial`, ever nearer to 0.

        Parameters
        ----------
        initial
            E0.
        time
            0 to `horizon`; broadcasts with the parameters.
        """
        return self._fall(time) * self._level(self._left(time)) / self._whole * np.asarray(initial)

    def rate(self, initial: ArrayLike, time: ArrayLike) -> Array:
        """mu(t) = E'(t): the crowd's mean rate of trading."""
        return -self._fall(time) * self._speed(self._left(time)) / self._whole * np.asarray(initial)

    def urgency(self, time: ArrayLike) -> Array:
        """h2(t): a trader's marginal cost of inventory, of 2 kappa h2' = h2^2 - 4 kappa phi with h2(T) = 2 A."""
        left = self._left(time)
        reach = left / (2 * self.kappa) * _tanhc(np.sqrt(self.phi / self.kappa) * left)
        return (2 * self.terminal + 4 * self.kappa * self.phi * reach) / (1 + 2 * self.terminal * reach)

    def trader(self, own: ArrayLike, initial: ArrayLike, time: ArrayLike) -> Array:
        """q(t): the inventory of a trader who begins with `own` among a crowd that begins with `initial`.

        The best reply trades at mu + h2 (E - q) / (2 kappa): the gap to the crowd closes at the rate
        h2 / (2 kappa), which is how a crowd without impact unwinds.
        """
        alone = replace(self, alpha=np.zeros_like(self.alpha))
        return self.inventory(initial, time) + alone.inventory(np.asarray(own) - np.asarray(initial), time)

    def cost(self, initial: ArrayLike) -> Array:
        """C = kappa int mu^2 dt + alpha (E0^2 - E_T^2) / 2 + A E_T^2: what the crowd loses by unwinding."""
        left = self.inventory(1.0, self.horizon)
        spent = self.kappa * self._squared_rate + self.alpha * (1 - left) * (1 + left) / 2 + self.terminal * left**2
        return spent * np.square(initial)

    def drift(self, initial: ArrayLike) -> Array:
        """alpha (E_T - E0): by how much the crowd is expected to move the price until the horizon."""
        return -self.alpha * (1 - self.inventory(1.0, self.horizon)) * np.asarray(initial)

    @cached_property
    def half_life(self) -> Array:
        """Time until half of the crowd's inventory is left; infinite where more than half is left at the horizon.

        Raises
        ------
        ConvergenceError
            Newton's method did not arrive.
        """
        left = self.inventory(1.0, self.horizon)
        reached = left <= 0.5
        moving, time = reached, np.zeros(reached.shape)
        for _ in range(_STEPS):
            held = self.inventory(1.0, time)
            # Newton's method on log E, which is nearly straight. E is convex: no step leaves less than 1 - log 2 of it.
            with np.errstate(divide="ignore", invalid="ignore"):
                step = np.log(2.0 * held) * held / -self.rate(1.0, time)
            # A game that has arrived stands still: its bits do not depend on the games beside it.
            moving = moving & (np.abs(step) > _NEAR * time)
            if not moving.any():
                return np.where(reached, time, np.where(np.isfinite(left), np.inf, np.nan))
            time = np.where(moving, np.minimum(time + step, self.horizon), time)
        raise ConvergenceError(f"crowding: no half-life after {_STEPS} steps of Newton's method: check the parameters")

    def multiplier(self) -> Array:
        """C(alpha) / C(0): what the others' impact adds to the cost of unwinding; NaN where nobody need trade.

        It does not depend on the inventory.
        """
        return _ratio(self.cost(1.0), replace(self, alpha=np.zeros_like(self.alpha)).cost(1.0))

    def stressed(self, stress: float = STRESS) -> CrowdingGame:
        """The game of traders whose aversion to inventory is `stress` times as large."""
        return replace(self, phi=stress * self.phi)

    def fragility(self, stress: float = STRESS) -> Array:
        """C under `stress` times the aversion and `stress` times the inventory, over C; NaN where nobody need trade.

        It does not depend on the inventory, of which C is a square: that alone makes it `stress` squared. Of costs
        per inventory, C / |E0|, the ratio is this one over `stress`.
        """
        return _ratio(self.stressed(stress).cost(stress), self.cost(1.0))

    # With s the distance of the roots, g = A + kappa r- and w(x) = (1 - exp(-s x)) / s, the path is
    # E = E0 exp(r- t) n(T - t) / n(T), n(x) = kappa + g w(x), and its rate -E0 exp(r- t) m(T - t) / n(T),
    # m(x) = A - r+ g w(x). Where g < 0 (n) or g > 0 (m) that is a difference, and 1 - s w(x) = exp(-s x) mends it.

    @cached_property
    def _discriminant(self) -> Array:
        return np.sqrt(np.square(self.alpha) + 16 * self.kappa * self.phi)

    @cached_property
    def _distance(self) -> Array:
        return self._discriminant / (2 * self.kappa)

    @cached_property
    def _weights(self) -> tuple[Array, Array]:
        """r+ / s and -r- / s, which sum to one; a half each where both roots are 0."""
        whole = self._discriminant
        both = 2 * np.where(whole > 0, whole, 1.0)
        negative = np.where(whole > 0, (self.alpha + whole) / both, np.where(np.isnan(whole), np.nan, 0.5))
        positive = np.where(whole > 0, 2 * self.kappa * self.roots[0] / np.where(whole > 0, whole, 1.0), negative)
        return positive, negative

    @cached_property
    def _whole(self) -> Array:
        return self._level(self.horizon)

    @cached_property
    def _gap(self) -> Array:
        return self.terminal + self.kappa * self.roots[1]

    @cached_property
    def _squared_rate(self) -> Array:
        """Integral of the squared rate over the horizon, of an inventory of one."""
        T, (up, down), (share, rest) = self.horizon, self.roots, self._weights
        first, second = rest * (self.kappa * up + self.terminal), share * self._gap
        whole = (
            np.square(first) * exprel(2 * down * T)
            + 2 * first * second * np.exp(-self._distance * T) * exprel((up + down) * T)
            + np.square(second) * np.exp(2 * down * T) * exprel(-2 * up * T)
        )
        return T * whole / np.square(self._whole)

    def _left(self, time: ArrayLike) -> Array:
        return self.horizon - np.asarray(time, dtype=np.float64)

    def _fall(self, time: ArrayLike) -> Array:
        return np.exp(self.roots[1] * np.asarray(time, dtype=np.float64))

    def _level(self, left: Array) -> Array:
        fade, gap, distance = np.exp(-self._distance * left), self._gap, self._distance
        apart = self.kappa * self.roots[0] + self.terminal - gap * fade
        return np.where(
            gap < 0,
            apart / np.where(distance > 0, distance, 1.0),
            self.kappa + gap * left * exprel(-distance * left),
        )

    def _speed(self, left: Array) -> Array:
        fade, gap, (up, _), (share, rest) = np.exp(-self._distance * left), self._gap, self.roots, self._weights
        return np.where(
            gap < 0,
            self.terminal - up * gap * left * exprel(-self._distance * left),
            rest * (self.kappa * up + self.terminal) + share * gap * fade,
        )


def _ratio(upper: Array, lower: Array) -> Array:
    return np.where(lower > 0, upper, np.nan) / np.where(lower > 0, lower, 1.0)


def _tanhc(x: Array) -> Array:
    """tanh(x) / x, 1 at 0."""
    some = np.where(x == 0, 1.0, x)
    return np.where(x == 0, 1.0, np.tanh(some) / some)
