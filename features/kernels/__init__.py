"""Numeric kernels on `(T, N)` arrays: over time (`rolling`) and over symbols (`rows`).

Every kernel is pure, treats NaN as absent, and gives a value whose bits depend on its own
window (or its own row) alone: not on what lies before the window, nor on the number of threads,
nor, for the kernels over symbols, on the order of the symbols.
"""

from features.kernels.rolling import (
    change,
    log_change,
    rolling_argmax,
    rolling_argmin,
    rolling_beta,
    rolling_corr,
    rolling_count,
    rolling_max,
    rolling_mean,
    rolling_median,
    rolling_min,
    rolling_quantile,
    rolling_rank,
    rolling_residual_std,
    rolling_skew,
    rolling_slope,
    rolling_std,
    rolling_sum,
    rolling_top_mean,
    shift,
)
from features.kernels.rows import demean, gauss_rank, group_mean, rank, row_mean, winsorise, zscore

__all__ = [
    "change",
    "demean",
    "gauss_rank",
    "group_mean",
    "log_change",
    "rank",
    "rolling_argmax",
    "rolling_argmin",
    "rolling_beta",
    "rolling_corr",
    "rolling_count",
    "rolling_max",
    "rolling_mean",
    "rolling_median",
    "rolling_min",
    "rolling_quantile",
    "rolling_rank",
    "rolling_residual_std",
    "rolling_skew",
    "rolling_slope",
    "rolling_std",
    "rolling_sum",
    "rolling_top_mean",
    "row_mean",
    "shift",
    "winsorise",
    "zscore",
]
