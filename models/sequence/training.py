"""One trainer and one data module for every network over windows (Lightning).

A batch is one whole day, so that the loss can compare the stocks of that day with each other:

    loss = -corr(prediction, label) + mse_weight * mean (prediction - label)^2

over the day's rows with a known label. The others take part in the cross-section and teach nothing.
After each epoch the mean daily rank IC of the validation days decides whether the weights are kept;
after `patience` epochs without a better one training ends, and the best weights are put back.

The same rows, parameters and seed give the same weights, bit for bit, on the same machine and library;
no random state, thread count or logger outside is changed.

Several devices each take their share of every pass over the days, and their gradients are averaged: one
step then learns from as many days as there are devices. Lightning starts one process a device for each
fit and ends it again, so nothing but the fit runs more than once.

References
----------
Kingma and Ba (2015), Adam: a method for stochastic optimization.
Loshchilov and Hutter (2019), Decoupled weight decay regularization.
Prechelt (1998), Early stopping - but when?
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from core.errors import ConfigError, DataError
from models.networks.base import Network
from models.scoring import rank_ic
from models.sequence.scoring import Batch, Days, make_network, seeded, steady

if TYPE_CHECKING:
    from models.sequence.params import SequenceParams

_TINY = 1e-12
_CHUNK = 16
"""Days handed to Lightning at a time: its bookkeeping costs about as much as a small network's step."""
_LOGGERS = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_utilities")


def day_loss(prediction: Tensor, label: Tensor, weight: Tensor, mse_weight: float) -> Tensor:
    """Minus the correlation of a day's predictions and labels, plus `mse_weight` times their mean squared distance.

    Parameters
    ----------
    prediction, label, weight : (n,)
        Labels are finite everywhere; those of weight 0 do not count.
    """
    count = weight.sum()
    apart = prediction - label
    own = (prediction - (prediction * weight).sum() / count) * weight
    true = (label - (label * weight).sum() / count) * weight
    # the floor keeps the gradient finite where all predictions are equal
    correlation = (own * true).sum() * torch.rsqrt((own * own).sum() * (true * true).sum() + _TINY)
    return mse_weight * (apart * apart * weight).sum() / count - correlation


