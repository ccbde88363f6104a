"""When many lean on each other: the interbank game of mean-field type, and the chance that all fall together.

The log-reserves (log-values) of N institutions are drawn to their mean M = sum_i X_i / N and shaken by own and common
noise,

    dX_i = [a (M - X_i) + alpha_i] dt + sigma (sqrt(1 - rho^2) dW_i + rho dW_0),

and each chooses alpha_i to minimise the expectation of the integral of

    alpha^2 / 2 - q alpha (M - X_i) + eps / 2 (M - X_i)^2

plus c / 2 (M - X_i)^2 at the horizon T. In the closed-loop equilibrium alpha_i = [q + (1 - 1/N) eta(t)] (M - X_i) with

    eta' = 2 (a + q) eta + (1 - 1/N^2) eta^2 - (eps - q^2),    eta(T) = c:

everybody runs faster to the crowd. That makes single failures rarer, and those that happen happen together: the law
of the mean M, and so of the systemic event that M touches a level D, is the same without the game.

References
----------
Carmona, R., Fouque, J.-P. and Sun, L.-H. (2015). Mean field games and systemic risk. Communications in Mathematical
Sciences 13, 911-933.
Broadie, M., Glasserman, P. and Kou, S. (1997). A continuity correction for discrete barrier options. Mathematical
Finance 7, 325-349.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from core.errors import ConfigError, DataError

Array = NDArray[np.float64]

NODES = 64
"""Points of the quadrature over time."""
BETWEEN = 0.5826
"""-zeta(1/2) / sqrt(2 pi): shift of a level, in standard deviations of a step, for paths watched once a step."""


@dataclass(frozen=True)
class InterbankGame:
    """The parameters of the game; rates are per unit of time.

    Attributes
    ----------
    reversion
        a, rate at which X is drawn to the mean anyway, at least 0.
    incentive
        q, what it earns to move towards the mean, at least 0.
    aversion
        eps, running cost of a squared distance from the mean, at least q^2.
    terminal
        c, cost of a squared distance at the horizon, at least 0.
    horizon
        T, above 0.
    count
        N, institutions, at least 2; infinity is the mean-field limit.

    Raises
    ------
    ConfigError
        A parameter is out of range.
    """

    reversion: float
    incentive: float
    aversion: float
    terminal: float
    horizon: float
    count: float = np.inf

    def __post_init__(self) -> None:
        at_least = {"reversion": 0.0, "incentive": 0.0, "aversion": self.incentive**2, "terminal": 0.0}
        for name, least in at_least.items():
            if not least <= getattr(self, name) < np.inf:
                raise ConfigError(
                    f"interbank game: {name} {getattr(self, name)}: choose a finite one of {least} or more"
                )
        if not 0 < self.horizon < np.inf or not self.count >= 2:
            raise ConfigError(
                f"interbank game: horizon {self.horizon}, count {self.count}: choose a finite horizon above 0 and a "
                "count of at least 2"
            )

    @property
    def _curvature(self) -> float:
        """Factor of eta^2 in its equation."""
        return 1.0 - 1.0 / self.count**2

    def eta(self, time: ArrayLike) -> Array:
        """The solution of the Riccati equation, in closed form.

        Parameters
        ----------
        time
            From 0 to the horizon.

        Raises
        ------
        DataError
            A time lies outside the horizon.
        """
        slope, growth = self._growth(self._left(time))
        return (self.terminal + (self.aversion - self.incentive**2 - self.terminal * self._pull) * slope) / growth

    def feedback(self, time: ArrayLike) -> Array:
        """The factor of M - X_i in the equilibrium control alpha_i, per unit of time."""
        return self.incentive + (1.0 - 1.0 / self.count) * self.eta(time)

    def deviation_variance(
        self, time: ArrayLike, volatility: float = 1.0, correlation: float = 0.0, *, game: bool = True
    ) -> Array:
        """Variance of X_i - M at a time, all X having begun at the mean.

        Parameters
        ----------
        time
            From 0 to the horizon.
        volatility
            sigma, per square root of the unit of time.
        correlation
            rho^2, the correlation of the noises of two institutions.
        game
            False: nobody acts, alpha = 0.

        Raises
        ------
        DataError
            A time, the volatility or the correlation is out of range.
        """
        _check_noise(volatility, correlation)
        end = np.asarray(time, dtype=np.float64)
        left = self._left(end)
        nodes, weights = leggauss(NODES)
        # The rate of decay is monotone in time; what it has brought down by e^-40 would only thin the nodes out.
        slowest = self.reversion + (np.minimum(self.feedback(0.0), self.feedback(end)) if game else 0.0)
        with np.errstate(divide="ignore", over="ignore"):
            span = np.minimum(end, 20.0 / np.asarray(slowest))
        starts = end[..., None] - 0.5 * span[..., None] * (1.0 + nodes)
        if game:
            kept = np.exp(2.0 * (self._log_kept(self._left(starts)) - self._log_kept(left)[..., None]))
        else:
            kept = np.exp(2.0 * self.reversion * (starts - end[..., None]))
        noise = volatility**2 * (1.0 - correlation) * (1.0 - 1.0 / self.count)
        return np.asarray(noise * 0.5 * span * (kept * weights).sum(axis=-1))

    @property
    def _pull(self) -> float:
        return self.reversion + self.incentive

    def _left(self, time: ArrayLike) -> Array:
        values = np.asarray(time, dtype=np.float64)
        if not ((values >= 0) & (values <= self.horizon)).all():
            raise DataError(f"interbank game: times {values.tolist()}: give times from 0 to the horizon {self.horizon}")
        return self.horizon - values

    @property
    def _root(self) -> float:
        return float(np.sqrt(self._pull**2 + self._curvature * (self.aversion - self.incentive**2)))

    def _growth(self, left: Array) -> tuple[Array, Array]:
        """S = tanh(R s) / R and y e^{(a + q) s} / cosh(R s) = 1 + (a + q + c (1 - 1/N^2)) S, s being the time left.

        eta = y' / ((1 - 1/N^2) y), ' by s, with y'' + 2 (a + q) y' = (1 - 1/N^2) (eps - q^2) y.
        """
        slope = np.tanh(self._root * left) / self._root if self._root > 0 else left
        return slope, 1.0 + (self._pull + self._curvature * self.terminal) * slope

    def _log_kept(self, left: Array) -> Array:
        """Minus the integral, over the time left, of the rate at which X_i - M decays in the game."""
        _, growth = self._growth(left)
        # log cosh(x) without overflow; the integral of eta is log(y) / (1 - 1/N^2).
        x = self._root * left
        log_y = np.log(growth) + x + np.log1p(np.exp(-2.0 * x)) - np.log(2.0) - self._pull * left
        return -self._pull * left - (1.0 - 1.0 / self.count) / self._curvature * log_y


def event_probability(
    level: ArrayLike, horizon: ArrayLike, volatility: ArrayLike, correlation: ArrayLike, count: ArrayLike = np.inf
) -> Array:
    """Probability that the mean of N falls by `level` at some time within the horizon, with or without the game.

    P(min M - M(0) <= D) = 2 Phi(D / (sigma sqrt(T) sqrt(rho^2 + (1 - rho^2) / N))): the mean is a Brownian motion, and
    this is its reflection principle. The arguments broadcast.

    Parameters
    ----------
    level
        D, a log-value below 0.
    horizon
        T, above 0.
    volatility
        sigma of one member per square root of the unit of time, at least 0.
    correlation
        rho^2, the average correlation of two members: from -1 / (N - 1), below which N members cannot have it, to 1.
    count
        N, at least 2, or infinity.

    Returns
    -------
    NaN where an argument is NaN; 0 where the mean does not move.

    Raises
    ------
    DataError
        An argument is out of range.
    """
    named = {"level": level, "horizon": horizon, "volatility": volatility, "correlation": correlation, "count": count}
    values = {name: np.asarray(value, dtype=np.float64) for name, value in named.items()}
    bounds = {
        "level": (values["level"] >= 0, "below 0"),
        "horizon": (values["horizon"] <= 0, "above 0"),
        "volatility": (values["volatility"] < 0, "at least 0"),
        "correlation": (np.abs(values["correlation"]) > 1, "from -1 / (count - 1) to 1"),
        "count": (values["count"] < 2, "at least 2"),
    }
    for name, (bad, remedy) in bounds.items():
        if bad.any():
            raise DataError(f"systemic event: {name} {values[name][bad][0]}: give one that is {remedy}")
    D, T, sigma, shared, N = values.values()
    spread = shared + (1.0 - shared) / N
    # The last digit of a correlation of exactly -1 / (N - 1) may make its mean's variance negative.
    if (spread < -1e-12).any():
        raise DataError(
            "systemic event: a correlation lies below -1 / (count - 1): give an average over the same members"
        )
    with np.errstate(divide="ignore"):
        return np.asarray(2.0 * ndtr(D / (sigma * np.sqrt(T * np.maximum(spread, 0.0)))))


@dataclass(frozen=True)
class Falls:
    """What a simulation of the game saw.

    Attributes
    ----------
    members
        `(paths, N)` whether a member fell to the level.
    mean
        `(paths,)` whether the mean did.
    deviation
        `(paths, N)` X_i - M at the horizon.
    """

    members: NDArray[np.bool_]
    mean: NDArray[np.bool_]
    deviation: Array


def simulate(
    game: InterbankGame,
    level: float,
    volatility: float,
    correlation: float,
    *,
    paths: int,
    steps: int,
    seed: int,
    play: bool = True,
) -> Falls:
    """Simulate all members from 0 on by Euler steps.

    A path that is watched only after each step misses touches between; it is compared with a level raised by what
    makes up for them (Broadie, Glasserman and Kou 1997), right up to terms smaller than the root of a step.

    Parameters
    ----------
    level, volatility, correlation
        As for `event_probability`; the correlation from 0 on.
    paths, steps
        Paths, and steps of each to the horizon.
    seed
        The same seed gives the same noise, with or without the game.
    play
        False: nobody acts, alpha = 0.

    Raises
    ------
    ConfigError
        The count of the game is not a whole number, or `paths` or `steps` is below 1.
    DataError
        The volatility or the correlation is out of range.
    """
    if not float(game.count).is_integer() or paths < 1 or steps < 1:
        raise ConfigError(
            f"interbank game: count {game.count}, paths {paths}, steps {steps}: choose whole numbers of at least 1"
        )
    _check_noise(volatility, correlation)
    rng = np.random.default_rng(seed)
    h = game.horizon / steps
    pull = game.reversion + (game.feedback(h * np.arange(steps)) if play else np.zeros(steps))
    X = np.zeros((paths, int(game.count)))
    members, mean = np.zeros(X.shape, dtype=np.bool_), np.zeros(paths, dtype=np.bool_)
    scale = volatility * np.sqrt(h)
    mean_scale = scale * np.sqrt(correlation + (1.0 - correlation) / game.count)
    for rate in pull:
        own, common = rng.standard_normal(X.shape), rng.standard_normal((paths, 1))
        drawn = rate * h * (X.mean(axis=1, keepdims=True) - X)
        X += drawn + scale * (np.sqrt(1.0 - correlation) * own + np.sqrt(correlation) * common)
        members |= level + BETWEEN * scale >= X
        mean |= level + BETWEEN * mean_scale >= X.mean(axis=1)
    return Falls(members, mean, X - X.mean(axis=1, keepdims=True))


def _check_noise(volatility: float, correlation: float) -> None:
    if not 0 <= volatility < np.inf or not 0 <= correlation <= 1:
        raise DataError(
            f"interbank game: volatility {volatility}, correlation {correlation}: give a finite one of at least 0, and "
            "one from 0 to 1"
        )
