"""Do the features still look as they did in training? Distances from the quantiles that the bundle carries.

The population stability index is the symmetrised Kullback-Leibler divergence of binned shares,
sum (a - e) ln(a / e), which for a normal distribution moved by d deviations tends to d^2 as bins narrow; below 0.1
nothing moved, above 0.25 much did (Siddiqi 2006). The Kolmogorov-Smirnov distance is the largest gap between
distribution functions, here over the quantiles known of training: a lower bound of the full one.

Neither says that a model is wrong: most layers read ranks within a session, which a move of all values leaves
alone. A value that all symbols share (a macro series) changes only from day to day, so a few months of it never
look like ten years of training: such features have no index, only the share of sessions outside what was seen.

References
----------
Jeffreys, H. (1946). An invariant form for the prior probability in estimation problems. Proceedings of the Royal
Society A 186.
Siddiqi, N. (2006). Credit Risk Scorecards. Wiley.
Massey, F. J. (1951). The Kolmogorov-Smirnov test for goodness of fit. Journal of the American Statistical
Association 46.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from core.errors import DataError
from models.inputs import session_bounds

Array = NDArray[np.float64]

LEAST_VALUES = 50
"""Fewer defined values than this say nothing of a distribution."""

FEATURES = [
    "feature", "family", "shared", "coverage", "trained_coverage", "psi", "ks", "outside",
]  # fmt: skip
FAMILIES = ["family", "features", "psi", "ks", "outside", "coverage_lost", "most_moved"]


def psi(expected: ArrayLike, actual: ArrayLike) -> float:
    """Population stability index of two vectors of shares over the same bins.

    Parameters
    ----------
    expected, actual
        Positive shares that sum to one.

    Raises
    ------
    DataError
        A share is not positive, they do not sum to one, or the bins differ.
    """
    e, a = np.asarray(expected, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    for shares in (e, a):
        if shares.shape != e.shape or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
            raise DataError("monitoring: shares of bins must be positive, sum to one and belong to the same bins")
    return float(((a - e) * np.log(a / e)).sum())


def psi_from_quantiles(values: ArrayLike, levels: ArrayLike, cuts: ArrayLike) -> float:
    """Index of a sample against a distribution of which quantiles are known.

    The bins are those between the quantiles. Half an observation is added to each, so that an empty one gives a
    large index and not an infinite one. NaN where two quantiles coincide: how much lies on a tie is not known.

    Parameters
    ----------
    values
        Sample; values that are not finite are left out.
    levels, cuts
        Levels in (0, 1), ascending, and the quantiles at them.
    """
    sample, p, q = _checked(values, levels, cuts)
    if len(sample) < LEAST_VALUES or not (np.diff(q) > 0).all():
        return float("nan")
    counts = np.bincount(np.searchsorted(q, sample, side="left"), minlength=len(q) + 1) + 0.5
    return psi(np.diff(np.concatenate([[0.0], p, [1.0]])), counts / counts.sum())


def ks_from_quantiles(values: ArrayLike, levels: ArrayLike, cuts: ArrayLike) -> float:
    """Largest gap between a sample's distribution function and the known quantiles of another.

    At a quantile q that several levels share, the other function lies at most at the lowest of them left of q and at
    least at the highest at q; only what that leaves no room for counts.
    """
    sample, p, q = _checked(values, levels, cuts)
    if len(sample) < LEAST_VALUES:
        return float("nan")
    sample = np.sort(sample)
    below = np.searchsorted(sample, q, side="left") / len(sample)
    at = np.searchsorted(sample, q, side="right") / len(sample)
    lowest, highest = p[np.searchsorted(q, q, side="left")], p[np.searchsorted(q, q, side="right") - 1]
    return float(max((below - lowest).max(), (highest - at).max(), 0.0))


def share_outside(values: ArrayLike, cuts: ArrayLike) -> float:
    """Share of a sample below the first or above the last quantile."""
    sample = np.asarray(values, dtype=np.float64)
    sample, q = sample[np.isfinite(sample)], np.asarray(cuts, dtype=np.float64)
    return float(((sample < q[0]) | (sample > q[-1])).mean()) if len(sample) and len(q) else float("nan")


def is_shared(values: NDArray[np.floating], session: NDArray[np.int32]) -> bool:
    """Whether all rows of a session have one value, in every session of more than one row."""
    some = False
    for first, last in pairwise(session_bounds(session)):
        day = values[first:last]
        day = day[np.isfinite(day)]
        if len(day) > 1:
            if day.min() != day.max():
                return False
            some = True
    return some


def feature_drift(
    X: NDArray[np.floating],
    session: NDArray[np.int32],
    features: Sequence[str],
    families: Mapping[str, str],
    profile: Mapping[str, Any],
) -> pd.DataFrame:
    """Each feature's recent rows against its profile in training.

    Parameters
    ----------
    X : (R, F)
        Recent values, NaN where undefined; rows of a session are adjacent.
    families
        Family by feature.
    profile
        As `models.profile.profile` gives it.

    Returns
    -------
    DataFrame
        `feature, family, shared` (one value a session), `coverage, trained_coverage, psi, ks, outside`.

    Raises
    ------
    DataError
        The profile lacks a feature.
    """
    levels, lines = profile["quantiles"], []
    for column, name in enumerate(features):
        told = profile["features"].get(name)
        if told is None:
            raise DataError(f"monitoring: the bundle's profile lacks {name!r}: it was not made with these features")
        values, cuts = X[:, column], told["quantiles"]
        shared = is_shared(values, session)
        moved = (float("nan"), float("nan"))
        if cuts and not shared:
            moved = psi_from_quantiles(values, levels, cuts), ks_from_quantiles(values, levels, cuts)
        coverage = float(np.isfinite(values).mean()) if len(values) else float("nan")
        lines.append(
            (name, families[name], shared, coverage, float(told["coverage"]), *moved, share_outside(values, cuts))
        )
    return pd.DataFrame(lines, columns=FEATURES)


def family_drift(drift: pd.DataFrame) -> pd.DataFrame:
    """Medians of each family's features, the share of coverage lost at worst, and the feature that moved most."""
    lines = []
    for family, rows in drift.groupby("family", sort=True):
        moved = rows["psi"].fillna(-1.0)
        lines.append(
            (
                family,
                len(rows),
                rows["psi"].median(),
                rows["ks"].median(),
                rows["outside"].median(),
                (rows["trained_coverage"] - rows["coverage"]).max(),
                str(rows["feature"].iloc[int(moved.argmax())]) if moved.max() >= 0 else "",
            )
        )
    return pd.DataFrame(lines, columns=FAMILIES)


def _checked(values: ArrayLike, levels: ArrayLike, cuts: ArrayLike) -> tuple[Array, Array, Array]:
    sample, p, q = (np.asarray(part, dtype=np.float64) for part in (values, levels, cuts))
    if p.shape != q.shape or p.ndim != 1 or not len(p):
        raise DataError(f"monitoring: {p.shape} levels for {q.shape} quantiles: need one a quantile")
    if not (np.diff(p) > 0).all() or not (np.diff(q) >= 0).all() or p[0] <= 0 or p[-1] >= 1:
        raise DataError("monitoring: levels must ascend inside (0, 1) and quantiles must not descend")
    return sample[np.isfinite(sample)], p, q
