"""What a layer is: a learner of the cross-section that fits, predicts, explains and stores itself.

A layer is one module of this package that decorates a class with `@LAYERS.register("name")`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from core.files import Readable
from core.params import Params
from core.registry import Registry
from models.dataset import Dataset

NOTHING_KNOWN = "no training row has a known outcome: lengthen the history or shift the folds"


@dataclass(frozen=True)
class Range:
    """An interval to search; both ends included."""

    low: float
    high: float
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Choice:
    """A list of values to search."""

    options: tuple[Any, ...]


Space = Mapping[str, Range | Choice]


class Layer(Protocol):
    """A learner of the label from the features of a row.

    Attributes
    ----------
    Params
        Typed parameters; the key of `params.yaml: layers.<name>`.
    letter
        Letter of the signal that the layer is published as (`signal_a`); None for one that is not.
    space
        What the search may vary, by parameter name.
    lookback
        Sessions of rows, the predicted one included, that a prediction reads.
    market_lookback
        Sessions of `Dataset.market`, the predicted one included, that a prediction reads; 0 where it reads none.
    libraries
        Distributions that it is fitted and served with, beside those that every layer uses.
    seed_scores
        Rank IC on the validation span of each fit that differs by its seed alone; empty where there is one.
    wants_validation
        Whether `fit` uses a purged validation span; where not, those rows are learned from instead.

    Notes
    -----
    `fit` and `predict` are given whole sessions, rows without a known outcome included: those take
    part in cross-sectional ranks, as they do on the day, and teach nothing.

    A layer that not every machine can fit has a class method `require_machine(params)`, which raises
    `ConfigError` there; the stages call it before they read anything.
    """

    Params: ClassVar[type[Params]]
    letter: ClassVar[str | None]
    space: ClassVar[Space]
    libraries: ClassVar[tuple[str, ...]]
    lookback: int

    @property
    def seed_scores(self) -> Sequence[float]:
        """Rank IC of each of several fits that differ by their seed."""
        ...

    @property
    def market_lookback(self) -> int:
        """Sessions of the market's return that a prediction reads."""
        ...

    @property
    def wants_validation(self) -> bool:
        """Whether `fit` uses a purged validation span."""
        ...

    def __init__(self, params: Any) -> None: ...

    def fit(self, train: Dataset, valid: Dataset | None, seed: int) -> Self:
        """Learn from the rows of `train`; `valid` may decide when to stop, and nothing else."""
        ...

    def predict(self, data: Dataset, first: int = 0) -> NDArray[np.float64]:
        """Scores of the rows of sessions from `first` on, higher for a higher expected label; finite in every row.

        Rows before `first` are there to be looked back on, `lookback` - 1 sessions of them.
        """
        ...

    def importance(self) -> dict[str, float]:
        """Share of the fit that each feature bears, summing to 1, in feature order."""
        ...

    def contributions(self, data: Dataset, first: int = 0) -> NDArray[np.float64]:
        """Part of the score that each feature adds, one row a row of `predict`, one column a feature."""
        ...

    def save(self, folder: Path) -> None:
        """Write the fitted layer as text files into an existing folder."""
        ...

    @classmethod
    def load(cls, folder: Readable) -> Self:
        """Read a fitted layer from the folder it was saved to.

        The folder of a bundle is in memory, where its bytes were checked: read its files by `read_json(folder / NAME)`
        or `(folder / NAME).read_bytes()`.
        """
        ...


LAYERS: Registry[type[Layer]] = Registry("layer", "models.layers")


def require_machine(name: str, params: Any) -> None:
    """Check that this machine can fit a layer.

    Parameters
    ----------
    name : str
        A registered layer.
    params : Params
        Its own parameters.

    Raises
    ------
    ConfigError
        It lacks something that the layer's parameters ask for.
    """
    check = getattr(LAYERS[name], "require_machine", None)
    if check is not None:
        check(params)
