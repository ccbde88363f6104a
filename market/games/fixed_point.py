"""A faster way to a fixed point z = g(z) than to repeat g: Anderson's mixing.

From the last few pairs of z and f = g(z) - z it takes the combination whose f would be least if g were linear, and
goes a step on from there. With depth 0 it is damped Picard iteration, z + mixing f.

References
----------
Walker, H. and Ni, P. (2011). Anderson acceleration for fixed-point iterations. SIAM Journal on Numerical Analysis
49(4).
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError

Array = NDArray[np.float64]


class Anderson:
    """Proposes the next point from those seen so far.

    Parameters
    ----------
    depth
        How many earlier pairs are combined.
    mixing
        Share of the step that is taken, above 0 to 1.

    Raises
    ------
    ConfigError
        A parameter is out of range.
    """

    def __init__(self, depth: int = 8, mixing: float = 1.0):
        if depth < 0 or not 0 < mixing <= 1:
            raise ConfigError(
                f"fixed point: depth {depth}, mixing {mixing}: need a depth of at least 0, 0 < mixing <= 1"
            )
        self.mixing = mixing
        self._points: deque[Array] = deque(maxlen=depth + 1)
        self._gaps: deque[Array] = deque(maxlen=depth + 1)

    def propose(self, point: Array, image: Array) -> Array:
        """Where to go from `point`, of which g is `image`; both `(D,)`."""
        self._points.append(point)
        self._gaps.append(image - point)
        gap = self._gaps[-1]
        if len(self._gaps) == 1:
            return point + self.mixing * gap
        gaps = np.diff(np.array(self._gaps), axis=0)
        points = np.diff(np.array(self._points), axis=0)
        weights = np.linalg.lstsq(gaps.T, gap, rcond=1e-12)[0]
        return point + self.mixing * gap - weights @ (points + self.mixing * gaps)
