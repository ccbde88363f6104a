"""What a network is: a module that scores the stocks of one day from their last sessions.

A network is one module of this package that decorates a subclass of `Network` with
`@NETWORKS.register("name")`. One trainer and one data module serve them all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from core.registry import Registry


class Network(nn.Module, ABC):
    """Scores of the n stocks of one day from windows of L sessions of C channels.

    Parameters
    ----------
    channels
        Number C of values a session.
    lookback
        Number L of sessions, the day itself last.
    hidden
        Width of the inner representation.
    depth
        Number of stacked blocks; what a block is, each network says.
    dropout
        Share of inner values that training sets to zero.

    Attributes
    ----------
    attends
        Whether a stock's score reads other stocks' windows.
    """

    attends: ClassVar[bool] = False

    def __init__(self, channels: int, lookback: int, *, hidden: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.channels, self.lookback = channels, lookback
        self.hidden, self.depth, self.dropout = hidden, depth, dropout

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(n,) scores.

        Parameters
        ----------
        x : (n, L, C)
            Cross-sectional ranks, oldest session first; 0 is the middle of the cross-section.
        mask : (n, L)
            1 where the stock had a row in that session. What `x` holds elsewhere does not matter.
        """
        return self.score(x * mask.to(x.dtype).unsqueeze(-1))

    @abstractmethod
    def score(self, x: Tensor) -> Tensor:
        """(n,) scores of (n, L, C) windows that are zero where a stock had no row."""


def head(width: int) -> nn.Linear:
    """The last step of every network: from (n, width) to (n, 1), starting small.

    The loss knows no scale but by its small squared-error part, so scores that start near zero leave
    the first steps to the correlation.
    """
    last = nn.Linear(width, 1)
    with torch.no_grad():
        last.weight.mul_(0.5)
        last.bias.zero_()
    return last


NETWORKS: Registry[type[Network]] = Registry("network", "models.networks")
