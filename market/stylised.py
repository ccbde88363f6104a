"""The stylised facts of daily returns, and the ranges in which those of real equities lie.

A simulated market may be believed only where it shows what every market shows: fat tails, no memory of the sign of
returns, a long memory of their size, volume that comes with it, and falls that are followed by wilder times than rises.

Each fact is measured symbol by symbol over its known returns; a panel's is the median over its symbols. An entry that
is not finite is unknown (halted, not yet listed, delisted): moments are those of the known returns, a covariance at a
lag the mean over the pairs of sessions that are both known, and a lag counts sessions, not trades.

References
----------
Cont, R. (2001). Empirical properties of asset returns: stylized facts and statistical issues. Quantitative Finance 1.
Bouchaud, J.-P., Matacz, A. and Potters, M. (2001). Leverage effect in financial markets: the retarded volatility model.
Physical Review Letters 87.
Franke, R. and Westerhoff, F. (2012). Structural stochastic volatility in asset pricing dynamics: estimation and model
contest. Journal of Economic Dynamics and Control 36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ConfigError, DataError
from market.hill import hill

Array = NDArray[np.float64]

MINIMUM = 250
"""Known returns that a symbol needs to be measured."""

HILL_SHARE = 0.05
"""Of |r| that is the tail."""

LEVERAGE_LAGS = tuple(range(1, 11))
"""Sessions after a return over which its effect on squared returns is averaged; for stocks it fades over some 50."""

_FLAT = 1e-14  # variance over mean square at which a series is constant but for rounding

RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "excess_kurtosis": (1.0, np.inf),
        "hill": (2.3, 4.2),
        "acf_return_1": (-0.10, 0.10),
        "acf_absolute_1": (0.10, 0.40),
        "acf_absolute_10": (0.08, 0.35),
        "acf_absolute_100": (0.02, 0.20),
        "volume_correlation": (0.15, 1.0),
    }
)
"""Lowest and highest value of each fact in a market that passes for real, both allowed.

