"""Do stated probabilities come true? Proper scores and the reliability table.

References
----------
Brier, G. W. (1950). Verification of forecasts expressed in terms of probability. Monthly Weather Review 78(1).
Naeini, M. P., Cooper, G. and Hauskrecht, M. (2015). Obtaining well calibrated probabilities using
Bayesian binning. AAAI 29.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from core.errors import DataError

Array = NDArray[np.float64]


def brier(probability: ArrayLike, happened: ArrayLike) -> float:
    """Mean squared difference between probabilities and outcomes (0/1); NaN rows are left out."""
    p, y = _pairs(probability, happened)
    return float(((p - y) ** 2).mean()) if len(p) else float("nan")


def log_loss(probability: ArrayLike, happened: ArrayLike) -> float:
    """Mean negative log-likelihood; probabilities are kept 1e-15 away from 0 and 1."""
    p, y = _pairs(probability, happened)
    p = np.clip(p, 1e-15, 1 - 1e-15)
    return float(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean()) if len(p) else float("nan")


def reliability(probability: ArrayLike, happened: ArrayLike, bins: int = 10, equal_count: bool = False) -> pd.DataFrame:
    """Stated against realised frequency, in bins of equal width over [0, 1] or of equally many rows.

    Returns
    -------
    DataFrame
        `low`, `high` (bounds of the bin), `stated` (mean probability), `realised` (share that
        happened), `rows`; empty bins are left out.
    """
    p, y = _pairs(probability, happened)
    edges = np.arange(bins + 1) / bins
    if equal_count and len(p):
        edges = np.unique(np.quantile(p, edges))
        edges = edges if len(edges) > 1 else np.repeat(edges, 2)
    index = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, len(edges) - 2)
    rows = np.bincount(index, minlength=len(edges) - 1)
    with np.errstate(invalid="ignore"):
        stated = np.bincount(index, p, len(rows)) / rows
        realised = np.bincount(index, y, len(rows)) / rows
    frame = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "stated": stated, "realised": realised, "rows": rows})
    return frame[frame["rows"] > 0].reset_index(drop=True)


def ece(probability: ArrayLike, happened: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: mean |stated - realised| over equal-width bins, weighted by rows."""
    table = reliability(probability, happened, bins)
    if table.empty:
        return float("nan")
    return float(np.average((table["stated"] - table["realised"]).abs(), weights=table["rows"]))


def _pairs(probability: ArrayLike, happened: ArrayLike) -> tuple[Array, Array]:
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(happened, dtype=np.float64)
    usable = np.isfinite(p) & np.isfinite(y)
    p, y = p[usable], y[usable]
    if ((p < 0) | (p > 1)).any():
        raise DataError(f"calibration: probability {p[(p < 0) | (p > 1)][0]:g} lies outside [0, 1]")
    return p, y
