"""Temporal convolutional network: a residual stack of dilated causal convolutions, read at the last session.

With kernel size k and dilations 1, k, k^2, ... the last output of each level reads every k-th output of
the level below, and no two reads overlap. So only those are computed: each level cuts what it is given
into runs of k positions and maps each run to one. This is the dilated network itself at the last session,
at 1/L of the work of computing it at all of them.

References
----------
Bai, Kolter and Koltun (2018), An empirical evaluation of generic convolutional and recurrent networks
for sequence modeling.
van den Oord et al. (2016), WaveNet: a generative model for raw audio.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from models.networks.base import NETWORKS, Network, head

KERNEL = 3


class Level(nn.Module):
    """One residual block: a convolution over runs of `KERNEL` positions, then `depth` - 1 pointwise layers.

    The skip connection carries the last position of each run, as in the dense network.
    """

    def __init__(self, width: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.first = nn.Linear(KERNEL * width, hidden)
        self.further = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth - 1))
        self.skip = nn.Identity() if width == hidden else nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """From (n, K P, width) to (n, P, hidden)."""
        count, positions, width = x.shape
        runs = x.reshape(count, positions // KERNEL, KERNEL * width)
        out = torch.relu(self.first(runs))
        for layer in self.further:
            out = torch.relu(layer(out))
        carried: Tensor = self.skip(runs[..., -width:])
        return out + carried


class Pyramid(nn.Module):
    """Levels until one position is left: (n, L, C) windows to (n, hidden).

    Dropout stands at the top only: at every level, as in the paper, drawing it takes a quarter of a step.
    """

    def __init__(self, channels: int, lookback: int, hidden: int, depth: int, dropout: float) -> None:
        super().__init__()
        levels = 1
        while KERNEL**levels < lookback:
            levels += 1
        self.padding = KERNEL**levels - lookback
        widths = [channels, *[hidden] * (levels - 1)]
        self.levels = nn.ModuleList(Level(width, hidden, depth) for width in widths)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(n, hidden) representation of each window; sessions before it count as zeros."""
        x = pad(x, (0, 0, self.padding, 0))
        for level in self.levels:
            x = level(x)
        out: Tensor = self.drop(x.squeeze(1))
        return out


@NETWORKS.register("tcn")
class TCN(Network):
    """Dilated causal convolutions; the lookback decides how many levels, `depth` the layers in each."""

    def __init__(self, channels: int, lookback: int, **sizes: Any) -> None:
        super().__init__(channels, lookback, **sizes)
        self.pyramid = Pyramid(channels, lookback, self.hidden, self.depth, self.dropout)
        self.head = head(self.hidden)

    def score(self, x: Tensor) -> Tensor:
        """(n,) scores of (n, L, C) windows."""
        out: Tensor = self.head(self.pyramid(x))
        return out.squeeze(-1)
