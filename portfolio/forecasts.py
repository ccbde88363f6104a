"""Several models of value at risk on one book: what each says of tomorrow, and whether it kept its promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from core.errors import ConvergenceError, DataError
from portfolio.exceedances import Coverage, coverage
from portfolio.value_at_risk.base import MODELS, WINDOW, value_at_risk, walk_forward

Array = NDArray[np.float64]

DEFAULT = "filtered_ewma"
"""The model that is believed; the others stand beside it."""
SIGNIFICANCE = 0.05
"""Of the tests: a right model fails each once in twenty."""
MIN_JUDGED = 250
"""Sessions with a forecast that a judgement needs: the supervisor's year."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A model's forecasts held against what happened.

    Attributes
    ----------
    var, es
        `(T,)` forecasts, NaN where there is none.
    coverage
        None where the model could not be judged, and `why` then says why.
    """

    model: str
    level: float
    var: Array
    es: Array
    coverage: Coverage | None
    why: str = ""

    @property
    def failures(self) -> tuple[str, ...]:
        """Tests that the model fails, in words; empty where it passes all, or was not judged."""
        found = self.coverage
        if found is None:
            return ()
        tests = {
            "Kupiec": found.unconditional.p_value,
            "Christoffersen (independence)": found.independence.p_value,
            "Christoffersen (conditional)": found.conditional.p_value,
        }
        failed = [f"{name}, p = {p:.3g}" for name, p in tests.items() if p < SIGNIFICANCE]
        return (*failed, *([f"Basel zone {found.light.zone}"] if found.light.zone == "red" else []))


def tails_by_model(returns: ArrayLike, levels: Sequence[float], models: Sequence[str] = ()) -> pd.DataFrame:
    """VaR and ES of the next session by model and level.

    Parameters
    ----------
    returns
        `(T,)` of what is held now, oldest first.
    models
        Names; none: every registered model.

    Returns
    -------
    frame
        `model, level, var, es, why`: where a model refuses the returns its numbers are NaN and `why` tells the reason.
    """
    rows = []
    for model in models or _all_models():
        for level in levels:
            line = {"model": model, "level": float(level), "var": np.nan, "es": np.nan, "why": ""}
            try:
                line.update(value_at_risk(returns, level, model)._asdict())
            except (DataError, ConvergenceError) as error:
                line["why"] = str(error)
            rows.append(line)
    return pd.DataFrame(rows, columns=["model", "level", "var", "es", "why"])


def judge(returns: ArrayLike, level: float, model: str = DEFAULT, window: int = WINDOW) -> Judged:
    """Forecast every session from those before it, and hold the forecasts against what happened.

    A history too short to judge, or one that the model refuses, is told in the result and is no error.
    """
    values = np.asarray(returns, dtype=np.float64)
    nothing = np.full(len(values), np.nan)
    if len(values) < window + MIN_JUDGED:
        why = (
            f"{len(values)} sessions: {window + MIN_JUDGED} are needed, {window} behind the first forecast and "
            f"{MIN_JUDGED} to judge"
        )
        return Judged(model, level, nothing, nothing, None, why)
    try:
        forecasts = walk_forward(values, level, model, window=window)
    except (DataError, ConvergenceError) as error:
        return Judged(model, level, nothing, nothing, None, str(error))
    return Judged(model, level, forecasts.var, forecasts.es, coverage(values, forecasts.var, level))


def _all_models() -> list[str]:
    """Every registered model, the default first."""
    return sorted(MODELS, key=lambda name: (name != DEFAULT, name))
