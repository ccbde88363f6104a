"""Random numbers that do not change when the sample is extended.

Each component of the world draws from its own stream, row by row in time, with rows of a fixed size: a longer
sample only draws further, so what was drawn for the earlier days stays the same.
"""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, component: str) -> np.random.Generator:
    """Generator of one component of one world."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, zlib.crc32(component.encode())])))
