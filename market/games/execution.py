"""Optimal execution against one's own impact, in closed form (Almgren and Chriss 2000).

A position of X shares is sold in N equal periods of length tau = T / N. Holdings x_0 = X, ..., x_N = 0;
trades n_k = x_{k-1} - x_k. A trade at the rate v = n / tau moves the price for good by gamma v a unit of
time and, for its own period alone, by epsilon sign(n) + eta v. With eta~ = eta - gamma tau / 2,

    E = 1/2 gamma X^2 + epsilon sum |n_k| + (eta~ / tau) sum n_k^2        expected cost
    V = sigma^2 tau sum_{k>=1} x_k^2                                      variance of the cost

and the path that minimises E + lambda V is x(t) = X sinh(k (T - t)) / sinh(k T), with
cosh(k tau) = 1 + tau^2 lambda sigma^2 / (2 eta~). Only one's own impact is priced, not that of others.

Every expression is written in exp and expm1: neither a risk aversion near 0, where the path becomes a straight
line, nor a very large one, where sinh overflows, loses digits.

References
----------
Almgren, R. and Chriss, N. (2000). Optimal execution of portfolio transactions. Journal of Risk 3(2), 5-39:
sections 1.4 and 1.5 (E, V under linear impact) and 2.2 (path and trades).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, DataError

Array = NDArray[np.float64]

STRAIGHT = 1e-9
"""kT below which the path is a straight line to the last digit: it bends by less than (kT)^2 / 15 of X."""


@dataclass(frozen=True)
class Program:
    """What is to be sold, by when, and what trading does to the price.

    Attributes
    ----------
    shares
        X; negative is to be bought.
    horizon
        T, in units of time (days).
    periods
        N equal periods.
    volatility
        sigma, currency a share and square root of time.
    permanent
        gamma, currency a share, per share.
    temporary
        eta, currency a share, per share and unit of time.
    fixed
        epsilon, currency a share: half the spread and fees.

    Raises
    ------
    ConfigError
        A number is out of range, or eta - gamma tau / 2 is not positive: then trading faster costs less.
    """

    shares: float
    horizon: float
    periods: int
    volatility: float
    permanent: float
    temporary: float
    fixed: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not np.isfinite(getattr(self, field.name)):
                raise ConfigError(f"execution: {field.name} {getattr(self, field.name)}: give a finite number")
        if self.horizon <= 0 or self.periods < 1 or min(self.volatility, self.permanent, self.fixed) < 0:
            raise ConfigError(
                f"execution: horizon {self.horizon}, periods {self.periods}, volatility {self.volatility}, permanent "
                f"{self.permanent}, fixed {self.fixed}: need a positive horizon, a period and nothing below 0"
            )
        if self.slope <= 0:
            raise ConfigError(
                f"execution: temporary impact {self.temporary} does not exceed permanent x period / 2 = "
                f"{self.permanent * self.period / 2}: give more periods or a larger temporary impact"
            )

    @property
    def period(self) -> float:
        """Length tau of a period."""
        return self.horizon / self.periods

    @property
    def slope(self) -> float:
        """Temporary impact net of the permanent one within a period, eta~ = eta - gamma tau / 2."""
        return self.temporary - self.permanent * self.period / 2


@dataclass(frozen=True)
class Frontier:
    """The best expected cost at every variance, one entry a risk aversion.

    Attributes
    ----------
    risk_aversion, cost, variance
        `(L,)` lambda, E and V of the path that minimises E + lambda V.
    """

    risk_aversion: Array
    cost: Array
    variance: Array


def urgency(program: Program, risk_aversion: float) -> float:
    """Rate k at which the position decays, per unit of time; 0 for risk aversion 0.

    Parameters
    ----------
    risk_aversion
        lambda, per unit of currency.

    Raises
    ------
    ConfigError
        The risk aversion is negative or not finite.
    """
    if not 0 <= risk_aversion < np.inf:
        raise ConfigError(f"execution: risk aversion {risk_aversion}: choose a finite one of at least 0")
    # cosh z = 1 + y is sinh(z/2) = sqrt(y/2): the form that keeps its digits for small y.
    rate = program.volatility * np.sqrt(risk_aversion / program.slope)
    return float(2 / program.period * np.arcsinh(program.period / 2 * rate))


def trajectory(program: Program, risk_aversion: float) -> Array:
    """`(N + 1,)` shares held at 0, tau, ..., T on the path that minimises E + lambda V."""
    k = urgency(program, risk_aversion)
    left = 1 - np.arange(program.periods + 1) / program.periods
    if k * program.horizon < STRAIGHT:
        return program.shares * left
    whole = np.expm1(-2 * k * program.horizon)
    decay = np.exp(-k * program.horizon * (1 - left))
    return program.shares * (decay * (np.expm1(-2 * k * program.horizon * left) / whole))


def trades(program: Program, risk_aversion: float) -> Array:
    """`(N,)` shares sold in each period on the path that minimises E + lambda V."""
    k = urgency(program, risk_aversion)
    order = np.arange(program.periods)
    if k * program.horizon < STRAIGHT:
        return np.full(program.periods, program.shares / program.periods)
    whole = np.expm1(-2 * k * program.horizon)
    decay = np.exp(-k * program.period * order)
    echo = 1 + np.exp(-2 * k * (program.horizon - (order + 0.5) * program.period))
    return program.shares * decay * echo * np.expm1(-k * program.period) / whole


def expected_cost(program: Program, holdings: ArrayLike) -> float:
    """E of any path, in currency.

    Parameters
    ----------
    holdings
        `(N + 1,)` from `shares` to 0.

    Raises
    ------
    DataError
        The path has another length or other ends.
    """
    sold = -np.diff(_path(program, holdings))
    return float(
        program.permanent * program.shares**2 / 2
        + program.fixed * np.abs(sold).sum()
        + program.slope / program.period * (sold**2).sum()
    )


def variance(program: Program, holdings: ArrayLike) -> float:
    """V of any path, in squared currency; parameters and errors as for `expected_cost`."""
    return float(program.volatility**2 * program.period * (_path(program, holdings)[1:] ** 2).sum())


def frontier(program: Program, risk_aversions: ArrayLike) -> Frontier:
    """E and V of the best path at each risk aversion.

    Parameters
    ----------
    risk_aversions
        `(L,)`, each at least 0.
    """
    levels = np.atleast_1d(np.asarray(risk_aversions, dtype=np.float64))
    paths = [trajectory(program, level) for level in levels.tolist()]
    cost, spread = (np.array([of(program, path) for path in paths]) for of in (expected_cost, variance))
    return Frontier(levels, cost, spread)


def _path(program: Program, holdings: ArrayLike) -> Array:
    path = np.asarray(holdings, dtype=np.float64)
    if path.shape != (program.periods + 1,) or not np.isfinite(path).all():
        raise DataError(
            f"execution: holdings of shape {path.shape}: give ({program.periods + 1},) finite numbers, one more than "
            "the periods"
        )
    ends = np.abs(path[[0, -1]] - (program.shares, 0.0))
    if (ends > 1e-9 * abs(program.shares)).any():
        raise DataError(f"execution: holdings go from {path[0]} to {path[-1]}: they must go from {program.shares} to 0")
    return path
