"""Stocks that read each other: a temporal encoder a stock, then self-attention over the day's cross-section.

No position is told apart, so permuting the stocks permutes the scores.

References
----------
Li et al. (2024), MASTER: market-guided stock transformer for stock price forecasting.
Lee et al. (2019), Set transformer: a framework for attention-based permutation-invariant neural networks.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from models.networks.base import NETWORKS, Network, head
from models.networks.tcn import Pyramid


class Attention(nn.Module):
    """One block: every stock attends to every stock, then a perceptron; both residual."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.norm_after = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        # a key's constant part shifts a query's weights all alike and so changes nothing: no bias
        self.project = nn.Linear(hidden, 3 * hidden, bias=False)
        self.widen, self.narrow = nn.Linear(hidden, 2 * hidden), nn.Linear(2 * hidden, hidden)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(n, hidden) to the same shape."""
        query, key, value = self.project(self.norm(x)).chunk(3, dim=-1)
        # written out: the fused kernel has no forward derivative, which the explanations need
        weight = torch.softmax(query @ key.T / math.sqrt(query.shape[-1]), dim=-1)
        x = x + self.drop(weight @ value)
        out: Tensor = x + self.drop(self.narrow(torch.relu(self.widen(self.norm_after(x)))))
        return out


@NETWORKS.register("cross")
class Cross(Network):
    """Dilated convolutions along each stock's window, then `depth` blocks of attention across stocks."""

    attends: ClassVar[bool] = True

    def __init__(self, channels: int, lookback: int, **sizes: Any) -> None:
        super().__init__(channels, lookback, **sizes)
        self.pyramid = Pyramid(channels, lookback, self.hidden, 1, self.dropout)
        self.blocks = nn.ModuleList(Attention(self.hidden, self.dropout) for _ in range(self.depth))
        self.head = head(self.hidden)

    def score(self, x: Tensor) -> Tensor:
        """(n,) scores of (n, L, C) windows of one day's stocks."""
        x = self.pyramid(x)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(x)
        return out.squeeze(-1)
