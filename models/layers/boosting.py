"""Gradient-boosted trees on the cross-section (LightGBM): Signal A.

References
----------
Friedman (2001), Greedy function approximation: a gradient boosting machine.
Ke et al. (2017), LightGBM: a highly efficient gradient boosting decision tree.
Lundberg et al. (2020), From local explanations to global understanding with explainable AI for trees.
Burges (2010), From RankNet to LambdaRank to LambdaMART: an overview (`objective: lambdarank`).
López de Prado (2018), Advances in financial machine learning, ch. 4 (`uniqueness`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.errors import DataError
from core.files import Readable, read_json, write_json, write_text
from core.params import Params, parse
from models.dataset import Dataset
from models.inputs import rank_fractions, session_bounds, uniform_ranks
from models.layers.base import LAYERS, NOTHING_KNOWN, Range, Space
from models.weights import recency, uniqueness

if TYPE_CHECKING:
    import lightgbm


GRADES = 16
"""Relevance grades that a session's labels are cut into for `lambdarank`; a grade is worth its number."""


class BoostingParams(Params):
    """Parameters of the trees; names as in LightGBM."""

    objective: Literal["regression", "lambdarank"] = Field(default="regression")
    horizons: list[Annotated[int, Field(ge=1)]] = Field(
        default=[], description="sessions held behind the labels learned from, averaged; none: the target's own"
    )
    half_life: float | None = Field(default=None, gt=0, description="sessions after which a row weighs half")
    uniqueness: bool = Field(default=False, description="weigh a row less where its outcome overlaps others")
    monotone: bool = Field(default=False, description="follow the features' expected signs where they have one")
    inputs: Literal["ranks", "raw"] = Field(default="ranks", description="rank the features within a session, or not")
    every: int = Field(default=1, ge=1, description="learn from every k-th session only")
    seeds: int = Field(default=3, ge=1, le=100, description="forests that are averaged: rows and features drawn anew")
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


_SPREAD_EVERY = 21

# What is this layer's own and no parameter of LightGBM's.
_OWN = {
    "inputs", "every", "seeds", "n_estimators", "early_stopping", "horizons", "half_life", "uniqueness", "monotone",
}  # fmt: skip
_SEED_STRIDE = 7919


