"""Transformer over patches: runs of sessions become tokens that attend to each other within a stock.

The paper treats each channel as a series of its own; here a token holds all channels of its sessions,
because the target is one number a stock and not the continuation of each channel.

References
----------
Nie et al. (2023), A time series is worth 64 words: long-term forecasting with transformers (PatchTST).
Vaswani et al. (2017), Attention is all you need.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from models.networks.base import NETWORKS, Network, head

PATCH = 5
"""Sessions in a token: a week."""
HEADS = 4


@NETWORKS.register("patch")
class Patch(Network):
    """`depth` encoder layers over tokens of five sessions; `hidden` must be a multiple of four."""

    def __init__(self, channels: int, lookback: int, **sizes: Any) -> None:
        super().__init__(channels, lookback, **sizes)
        self.tokens = -(-lookback // PATCH)
        self.padding = self.tokens * PATCH - lookback
        self.embed = nn.Linear(PATCH * channels, self.hidden)
        self.position = nn.Parameter(0.02 * torch.randn(self.tokens, self.hidden))
        layer = nn.TransformerEncoderLayer(
            self.hidden, HEADS, 2 * self.hidden, self.dropout, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, self.depth, nn.LayerNorm(self.hidden), enable_nested_tensor=False)
        self.head = head(self.hidden)

    def score(self, x: Tensor) -> Tensor:
        """(n,) scores of (n, L, C) windows."""
        patches = pad(x, (0, 0, self.padding, 0)).reshape(len(x), self.tokens, PATCH * self.channels)
        states = self.encoder(self.embed(patches) + self.position)
        # each token is a period of its own, so they are averaged rather than only the latest read
        out: Tensor = self.head(states.mean(dim=1))
        return out.squeeze(-1)
