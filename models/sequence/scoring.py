"""Days as tensors, and what a trained network says of them: scores and their explanation.

Kept apart from the trainer, so that a prediction imports torch and nothing more.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.networks.base import NETWORKS, Network
from models.sequence.windows import Windows

if TYPE_CHECKING:
    from models.sequence.params import SequenceParams


class Batch(NamedTuple):
    """One day of n stocks: `x` (n, L, C), `mask` (n, L), `label` (n,), `weight` (n,) 1 where known, else 0."""

    x: Tensor
    mask: Tensor
    label: Tensor
    weight: Tensor


class Days:
    """The chosen days of windows as ready tensors; each pass over them in a fresh seeded order, or in time order.

    Parameters
    ----------
    label : (R,) float32
        NaN where not known; all NaN where nothing is to be learned.
    days : (K,) int
        Positions among the days of `windows`.
    seed
        Decides the order of each pass; None: always the order of `days`.
    """

    def __init__(
        self, windows: Windows, label: NDArray[np.float32], days: NDArray[np.integer], seed: int | None = None
    ) -> None:
        self.windows, self.days, self.seed = windows, [int(day) for day in days], seed
        self.passes = 0
        self.rank, self.world = 0, 1
        known = np.isfinite(label)
        self._grid, self._mask = torch.from_numpy(windows.grid), torch.from_numpy(windows.mask)
        self._column = torch.from_numpy(windows.column)
        self._label = torch.from_numpy(np.where(known, label, np.float32(0)))
        self._weight = torch.from_numpy(known.astype(np.float32))

    def __len__(self) -> int:
        return -(-len(self.days) // self.world)

    def share(self, rank: int, world: int) -> Days:
        """Every `world`-th day of each pass from the `rank`-th on, all shares equally long.

        The shares are dealt after the shuffle, from the same order everywhere. Where the days do not go
        evenly into them, the first of the pass are dealt again: a device that ran out of days earlier than
        the others would keep them waiting for its gradients.
        """
        part = copy.copy(self)
        part.rank, part.world = rank, world
        return part

    def __getitem__(self, place: int) -> Batch:
        """The batch of the `place`-th chosen day."""
        day = self.days[place]
        rows, start, length = self.windows.rows(day), int(self.windows.start[day]), self.windows.lookback
        members = self._column[rows]
        # gathered session first and seen stock first: a recurrent network reads it without a copy. Tensors made
        # here lie at the same alignment whatever the grid they come from, which vector code needs for equal bits.
        x = self._grid[start : start + length].index_select(1, members).transpose(0, 1)
        mask = self._mask[start : start + length].index_select(1, members).transpose(0, 1)
        return Batch(x, mask, self._label[rows], self._weight[rows])

    def __iter__(self) -> Iterator[Batch]:
        # a generator: an iterator that is made and never asked must not count as a pass
        order = np.arange(len(self.days))
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.passes]).permutation(len(order))
            self.passes += 1
        dealt = np.resize(order, len(self) * self.world)[self.rank :: self.world]
        for place in dealt:
            yield self[int(place)]


def make_network(params: SequenceParams, channels: int) -> Network:
    """A network with fresh weights from torch's random state."""
    return NETWORKS[params.network](
        channels, params.lookback, hidden=params.hidden, depth=params.depth, dropout=params.dropout
    )


def score_days(network: Network, days: Days, num_threads: int) -> NDArray[np.float32]:
    """Raw outputs of the rows of the chosen days, day by day: a day's bits depend on its own window only."""
    with steady(num_threads), torch.inference_mode():
        parts = [network(batch.x, batch.mask).numpy() for batch in days]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)


def integrated_gradients(network: Network, batch: Batch, steps: int) -> NDArray[np.float64]:
    """(n, C) part of each stock's output that each channel adds, against a window of zeros.

    The path runs from the middle of the cross-section (all ranks 0) to the window, for all stocks of the
    day at once; the gradient along it is taken at the midpoints of `steps` equal parts and summed over
    the window's sessions. Where stocks read each other, a channel's part includes what other stocks'
    values of that channel add. What the midpoint rule leaves over is shared out in proportion to the
    parts' sizes, so the sum over channels is the output less that of the zero window, to float64.

    References
    ----------
    Sundararajan, Taly and Yan (2017), Axiomatic attribution for deep networks.
    """
    x = (batch.x * batch.mask.to(batch.x.dtype).unsqueeze(-1)).contiguous()
    count, _, channels = x.shape
    points = (torch.arange(steps, dtype=x.dtype) + 0.5) / steps
    parts = np.zeros((count, channels))
    # one direction a channel: its values, the others at rest
    along = torch.eye(channels, dtype=x.dtype)[:, None, None] * x if network.attends else x
    for point in points:
        if network.attends:
            # a stock's own output follows from everyone's values: one forward derivative a channel
            with torch.no_grad():
                parts += _slopes(network, point * x, batch.mask, along).double().T.numpy()
        else:
            at = (point * x).requires_grad_()
            (slope,) = torch.autograd.grad(network(at, batch.mask).sum(), at)
            parts += (slope * x).double().sum(dim=1).numpy()
    parts /= steps
    with torch.no_grad():
        gained = (network(x, batch.mask).double() - network(torch.zeros_like(x), batch.mask).double()).numpy()
    size = np.abs(parts)
    total = size.sum(axis=1, keepdims=True)
    share = np.divide(size, total, out=np.full_like(size, 1.0 / channels), where=total > 0)
    return parts + share * (gained - parts.sum(axis=1))[:, None]


def _slopes(network: Network, x: Tensor, mask: Tensor, along: Tensor) -> Tensor:
    """(C, n) derivative of the outputs at `x` along each of (C, n, L, C) directions, all in one pass."""

    def slope(direction: Tensor) -> Tensor:
        return torch.func.jvp(lambda at: network(at, mask), (x,), (direction,))[1]

    out: Tensor = torch.func.vmap(slope)(along)
    return out


@contextlib.contextmanager
def steady(num_threads: int) -> Iterator[None]:
    """A fixed number of threads and only algorithms that give the same bits; as before on leaving."""
    threads, strictness = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    settings: Any = torch.utils.deterministic
    fill = settings.fill_uninitialized_memory
    torch.set_num_threads(num_threads)
    # `use_deterministic_algorithms` does the same, but imports torch's compiler, which takes longer than torch itself
    torch.set_deterministic_debug_mode("warn")
    # nothing here reads memory before writing it, and filling it takes a tenth of a step
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(strictness)
        settings.fill_uninitialized_memory = fill


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random states from a seed; as before on leaving."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
