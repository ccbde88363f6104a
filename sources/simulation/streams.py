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


class Streams:
    """The streams of one world, each going on where its last draw ended.

    Drawing block after block gives the same numbers as drawing all sessions at once.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._open: dict[str, np.random.Generator] = {}

    def __getitem__(self, component: str) -> np.random.Generator:
        if component not in self._open:
            self._open[component] = stream(self.seed, component)
        return self._open[component]

    def fat(self, component: str, shape: tuple[int, ...], freedom: int) -> np.ndarray:
        """Student-t draws of unit variance, within nine standard deviations."""
        draws = self[component].standard_t(freedom, shape)
        return np.clip(draws / np.sqrt(freedom / (freedom - 2)), -9.0, 9.0)
