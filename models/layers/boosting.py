"""Gradient-boosted trees on the cross-section (LightGBM): Signal A.

References
----------
Friedman (2001), Greedy function approximation: a gradient boosting machine.
Ke et al. (2017), LightGBM: a highly efficient gradient boosting decision tree.
Lundberg et al. (2020), From local explanations to global understanding with explainable AI for trees.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.errors import DataError
from core.files import read_json, write_json, write_text
from core.params import Params, parse
from models.dataset import Dataset
from models.inputs import uniform_ranks
from models.layers.base import LAYERS, NOTHING_KNOWN, Range, Space

if TYPE_CHECKING:
    import lightgbm


class BoostingParams(Params):
    """Parameters of the trees; names as in LightGBM."""

    inputs: Literal["ranks", "raw"] = Field(default="ranks", description="rank the features within a session, or not")
    every: int = Field(default=1, ge=1, description="learn from every k-th session only")
    n_estimators: int = Field(default=200, ge=1, le=10_000)
    learning_rate: float = Field(default=0.03, gt=0, le=1)
    num_leaves: int = Field(default=15, ge=2, le=4096)
    min_data_in_leaf: int = Field(default=500, ge=1)
    feature_fraction: float = Field(default=0.5, gt=0, le=1)
    bagging_fraction: float = Field(default=0.7, gt=0, le=1)
    bagging_freq: int = Field(default=1, ge=0)
    lambda_l2: float = Field(default=10.0, ge=0)
    max_bin: int = Field(default=63, ge=2, le=255)
    early_stopping: int = Field(default=0, ge=0, description="rounds without gain on the purged validation; 0: never")
    num_threads: int = Field(default=2, ge=1, description="fixed, because the model file records it")


@LAYERS.register("boosting")
class BoostingLayer:
    """Least-squares boosting of the label; deterministic, stored as LightGBM text."""

    Params: ClassVar[type[Params]] = BoostingParams
    letter: ClassVar[str | None] = "a"
    space: ClassVar[Space] = {
        "num_leaves": Range(7, 63, log=True, whole=True),
        "learning_rate": Range(0.01, 0.1, log=True),
        "n_estimators": Range(50, 400, log=True, whole=True),
        "min_data_in_leaf": Range(100, 5000, log=True, whole=True),
        "feature_fraction": Range(0.2, 1.0),
        "bagging_fraction": Range(0.3, 1.0),
        "lambda_l2": Range(0.1, 1000.0, log=True),
    }
    lookback = 1

    def __init__(self, params: BoostingParams) -> None:
        self.params = params
        self.features: tuple[str, ...] = ()
        self._trees: lightgbm.Booster | None = None

    @property
    def wants_validation(self) -> bool:
        """Whether the number of trees is decided on a validation span."""
        return self.params.early_stopping > 0

    @property
    def trees(self) -> lightgbm.Booster:
        """The fitted trees."""
        if self._trees is None:
            raise DataError("boosting layer: not fitted yet: call fit, or load a saved layer")
        return self._trees

    def fit(self, train: Dataset, valid: Dataset | None, seed: int) -> Self:
        """Grow the trees.

        Raises
        ------
        DataError
            No row has a known label, or early stopping was asked for without validation rows.
        """
        import lightgbm

        params = self.params
        if params.early_stopping and (valid is None or not valid.known.any()):
            raise DataError(
                "boosting layer: early_stopping needs validation rows: give the folds a validation span or set it to 0"
            )
        settings: dict[str, Any] = {
            **params.model_dump(exclude={"inputs", "every", "n_estimators", "early_stopping"}),
            "objective": "regression",
            "deterministic": True,
            "force_row_wise": True,
            "seed": seed,
            "verbosity": -1,
            "feature_pre_filter": False,
        }
        learn = self._table(train.every(params.every), settings)
        watch: list[lightgbm.Dataset] = []
        callbacks: list[Any] = []
        if params.early_stopping and valid is not None:
            watch = [self._table(valid, settings, learn)]
            callbacks = [lightgbm.early_stopping(params.early_stopping, verbose=False)]
        trees = lightgbm.train(settings, learn, params.n_estimators, valid_sets=watch, callbacks=callbacks)
        self.features = train.features
        # read back from its own text: what is judged is bit for bit what is stored
        self._trees = lightgbm.Booster(model_str=trees.model_to_string(num_iteration=trees.best_iteration))
        return self

    def _inputs(self, data: Dataset) -> NDArray[np.float32]:
        return uniform_ranks(data.X, data.session) if self.params.inputs == "ranks" else data.X

    def _table(self, data: Dataset, settings: dict[str, Any], like: Any = None) -> lightgbm.Dataset:
        import lightgbm

        known = data.known
        if not known.any():
            raise DataError(f"boosting layer: {NOTHING_KNOWN}")
        inputs, label = self._inputs(data), data.label
        if not known.all():
            inputs, label = inputs[known], label[known]
        names = [f"f{column}" for column in range(inputs.shape[1])]
        table = lightgbm.Dataset(inputs, label, reference=like, feature_name=names, params=settings, free_raw_data=True)
        return table.construct()

    def predict(self, data: Dataset, first: int = 0) -> NDArray[np.float64]:
        """(R,) scores."""
        data = data.since(first).with_columns(self.features)
        if not len(data):
            return np.empty(0)
        return np.asarray(self.trees.predict(self._inputs(data), num_threads=self.params.num_threads), dtype=np.float64)

    def importance(self) -> dict[str, float]:
        """Share of the total gain."""
        gain = self.trees.feature_importance("gain").astype(np.float64)
        return dict(zip(self.features, (gain / max(gain.sum(), 1e-300)).tolist(), strict=True))

    def contributions(self, data: Dataset, first: int = 0) -> NDArray[np.float64]:
        """(R, F) Shapley values; with the trees' mean they sum to the score."""
        data = data.since(first).with_columns(self.features)
        if not len(data):
            return np.empty((0, len(self.features)))
        values = self.trees.predict(self._inputs(data), pred_contrib=True, num_threads=self.params.num_threads)
        return np.asarray(values, dtype=np.float64)[:, :-1]

    def save(self, folder: Path) -> None:
        """Write `trees.txt` (LightGBM text) and `boosting.json`."""
        write_text(folder / "trees.txt", self.trees.model_to_string())
        write_json(folder / "boosting.json", {"params": self.params.model_dump(), "features": self.features})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `trees.txt` and `boosting.json`."""
        import lightgbm

        stored = read_json(folder / "boosting.json")
        layer = cls(parse(BoostingParams, stored["params"], "boosting.json"))
        layer.features = tuple(stored["features"])
        layer._trees = lightgbm.Booster(model_str=(folder / "trees.txt").read_text(encoding="utf-8"))
        return layer
