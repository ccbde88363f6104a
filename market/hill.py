"""How heavy a tail is: Hill's index.

Far out, P(X > x) falls like x^(-1/xi). Hill's estimate of xi is the mean log excess of the k largest values over the
next, xi = (1/k) sum_{i<=k} ln(X_(i) / X_(k+1)), and alpha = 1/xi the tail index: moments above alpha are infinite.
Daily returns of equities have an alpha of about 3, a Gaussian sample shows one of 6 in its largest 5 % of |x|.

The UPPER tail of the sample counts: pass losses as positive numbers (minus returns), or |r| for both tails at once.
Entries that are not finite are unknown and left out.

The standard error takes the values for independent, which daily returns are not: wild times come together. Returns
divided by their forecast volatility (`market.volatility.standardised_returns`) have the tail of the news alone.

References
----------
Hill, B. M. (1975). A simple general approach to inference about the tail of a distribution. Annals of Statistics 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, DataError
from core.jit import compiled

Array = NDArray[np.float64]


_WHOLE = 1e-9  # a share times a count that is whole but for rounding counts as whole: 0.29 * 100 is 28.999...


@dataclass(frozen=True)
class HillTail:
    """Hill's estimate.

    Attributes
    ----------
    xi
        Shape of the tail, 1 / alpha; 0 where the k + 1 largest values are equal.
    k
        Number of largest values it rests on.
    threshold
        X_(k+1), the largest value that is not one of them.
    """

    xi: float
    k: int
    threshold: float

    @property
    def alpha(self) -> float:
        """Tail index; moments of this order and above are infinite."""
        return 1.0 / self.xi if self.xi > 0 else np.inf

    @property
    def alpha_error(self) -> float:
        """Standard error of alpha for independent values, alpha / sqrt(k)."""
        return self.alpha / np.sqrt(self.k)


def hill(sample: ArrayLike, *, k: int | None = None, share: float | None = None) -> HillTail:
    """Hill's estimate from the k largest values.

    Parameters
    ----------
    sample
        Values of any shape; only the k + 1 largest need be positive.
    k, share
        One of them: the number of largest values, or the share of the sample, rounded down.

    Raises
    ------
    ConfigError
        Not one of `k` and `share` is given, or it is out of range.
    DataError
        The sample is too small, or X_(k+1) is not positive.

    References
    ----------
    Hill (1975).
    """
    values = known_values(sample)
    count = tail_size(len(values), k, share)
    top = np.sort(values)[::-1][: count + 1]
    if not top[count] > 0:
        raise DataError(
            f"tails: of the {count + 1} largest values one is {top[count]}: lower k or give positive losses"
        )
    return HillTail(float(np.log(top[:count] / top[count]).mean()), count, float(top[count]))


def trailing_hill(values: ArrayLike, window: int, share: float = 0.05, *, minimum: int | None = None) -> Array:
    """Hill's xi of each row from its own `window` rows alone.

    Parameters
    ----------
    values
        `(T,)` or `(T, N)` losses, or |r|.
    window
        Rows that an estimate reads.
    share
        Of the known values among them that are the tail, rounded down.
    minimum
        Known values that an estimate needs; half of the window, rounded up, by default.

    Returns
    -------
    xi = 1 / alpha, shaped as `values`: higher is heavier. NaN where fewer than `minimum` values are known, where the
    share of them is less than one, or X_(k+1) is not positive.

    Raises
    ------
    ConfigError
        A parameter is out of range.
    DataError
        The values are no `(T,)` or `(T, N)` array.
    """
    least = (window + 1) // 2 if minimum is None else minimum
    if not 0 < share < 1 or not 1 <= least <= window:
        raise ConfigError(
            f"tails: window {window}, share {share}, minimum {least}: need 0 < share < 1 and 1 <= minimum <= window"
        )
    given = np.ascontiguousarray(values, dtype=np.float64)
    if given.ndim not in (1, 2):
        raise DataError(f"tails: values of shape {given.shape}: give (T,) or (T, N)")
    columns = given if given.ndim == 2 else given[:, None]
    out = np.empty(columns.shape)
    _trailing(columns, window, share, least, out)
    return out.reshape(given.shape)


def known_values(sample: ArrayLike) -> Array:
    """The finite values of a sample of any shape, in one row."""
    values = np.asarray(sample, dtype=np.float64).ravel()
    return values[np.isfinite(values)]


def tail_size(count: int, k: int | None, share: float | None) -> int:
    """The number of largest values among `count`, from whichever of `k` and `share` is given.

    Raises
    ------
    ConfigError
        Not one of the two is given, or it is out of range.
    DataError
        `count` values are too few.
    """
    if (k is None) == (share is None):
        raise ConfigError("tails: give either k or a share")
    if share is not None:
        if not 0 < share < 1:
            raise ConfigError(f"tails: share {share}: choose one between 0 and 1")
        k = int(share * count + _WHOLE)
        if k < 1:
            raise DataError(f"tails: a share of {share} of {count} known values is less than one: give more of them")
    if k is None or k < 1:
        raise ConfigError(f"tails: k {k}: choose at least 1")
    if k >= count:
        raise DataError(f"tails: k {k} with {count} known values: give more values than k")
    return k


@compiled
def _trailing(values, window, share, minimum, out):
    """Fill xi of each row; the window's logs are kept in order, so that a row has the bits of its window alone."""
    logs = np.empty(window)
    for n in range(values.shape[1]):
        seen = 0
        for t in range(len(values)):
            if t >= window and np.isfinite(values[t - window, n]):
                old = values[t - window, n]
                at = np.searchsorted(logs[:seen], np.log(old) if old > 0.0 else -np.inf)
                for i in range(at, seen - 1):
                    logs[i] = logs[i + 1]
                seen -= 1
            new = values[t, n]
            if np.isfinite(new):
                log = np.log(new) if new > 0.0 else -np.inf
                at = np.searchsorted(logs[:seen], log)
                for i in range(seen, at, -1):
                    logs[i] = logs[i - 1]
                logs[at] = log
                seen += 1
            k = int(share * seen + _WHOLE)
            if seen < minimum or k < 1 or logs[seen - 1 - k] == -np.inf:
                out[t, n] = np.nan
                continue
            total = 0.0
            for i in range(seen - k, seen):
                total += logs[i] - logs[seen - 1 - k]
            out[t, n] = total / k
