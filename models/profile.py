"""What the rows looked like that a stack learned from, for the day on which they no longer look so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from models.dataset import Dataset
from models.inputs import coverage, session_bounds

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
YEAR = 252

# Features move slowly: one session a week describes their distribution as well as all of them.
_EVERY = 5
# A feature that some session of the last year knew for fewer symbols is too rare to be missed.
_WORTH_MISSING = 0.2
_TOO_FEW = 0.5


@dataclass(frozen=True)
class Missing:
    """A feature that a day knows for too few symbols: its coverage, and the least of training's last year."""

    feature: str
    coverage: float
    floor: float


def profile(dataset: Dataset) -> dict[str, Any]:
    """Quantiles and coverage of each feature over every fifth session, and when the outcomes end.

    Returns
    -------
    dict
        `trained_until` is the last session with a known outcome. A feature's `floor` is the lowest coverage of any
        session of the last year.
    """
    rows = dataset.every(_EVERY)
    shares, floors = coverage(rows.X), _floors(dataset)
    features = {}
    for column, name in enumerate(dataset.features):
        values = rows.X[:, column]
        values = values[np.isfinite(values)]
        cuts = np.quantile(values, QUANTILES).astype(np.float64).tolist() if len(values) else []
        features[name] = {"coverage": float(shares[column]), "floor": float(floors[column]), "quantiles": cuts}
    known = dataset.session[dataset.known]
    until = str(dataset.dates[known[-1]]) if len(known) else None
    return {"quantiles": list(QUANTILES), "rows": len(rows), "trained_until": until, "features": features}


def missing_features(profile: Mapping[str, Any], day: Dataset) -> list[Missing]:
    """Features that a day knows for fewer than half as many symbols as any session of training's last year did."""
    today = dict(zip(day.features, coverage(day.X).tolist(), strict=True))
    floors = {name: float(values["floor"]) for name, values in profile["features"].items()}
    return [
        Missing(name, today[name], floor)
        for name, floor in floors.items()
        if name in today and floor >= _WORTH_MISSING and today[name] < _TOO_FEW * floor
    ]


def _floors(dataset: Dataset) -> np.ndarray:
    """(F,) lowest share of rows in which each feature is defined, over the sessions of the last year."""
    if not len(dataset):
        return np.zeros(len(dataset.features))
    last = int(dataset.session[-1])
    year = dataset.between(max(0, last - YEAR + 1), last)
    days = [coverage(year.X[first:stop]) for first, stop in pairwise(session_bounds(year.session))]
    return np.min(days, axis=0)
