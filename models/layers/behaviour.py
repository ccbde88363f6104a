"""What the crowd does, and when that matters: Signal C.

A regression small enough to be read: the label on measures of herding, panic, attention and fear of missing out, each
with a weight that moves along a line with the state of the market, sum_j g_ij (b_j + sum_s c_js z_s). g are Gauss ranks
within the session (0 where undefined), z the standardised states of `models.states`: filtered regimes, and features
of the market as a whole. Ridge on both, the dearer for what moves.

References
----------
Hoerl and Kennard (1970), Ridge regression: biased estimation for nonorthogonal problems.
Baker and Wurgler (2006), Investor sentiment and the cross-section of stock returns (predictors whose sign turns with
the state of sentiment).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.errors import ConfigError, DataError
from core.files import Readable, read_json, write_json
from core.params import Params, parse
from models.dataset import Dataset
from models.inputs import gaussian_ranks
from models.layers.base import LAYERS, NOTHING_KNOWN, Range, Space
from models.rungs.base import Moments, affine, weighted
from models.states import StateModel, StateRule


class BehaviourParams(Params):
    """Parameters of the regression. A penalty is per row; inputs and states have unit variance."""

    features: list[str] = Field(
        default=[
            "panic_selling",
            "correlation_down",
            "salience",
            "attention_*",
            "fomo",
            "gains_overhang_*",
            "sector_correlation_*",
            "sector_same_sign_*",
            "herding_posts",
            "max_return_*",
            "abnormal_volume_1",
            "high_52w",
            "post_count_abnormal",
            "sentiment_change",
            "sentiment_dispersion",
            "agreement",
            "crowded_inventory",
            "crowd_*",
            "momentum_126",
        ],
        description="names or patterns; one that matches nothing is left out",
    )
    alpha: float = Field(default=0.05, ge=0, description="penalty on a measure's weight")
    moving: float = Field(default=0.5, ge=0, description="penalty on how the weight moves with a state")
    states: StateRule = StateRule()


@LAYERS.register("behaviour")
class BehaviourLayer:
    """Ridge regression on behavioural ranks and their products with the market's state."""

    Params: ClassVar[type[Params]] = BehaviourParams
    letter: ClassVar[str | None] = "c"
    space: ClassVar[Space] = {"alpha": Range(1e-3, 1.0, log=True), "moving": Range(0.01, 10.0, log=True)}
    libraries: ClassVar[tuple[str, ...]] = ()
    lookback = 1
    seed_scores: Sequence[float] = ()
    wants_validation = False

    def __init__(self, params: BehaviourParams) -> None:
        self.params = params
        self.features: tuple[str, ...] = ()
        self.measures: tuple[str, ...] = ()
        self.coef: NDArray[np.float64] = np.empty((0, 1))
        self._told: StateModel | None = None

    @property
    def told(self) -> StateModel:
        """How states are told, as fitted."""
        if self._told is None:
            raise DataError("behaviour layer: not fitted yet: call fit, or load a saved layer")
        return self._told

    @property
    def market_lookback(self) -> int:
        """Sessions of the market's return that a prediction reads."""
        return self.told.lookback

    def fit(self, train: Dataset, valid: Dataset | None, seed: int) -> Self:
        """Solve the normal equations; what the states are told by is fitted on the same sessions.

        Raises
        ------
        ConfigError
            No feature of the dataset is named.
        DataError
            No row has a known label.
        """
        known = train.known
        if not known.any():
            raise DataError(f"behaviour layer: {NOTHING_KNOWN}")
        wanted = self.params.features
        self.measures = tuple(
            name for name in train.features if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)
        )
        if not self.measures:
            raise ConfigError(
                f"layers.behaviour.features: none of {', '.join(wanted)} is in the dataset: "
                "switch the family `behaviour` on, or leave the layer out"
            )
        self.features = train.features
        self._told = StateModel.fit(train, int(train.session[-1]) + 1, self.params.states)
        states = self._told.rows(train)[known]
        gram, moment = Moments.of(self._inputs(train)[known], states, train.label[known]).moving()
        width, terms = len(self.measures), 1 + states.shape[1]
        # a measure without any value has no variance: the floor keeps its weight at zero
        penalty = np.full((width, terms), max(self.params.moving, 1e-9))
        penalty[:, 0] = max(self.params.alpha, 1e-9)
        self.coef = np.linalg.solve(gram + np.diag(penalty.ravel()), moment).reshape(width, terms)
        return self

    def _inputs(self, data: Dataset) -> NDArray[np.float64]:
        return gaussian_ranks(data.with_columns(self.measures).X, data.session).astype(np.float64)

    def _weights(self, data: Dataset) -> NDArray[np.float64]:
        """(R, M) weight of each measure in the state of a row's session."""
        return affine(self.told.rows(data), self.coef)

    def predict(self, data: Dataset, first: int = 0) -> NDArray[np.float64]:
        """(R,) scores."""
        data = data.since(first)
        return weighted(self._inputs(data), self._weights(data)) if len(data) else np.empty(0)

    def importance(self) -> dict[str, float]:
        """Share of the absolute weights in the average state."""
        size = np.abs(self.coef[:, 0])
        shares = dict(zip(self.measures, (size / max(size.sum(), 1e-300)).tolist(), strict=True))
        return {name: shares.get(name, 0.0) for name in self.features}

    def contributions(self, data: Dataset, first: int = 0) -> NDArray[np.float64]:
        """(R, F) weight in the state of the day times input."""
        data = data.since(first).with_columns(self.features)
        out = np.zeros((len(data), len(self.features)))
        if len(data):
            place = [self.features.index(name) for name in self.measures]
            out[:, place] = self._inputs(data) * self._weights(data)
        return out

    def save(self, folder: Path) -> None:
        """Write `behaviour.json`: for each measure its weight in the average state, and its moves with each."""
        terms = ("average", *self.told.names)
        weights = {
            measure: dict(zip(terms, row, strict=True))
            for measure, row in zip(self.measures, self.coef.tolist(), strict=True)
        }
        stored = {
            "params": self.params.model_dump(),
            "features": self.features,
            "weights": weights,
            "states": self.told.to_dict(),
        }
        write_json(folder / "behaviour.json", stored)

    @classmethod
    def load(cls, folder: Readable) -> Self:
        """Read `behaviour.json`."""
        stored = read_json(folder / "behaviour.json")
        layer = cls(parse(BehaviourParams, stored["params"], "behaviour.json"))
        layer.features, weights = tuple(stored["features"]), stored["weights"]
        layer._told = StateModel.from_dict(stored["states"])
        # JSON sorts its keys; the order of the columns is that of the features
        layer.measures = tuple(name for name in layer.features if name in weights)
        terms = ("average", *layer._told.names)
        layer.coef = np.array([[weights[name][term] for term in terms] for name in layer.measures], dtype=np.float64)
        return layer
