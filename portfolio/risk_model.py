"""The covariance that a book decides by: of the sessions up to today, and only of symbols that have enough of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.params import Params
from portfolio.covariance.base import MINIMUM, WINDOW, estimate
from portfolio.covariance.factors import principal_factors
from portfolio.covariance.form import Covariance

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_PRINCIPAL = "principal"


class RiskRule(Params):
    """How the covariance is estimated.

    Attributes
    ----------
    estimator
        Name of a registered estimator; "principal" keeps its factor form, which is the fast one.
    factors
        Principal components, of that estimator.
    window
        Sessions behind an estimate.
    coverage
        Part of the window in which a symbol must have a return. Above 1/2, so that any two have some in common.
    """

    estimator: str = _PRINCIPAL
    factors: int = Field(default=5, ge=1)
    window: int = Field(default=WINDOW, ge=MINIMUM)
    coverage: float = Field(default=0.75, gt=0.5, le=1)


def covariance_of(returns: Array, rule: RiskRule, sessions: int) -> tuple[Covariance, Mask] | None:
    """Covariance of the returns over the next sessions, and which symbols it knows.

    A symbol that it does not know has no covariance with the others and the median of their variances.

    Parameters
    ----------
    returns
        `(T, N)` daily, oldest first, NaN where there is none; the last `rule.window` rows are read.
    sessions
        Variances grow with it.

    Returns
    -------
    tuple or None
        `Covariance` of all N, and `(N,)` True where estimated; None where too few symbols have enough returns.
    """
    recent = returns[-rule.window :]
    seen = np.isfinite(recent).sum(axis=0)
    # Two symbols that have the part c of the rows each share at least 2 c - 1 of them.
    together = (2.0 * rule.coverage - 1.0) * len(recent)
    known = (seen >= rule.coverage * len(recent)) & (together >= MINIMUM)
    if known.sum() <= (rule.factors if rule.estimator == _PRINCIPAL else 1):
        return None
    if rule.estimator == _PRINCIPAL:
        model = principal_factors(recent[:, known], rule.factors)
        part = Covariance.factor_model(model.exposures, model.factors, model.specific)
    else:
        part = Covariance.of(estimate(recent[:, known], rule.estimator))
    loadings = np.zeros((len(known), part.loadings.shape[1]))
    specific = np.full(len(known), float(np.median(part.volatility() ** 2)))
    loadings[known], specific[known] = part.loadings, part.specific
    return Covariance(loadings * np.sqrt(sessions), specific * sessions), known
