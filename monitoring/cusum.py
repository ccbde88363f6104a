"""Has the signal lost its skill? Page's cumulative sum of daily rank ICs, with its run lengths measured.

S_t = max(0, S_{t-1} + m0 - k - IC_t) rises while the rank IC stays below what was expected by more than
the slack k; an alarm is S_t > h. The limit h is chosen by the average run length (ARL) without a loss: how
many sessions pass before a false alarm. Daily rank ICs overlap, so textbook limits for independent normal
values ring far too early; here run lengths are measured on the expected series itself, resampled in blocks
that keep its dependence.

References
----------
Page, E. S. (1954). Continuous inspection schemes. Biometrika 41(1/2).
Politis, D. N. and Romano, J. P. (1992). A circular block-resampling procedure for stationary data. In:
Exploring the Limits of Bootstrap. Wiley.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, DataError
from core.jit import compiled

Array = NDArray[np.float64]


LONGEST = 10
"""Length of a simulated path in average run lengths; fewer than one path in 20,000 runs longer."""


def cusum(values: ArrayLike, mean: float, slack: float) -> Array:
    """`(T,)` statistic S after each value; a value that is not finite leaves it where it was.

    Parameters
    ----------
    values
        `(T,)` daily rank ICs, in order.
    mean, slack
        m0 and k, in units of the rank IC.
    """
    out = np.ascontiguousarray(values, dtype=np.float64)[None, :].copy()
    _run(out, float(mean), float(slack), False)
    return out[0]


def resample(series: ArrayLike, paths: int, length: int, block: int, seed: int) -> Array:
    """`(paths, length)` circular block bootstrap of a series.

    Parameters
    ----------
    series
        `(T,)`; values that are not finite are left out.
    block
        Values that stay together; at least as many as the dependence reaches.

    Raises
    ------
    DataError
        The series is shorter than two blocks.
    """
    values = np.asarray(series, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) < 2 * block:
        raise DataError(
            f"monitoring: {len(values)} days of expected rank IC, {2 * block} are needed to measure run lengths: "
            "train on a longer history"
        )
    starts = np.random.default_rng(seed).integers(0, len(values), (paths, -(-length // block)))
    places = (starts[:, :, None] + np.arange(block)) % len(values)
    return values[places.reshape(paths, -1)[:, :length]]


def control_limit(paths: ArrayLike, mean: float, slack: float, run_length: float) -> float:
    """Least limit h at which the average run length over simulated paths is the one asked for.

    Exact for the paths given: the run length of a path is one more than the number of its sessions on which the
    highest S so far is at most h, so h is an order statistic of those highest values.

    Parameters
    ----------
    paths
        `(P, L)` simulated rank ICs without a loss of skill, L at least `LONGEST` run lengths.
    run_length
        Average number of sessions to a false alarm.

    Raises
    ------
    ConfigError
        The run length is below 2 sessions.
    DataError
        The paths are too short for it.
    """
    highest = _highest(paths, mean, slack)
    if run_length < 2:
        raise ConfigError(f"monitoring: average run length {run_length}: ask for at least 2 sessions")
    if highest.shape[1] < LONGEST * run_length:
        raise DataError(
            f"monitoring: paths of {highest.shape[1]} sessions cannot tell a run length of {run_length:g}: simulate at "
            f"least {LONGEST} times as many"
        )
    place = int(np.ceil((run_length - 1) * len(highest))) - 1
    return float(np.partition(highest.ravel(), place)[place])


def average_run_length(paths: ArrayLike, mean: float, slack: float, limit: float) -> tuple[float, float]:
    """Average sessions to the first S > `limit` over `(P, L)` simulated paths, and its standard error.

    A path that never gets there counts with L + 1 sessions.
    """
    lengths = (_highest(paths, mean, slack) <= limit).sum(axis=1) + 1.0
    return float(lengths.mean()), float(lengths.std(ddof=1) / np.sqrt(len(lengths))) if len(lengths) > 1 else np.nan


def _highest(paths: ArrayLike, mean: float, slack: float) -> Array:
    """Highest S so far, along each path."""
    out = np.array(paths, dtype=np.float64, order="C")
    if out.ndim != 2 or not np.isfinite(out).all():
        raise DataError(f"monitoring: simulated paths of shape {out.shape}: need finite (paths, sessions)")
    _run(out, float(mean), float(slack), True)
    return out


@compiled
def _run(paths: Array, mean: float, slack: float, highest: bool) -> None:
    """Replace each row by S, or by the highest S so far."""
    for row in range(paths.shape[0]):
        total = 0.0
        top = 0.0
        for t in range(paths.shape[1]):
            value = paths[row, t]
            if np.isfinite(value):
                total = max(0.0, total + mean - slack - value)
            top = max(top, total)
            paths[row, t] = top if highest else total
