"""What a model of value at risk is: a function of past returns and a level that gives the next session's VaR and ES.

At level p the value at risk is the loss that the next session exceeds with probability 1 - p, and the expected
shortfall the mean loss of the worst 1 - p of sessions. Losses are positive. A model is one function, declared with
`@risk_model("name")` in a module of this package:

    @risk_model("historical")
    def historical(returns: Array, level: float) -> TailRisk: ...

References
----------
Artzner, P., Delbaen, F., Eber, J.-M. and Heath, D. (1999). Coherent measures of risk. Mathematical Finance 9(3).
Acerbi, C. and Tasche, D. (2002). On the coherence of expected shortfall. Journal of Banking and Finance 26(7).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, ConvergenceError, DataError, SignalsError
from core.registry import Registry

Array = NDArray[np.float64]

MINIMUM = 20
"""Returns that a model needs where it does not ask for more."""
WINDOW = 500
"""Sessions behind a forecast: two years."""


class TailRisk(NamedTuple):
    """Value at risk and expected shortfall of one session, in the unit of the returns, loss > 0."""

    var: float
    es: float


class Forecasts(NamedTuple):
    """`(T,)` value at risk and expected shortfall of each session, made before it; NaN where there is none."""

    var: Array
    es: Array


Model = Callable[[ArrayLike, float], TailRisk]

MODELS: Registry[Model] = Registry("value-at-risk model", "portfolio.value_at_risk")


def risk_model(name: str, minimum: int = MINIMUM) -> Callable[[Callable[[Array, float], TailRisk]], Model]:
    """File a model under a name, with its inputs and its result checked.

    Parameters
    ----------
    name
        What params and messages call it.
    minimum
        Fewest returns that it is given; it may refuse more.
    """

    def declare(function: Callable[[Array, float], TailRisk]) -> Model:
        @functools.wraps(function)
        def checked(returns: ArrayLike, level: float) -> TailRisk:
            risk = function(_checked(name, returns, minimum), checked_level(level))
            # Equal where the tail is one return; rounding alone may then put one below the other.
            if not np.isfinite(risk).all() or risk.es < risk.var - 1e-9 * abs(risk.var):
                raise ConvergenceError(
                    f"value at risk: {name} gives VaR {risk.var} and ES {risk.es} at {level}: choose another model"
                )
            return TailRisk(float(risk.var), float(risk.es))

        return MODELS.register(name)(checked)

    return declare


def value_at_risk(returns: ArrayLike, level: float, model: str) -> TailRisk:
    """VaR and ES of the session after a sample.

    Parameters
    ----------
    returns
        `(T,)` past returns of what is held now, oldest first, fractions; finite.
    level
        Confidence, at least 0.5 and below 1: 0.99 for the worst 1 %.
    model
        Name of a registered model.

    Raises
    ------
    ConfigError
        The level or the name of the model is none.
    DataError
        The returns are too few, not finite, or such that the model does not apply.
    ConvergenceError
        A fit found no solution.
    """
    return MODELS[model](returns, level)


def walk_forward(
    returns: ArrayLike, level: float, model: str, *, window: int = WINDOW, expanding: bool = False
) -> Forecasts:
    """Forecast of every session from the returns before it.

    Parameters
    ----------
    returns, level, model
        See `value_at_risk`.
    window
        Sessions behind each forecast, and so the first session that has one.
    expanding
        Use all the sessions before, not only the last `window`.

    Raises
    ------
    ConfigError, DataError, ConvergenceError
        As `value_at_risk`, naming the session. A series not longer than the window has no forecast and is refused.
    """
    values = np.asarray(returns, dtype=np.float64)
    if window < 1:
        raise ConfigError(f"value at risk: window {window}: choose at least 1 session")
    if values.ndim != 1 or len(values) <= window:
        raise DataError(
            f"value at risk: returns of shape {values.shape} and a window of {window} sessions: give one series that "
            "is longer than the window, or shorten the window"
        )
    forecast = MODELS[model]
    out = np.full((len(values), 2), np.nan)
    for t in range(window, len(values)):
        try:
            out[t] = forecast(values[0 if expanding else t - window : t], level)
        except SignalsError as error:
            raise type(error)(f"{error} (forecast of session {t})") from error
    return Forecasts(out[:, 0], out[:, 1])


def checked_level(level: float) -> float:
    """The level, where it is a confidence.

    Raises
    ------
    ConfigError
        It is below 0.5 or not below 1.
    """
    if not 0.5 <= level < 1:
        raise ConfigError(
            f"value at risk: level {level}: choose a confidence from 0.5 to below 1, 0.99 for the worst 1 %"
        )
    return float(level)


def _checked(name: str, returns: ArrayLike, minimum: int) -> Array:
    values = np.ascontiguousarray(returns, dtype=np.float64)
    if values.ndim != 1:
        raise DataError(f"value at risk: returns of shape {values.shape}: give one series (T,)")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise DataError(
            f"value at risk: {len(bad)} of {len(values)} returns are not finite, first number {bad[0]}: leave them out "
            "or give what the book would have earned"
        )
    if len(values) < minimum:
        raise DataError(f"value at risk: {len(values)} returns, {name} needs {minimum}: give a longer history")
    return values


def spread_of(values: Array, what: str) -> float:
    """Standard deviation (one degree of freedom lost) of a sample that a model divides by.

    Raises
    ------
    DataError
        The sample does not vary.
    """
    spread = float(values.std(ddof=1))
    if spread <= 1e-12 * float(np.abs(values).max()):
        raise DataError(f"value at risk: {what} never vary: use the model 'historical'")
    return spread
