"""Parameters of the networks and of their training, known without importing torch."""

from __future__ import annotations

import pkgutil
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from core.params import Params
from models import networks


class SequenceParams(Params):
    """Parameters of the networks and of their training."""

    network: str = Field(default="tcn", description="a module of models.networks")
    channels: list[str] = Field(
        default=[
            "reversal_1",
            "reversal_5",
            "abnormal_volume_1",
            "candle_*",
            "sentiment_1",
            "post_count_abnormal",
            "volatility_21",
            "panic_selling",
            "sue",
            "earnings_yield",
        ],
        min_length=1,
        description="names of features, * for any characters; one that no feature has is left out",
    )
    lookback: int = Field(default=20, ge=1, le=512, description="sessions in a window, the day itself last")
    hidden: int = Field(default=32, ge=1, le=1024)
    depth: int = Field(default=1, ge=1, le=16)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    gradient_clip: float = Field(default=1.0, gt=0, description="longest gradient of a step")
    mse_weight: float = Field(default=0.1, ge=0, description="weight of the squared error beside the correlation")
    epochs: int = Field(default=8, ge=1, le=10_000, description="at most")
    patience: int = Field(default=2, ge=1, description="epochs without a better validation rank IC that end training")
    every: int = Field(default=5, ge=1, description="learn from every k-th session only")
    min_names: int = Field(default=20, ge=2, description="fewest known labels of a day that is learned from")
    seeds: int = Field(default=3, ge=1, le=100, description="networks whose standardised scores are averaged")
    accelerator: Literal["cpu", "gpu", "cuda", "mps", "auto"] = Field(default="cpu", description="of the training")
    devices: int | list[int] = Field(default=1, description="how many, or the numbers of those meant in brackets")
    strategy: Literal["auto", "ddp_spawn"] = Field(
        default="auto", description="auto: the device itself; where there are several, ddp_spawn (a process each)"
    )
    precision: Literal["32-true", "bf16-mixed"] = Field(default="32-true", description="of the training")
    # a step is too small to be split: two threads gain little alone, and wait for each other on a busy machine
    num_threads: int = Field(default=1, ge=1, description="fixed, because sums may depend on it in the last bit")

    @field_validator("network")
    @classmethod
    def _known(cls, network: str) -> str:
        # found by the names of the modules, since importing them would import torch
        names = sorted(found.name for found in pkgutil.iter_modules(networks.__path__) if found.name != "base")
        if network not in names:
            raise ValueError(f"no such network; known: {', '.join(names)}")
        return network

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.network == "patch" and self.hidden % 4:
            raise ValueError("the patch network needs a hidden that is a multiple of 4")
        if not self.devices or (isinstance(self.devices, int) and self.devices < 1):
            raise ValueError("devices is 1 or more, or a list of the devices' numbers: [0]")
        return self

    @property
    def several_devices(self) -> bool:
        """Whether training is shared among devices."""
        return (len(self.devices) if isinstance(self.devices, list) else self.devices) > 1
