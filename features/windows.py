"""Lengths of time in sessions, and how full a window must be: what several families share."""

from __future__ import annotations

import math

YEAR, QUARTER, MONTH, WEEK = 252, 63, 21, 5


def least(window: int) -> int:
    """Values that a window needs: four fifths, rounded up."""
    return math.ceil(0.8 * window)


def fading(window: int) -> list[float]:
    """Weights from one, for today, down to nothing after `window` sessions, in a straight line."""
    return [1.0 - age / window for age in range(window)]
