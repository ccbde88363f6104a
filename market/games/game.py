"""A game of very many equal players in one dimension: what each pays, how it moves, and what it sees of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Crowd:
    """What the players do together, at K times.

    Attributes
    ----------
    density
        `(K, N)` in the cells; sums times the cell width to 1.
    mean
        `(K, 1)` of the state.
    control
        `(K, 1)` mean control: the rate at which the mean moves but for the drift.
    """

    density: Array
    mean: Array
    control: Array


Field = Callable[[Array, Array, Crowd], ArrayLike]
"""(times `(K, 1)`, states `(N,)`, crowd) -> values that broadcast to `(K, N)`, for all times at once."""


def nothing(t: Array, x: Array, crowd: Crowd) -> ArrayLike:
    """Zero everywhere."""
    return 0.0


@dataclass(frozen=True)
class Game:
    """A player moves by dX = (b(t, X, crowd) + a) dt + sigma dW and chooses a to minimise

        E[ integral_0^T kappa a^2 + running(t, X, crowd) dt + terminal(X, crowd_T) ].

    Attributes
    ----------
    low, high
        Walls of the state; players are reflected. Put them where nobody goes, or mean them.
    horizon
        T.
    initial
        States `(N,)` -> density at time 0 `(N,)`, up to a factor.
    running
        Cost per unit of time without that of the control.
    terminal
        Cost at the horizon; its crowd is that of the horizon alone, K = 1, with the control of the last step.
    control_cost
        kappa > 0, of a^2.
    sigma
        Volatility of each player's own noise, at least 0.
    drift
        b.

    Raises
    ------
    ConfigError
        kappa is not positive or sigma negative.
    """

    low: float
    high: float
    horizon: float
    initial: Callable[[Array], ArrayLike]
    running: Field
    terminal: Field = nothing
    control_cost: float = 0.5
    sigma: float = 0.0
    drift: Field = nothing

    def __post_init__(self) -> None:
        if not (0 < self.control_cost < np.inf and 0 <= self.sigma < np.inf):
            raise ConfigError(
                f"game: control_cost {self.control_cost}, sigma {self.sigma}: need a positive cost and a sigma of at "
                "least 0"
            )

    def start(self, states: Array, width: float) -> Array:
        """`(N,)` initial density in cells of a width, scaled to mass 1.

        Raises
        ------
        ConfigError
            `initial` gives no density.
        """
        start = np.asarray(self.initial(states), dtype=np.float64)
        if start.shape != states.shape or not np.isfinite(start).all() or not (start >= 0).all() or not start.any():
            raise ConfigError(
                f"game: initial, of shape {start.shape} for {len(states)} cells, is no density there: give a finite "
                "number of at least 0 a cell, not 0 everywhere"
            )
        return start / (start.sum() * width)

    def evaluate(self, name: str, times: Array, states: Array, crowd: Crowd) -> Array:
        """`(K, N)` values of the field of that name (`running`, `terminal`, `drift`).

        Raises
        ------
        ConfigError
            They have another shape or are not finite.
        """
        field: Field = getattr(self, name)
        values = np.asarray(field(times, states, crowd), dtype=np.float64)
        shape = (len(times), len(states))
        try:
            values = np.broadcast_to(values, shape)
        except ValueError as error:
            raise ConfigError(f"game: {name} has shape {values.shape}: it must broadcast to {shape}") from error
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            n, i = bad[0].tolist()
            raise ConfigError(
                f"game: {name} is {values[n, i]} at time {times[n, 0]:g}, state {states[i]:g}: make it finite wherever "
                "the density is 0 or more"
            )
        return values
