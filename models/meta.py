"""The meta-learner itself: from the layers' predictions of a day to one signal.

Layers' predictions become z-scores within a session, the chosen rung of the ladder (`models.rungs`)
combines them in the light of the market's state, and the result becomes a z-score again.

References
----------
Wolpert (1992), Stacked generalization.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.conformal import Calibrator
from models.dataset import Dataset
from models.inputs import session_bounds, zscores
from models.layers.base import LAYERS
from models.rungs.base import RUNGS, Rung
from models.states import StateModel

Column = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Meta:
    """All that turns the layers' predictions of a day into signals.

    Attributes
    ----------
    layers
        Names of the K layers, sorted.
    rung, fitted
        The chosen rung: its name, and itself as fitted on all that was known.
    states
        How the market's state is told; None where the rung does not read it.
    weights : (K,) float64
        Mean weight of each layer over the history, to be read by people: `fitted` decides.
    slope
        Expected residual return of one unit of signal, a fraction; NaN if too little was known.
    calibrator
        Residuals known when the stack was made; None if too little was known.
    scale
        Median scale of those residuals, for a row whose own is not known; NaN if none was.
    """

    layers: tuple[str, ...]
    rung: str
    fitted: Rung
    states: StateModel | None
    weights: Column
    slope: float
    calibrator: Calibrator | None
    scale: float = np.nan

    @property
    def market_lookback(self) -> int:
        """Sessions of `Dataset.market`, the predicted one included, that a signal reads; 0 for none."""
        return self.states.lookback if self.states else 0

    def signal(self, predictions: Mapping[str, Column], rows: Dataset) -> tuple[Column, dict[str, Column]]:
        """Signal and layer signals of whole sessions, all z-scores within their session.

        Parameters
        ----------
        predictions
            Each layer's (R,) predictions.
        rows
            The same rows, with the features and the market returns that tell their state.

        Returns
        -------
        signal : (R,) float64
            NaN where a layer's prediction is.
        layers : dict of (R,) float64
        """
        scores = {name: zscores(predictions[name], rows.session) for name in self.layers}
        matrix = np.column_stack(list(scores.values()))
        return rung_signal(self.fitted, matrix, row_states(self.states, rows), rows.session), scores

    def row_weights(self, rows: Dataset) -> NDArray[np.float64]:
        """(R, K) weight of each layer in each row's session, in the order of `layers`."""
        return self.fitted.weights(row_states(self.states, rows))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "rung": {"name": self.rung, **self.fitted.to_dict()},
            "states": None if self.states is None else self.states.to_dict(),
            "weights": dict(zip(self.layers, self.weights.tolist(), strict=True)),
            "slope": self.slope,
            "calibrator": None if self.calibrator is None else self.calibrator.to_dict(),
            "scale": self.scale,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Meta:
        """The meta-learner that `to_dict` described."""
        layers = tuple(sorted(values["weights"]))
        rung, states, calibrator = values["rung"], values["states"], values["calibrator"]
        return cls(
            layers=layers,
            rung=rung["name"],
            fitted=RUNGS[rung["name"]].from_dict(rung),
            states=None if states is None else StateModel.from_dict(states),
            weights=np.array([values["weights"][name] for name in layers], dtype=np.float64),
            slope=np.nan if values["slope"] is None else float(values["slope"]),
            calibrator=None if calibrator is None else Calibrator.from_dict(calibrator),
            scale=np.nan if values["scale"] is None else float(values["scale"]),
        )


def row_states(model: StateModel | None, rows: Dataset) -> NDArray[np.float64]:
    """(R, J) states of each row's session; J is 0 where there is no model."""
    return np.empty((len(rows), 0)) if model is None else model.rows(rows)


def rung_signal(
    rung: Rung, scores: NDArray[np.float64], states: NDArray[np.float64], session: NDArray[np.int32]
) -> Column:
    """(R,) signal of a rung, a z-score within its session; NaN where one of the (R, K) scores is."""
    raw = rung.combine(scores, states)
    raw[np.isnan(scores).any(axis=1)] = np.nan
    return zscores(raw, session)


def layer_column(name: str) -> str:
    """Column of a layer's signal: by its letter (`signal_a`) where it has one, else by its name."""
    return f"signal_{LAYERS[name].letter or name}"


def fill_scale(scale: NDArray[np.floating], session: NDArray[np.int32]) -> Column:
    """The scale, with the session's median in the place of what is not a positive number."""
    out = np.where(np.asarray(scale) > 0, scale, np.nan).astype(np.float64)
    bounds = session_bounds(session)
    for first, last in pairwise(bounds):
        day = out[first:last]
        unknown = np.isnan(day)
        if unknown.any() and not unknown.all():
            day[unknown] = np.median(day[~unknown])
    return out
