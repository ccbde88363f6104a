"""All-perceptron mixer: layers that mix the sessions of a channel alternate with layers that mix the channels.

The paper normalises over a batch. A batch here is one day, whose stocks must not read each other, so
each session's values are normalised over their own width instead.

References
----------
Chen et al. (2023), TSMixer: an all-MLP architecture for time series forecasting.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.networks.base import NETWORKS, Network, head


class Mixer(nn.Module):
    """One block: mix over time, then over width; both residual."""

    def __init__(self, lookback: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.time_norm, self.width_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.time = nn.Linear(lookback, lookback)
        self.widen, self.narrow = nn.Linear(hidden, 2 * hidden), nn.Linear(2 * hidden, hidden)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(n, L, hidden) to the same shape."""
        mixed = torch.relu(self.time(self.time_norm(x).transpose(1, 2))).transpose(1, 2)
        x = x + self.drop(mixed)
        out: Tensor = x + self.drop(self.narrow(torch.relu(self.widen(self.width_norm(x)))))
        return out


@NETWORKS.register("tsmixer")
class TSMixer(Network):
    """`depth` mixer blocks of width `hidden`, then one weight a session and one a unit."""

    def __init__(self, channels: int, lookback: int, **sizes: Any) -> None:
        super().__init__(channels, lookback, **sizes)
        self.embed = nn.Linear(channels, self.hidden)
        self.blocks = nn.ModuleList(Mixer(lookback, self.hidden, self.dropout) for _ in range(self.depth))
        self.project = nn.Linear(lookback, 1)
        self.head = head(self.hidden)

    def score(self, x: Tensor) -> Tensor:
        """(n,) scores of (n, L, C) windows."""
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(self.project(x.transpose(1, 2)).squeeze(-1))
        return out.squeeze(-1)
