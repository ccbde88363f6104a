"""How single investors err: pure measures of salience, of gains not yet taken, and of selling in a fall."""

from __future__ import annotations

import numpy as np

from core.jit import compiled
from features.kernels.blocks import dense, over_blocks
from features.kernels.rolling import rolling_sum
from features.panel import Array
from features.windows import WEEK

SALIENCE_FLOOR = 0.1
"""Keeps the salience of small returns small (theta of the paper)."""
SALIENCE_DECAY = 0.7
"""Weight of a day relative to the next more salient one (delta of the paper)."""
TYPICAL_TURNOVER = 0.04
"""Share of all shares that changes hands in a week where their number is unknown: the median of large US companies."""


# --- salience ------------------------------------------------------------------------------------------------


def salience_value(returns: Array, market: Array, window: int, min_count: int) -> Array:
    """Salience theory value (ST): covariance (ddof 0) of a window's returns with their salience weights.

    A day stands out by `|r - r_m| / (|r| + |r_m| + 0.1)`; the k-th most salient of n weighs `0.7**k`, over the mean
    of these. Positive where the days that stand out were rises.

    Parameters
    ----------
    returns
        `(T, N)`, fraction.
    market
        `(T,)` return of the market.

    Returns
    -------
    `(T, N)`, fraction.

    References
    ----------
    Cosemans and Frehen (2021), Salience theory and stock prices, Journal of Financial Economics 140; Bordalo,
    Gennaioli and Shleifer (2012), Quarterly Journal of Economics 127.
    """
    returns = dense(returns)
    out = np.empty(returns.shape)
    over_blocks(_salience, returns.shape[1], returns, market, window, min_count, out)
    return out


@compiled
def _salience(low, high, returns, market, window, least, out):
    salience, value = np.empty(window), np.empty(window)
    for j in range(low, high):
        column = returns[:, j].copy()
        for t in range(len(column)):
            # Kept from the least to the most salient; of equals the later one counts as more salient.
            n = 0
            total = 0.0
            for k in range(max(0, t - window + 1), t + 1):
                r, m = column[k], market[k]
                if r == r and m == m:
                    total += r
                    stands_out = abs(r - m) / (abs(r) + abs(m) + SALIENCE_FLOOR)
                    i = n
                    while i > 0 and salience[i - 1] > stands_out:
                        salience[i], value[i] = salience[i - 1], value[i - 1]
                        i -= 1
                    salience[i], value[i] = stands_out, r
                    n += 1
            out[t, j] = np.nan
            if n >= least and n > 0:
                weight, weights, weighted = 1.0, 0.0, 0.0
                for i in range(n - 1, -1, -1):
                    weight *= SALIENCE_DECAY
                    weights += weight
                    weighted += weight * value[i]
                out[t, j] = weighted / weights - total / n


# --- the disposition effect ----------------------------------------------------------------------------------


def reference_price(price: Array, turnover: Array) -> float:
    """What the holders of a share paid on average, if each share is as likely to change hands as any other.

    `sum_n V_{t-n} prod_{tau < n} (1 - V_{t-n+tau}) P_{t-n}` over the sum of the weights.

    Parameters
    ----------
    price, turnover
        `(K,)` the oldest period first; turnover is the share of all shares that was traded, in [0, 1].

    References
    ----------
    Grinblatt and Han (2005), Prospect theory, mental accounting, and momentum, Journal of Financial Economics 78.
    """
    return float(_reference(np.asarray(price, np.float64)[::-1], np.asarray(turnover, np.float64)[::-1], len(price)))


@compiled
def _reference(price, turnover, n):
    """The reference price; the newest period first."""
    kept, paid, mass = 1.0, 0.0, 0.0
    for i in range(n):
        weight = kept * turnover[i]
        paid += weight * price[i]
        mass += weight
        kept *= 1.0 - turnover[i]
    return paid / mass if mass > 0.0 else np.nan


def gains_overhang(
    price: Array, traded: Array, shares: Array, broken: Array, weeks: int, min_weeks: int, wanted: int = 0
) -> Array:
    """Capital gains overhang: the price less the reference price, over the price; weeks are counted back from today.

    The turnover of a week is what was traded over the shares outstanding, at most 1. The shares are the last number
    reported up to that week, or, before the first report of the window, that one. Without any, they are such that the
    mean week of the window has `TYPICAL_TURNOVER`.

    Parameters
    ----------
    price
        `(T, N)` last price of the week that ends at the row.
    traded
        `(T, N)` shares traded in that week.
    shares
        `(T, N)` shares outstanding in the session in which they became known, on the basis of `traded`; else NaN.
    broken
        `(T, N)` positive where the price level jumped for no known reason: a window reaches back to the last such row.
    weeks, min_weeks
        Length of the window, and the weeks in it with price and volume that a value needs.
    wanted
        First row that is asked for; those before it are NaN.

    Returns
    -------
    `(T, N)`, fraction; depends on `5 * weeks` rows.

    References
    ----------
    Grinblatt and Han (2005), Journal of Financial Economics 78.
    """
    price = dense(price)
    out = np.empty(price.shape)
    arrays = price, dense(traded), dense(shares), dense(broken)
    over_blocks(_overhang, price.shape[1], *arrays, weeks, min_weeks, wanted, out)
    return out


@compiled
def _overhang(low, high, price, traded, shares, broken, weeks, least, wanted, out):
    rows = price.shape[0]
    paid, volume, outstanding = np.empty(weeks), np.empty(weeks), np.empty(weeks)
    filed, jumped = np.empty(rows, np.int64), np.empty(rows, np.int64)
    for j in range(low, high):
        close, weekly, known = price[:, j].copy(), traded[:, j].copy(), shares[:, j].copy()
        last_filed, last_jump = -1, 0
        for t in range(rows):
            last_filed = t if known[t] > 0.0 else last_filed
            last_jump = t if broken[t, j] > 0.0 else last_jump
            filed[t], jumped[t] = last_filed, last_jump
        for t in range(rows):
            out[t, j] = np.nan
            if t < wanted:
                continue
            first = max(t - WEEK * weeks + 1, jumped[t])
            n = 0
            total = 0.0
            reported = np.nan
            week = t
            while week - WEEK + 1 >= first:
                if filed[week] >= first:
                    reported = known[filed[week]]
                if close[week] > 0.0 and weekly[week] >= 0.0:
                    paid[n], volume[n], outstanding[n] = close[week], weekly[week], reported
                    total += weekly[week]
                    n += 1
                week -= WEEK
            if n < least or not close[t] > 0.0 or not total > 0.0:
                continue
            usual = total / n / TYPICAL_TURNOVER
            for i in range(n):
                of = outstanding[i] if outstanding[i] > 0.0 else usual
                volume[i] = min(volume[i] / of, 1.0)
            out[t, j] = 1.0 - _reference(paid, volume, n) / close[t]


# --- panic ---------------------------------------------------------------------------------------------------


def weighted_fall(returns: Array, volume: Array, window: int, min_count: int) -> Array:
    """Mean fall of a window weighted with volume, rises counting as 0: `sum v max(-r, 0) / sum v`.

    Parameters
    ----------
    returns, volume
        `(T, N)`; volume in any unit, such as its usual level.

    Returns
    -------
    `(T, N)`, fraction; NaN where nothing was traded.
    """
    weight = np.where(np.isnan(returns), np.nan, volume)
    total = rolling_sum(weight, window, min_count)
    fallen = rolling_sum(weight * np.maximum(-returns, 0.0), window, min_count)
    return np.divide(fallen, total, out=np.full(total.shape, np.nan), where=total > 0)
