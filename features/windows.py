"""Lengths of time in sessions, and how full a window must be: what several families share."""

from __future__ import annotations

import math

YEAR, QUARTER, MONTH, WEEK = 252, 63, 21, 5


def least(window: int) -> int:
    """Values that a window needs: four fifths, rounded up."""
    return math.ceil(0.8 * window)
