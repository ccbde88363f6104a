"""Decomposed linear network: trend and remainder of each channel, weighed linearly and by a small perceptron.

The baseline that a deeper network has to beat.

References
----------
Zeng et al. (2023), Are transformers effective for time series forecasting?
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.networks.base import NETWORKS, Network, head

TREND = 5
"""Sessions of the moving average; the window's first session is repeated before it."""


def moving_average(lookback: int) -> Tensor:
    """(L, L) matrix that turns a row of L sessions into its trailing mean over `TREND` sessions."""
    weights = torch.zeros(lookback, lookback)
    for session in range(lookback):
        for back in range(TREND):
            weights[max(session - back, 0), session] += 1.0 / TREND
    return weights


@NETWORKS.register("dlinear")
class DLinear(Network):
    """A linear map of (trend, remainder) plus a perceptron of `depth` hidden layers on the same."""

    def __init__(self, channels: int, lookback: int, **sizes: Any) -> None:
        super().__init__(channels, lookback, **sizes)
        self.average: Tensor
        self.register_buffer("average", moving_average(lookback), persistent=False)
        width = 2 * channels * lookback
        self.linear = nn.Linear(width, 1, bias=False)
        layers: list[nn.Module] = []
        for _ in range(self.depth):
            layers += [nn.Linear(width, self.hidden), nn.ReLU(), nn.Dropout(self.dropout)]
            width = self.hidden
        self.perceptron = nn.Sequential(*layers)
        self.head = head(width)

    def score(self, x: Tensor) -> Tensor:
        """(n,) scores of (n, L, C) windows."""
        series = x.transpose(1, 2)
        trend = series @ self.average
        both = torch.cat([trend, series - trend], dim=1).flatten(1)
        out: Tensor = self.linear(both) + self.head(self.perceptron(both))
        return out.squeeze(-1)
