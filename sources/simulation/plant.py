"""The planted signal: which observable things move the expected residual return, and when.

Each source is an impulse, known at the close of a session, and a kernel that says on which later sessions it is
earned. Nothing is earned before the second session after it: who acts on the impulse trades at the next close
and earns from the one after.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from core.errors import ConfigError
from sources.simulation.firms import Array

HORIZON = 5
DELAY = 2

KERNELS: Mapping[str, Array] = {
    # Bernard and Thomas (1989): prices drift on in the direction of the surprise, most of it early.
    "drift": np.exp(-np.arange(20) / 8.0) / np.exp(-np.arange(20) / 8.0).sum(),
    # Jegadeesh (1990), Lehmann (1990): moves of the last days revert; here, only those on high volume.
    "reversal": np.full(HORIZON, 1.0 / HORIZON),
    # Tetlock (2007): mood leads returns by days.
    "mood": np.full(HORIZON, 1.0 / HORIZON),
}
SHARES: Mapping[str, float] = {"drift": 0.3, "reversal": 0.25, "mood": 0.2, "value": 0.25}
"""Part of the expected return's variance that each source makes up."""


def earned(impulse: Array, kernel: Array) -> Array:
    """Expected return of each session, from the impulses known two or more sessions before.

    Parameters
    ----------
    impulse
        `(T, N)`.
    kernel
        Share of the impulse earned on the second, third, ... session after it.
    """
    out = np.zeros_like(impulse)
    for lag, weight in enumerate(kernel, start=DELAY):
        out[lag:] += weight * impulse[:-lag]
    return out


def ahead(impulse: Array, kernel: Array) -> Array:
    """Expected return of the sessions D+2 to D+6 from what is known at D, `(T, N)`."""
    weights = [kernel[age : age + HORIZON].sum() for age in range(len(kernel))]
    out = np.zeros_like(impulse)
    for age, weight in enumerate(weights):
        out[age:] += weight * impulse[: len(impulse) - age]
    return out


def realised(returns: Array) -> Array:
    """Sum of the returns of sessions D+2 to D+6, `(T, N)`; NaN where they are not all known."""
    out = np.full_like(returns, np.nan)
    total = np.concatenate([np.zeros((1, returns.shape[1])), np.cumsum(returns, axis=0)])
    reach = DELAY + HORIZON
    if len(returns) >= reach:
        out[: len(returns) - reach + 1] = total[reach:] - total[DELAY:-HORIZON]
    return out


def strengths(expected: Mapping[str, Array], outcome: Array, alive: Array, planted_ic: float) -> dict[str, float]:
    """Multipliers that give the sources their shares and the whole the wanted correlation.

    Parameters
    ----------
    expected
        `(T, N)` expected return by source, at multiplier one.
    outcome
        `(T, N)` realised residual return without any plant.
    alive
        `(T, N)` 1.0 where the firm is listed, NaN elsewhere.
    planted_ic
        Mean daily cross-sectional correlation of the whole with what will be realised.

    Raises
    ------
    ConfigError
        Too few symbols are listed to correlate anything.
    """
    days = np.isfinite(alive).sum(axis=1) > 1
    if not days.any():
        raise ConfigError(
            "planted_ic: fewer than two symbols are listed in the first two years: add symbols or lower late_share"
        )
    known = {name: (values * alive)[days] for name, values in expected.items()}
    spread = np.nanstd((outcome * alive)[days], axis=1)
    variance = {name: float(np.mean(np.nanvar(known[name], axis=1))) for name in SHARES}
    # A source that never speaks, such as posts where nobody writes, leaves its share to the others.
    unit = {name: np.sqrt(SHARES[name] / variance[name]) if variance[name] > 0 else 0.0 for name in SHARES}
    whole = sum((unit[name] * known[name] for name in SHARES), np.zeros((len(spread), alive.shape[1])))
    # With a planted part the outcome's own spread grows: corr = x / sqrt(1 + x^2) for a ratio of spreads x.
    ratio = planted_ic / np.sqrt(1.0 - planted_ic**2)
    scale = ratio / np.mean(np.nanstd(whole, axis=1) / spread)
    return {name: float(scale * unit[name]) for name in SHARES}
