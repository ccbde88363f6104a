"""How much of a crowd the investors are: pure measures of herding, and of what a fall of the market does.

Arrays are `(T, N)`. What is summed over symbols is summed in ascending order, and every window is computed from
scratch, so that a value's bits depend on nothing but its own rows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlog1py, xlogy

from core.jit import compiled
from features.kernels.blocks import dense, over_blocks
from features.kernels.rows import row_mean
from features.panel import Array, Mask

ROUNDING = 1e-20
"""A sum of squares below this share of the one it is left over from is rounding."""


# --- of the market as a whole --------------------------------------------------------------------------------


def absolute_deviation(returns: Array, market: Array, mask: Mask) -> Array:
    """Cross-sectional absolute deviation of returns (CSAD): mean `|R_i - R_m|` over the masked symbols, `(T,)`.

    Parameters
    ----------
    returns
        `(T, N)`, fraction.
    market
        `(T,)` return of the market.

    References
    ----------
    Chang, Cheng and Khorana (2000), An examination of herd behavior in equity markets, Journal of Banking & Finance 24.
    """
    return row_mean(np.abs(returns - market[:, None]), mask)


def deviation_curvature(deviation: Array, market: Array, window: int, min_count: int, lags: int) -> tuple[Array, Array]:
    """How the deviation of returns bends with the size of the market's move, over a rolling window.

    Least squares of `CSAD = a + g1 |R_m| + g2 R_m**2`. Under rational pricing the deviation grows in step with
    `|R_m|`; where investors follow the crowd it falls behind, and `g2 < 0`.

    Parameters
    ----------
    deviation, market
        `(T,)`, fraction.
    window, min_count
        Sessions, and those of them that must be known.
    lags
        Of the Newey-West variance, which weighs lag l by `1 - l / (lags + 1)`; neighbours are known sessions.

    Returns
    -------
    g2
        `(T,)`, 1 / fraction; NaN where too little is known or the market's moves are all of one size.
    t
        `(T,)` its t statistic; NaN also where the regression fits exactly.

    References
    ----------
    Chang, Cheng and Khorana (2000), Journal of Banking & Finance 24; Newey and West (1987), Econometrica 55.
    """
    return _curvature(deviation, market, window, max(min_count, 4), lags)


@compiled
def _curvature(deviation, market, window, least, lags):
    curvature, statistic = np.full(len(market), np.nan), np.full(len(market), np.nan)
    y, u, v, su, sv = np.empty(window), np.empty(window), np.empty(window), np.empty(window), np.empty(window)
    for t in range(len(market)):
        n = 0
        largest = 0.0
        for k in range(max(0, t - window + 1), t + 1):
            if deviation[k] == deviation[k] and market[k] == market[k]:
                y[n] = deviation[k]
                u[n] = abs(market[k])
                largest = max(largest, u[n])
                n += 1
        if n < least or largest == 0.0:
            continue
        # In units of the largest move both regressors are of one size, and the normal equations are well behaved.
        my, mu, mv = 0.0, 0.0, 0.0
        for i in range(n):
            u[i] /= largest
            v[i] = u[i] * u[i]
            my += y[i]
            mu += u[i]
            mv += v[i]
        my, mu, mv = my / n, mu / n, mv / n
        uu, uv, vv, uy, vy, yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(n):
            y[i] -= my
            u[i] -= mu
            v[i] -= mv
            uu += u[i] * u[i]
            uv += u[i] * v[i]
            vv += v[i] * v[i]
            uy += u[i] * y[i]
            vy += v[i] * y[i]
            yy += y[i] * y[i]
        area = uu * vv - uv * uv
        if area <= 1e-12 * uu * vv:
            continue
        slope = (vv * uy - uv * vy) / area
        bend = (uu * vy - uv * uy) / area
        curvature[t] = bend / (largest * largest)
        left = 0.0
        for i in range(n):
            rest = y[i] - slope * u[i] - bend * v[i]
            left += rest * rest
            su[i] = rest * u[i]
            sv[i] = rest * v[i]
        if left <= ROUNDING * yy:
            continue
        # Only the row of the bend is wanted of the inverse matrix, on both sides of the scores' variance.
        total = 0.0
        for lag in range(min(lags, n - 1) + 1):
            weight = (1.0 if lag == 0 else 2.0) * (1.0 - lag / (lags + 1.0))
            for i in range(lag, n):
                now = uu * sv[i] - uv * su[i]
                before = uu * sv[i - lag] - uv * su[i - lag]
                total += weight * now * before
        if total > 0.0:
            statistic[t] = bend * area / math.sqrt(total)
    return curvature, statistic


# --- of a symbol and the others ------------------------------------------------------------------------------


def others_mean(x: Array, mask: Mask, group: NDArray[np.int64], min_count: int = 3) -> Array:
    """Mean over the other masked symbols of the symbol's group in the row, the symbol itself left out.

    All other masked symbols stand in where the group is unknown (-1) or has fewer than `min_count` others. NaN
    where the symbol's own value is absent.

    Parameters
    ----------
    group
        `(N,)` integer code per symbol.
    """
    x = dense(x)
    out = np.empty(x.shape)
    groups = int(group.max(initial=0)) + 1
    over_blocks(_others, len(x), x, np.ascontiguousarray(mask), group.astype(np.int64), groups, float(min_count), out)
    return out


@compiled
def _others(low, high, x, mask, group, groups, least, out):
    size = x.shape[1]
    value = np.empty(size)
    place = np.empty(size, np.int64)
    # The last cell is that of all groups together.
    total, count = np.empty(groups + 1), np.empty(groups + 1)
    for t in range(low, high):
        n = 0
        total[:] = 0.0
        count[:] = 0.0
        for j in range(size):
            if mask[t, j] and x[t, j] == x[t, j]:
                value[n] = x[t, j] + 0.0
                place[n] = j
                n += 1
        for i in np.argsort(value[:n]):
            code = group[place[i]]
            total[groups] += value[i]
            count[groups] += 1.0
            if code >= 0:
                total[code] += value[i]
                count[code] += 1.0
        for j in range(size):
            out[t, j] = np.nan
            if x[t, j] == x[t, j]:
                own = 1.0 if mask[t, j] else 0.0
                code = group[j]
                if code < 0 or count[code] - own < least:
                    code = groups
                if count[code] > own:
                    out[t, j] = (total[code] - own * x[t, j]) / (count[code] - own)


def correlation_below(
    market: Array, returns: Array, threshold: Array, window: int, min_count: int, min_below: int
) -> Array:
    """Correlation with the market over those sessions of a window on which the market fell below a threshold.

    Parameters
    ----------
    market
        `(T,)` return of the market.
    threshold
        `(T,)` the bound that the sessions of the window ending there are held against; NaN: unknown.
    min_count, min_below
        Returns of the symbol that must be known in the window, and on those sessions of it.

    Returns
    -------
    `(T, N)` in [-1, 1]; NaN where too little is known or a return does not vary.

    References
    ----------
    Ang and Chen (2002), Asymmetric correlations of equity portfolios, Journal of Financial Economics 63.
    """
    returns = dense(returns)
    out = np.empty(returns.shape)
    over_blocks(_below, returns.shape[1], market, returns, threshold, window, min_count, max(min_below, 3), out)
    return out


@compiled
def _below(low, high, market, returns, threshold, window, least, below, out):
    width = high - low
    days = np.empty(window, np.int64)
    known, count, sx, sy = np.zeros(width), np.empty(width), np.empty(width), np.empty(width)
    xx, xy, yy = np.empty(width), np.empty(width), np.empty(width)
    for t in range(len(market)):
        first = max(0, t - window + 1)
        # Counts are whole numbers: adding one row and dropping another leaves them exact.
        if t >= window:
            for j in range(width):
                gone = returns[t - window, low + j]
                known[j] -= 1.0 if gone == gone else 0.0
        n = 0
        for k in range(first, t + 1):
            if market[k] < threshold[t]:
                days[n] = k
                n += 1
        count[:], sx[:], sy[:] = 0.0, 0.0, 0.0
        xx[:], xy[:], yy[:] = 0.0, 0.0, 0.0
        for k in days[:n]:
            row = returns[k, low:high]
            for j in range(width):
                present = row[j] == row[j]
                count[j] += 1.0 if present else 0.0
                sx[j] += market[k] if present else 0.0
                sy[j] += row[j] if present else 0.0
        for k in days[:n]:
            row = returns[k, low:high]
            for j in range(width):
                present = row[j] == row[j]
                dx = market[k] - sx[j] / count[j] if present else 0.0
                dy = row[j] - sy[j] / count[j] if present else 0.0
                xx[j] += dx * dx
                xy[j] += dx * dy
                yy[j] += dy * dy
        for j in range(width):
            new = returns[t, low + j]
            known[j] += 1.0 if new == new else 0.0
            m = count[j]
            value = np.nan
            varies = xx[j] > ROUNDING * sx[j] * sx[j] / m and yy[j] > ROUNDING * sy[j] * sy[j] / m
            if m >= below and known[j] >= least and varies:
                value = min(max(xy[j] / math.sqrt(xx[j] * yy[j]), -1.0), 1.0)
            out[t, low + j] = value


# --- of buyers and sellers -----------------------------------------------------------------------------------


def expected_imbalance(traders: Array, share: Array) -> Array:
    """Mean of `|X / n - p|` of X buyers among n traders who decide by themselves, each a buyer with probability p.

    De Moivre's closed form of the binomial mean deviation, `2 v C(n, v) p**v (1 - p)**(n - v + 1) / n` with
    `v = floor(n p) + 1`.

    Parameters
    ----------
    traders
        n, at least 1.
    share
        p in [0, 1].
    """
    n, p = np.broadcast_arrays(np.asarray(traders, dtype=np.float64), np.asarray(share, dtype=np.float64))
    v = np.minimum(np.floor(n * p) + 1.0, n)
    ways = gammaln(n + 1.0) - gammaln(v + 1.0) - gammaln(n - v + 1.0)
    return 2.0 * v * np.exp(ways + xlogy(v, p) + xlog1py(n - v + 1.0, -p)) / n


def herding_measure(buyers: Array, sellers: Array, share: Array) -> Array:
    """Lakonishok, Shleifer and Vishny's herding measure `|B / (B + S) - p| - AF`.

    The adjustment AF (`expected_imbalance`) is what chance alone would give, so that 0 means no herding.

    Parameters
    ----------
    buyers, sellers
        Counts B and S.
    share
        p, the share of buyers among all who traded in the period, in whatever symbol.

    Returns
    -------
    Between -0.5 and 1; NaN where nobody traded.

    References
    ----------
    Lakonishok, Shleifer and Vishny (1992), The impact of institutional trading on stock prices, Journal of Financial
    Economics 32.
    """
    traders = buyers + sellers
    known = (traders > 0) & np.isfinite(share)
    out = np.full(np.broadcast_shapes(traders.shape, share.shape), np.nan)
    n, p = traders[known], np.broadcast_to(share, out.shape)[known]
    out[known] = np.abs(buyers[known] / n - p) - expected_imbalance(n, p)
    return out