class Chunks:
    """Lists of up to `_CHUNK` successive days of a pass."""

    def __init__(self, days: Days) -> None:
        self.days = days

    def __len__(self) -> int:
        return -(-len(self.days) // _CHUNK)

    def __iter__(self) -> Iterator[list[Batch]]:
        days = iter(self.days)
        return iter(lambda: list(islice(days, _CHUNK)), [])


class DayData(lightning.LightningDataModule):
    """Training days in a seeded order, and validation days in time order where there are any.

    Each device is handed its share of the training days. All judge all validation days: that is cheap, and
    needs no gathering of predictions.
    """

    def __init__(self, train: Days, valid: Days | None) -> None:
        super().__init__()
        self.train, self.valid = train, valid

    def train_dataloader(self) -> Chunks:
        """The training days; ready batches already, so no loader stands between."""
        assert self.trainer is not None
        return Chunks(self.train.share(self.trainer.global_rank, self.trainer.world_size))

    def val_dataloader(self) -> Chunks | list[Batch]:
        """The validation days."""
        return [] if self.valid is None else Chunks(self.valid)


class DayModule(lightning.LightningModule):
    """Trains a network on the loss of this module, and keeps the weights of the best epoch in memory.

    Attributes
    ----------
    history
        Mean daily rank IC of the validation days after each epoch; empty without any.
    """

    def __init__(self, network: Network, params: SequenceParams, seed: int) -> None:
        super().__init__()
        # each day of a chunk is a step of its own
        self.automatic_optimization = False
        self.network, self.params, self.seed = network, params, seed
        self.history: list[float] = []
        self._best: dict[str, Tensor] | None = None
        self._best_epoch = -1
        self._judged: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_fit_start(self) -> None:
        """Settings of a process that was started for this fit alone, as one of several: nothing outlives it."""
        if self.trainer.world_size > 1:
            torch.set_num_threads(self.params.num_threads)
            torch.manual_seed(self.seed + self.global_rank)

    def training_step(self, chunk: list[Batch], place: int) -> None:
        """One step of descent a day."""
        descent = self.optimizers(use_pl_optimizer=False)
        assert isinstance(descent, torch.optim.Optimizer)
        for batch in chunk:
            # Lightning's way backward averages the gradients of several devices
            step(self.network, batch, descent, self.params, self.manual_backward)

    def validation_step(self, chunk: list[Batch], place: int) -> None:
        """Remember each day's predictions."""
        self._judged += [(self.network(day.x, day.mask).float(), day.label, day.weight) for day in chunk]

    def on_validation_epoch_end(self) -> None:
        """Keep the weights if they are the best so far; end training if they have not been for too long."""
        # one device's figure decides for all, so that they stop together
        found: float = self.trainer.strategy.broadcast(_mean_rank_ic(self._judged))
        self._judged = []
        self.history.append(found)
        if self._best is None or found > self.history[self._best_epoch]:
            self._best_epoch = len(self.history) - 1
            self._best = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        elif len(self.history) - 1 - self._best_epoch >= self.params.patience:
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        """Put the best weights back."""
        if self._best is not None:
            self.network.load_state_dict(self._best)

    def get_extra_state(self) -> dict[str, Any]:
        """What comes back with the weights from a process of its own."""
        return {"history": self.history, "best_epoch": self._best_epoch}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take it over."""
        self.history, self._best_epoch = state["history"], state["best_epoch"]

    @property
    def best(self) -> float:
        """Rank IC of the weights that were kept; NaN without validation days."""
        return self.history[self._best_epoch] if self.history else float("nan")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with decoupled weight decay."""
        return optimizer(self.network, self.params)


def step(
    network: Network,
    batch: Batch,
    descent: torch.optim.Optimizer,
    params: SequenceParams,
    backward: Callable[[Tensor], None] = Tensor.backward,
) -> None:
    """One step down the gradient of a day's loss, its length clipped."""
    loss = day_loss(network(batch.x, batch.mask), batch.label, batch.weight, params.mse_weight)
    descent.zero_grad()
    backward(loss)
    torch.nn.utils.clip_grad_norm_(network.parameters(), params.gradient_clip)
    descent.step()


def optimizer(network: Network, params: SequenceParams) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay, one fused pass over the weights a step."""
    return torch.optim.AdamW(
        network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay, fused=True
    )


def _mean_rank_ic(judged: list[tuple[Tensor, Tensor, Tensor]]) -> float:
    """Mean daily rank IC; minus infinity where no day can be judged, so that any other epoch is better."""
    known = [weight.cpu().numpy() > 0 for _, _, weight in judged]
    prediction, label = (
        np.concatenate([part[field].cpu().numpy()[keep] for part, keep in zip(judged, known, strict=True)])
        for field in (0, 1)
    )
    day = np.repeat(np.arange(len(judged)), [int(keep.sum()) for keep in known])
    daily = rank_ic(prediction, label, day, min_names=2)
    return float(daily.mean()) if len(daily) else -np.inf


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained network, in evaluation mode on the CPU, and its validation rank IC by epoch and at its best."""

    network: Network
    history: list[float]
    best: float


def fit_network(params: SequenceParams, train: Days, valid: Days | None, seed: int) -> Fitted:
    """Train one network from one seed.

    Parameters
    ----------
    train
        Days that each have a known label.
    valid
        Days that decide when to stop; None: all epochs are trained and the last weights kept.

    Raises
    ------
    DataError
        A weight is no longer finite.
    """
    with steady(params.num_threads), seeded(seed), quiet():
        module = DayModule(make_network(params, train.windows.grid.shape[2]), params, seed)
        make_trainer(params, valid is not None).fit(module, datamodule=DayData(train, valid))
        network = module.network.cpu().eval()
    if not all(bool(torch.isfinite(weight).all()) for weight in network.state_dict().values()):
        raise DataError("sequence layer: the weights grew beyond all bounds: lower learning_rate")
    return Fitted(network, module.history, module.best)


def make_trainer(params: SequenceParams, validate: bool) -> lightning.Trainer:
    """Lightning's trainer with everything off that draws, logs or stores.

    Raises
    ------
    ConfigError
        This machine has no such accelerator, not so many devices, or none that computes with the precision.
    """
    try:
        trainer = _trainer(params, validate)
        on_cuda = isinstance(trainer.accelerator, lightning.pytorch.accelerators.CUDAAccelerator)
        if on_cuda and params.precision == "bf16-mixed" and not torch.cuda.is_bf16_supported():
            raise ValueError("the device does not compute in bfloat16")
    except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"layers.sequence: this machine cannot train with accelerator {params.accelerator}, devices "
            f"{params.devices}, precision {params.precision} ({' '.join(str(error).split())}): "
            "set accelerator: cpu and devices: 1, or train on another machine"
        ) from None
    return trainer


def _trainer(params: SequenceParams, validate: bool) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator=params.accelerator,
        devices=params.devices,
        # what "auto" would choose for several runs the whole command again for each of them
        strategy="ddp_spawn" if params.several_devices else params.strategy,
        precision=params.precision,
        max_epochs=params.epochs,
        limit_val_batches=1.0 if validate else 0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=0,
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No word from Lightning below an error."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=r".*LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
