"""Is the result luck? Sharpe ratios judged against the number of trials behind them.

All Sharpe ratios here are per period (daily returns give daily ratios), never annualised, and
kurtosis is plain (3 for a normal).

References
----------
Bailey, D. H. and López de Prado, M. (2012). The Sharpe ratio efficient frontier. Journal of Risk 15(2).
Bailey, D. H. and López de Prado, M. (2014). The deflated Sharpe ratio. Journal of Portfolio Management 40(5).
Bailey, D. H., Borwein, J., López de Prado, M. and Zhu, Q. J. (2017). The probability of backtest
overfitting. Journal of Computational Finance 20(4).
Lo, A. W. (2002). The statistics of Sharpe ratios. Financial Analysts Journal 58(4).
Hansen, P. R. (2005). A test for superior predictive ability. Journal of Business and Economic Statistics 23(4).
Politis, D. N. and Romano, J. P. (1994). The stationary bootstrap. Journal of the American Statistical
Association 89(428).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from core.errors import ConfigError, DataError
from models.scoring import newey_west_variance

Array = NDArray[np.float64]

# A triangular autocorrelation needs Bartlett lags well beyond the overlap to be summed in full.
_OVERLAPS_OF_LAGS = 4
_SPA_REPETITIONS = 2000


def sharpe(returns: ArrayLike, lags: int = 0) -> float:
    """Mean over standard deviation per period; NaN entries are left out.

    Parameters
    ----------
    lags
        Newey-West lags of the variance: 0 for plain daily returns (ddof 1), at least h - 1 for a
        series of overlapping h-day returns, whose plain ratio is too large by about sqrt(h).
    """
    values = np.asarray(returns, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan")
    variance = newey_west_variance(values, lags) * len(values) / (len(values) - 1)
    return float(values.mean() / np.sqrt(variance)) if variance > 1e-30 else float("nan")


def moments(returns: ArrayLike) -> tuple[float, float, float, int]:
    """Sharpe ratio, skewness, plain kurtosis and number of periods of a return series."""
    values = np.asarray(returns, dtype=np.float64)
    values = values[np.isfinite(values)]
    ratio = sharpe(values)
    if not np.isfinite(ratio):
        return ratio, float("nan"), float("nan"), len(values)
    # Imported here: it takes half a second, and every stage imports this module for its parameters.
    from scipy.stats import kurtosis, skew

    return ratio, float(skew(values)), float(kurtosis(values, fisher=False)), len(values)


def _variance_factor(ratio: float, skewness: float, kurt: float) -> float:
    return 1.0 - skewness * ratio + (kurt - 1.0) / 4.0 * ratio**2


def psr(ratio: float, periods: int, skewness: float = 0.0, kurt: float = 3.0, benchmark: float = 0.0) -> float:
    """Probability that the true Sharpe ratio exceeds `benchmark` (Bailey and López de Prado 2012)."""
    factor = _variance_factor(ratio, skewness, kurt)
    if periods < 2 or not factor > 0:
        return float("nan")
    return float(ndtr((ratio - benchmark) * np.sqrt((periods - 1) / factor)))


def min_trl(
    ratio: float, benchmark: float = 0.0, skewness: float = 0.0, kurt: float = 3.0, confidence: float = 0.95
) -> float:
    """Shortest track record, in periods, that shows `ratio` > `benchmark`; infinite where it does not exceed it."""
    if np.isnan(ratio):
        return float("nan")
    if ratio <= benchmark:
        return float("inf")
    return float(1.0 + _variance_factor(ratio, skewness, kurt) * (ndtri(confidence) / (ratio - benchmark)) ** 2)


def expected_max_sharpe(trials: float) -> float:
    """Expected maximum of `trials` independent standard normals, Z(N); 0 for a single trial."""
    if not trials > 1:
        return 0.0
    euler = float(np.euler_gamma)
    return max(0.0, float((1 - euler) * ndtri(1 - 1 / trials) + euler * ndtri(1 - 1 / (trials * np.e))))


def dsr(
    ratio: float, periods: int, trials: float, trial_variance: float, skewness: float = 0.0, kurt: float = 3.0
) -> float:
    """Deflated Sharpe ratio: PSR against the best of `trials` skill-less trials (2014).

    Parameters
    ----------
    trial_variance
        Variance of the trials' Sharpe ratios, per period.
    """
    return psr(ratio, periods, skewness, kurt, np.sqrt(trial_variance) * expected_max_sharpe(trials))


def min_btl(trials: float, annual_ratio: float = 1.0) -> float:
    """Years of backtest below which the best of `trials` skill-less trials is expected to reach `annual_ratio`."""
    return (expected_max_sharpe(trials) / annual_ratio) ** 2


def effective_trials(returns: ArrayLike) -> float:
    """Number of independent trials: exp of the entropy of the correlation matrix's eigenvalues.

    Parameters
    ----------
    returns
        `(T, N)` returns per trial; constant columns count for nothing.
    """
    values = np.asarray(returns, dtype=np.float64)
    values = values[:, values.std(axis=0) > 0]
    if values.shape[1] < 2:
        return float(values.shape[1])
    return effective_rank(np.corrcoef(values, rowvar=False))


def effective_rank(correlation: ArrayLike) -> float:
    """Exp of the entropy of a correlation matrix's normalised eigenvalues."""
    shares = np.linalg.eigvalsh(np.asarray(correlation, dtype=np.float64))
    shares = shares[shares > 1e-12] / shares[shares > 1e-12].sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def pbo_cscv(returns: ArrayLike, blocks: int = 16) -> float:
    """Probability of backtest overfitting by combinatorially symmetric cross-validation (2017).

    The share of splits of the blocks into two halves in which the trial with the best in-sample
    Sharpe ratio does not rank above the middle out of sample. A single value is very noisy: pure
    noise gives .47 with a standard deviation of about .2.

    Parameters
    ----------
    returns
        `(T, N)` returns per trial, no NaN; the first T mod `blocks` rows are left out.

    Raises
    ------
    ConfigError
        `blocks` is odd or below 2.
    DataError
        There are fewer than two trials, too few rows, or NaN.
    """
    values = np.asarray(returns, dtype=np.float64)
    if blocks < 2 or blocks % 2:
        raise ConfigError(f"pbo: {blocks} blocks: choose an even number of at least 2")
    if values.ndim != 2 or values.shape[1] < 2 or len(values) < 2 * blocks or not np.isfinite(values).all():
        raise DataError(
            f"pbo: returns of shape {values.shape} cannot be split into {blocks} blocks: give at least 2 trials and "
            f"{2 * blocks} rows without NaN"
        )
    values = values[len(values) % blocks :]
    parts = values.reshape(blocks, -1, values.shape[1])
    sums, squares = parts.sum(axis=1), (parts**2).sum(axis=1)
    chosen = np.zeros((comb(blocks, blocks // 2), blocks))
    for row, half in enumerate(combinations(range(blocks), blocks // 2)):
        chosen[row, list(half)] = 1.0
    inside = _ratio(chosen @ sums, chosen @ squares, len(values) // 2)
    outside = _ratio((1 - chosen) @ sums, (1 - chosen) @ squares, len(values) // 2)
    best = inside.argmax(axis=1)
    from scipy.stats import rankdata  # not where every stage would import it

    rank = rankdata(outside, axis=1)[np.arange(len(best)), best] / (values.shape[1] + 1)
    return float((np.log(rank / (1 - rank)) <= 0).mean())


def _ratio(total: Array, squares: Array, count: int) -> Array:
    """Sharpe ratios from sums and sums of squares; a trial that never moves ranks last."""
    variance = (squares - total**2 / count) / (count - 1)
    return np.where(variance > 1e-30, total / count / np.sqrt(np.maximum(variance, 1e-30)), -np.inf)


def spa(returns: ArrayLike, block: int, seed: int) -> tuple[float, float, float]:
    """Test of superior predictive ability: is the best of several books better than cash?

    The null hypothesis is that none has a mean above zero; looking at the best of N is allowed for.
    Returns are divided by their own long-run deviation first, which makes the library's maximum of
    means the studentised statistic of Hansen (2005): a wild book cannot drown a steady one.

    Few blocks make it optimistic, as every bootstrap of dependent series is. Three worthless books of
    overlapping returns over 252 days, blocks twice the overlap, fall below .05 in 10% of simulations for
    an overlap of 5 and in 19% for one of 21; without overlap in 6%.

    Parameters
    ----------
    returns
        `(T, N)` returns per period, one column a book; rows with NaN are left out.
    block
        Mean length of the stationary bootstrap's blocks, periods: beyond the overlap of the returns.
    seed
        Of the bootstrap's draws.

    Returns
    -------
    lower, consistent, upper
        The p-value and its bounds; NaN for fewer than two blocks of periods, or where nothing moves.

    Raises
    ------
    ConfigError
        `block` is below 1.
    DataError
        `returns` is not two-dimensional.
    """
    if block < 1:
        raise ConfigError(f"spa: blocks of {block} periods: choose at least 1")
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 2:
        raise DataError(f"spa: returns of shape {values.shape}: give one column a book")
    values = values[np.isfinite(values).all(axis=1)]
    nothing = (float("nan"),) * 3
    if len(values) < max(2 * block, 3) or not values.shape[1]:
        return nothing
    variance = _bootstrap_variance(values, block)
    moving = variance > 1e-30
    if not moving.any():
        return nothing
    # Imported here: the library takes a second, and only this test needs it.
    from arch.bootstrap import SPA

    losses = -values[:, moving] / np.sqrt(variance[moving])
    test = SPA(np.zeros(len(values)), losses, block_size=block, reps=_SPA_REPETITIONS, seed=seed)
    test.compute()
    lower, consistent, upper = (float(test.pvalues[name]) for name in ("lower", "consistent", "upper"))
    return lower, consistent, upper


def _bootstrap_variance(values: Array, block: int) -> Array:
    """Long-run variance that the stationary bootstrap gives each column (Politis and Romano 1994)."""
    count, stay = len(values), 1.0 - 1.0 / block
    centred = values - values.mean(axis=0)
    total = (centred**2).sum(axis=0)
    for lag in range(1, count):
        weight = (1 - lag / count) * stay**lag + lag / count * stay ** (count - lag)
        total += 2.0 * weight * (centred[lag:] * centred[:-lag]).sum(axis=0)
    return np.maximum(total / count, 0.0)


def trial_variance(layer: ArrayLike, ratios: ArrayLike, periods: int) -> float:
    """Variance of Sharpe ratios of trials without skill: within layers, at least that of luck alone.

    The deflated Sharpe ratio asks for the variance over trials that differ by luck. Trials of one study differ by
    little else; layers differ by design, and to count a weak layer's distance from a strong one as luck would refuse
    any strong book that has a weak layer. Trials of one study are near copies of each other, though, and the Sharpe
    ratio of a worthless trial over `periods` returns has variance 1 / (periods - 1) (Lo 2002): less is not believed.

    Parameters
    ----------
    layer, ratios : (n,)
        Study and Sharpe ratio per period of each trial; NaN where it has none.
    periods
        Returns of the book that is judged.
    """
    known = pd.DataFrame({"layer": np.asarray(layer), "ratio": np.asarray(ratios, dtype=np.float64)}).dropna()
    studies = known.groupby("layer")["ratio"]
    apart = known["ratio"] - studies.transform("mean")
    freedom = len(known) - studies.ngroups
    within = float((apart**2).sum()) / freedom if freedom > 0 else 0.0
    return max(within, 1.0 / (periods - 1)) if periods > 1 else within


def judge_luck(
    trials: Mapping[str, pd.DataFrame], net: ArrayLike, horizon: int, pbo_blocks: Sequence[int]
) -> tuple[dict[str, Any], pd.DataFrame]:
    """A book's net daily returns against the best of as many skill-less trials as were run.

    Parameters
    ----------
    trials
        Per layer the daily returns of every trial: `date` and one column a trial. A failed trial has
        none, a pruned one those of the folds that it came to.
    net
        Daily net returns of the book.
    horizon
        Sessions that each of the trials' returns spans.
    pbo_blocks
        Block counts over which the probability of overfitting is averaged.

    Returns
    -------
    figures
        `trials` (all of them), `trials_complete`, `effective_trials`, `trial_sharpe_variance`,
        `expected_max_sharpe`, `sharpe_daily`, `skewness` and plain `kurtosis` of the net returns, `psr`,
        `dsr`, `pbo`, `min_trl_days`, `days`.
    table
        `layer, trial, days, complete, sharpe_daily`.
    """
    lags = _OVERLAPS_OF_LAGS * horizon
    lines, columns = [], []
    for layer in sorted(trials):
        returns = trials[layer].set_index("date").sort_index()
        days = returns.notna().sum()
        for name in returns.columns:
            # Pruned and failed trials were tries: they count, but the others cannot be compared with
            # them on all days.
            complete = bool(days[name] == days.max() > 0)
            ratio = sharpe(returns[name], lags)
            lines.append((layer, str(name), int(days[name]), complete, ratio))
            if complete:
                columns.append(returns[name].rename(f"{layer}/{name}"))
    table = pd.DataFrame(lines, columns=["layer", "trial", "days", "complete", "sharpe_daily"])
    joined = pd.concat(columns, axis=1) if columns else pd.DataFrame()
    common = joined.dropna().to_numpy(dtype=np.float64)
    blocks = [count for count in pbo_blocks if common.shape[1] >= 2 and len(common) >= 2 * count]
    ratio, skewness, kurt, periods = moments(net)
    variance = trial_variance(table["layer"], table["sharpe_daily"], periods)
    figures = {
        "trials": len(table),
        "trials_complete": common.shape[1],
        "effective_trials": effective_trials(common) if len(common) > 2 else float(common.shape[1]),
        "trial_sharpe_variance": variance,
        "expected_max_sharpe": float(np.sqrt(variance) * expected_max_sharpe(len(table))),
        "sharpe_daily": ratio,
        "skewness": skewness,
        "kurtosis": kurt,
        "psr": psr(ratio, periods, skewness, kurt),
        "dsr": dsr(ratio, periods, len(table), variance, skewness, kurt),
        "pbo": float(np.mean([pbo_cscv(common, count) for count in blocks])) if blocks else float("nan"),
        "min_trl_days": min_trl(ratio, 0.0, skewness, kurt),
        "days": periods,
    }
    return figures, table