Set around the S&P 500 of 1990 to 2022 (kurtosis 10.6, Hill 2.89, ACF of r -.08, of |r| .28, .29 and .10, volume .21)
and the median of twenty large US stocks (14, 3.1, -.02, .25, .19, .09). Leverage and skewness are reported and have
no range: single stocks show little of either.
"""


@dataclass(frozen=True)
class StylisedFacts:
    """Medians over the symbols of a panel.

    Attributes
    ----------
    excess_kurtosis
        m4 / m2^2 - 3 with moments over n; 0 for a Gaussian.
    skewness
        m3 / m2^1.5; below 0 where losses are larger than gains.
    hill
        Tail index alpha of the largest 5 % of |r|; about 6 for a Gaussian.
    acf_return_1
        Autocorrelation of r at lag 1.
    acf_absolute_1, acf_absolute_10, acf_absolute_100
        Autocorrelations of |r|; their slow fall is the clustering of volatility.
    leverage
        Mean correlation of r_t with r_{t+l}^2, l = 1 .. 10; below 0 where falls raise volatility.
    volume_correlation
        Correlation of volume with |r|; None where no volume was given.
    symbols
        Those measured.
    """

    excess_kurtosis: float
    skewness: float
    hill: float
    acf_return_1: float
    acf_absolute_1: float
    acf_absolute_10: float
    acf_absolute_100: float
    leverage: float
    volume_correlation: float | None
    symbols: int

    def outside(self, ranges: Mapping[str, tuple[float, float]] = RANGES) -> dict[str, float]:
        """The facts that lie outside their range, by name, with their values.

        A fact that could not be measured (NaN) lies outside; volume is not judged where none was given.

        Raises
        ------
        ConfigError
            A range has no such fact, or its ends are the wrong way round.
        """
        facts = asdict(self)
        found = {}
        for name, (low, high) in ranges.items():
            if name not in facts or not low <= high:
                raise ConfigError(
                    f"stylised facts: range {name} = ({low}, {high}): name one of {', '.join(facts)} and give the "
                    "lower end first"
                )
            value = facts[name]
            # Not `value < low or value > high`: that would let NaN pass.
            if value is not None and not low <= value <= high:
                found[name] = value
        return found


@dataclass(frozen=True)
class StylisedReport:
    """Facts of the symbols, and those of the market as a whole where its series was given."""

    stocks: StylisedFacts
    market: StylisedFacts | None


def stylised_facts(
    returns: ArrayLike,
    volume: ArrayLike | None = None,
    market: ArrayLike | None = None,
    *,
    market_volume: ArrayLike | None = None,
    minimum: int = MINIMUM,
) -> StylisedReport:
    """Measure a panel of returns.

    Parameters
    ----------
    returns
        `(T, N)` or `(T,)` returns as fractions.
    volume
        Of that shape, in shares or units of money. A trend over years hides the correlation with |r|: divide it out.
    market
        `(T,)` returns of the market, measured like one symbol: leverage and skewness are stronger in it.
    market_volume
        `(T,)` volume of the market.
    minimum
        Known returns that a symbol needs; those with fewer are left out.

    Raises
    ------
    ConfigError
        `minimum` is below 20, or a market's volume comes without its returns.
    DataError
        The shapes do not fit, or no symbol has enough known returns.
    """
    if minimum * HILL_SHARE < 1:
        raise ConfigError(f"stylised facts: minimum {minimum}: choose at least {1 / HILL_SHARE:.0f} returns")
    if market is None and market_volume is not None:
        raise ConfigError("stylised facts: the volume of a market without its returns: give both")
    table = _table(returns)
    if market is not None and np.shape(market) != (len(table),):
        raise DataError(f"stylised facts: market {np.shape(market)} for returns {table.shape}: give (T,)")
    stocks = _facts(table, volume, minimum)
    return StylisedReport(stocks, None if market is None else _facts(_table(market), market_volume, minimum))


def autocorrelation(values: ArrayLike, lags: Sequence[int]) -> Array:
    """`(L, N)` autocorrelation at each lag: the covariance over the known pairs by the variance.

    Parameters
    ----------
    values
        `(T, N)` or `(T,)`.
    lags
        Sessions, at least 1 each.

    Returns
    -------
    NaN where no pair is known or the column is constant.

    Raises
    ------
    ConfigError
        A lag is below 1, or there is none.
    DataError
        The values are no array of these shapes.
    """
    apart = _centred(_table(values))
    return np.array([_mean(apart[:-lag] * apart[lag:]) for lag in _lags(lags)]) / _mean(apart**2)


def leverage_correlation(returns: ArrayLike, lags: Sequence[int] = LEVERAGE_LAGS) -> Array:
    """`(L, N)` correlation of r_t with r_{t+lag}^2, each over the sessions where both are known.

    Arguments and errors are those of `autocorrelation`.
    """
    table = _table(returns)
    return np.array([_correlation(table[:-lag], table[lag:] ** 2) for lag in _lags(lags)])


def leverage_function(returns: ArrayLike, lags: Sequence[int] = LEVERAGE_LAGS) -> Array:
    """`(L, N)` leverage function L(lag) = <r_{t+lag}^2 r_t> / <r_t^2>^2, of returns less their mean.

    In units of 1 / return: at short lags about -2 for stocks and -20 for indexes (Bouchaud, Matacz and Potters 2001).
    Arguments and errors are those of `autocorrelation`.
    """
    apart = _centred(_table(returns))
    square = _mean(apart**2)
    return np.array([_mean(apart[lag:] ** 2 * apart[:-lag]) for lag in _lags(lags)]) / square**2


def _facts(returns: Array, volume: ArrayLike | None, minimum: int) -> StylisedFacts:
    traded = None if volume is None else _table(volume)
    if traded is not None and traded.shape != returns.shape:
        raise DataError(f"stylised facts: volume {traded.shape} for returns {returns.shape}: give arrays of one shape")
    known = np.isfinite(returns).sum(axis=0)
    enough = known >= minimum
    if not enough.any():
        raise DataError(
            f"stylised facts: at most {known.max(initial=0)} known returns a symbol, {minimum} are needed: give a "
            "longer history"
        )
    r = returns[:, enough]
    size, apart = np.abs(r), _centred(r)
    square = _mean(apart**2)
    memory = [_median(values) for values in autocorrelation(size, (1, 10, 100))]
    return StylisedFacts(
        excess_kurtosis=_median(_mean(apart**4) / square**2 - 3),
        skewness=_median(_mean(apart**3) / square**1.5),
        hill=_median(np.array([_alpha(column) for column in size.T])),
        acf_return_1=_median(autocorrelation(r, (1,))),
        acf_absolute_1=memory[0],
        acf_absolute_10=memory[1],
        acf_absolute_100=memory[2],
        leverage=_median(leverage_correlation(r).mean(axis=0)),
        volume_correlation=None if traded is None else _median(_correlation(traded[:, enough], size)),
        symbols=int(enough.sum()),
    )


def _alpha(size: Array) -> float:
    """Tail index of one symbol; NaN where so many returns are zero that the tail is."""
    if not np.count_nonzero(size > 0) > HILL_SHARE * np.isfinite(size).sum():
        return np.nan
    return hill(size, share=HILL_SHARE).alpha


def _table(values: ArrayLike) -> Array:
    """`(T, N)`, with NaN for every entry that is not finite."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim not in (1, 2):
        raise DataError(f"stylised facts: values of shape {table.shape}: give (T, N) or (T,)")
    columns = table if table.ndim == 2 else table[:, None]
    return np.where(np.isfinite(columns), columns, np.nan)


def _lags(lags: Sequence[int]) -> Sequence[int]:
    if not len(lags) or min(lags) < 1:
        raise ConfigError(f"stylised facts: lags {list(lags)}: give at least one, each of at least 1 session")
    return lags


def _mean(values: Array) -> Array:
    """Mean of the known entries of each column; NaN where there is none."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    return np.where(known, values, 0.0).sum(axis=0) / np.where(count > 0, count, np.nan)


def _centred(values: Array) -> Array:
    """Each column less its mean; NaN throughout where it is constant, so that what is built on it is NaN."""
    apart = values - _mean(values)
    return np.where(_mean(apart**2) > _FLAT * _mean(values**2), apart, np.nan)


def _correlation(a: Array, b: Array) -> Array:
    """Pearson's correlation of each column of `a` with that of `b`, over the rows where both are known."""
    both = np.isfinite(a) & np.isfinite(b)
    x, y = (_centred(np.where(both, v, np.nan)) for v in (a, b))
    return _mean(x * y) / np.sqrt(_mean(x**2) * _mean(y**2))


def _median(values: Array) -> float:
    """Median of the known entries; NaN where there is none."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else np.nan
