"""Weights under which each asset contributes its budget of the variance.

    min_y  1/2 y'Sigma y - sum b ln y,     w = y / sum y

is convex with the one solution y_i (Sigma y)_i = b_i. Damped Newton steps converge from anywhere, as the
objective is self-concordant.

References
----------
Spinu, F. (2013). An algorithm for computing risk parity weights. SSRN 2297383.
Maillard, S., Roncalli, T. and Teïletche, J. (2010). The properties of equally weighted risk contribution
portfolios. Journal of Portfolio Management 36(4).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConvergenceError, DataError

Array = NDArray[np.float64]

_STEPS = 200
_TOLERANCE = 1e-10
# Below this Newton decrement the full step converges quadratically.
_QUADRATIC = 0.25
# In units of its own risk, an asset so large says that the others have hedged all of it.
_VANISHED = 1e6


def risk_budgets(covariance: ArrayLike, budgets: ArrayLike) -> Array:
    """`(N,)` positive weights with sum 1 whose contributions to the variance are the budgets.

    Parameters
    ----------
    covariance
        `(N, N)` positive semidefinite, with positive variances.
    budgets
        `(N,)` >= 0 with a positive sum; an asset without a budget gets no weight.

    Raises
    ------
    DataError
        Budgets or covariance are not as asked.
    ConvergenceError
        The contributions do not reach the budgets: the covariance lets risk vanish.
    """
    sigma, asked = np.asarray(covariance, dtype=np.float64), np.asarray(budgets, dtype=np.float64)
    if asked.ndim != 1 or sigma.shape != (len(asked), len(asked)):
        raise DataError(f"risk budgets: covariance {sigma.shape} and budgets {asked.shape}: give (N, N) and (N,)")
    if not np.isfinite(asked).all() or (asked < 0).any() or not asked.sum() > 0:
        raise DataError("risk budgets: budgets must be finite, not negative, and not all 0")
    used = np.flatnonzero(asked > 0)
    deviation = np.sqrt(np.maximum(np.diag(sigma)[used], 0.0))
    if not np.isfinite(sigma).all() or not (deviation > 0).all():
        raise DataError("risk budgets: the covariance must be finite with positive variances: leave such assets out")
    share = asked[used] / asked[used].sum()
    # In units of each asset's own risk the problem is one of correlations, of the same size whatever the returns are.
    scaled = sigma[np.ix_(used, used)] / np.outer(deviation, deviation)
    y = _newton(scaled, share) / deviation
    out = np.zeros(len(asked))
    out[used] = y / y.sum()
    return out


def _newton(sigma: Array, share: Array) -> Array:
    y = np.sqrt(share) / np.sqrt(max(float(np.sqrt(share) @ sigma @ np.sqrt(share)), 1e-12))
    for _ in range(_STEPS):
        miss = y * (sigma @ y) - share
        if np.abs(miss).max() < _TOLERANCE:
            return y
        # The step relative to y: its system keeps the budgets on the diagonal, however large y grows.
        step = np.linalg.solve(sigma * np.outer(y, y) + np.diag(share), miss)
        # -b ln y is self-concordant once divided by b: the decrement is measured by the smallest budget.
        decrement = float(np.sqrt(max(miss @ step, 0.0) / share.min()))
        damping = 1.0 if decrement < _QUADRATIC else 1.0 / (1.0 + float(np.abs(step).max()))
        y = y * (1.0 - damping * step)
        if y.max() > _VANISHED:
            break
    raise ConvergenceError(
        f"risk budgets: contributions miss the budgets by {np.abs(y * (sigma @ y) - share).max():.3g}: shrink the "
        "covariance, in which risk can vanish"
    )
