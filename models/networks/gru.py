"""Gated recurrent units: the state after the last session, mapped to a score.

References
----------
Cho et al. (2014), Learning phrase representations using RNN encoder-decoder for statistical machine
translation.
Gu, Kelly and Xiu (2020), Empirical asset pricing via machine learning (why shallow and small).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from models.networks.base import NETWORKS, Network, head


@NETWORKS.register("gru")
class GRU(Network):
    """`depth` recurrent layers of `hidden` units."""

    def __init__(self, channels: int, lookback: int, **sizes: Any) -> None:
        super().__init__(channels, lookback, **sizes)
        between = self.dropout if self.depth > 1 else 0.0
        self.recurrent = nn.GRU(channels, self.hidden, self.depth, dropout=between)
        self.drop = nn.Dropout(self.dropout)
        self.head = head(self.hidden)

    def score(self, x: Tensor) -> Tensor:
        """(n,) scores of (n, L, C) windows."""
        # session first: a batch lies that way in memory, and a step of the recurrence reads one block of it
        states, _ = self.recurrent(x.transpose(0, 1))
        out: Tensor = self.head(self.drop(states[-1]))
        return out.squeeze(-1)
