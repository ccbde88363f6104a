"""The planted signal: which observable things move the expected residual return, and when.

Each source is an impulse, known at the close of a session, and a kernel that says on which later sessions it is
earned. Nothing is earned before the second session after it: who acts on the impulse trades at the next close
and earns from the one after. What can be foreseen of the crowd's orders beyond these sources, the market maker
has in his quotes already (Kyle, 1985).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.errors import ConfigError
from sources.simulation.firms import Array

HORIZON = 5
DELAY = 2

_FLAT = np.full(HORIZON, 1.0 / HORIZON)
_FADING = np.exp(-np.arange(20) / 8.0)

TEMPLATE = np.array([0, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1], dtype=float)
"""Weight of the move of each age in sessions in what `pattern` makes one expect: a week's sum sees nothing of it."""


def _pays(weights: Array) -> Array:
    """Kernel whose payments over D+2 to D+6 weigh the impulse of each age as wanted."""
    wanted = np.append(weights, np.zeros(HORIZON))
    kernel = np.zeros(len(weights) + HORIZON)
    for age in reversed(range(len(weights))):
        kernel[age] = kernel[age + HORIZON] + wanted[age] - wanted[age + 1]
    return kernel[: len(weights)]


@dataclass(frozen=True)
class Source:
    """One origin of predictable returns.

    Attributes
    ----------
    kernel
        Share of an impulse earned on the second, third, ... session after it.
    memory
        What part of an impulse is expected to be there again on the next session: one for a score that is held,
        zero for news.
    """

    kernel: Array
    memory: float = 0.0

    @property
    def weights(self) -> Array:
        """Weight of the impulse of each age, 0 the latest, in the return expected of D+2 to D+6."""
        known = np.array([self.kernel[age : age + HORIZON].sum() for age in range(len(self.kernel))])
        repeats = range(1, HORIZON)
        known[0] += sum(self.memory**ahead * self.kernel[: HORIZON - ahead].sum() for ahead in repeats)
        return known


SOURCES: Mapping[str, Source] = {
    # Bernard and Thomas (1989): prices drift on in the direction of the surprise, most of it early.
    "drift": Source(_FADING / _FADING.sum()),
    # Jegadeesh (1990), Lehmann (1990): moves of the last days revert; here, only those on high volume.
    "reversal": Source(_FLAT),
    # Tetlock (2007): mood leads returns by days.
    "mood": Source(_FLAT),
    # Basu (1977), Novy-Marx (2013): cheap and profitable firms earn more.
    "value": Source(_FLAT, memory=1.0),
    # Only where a low price and good business meet, or neither: a product of two ranks, which no sum can follow.
    "bargain": Source(_FLAT, memory=1.0),
    # The order of the last days' moves, whatever their sum: nothing that is averaged over them can follow it.
    "pattern": Source(_pays(TEMPLATE)),
    # Momentum in the calm (Jegadeesh and Titman, 1993), its crash in stress (Daniel and Moskowitz, 2016).
    "trend": Source(_FLAT, memory=0.96),
    # What the crowd has bought it must sell (Cardaliaguet and Lehalle, 2018).
    "crowd": Source(_FLAT, memory=0.9),
}
NAMES = tuple(SOURCES)
REACH = max(len(source.kernel) for source in SOURCES.values())
"""Sessions over which the longest kernel pays."""


def foreseen(impulses: Array, source: Source) -> Array:
    """Expected return of the sessions D+2 to D+6 from what is known at D.

    Parameters
    ----------
    impulses
        `(REACH - 1 + B, N)`: those of B sessions and of the `REACH - 1` before them.

    Returns
    -------
    `(B, N)`.
    """
    count = len(impulses) - REACH + 1
    out = np.zeros((count, impulses.shape[1]))
    for age, weight in enumerate(source.weights):
        first = REACH - 1 - age
        out += weight * impulses[first : first + count]
    return out


def realised(returns: Array) -> Array:
    """Sum of the returns of sessions D+2 to D+6, `(T, N)`; NaN where they are not all known."""
    out = np.full_like(returns, np.nan)
    total = np.concatenate([np.zeros((1, returns.shape[1])), np.cumsum(returns, axis=0)])
    reach = DELAY + HORIZON
    if len(returns) >= reach:
        out[: len(returns) - reach + 1] = total[reach:] - total[DELAY:-HORIZON]
    return out


def strengths(
    expected: Mapping[str, Array], outcome: Array, alive: Array, planted: Mapping[str, float]
) -> dict[str, float]:
    """Multipliers that give each source its correlation, and all together theirs.

    Parameters
    ----------
    expected
        `(T, N)` expected return by source, at multiplier one.
    outcome
        `(T, N)` realised residual return without any plant.
    alive
        `(T, N)` 1.0 where the firm is listed, NaN elsewhere.
    planted
        By source, the mean daily cross-sectional correlation of its expected return with the realised one; that of
        the whole is the root of the sum of their squares.

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
    spread = np.nanstd((outcome * alive)[days], axis=1)
    whole = np.zeros((len(spread), alive.shape[1]))
    unit = {}
    for name, strength in planted.items():
        known = (expected[name] * alive)[days]
        ratio = float(np.mean(np.nanstd(known, axis=1) / spread))
        # A source that never speaks, such as posts where nobody writes, leaves its share to the others.
        unit[name] = strength / ratio if ratio > 0 else 0.0
        whole += unit[name] * known
    together = np.sqrt(sum(strength**2 for strength in planted.values()))
    # With a planted part the outcome's own spread grows: corr = x / sqrt(1 + x^2) for a ratio of spreads x.
    ratio = together / np.sqrt(1.0 - together**2)
    scale = ratio / np.mean(np.nanstd(whole, axis=1) / spread)
    return {name: float(scale * value) for name, value in unit.items()}
