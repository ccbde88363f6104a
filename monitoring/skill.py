"""Realised skill against what the out-of-fold predictions promised.

The noise of a mean of n daily rank ICs is taken from the long out-of-fold record, not from the few realised days:
its long-run variance V allows for overlapping outcomes, and a mean of n days has the variance V / n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.scoring import default_lags, newey_west_variance
from monitoring.cusum import LONGEST, average_run_length, control_limit, cusum, resample
from monitoring.rules import MonitoringRule

_BLOCKS_OF_OVERLAP = 4


@dataclass(frozen=True)
class Chart:
    """A CUSUM chart made for one expected series.

    Attributes
    ----------
    mean, slack, limit
        m0, k and h, in units of the rank IC.
    run_length, run_length_error
        Average sessions to an alarm without a loss of skill, and its standard error.
    run_length_lost
        The same where the skill is gone altogether.
    """

    mean: float
    slack: float
    limit: float
    run_length: float
    run_length_error: float
    run_length_lost: float


def make_chart(expected: ArrayLike, horizon: int, rule: MonitoringRule, seed: int) -> Chart | None:
    """The chart of an expected series; None where no skill was promised, so none can be lost.

    Parameters
    ----------
    expected
        `(T,)` out-of-fold daily rank ICs.
    horizon
        Sessions that an outcome spans.

    Raises
    ------
    DataError
        The series is too short to measure run lengths on.
    """
    values = _finite(expected)
    if not len(values) or values.mean() <= 0:
        return None
    mean = float(values.mean())
    slack = rule.cusum_slack * mean
    length = LONGEST * rule.false_alarm_sessions
    paths = resample(values, rule.simulations, length, _BLOCKS_OF_OVERLAP * (horizon + 1), seed)
    limit = control_limit(paths, mean, slack, rule.false_alarm_sessions)
    fine, error = average_run_length(paths, mean, slack, limit)
    lost, _ = average_run_length(paths - mean, mean, slack, limit)
    return Chart(mean, slack, limit, fine, error, lost)


def measure_skill(
    realised: ArrayLike, expected: ArrayLike, horizon: int, rule: MonitoringRule, chart: Chart | None
) -> dict[str, float]:
    """Figures of the latest `window_sessions` realised days, and where the CUSUM stands after all of them.

    Parameters
    ----------
    realised
        `(D,)` realised daily rank ICs of one version, in order.
    expected
        `(T,)` its out-of-fold daily rank ICs.

    Returns
    -------
    dict
        `days` judged in all, `rank_ic` of the window, `expected`, `difference`, `z` of the difference, `t` of the
        rank IC itself, `hit_rate`; `cusum`, `cusum_limit`, `cusum_ratio` (alarm above 1), `run_length`,
        `run_length_lost`. NaN where it cannot be told.
    """
    values, promised = _finite(realised), _finite(expected)
    window = values[-rule.window_sessions :]
    nothing = float("nan")
    figures = {
        "days": float(len(values)),
        "rank_ic": nothing, "expected": float(promised.mean()) if len(promised) else nothing,
        "difference": nothing, "z": nothing, "t": nothing, "hit_rate": nothing,
        "cusum": nothing, "cusum_limit": nothing, "cusum_ratio": nothing,
        "run_length": nothing, "run_length_lost": nothing,
    }  # fmt: skip
    if len(window) >= rule.least_sessions:
        variance = newey_west_variance(promised, default_lags(len(promised), horizon))
        mean = float(window.mean())
        figures |= {
            "rank_ic": mean,
            "difference": mean - figures["expected"],
            "hit_rate": float((window > 0).mean()),
        }
        if variance > 0:
            figures["t"] = mean / np.sqrt(variance / len(window))
            figures["z"] = figures["difference"] / np.sqrt(variance / len(window) + variance / len(promised))
    if chart is not None and len(values):
        statistic = float(cusum(values, chart.mean, chart.slack)[-1])
        figures |= {
            "cusum": statistic,
            "cusum_limit": chart.limit,
            "cusum_ratio": statistic / chart.limit if chart.limit > 0 else nothing,
            "run_length": chart.run_length,
            "run_length_lost": chart.run_length_lost,
        }
    return figures


def _finite(series: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(series, dtype=np.float64)
    return values[np.isfinite(values)]