@LAYERS.register("boosting")
class BoostingLayer:
    """Boosting of the labels; deterministic, stored as LightGBM text.

    A forest is grown for each horizon and seed. A row's score is the mean of their predictions, with several horizons
    each over the standard deviation that it had on the rows learned from.
    """

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
    libraries: ClassVar[tuple[str, ...]] = ("lightgbm",)
    lookback = 1
    market_lookback = 0
    seed_scores: Sequence[float] = ()

    def __init__(self, params: BoostingParams) -> None:
        self.params = params
        self.features: tuple[str, ...] = ()
        self._trees: dict[str, lightgbm.Booster] = {}
        self._scale: dict[str, float] = {}

    @property
    def wants_validation(self) -> bool:
        """Whether the number of trees is decided on a validation span."""
        return self.params.early_stopping > 0

    @property
    def trees(self) -> dict[str, lightgbm.Booster]:
        """The fitted forests by horizon and seed, `5_0`."""
        if not self._trees:
            raise DataError("boosting layer: not fitted yet: call fit, or load a saved layer")
        return self._trees

    def fit(self, train: Dataset, valid: Dataset | None, seed: int) -> Self:
        """Grow the trees.

        Raises
        ------
        DataError
            No row has a known label, the dataset lacks a horizon, or early stopping was asked for without
            validation rows.
        """
        import lightgbm

        params = self.params
        if params.early_stopping and (valid is None or not valid.known.any()):
            raise DataError(
                "boosting layer: early_stopping needs validation rows: give the folds a validation span or set it to 0"
            )
        settings: dict[str, Any] = {
            **params.model_dump(exclude=_OWN),
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
            "feature_pre_filter": False,
        }
        if params.objective == "lambdarank":
            settings |= {"label_gain": list(range(GRADES)), "lambdarank_truncation_level": 50}
        if params.monotone:
            settings["monotone_constraints"] = list(train.signs)
        self._trees, self._scale = {}, {}
        for horizon in params.horizons or [train.horizon]:
            learn = self._table(train, horizon, settings)
            watch: list[lightgbm.Dataset] = []
            callbacks: list[Any] = []
            if params.early_stopping and valid is not None:
                watch = [self._table(valid, horizon, settings, learn)]
                callbacks = [lightgbm.early_stopping(params.early_stopping, verbose=False)]
            for number in range(params.seeds):
                drawn = {**settings, "seed": seed + _SEED_STRIDE * number}
                trees = lightgbm.train(drawn, learn, params.n_estimators, valid_sets=watch, callbacks=callbacks)
                # read back from its own text: what is judged is bit for bit what is stored
                text = trees.model_to_string(num_iteration=trees.best_iteration)
                self._trees[f"{horizon}_{number}"] = lightgbm.Booster(model_str=text)
        self.features = train.features
        self._scale = self._spreads(train) if len(params.horizons) > 1 else dict.fromkeys(self._trees, 1.0)
        return self

    def _spreads(self, train: Dataset) -> dict[str, float]:
        """Standard deviation of each forest's predictions, told from one session a month."""
        inputs = self._inputs(train.every(_SPREAD_EVERY))
        spreads = {name: float(np.std(self._raw(name, inputs))) for name in self._trees}
        return {name: spread if spread > 0 else 1.0 for name, spread in spreads.items()}

    def _inputs(self, data: Dataset) -> NDArray[np.float32]:
        return uniform_ranks(data.X, data.session) if self.params.inputs == "ranks" else data.X

    def _table(self, data: Dataset, horizon: int, settings: dict[str, Any], like: Any = None) -> lightgbm.Dataset:
        import lightgbm

        data = data.at_horizon(horizon).every(self.params.every)
        known = data.known
        if not known.any():
            raise DataError(f"boosting layer: {NOTHING_KNOWN}")
        # rows without a label teach nothing, but take part in the ranks
        inputs = self._inputs(data)
        inputs = inputs if known.all() else inputs[known]
        label, session, symbol = data.label[known], data.session[known], data.symbol[known]
        group = None
        if self.params.objective == "lambdarank":
            label = np.floor(rank_fractions(label[:, None], session)[:, 0] * GRADES)
            group = np.diff(session_bounds(session))
        table = lightgbm.Dataset(
            inputs,
            label,
            reference=like,
            weight=self._weights(session, symbol, horizon),
            group=group,
            feature_name=[f"f{column}" for column in range(inputs.shape[1])],
            params=settings,
            free_raw_data=True,
        )
        return table.construct()

    def _weights(
        self, session: NDArray[np.int32], symbol: NDArray[np.int32], horizon: int
    ) -> NDArray[np.float64] | None:
        weights = None
        if self.params.uniqueness:
            weights = uniqueness(session + 1, session + horizon, symbol)
        if self.params.half_life is not None:
            faded = recency(session, self.params.half_life)
            weights = faded if weights is None else weights * faded
        # LightGBM's penalties count in rows: the weights keep their mean at one
        return None if weights is None else weights / weights.mean()

    def _raw(self, name: str, inputs: NDArray[np.float32], **options: Any) -> NDArray[np.float64]:
        values = self.trees[name].predict(inputs, num_threads=self.params.num_threads, **options)
        return np.asarray(values, dtype=np.float64)

    def _mean(self, data: Dataset, **options: Any) -> NDArray[np.float64]:
        inputs = self._inputs(data)
        total = sum(self._raw(name, inputs, **options) / self._scale[name] for name in self.trees)
        return np.asarray(total / len(self.trees))

    def predict(self, data: Dataset, first: int = 0) -> NDArray[np.float64]:
        """(R,) scores."""
        data = data.since(first).with_columns(self.features)
        return self._mean(data) if len(data) else np.empty(0)

    def importance(self) -> dict[str, float]:
        """Share of the total gain, the mean over the forests."""
        gains = [trees.feature_importance("gain").astype(np.float64) for trees in self.trees.values()]
        shares = np.mean([gain / max(gain.sum(), 1e-300) for gain in gains], axis=0)
        return dict(zip(self.features, shares.tolist(), strict=True))

    def contributions(self, data: Dataset, first: int = 0) -> NDArray[np.float64]:
        """(R, F) Shapley values; with the trees' mean they sum to the score."""
        data = data.since(first).with_columns(self.features)
        return self._mean(data, pred_contrib=True)[:, :-1] if len(data) else np.empty((0, len(self.features)))

    def save(self, folder: Path) -> None:
        """Write `trees_<horizon>_<number>.txt` (LightGBM text) and `boosting.json`."""
        for name, trees in self.trees.items():
            write_text(folder / f"trees_{name}.txt", trees.model_to_string())
        stored = {"params": self.params.model_dump(), "features": self.features, "scale": self._scale}
        write_json(folder / "boosting.json", stored)

    @classmethod
    def load(cls, folder: Readable) -> Self:
        """Read what `save` wrote."""
        import lightgbm

        stored = read_json(folder / "boosting.json")
        layer = cls(parse(BoostingParams, stored["params"], "boosting.json"))
        layer.features = tuple(stored["features"])
        layer._scale = {str(name): float(scale) for name, scale in stored["scale"].items()}
        for name in layer._scale:
            text = (folder / f"trees_{name}.txt").read_text(encoding="utf-8")
            layer._trees[name] = lightgbm.Booster(model_str=text)
        return layer
