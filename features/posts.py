"""Posts whose tone means something, and the sides that they take: what the families that read posts share."""

from __future__ import annotations

import numpy as np

from features.asof import bucket_count
from features.kernels.rolling import rolling_sum
from features.memo import remembered
from features.panel import Array, Events, Panel

LANGUAGE = "en"
"""The lexicon behind the sentiment knows this language only."""
NEUTRAL = 0.05
"""A post's tone counts as positive or negative beyond this (Hutto and Gilbert 2014)."""


def toned(panel: Panel) -> Events:
    """Posts in the language of the lexicon."""
    posts = panel.events["posts"]
    return posts.take(np.asarray(posts.values["lang"]).astype(str) == LANGUAGE)


@remembered
def sides(panel: Panel, window: int) -> tuple[Array, Array]:
    """Positive and negative posts of the last `window` sessions, `(T, N)` each."""
    posts = toned(panel)
    tone = np.asarray(posts.values["sentiment"], dtype=np.float64)
    taken = (bucket_count(posts.take(side), panel.shape) for side in (tone > NEUTRAL, tone < -NEUTRAL))
    positive, negative = (rolling_sum(count, window) for count in taken)
    return positive, negative
