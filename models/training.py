"""Train one layer: out-of-fold over the walk-forward folds, then once on everything known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from core.params import parse
from models.checkpoints import Checkpoints
from models.dataset import Dataset
from models.folds import Fold
from models.layers.base import LAYERS, Layer

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class LayerResult:
    """A layer after training.

    Attributes
    ----------
    oof : (R,) float64
        Prediction of each row by the model that had not seen it; NaN outside the test blocks.
    model
        The layer fitted on every row with a known outcome, for the days to come.
    importance
        Share of each feature in the final model.
    """

    name: str
    oof: NDArray[np.float64]
    model: Layer
    importance: dict[str, float]


def make_layer(name: str, params: Mapping[str, Any]) -> Layer:
    """A fresh layer of the registered name.

    Raises
    ------
    ConfigError
        The name or a parameter is unknown, or a value is not allowed.
    """
    kind = LAYERS[name]
    return kind(parse(kind.Params, params, f"layers.{name}"))


def fit_layer(layer: Layer, dataset: Dataset, fold: Fold, seed: int) -> Layer:
    """Fit a layer on what a fold knows: with a validation span apart only where the layer wants one."""
    if layer.wants_validation and fold.valid is not None:
        return layer.fit(dataset.between(*fold.train), dataset.between(*fold.valid), seed)
    return layer.fit(dataset.between(*fold.known), None, seed)


def fit_predict(
    name: str, params: Mapping[str, Any], dataset: Dataset, fold: Fold, seed: int
) -> tuple[slice, NDArray[np.float64]]:
    """Fit on a fold's training span and predict its test block.

    Returns
    -------
    rows : slice
        Rows of the test block.
    predictions : (len of the block,) float64

    Raises
    ------
    DataError
        The layer has nothing to learn from, or a prediction is not finite.
    """
    layer = fit_layer(make_layer(name, params), dataset, fold, seed)
    rows = dataset.rows(*fold.test)
    context = dataset.between(fold.test[0] - layer.lookback + 1, fold.test[1])
    predictions = layer.predict(context, fold.test[0])
    if not np.isfinite(predictions).all():
        raise DataError(
            f"layer {name!r} predicted a non-finite value in fold {fold.index} (from {dataset.dates[fold.test[0]]}): "
            "lower its learning rate or look at its features there"
        )
    return rows, predictions


def final_fold(dataset: Dataset, folds: Sequence[Fold]) -> Fold:
    """The fold after the last: everything known, laid out as the last fold's training was.

    Raises
    ------
    DataError
        No row has a known outcome.
    """
    known = np.flatnonzero(dataset.known)
    if not len(known):
        raise DataError("training: no row has a known outcome: lengthen the history beyond the horizon")
    model, last = folds[-1], int(dataset.session[known[-1]])
    length = model.known[1] - model.known[0] + 1
    # a span that starts at the first session expands; any other rolls
    first = 0 if model.train[0] == 0 else max(0, last - length + 1)
    ahead = (last + 1, len(dataset.dates) - 1)
    if model.valid is None:
        return Fold(model.index + 1, (first, last), None, ahead)
    start = last - (model.valid[1] - model.valid[0])
    gap = model.valid[0] - model.train[1]
    return Fold(model.index + 1, (first, start - gap), (start, last), ahead)


def train_layer(
    name: str,
    params: Mapping[str, Any],
    dataset: Dataset,
    folds: Sequence[Fold],
    seed: int,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
) -> LayerResult:
    """Out-of-fold predictions of a layer, and the layer fitted on all that is known.

    Parameters
    ----------
    params
        Values of the layer's own `Params`.
    folds
        Purged walk-forward folds; each row is predicted by at most one.
    seed
        Every fit uses it: a fold's model is a function of its rows and nothing else.
    progress
        Called with (fits done, fits in all, what is next).
    checkpoints
        Folds that are done already, and where those to come are kept.

    Raises
    ------
    DataError
        A fold has no rows to learn from, or a prediction is not finite.
    """
    oof = np.full(len(dataset), np.nan)
    total = len(folds) + 1
    for done, fold in enumerate(folds):
        if progress:
            progress(done, total, f"{name}: fold {fold.index}")
        rows = dataset.rows(*fold.test)
        predictions = checkpoints.load(fold, rows.stop - rows.start) if checkpoints else None
        if predictions is None:
            _, predictions = fit_predict(name, params, dataset, fold, seed)
            if checkpoints:
                checkpoints.save(fold, predictions)
        oof[rows] = predictions
    if progress:
        progress(total - 1, total, f"{name}: all known rows")
    model = fit_layer(make_layer(name, params), dataset, final_fold(dataset, folds), seed)
    if progress:
        progress(total, total, f"{name}: done")
    return LayerResult(name, oof, model, model.importance())
