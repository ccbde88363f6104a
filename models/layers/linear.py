"""Ridge regression on Gauss-ranked inputs: the plain baseline every other layer has to beat.

Minimises mean_i (y_i - g_i'b)^2 + alpha |b|^2 over the rows with a known label, where g_i are the
Gauss ranks of a row's features within its session (0 where undefined). Both sides have mean zero
within a session, so there is no intercept.

References
----------
Hoerl and Kennard (1970), Ridge regression: biased estimation for nonorthogonal problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.errors import DataError
from core.files import Readable, read_json, write_json
from core.jit import njit
from core.params import Params, parse
from models.dataset import Dataset
from models.inputs import gaussian_ranks, session_bounds
from models.layers.base import LAYERS, NOTHING_KNOWN, Range, Space

_BLOCK_SESSIONS = 64


class LinearParams(Params):
    """Parameters of the ridge."""

    alpha: float = Field(default=0.01, ge=0, description="penalty per row; inputs have unit variance")


@LAYERS.register("linear")
class LinearLayer:
    """Ridge regression on Gauss-ranked inputs; closed form, the same bits for the same rows."""

    Params: ClassVar[type[Params]] = LinearParams
    letter: ClassVar[str | None] = None
    space: ClassVar[Space] = {"alpha": Range(1e-4, 1.0, log=True)}
    libraries: ClassVar[tuple[str, ...]] = ()
    lookback = 1
    market_lookback = 0
    seed_scores: Sequence[float] = ()
    wants_validation = False

    def __init__(self, params: LinearParams) -> None:
        self.params = params
        self.features: tuple[str, ...] = ()
        self.coef: NDArray[np.float64] = np.empty(0)

    def fit(self, train: Dataset, valid: Dataset | None, seed: int) -> Self:
        """Accumulate the normal equations block by block in float64, then solve them.

        Raises
        ------
        DataError
            No row has a known label.
        """
        width = len(train.features)
        gram, moment, count = np.zeros((width, width)), np.zeros(width), 0
        bounds = session_bounds(train.session)
        for start in range(0, len(bounds) - 1, _BLOCK_SESSIONS):
            stop = min(start + _BLOCK_SESSIONS, len(bounds) - 1)
            block = train.take(slice(bounds[start], bounds[stop]))
            inputs = gaussian_ranks(block.X, block.session)[block.known].astype(np.float64)
            label = block.label[block.known].astype(np.float64)
            gram += inputs.T @ inputs
            moment += inputs.T @ label
            count += len(label)
        if count == 0:
            raise DataError(f"linear layer: {NOTHING_KNOWN}")
        # a column without any value has no variance: the floor keeps its coefficient at zero
        penalty = max(self.params.alpha, 1e-9)
        self.features = train.features
        self.coef = np.asarray(np.linalg.solve(gram / count + penalty * np.eye(width), moment / count), np.float64)
        return self

    def predict(self, data: Dataset, first: int = 0) -> NDArray[np.float64]:
        """(R,) scores."""
        data = data.since(first).with_columns(self.features)
        return _products(gaussian_ranks(data.X, data.session), self.coef)

    def importance(self) -> dict[str, float]:
        """Share of the absolute coefficients."""
        size = np.abs(self.coef)
        return dict(zip(self.features, (size / max(size.sum(), 1e-300)).tolist(), strict=True))

    def contributions(self, data: Dataset, first: int = 0) -> NDArray[np.float64]:
        """(R, F) coefficient times input."""
        data = data.since(first).with_columns(self.features)
        return gaussian_ranks(data.X, data.session) * self.coef

    def save(self, folder: Path) -> None:
        """Write `linear.json`."""
        coef = dict(zip(self.features, self.coef.tolist(), strict=True))
        stored = {"params": self.params.model_dump(), "features": self.features, "coef": coef}
        write_json(folder / "linear.json", stored)

    @classmethod
    def load(cls, folder: Readable) -> Self:
        """Read `linear.json`."""
        stored = read_json(folder / "linear.json")
        layer = cls(parse(LinearParams, stored["params"], "linear.json"))
        layer.features = tuple(stored["features"])
        layer.coef = np.array([stored["coef"][name] for name in layer.features], dtype=np.float64)
        return layer


@njit()
def _products(inputs: NDArray[np.float32], coef: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row by row in one fixed order: a library product's bits depend on how many rows it is given."""
    out = np.zeros(len(inputs))
    for row in range(len(inputs)):
        total = 0.0
        for column in range(len(coef)):
            total += inputs[row, column] * coef[column]
        out[row] = total
    return out
