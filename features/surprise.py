"""What is new in a report: earnings against a year ago, against the estimate, and whether it is news at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.jit import compiled
from features.asof import ratio
from features.panel import Array, Events
from features.timeline import SAME_QUARTER

SURPRISES = 8
"""Earlier surprises that tell how far this symbol's estimates usually miss."""
MIN_SURPRISES = 2
SURPRISE_WINDOW = 560
"""Sessions in which the earlier surprises became known."""
NEWS_WINDOW = 252
"""Sessions in which an earlier filing of the same quarter makes a later one no news."""


def standardised_change(quarterly: Array, drift: bool = False) -> Array:
    """Standardised unexpected earnings of quarterly figures, newest first.

    `(E_q - E_{q-4}) / sd` of the earlier such changes (ddof 1); with `drift`, less their mean.

    Parameters
    ----------
    quarterly
        `(C, 5 + n)` figures; n earlier changes are used, and all of them must be known.

    Returns
    -------
    `(C,)`, NaN where a figure is missing or the changes do not vary.
    """
    changes = quarterly[:, :-4] - quarterly[:, 4:]
    usual = changes[:, 1:]
    spread = usual.std(axis=1, ddof=1)
    expected = usual.mean(axis=1) if drift else 0.0
    # Equal changes leave a rounding error of a spread, which would turn any surprise into an enormous one.
    return ratio(changes[:, 0] - expected, np.where(spread > 1e-12 * np.abs(quarterly).max(axis=1), spread, 0.0))


def scaled_surprises(earnings: Events) -> tuple[Events, Array]:
    """Announced earnings less the estimate, over the estimate's size plus the symbol's usual miss.

    The usual miss is the root mean square of up to `SURPRISES` earlier surprises. The currency, the number of
    shares and later splits cancel out, and an estimate near zero does not make the quotient explode.

    Returns
    -------
    announced
        The `(K,)` announcements for which it is known.
    scaled
        `(K,)` their values, between -inf and inf, mostly within -1 and 1.
    """
    estimate = np.asarray(earnings.values["eps_estimate"], dtype=np.float64)
    surprise = np.asarray(earnings.values["eps_actual"], dtype=np.float64) - estimate
    order = np.lexsort((estimate, surprise, earnings.session, earnings.symbol))
    scaled = np.full(len(earnings), np.nan)
    scaled[order] = _scale(earnings.session[order], earnings.symbol[order], estimate[order], surprise[order])
    known = np.isfinite(scaled)
    return earnings.take(known), scaled[known]


@compiled
def _scale(session: NDArray[np.int64], symbol: NDArray[np.int64], estimate: Array, surprise: Array) -> Array:
    """Surprise over |estimate| plus the root mean square of the symbol's earlier ones; rows by symbol, session."""
    out = np.full(len(session), np.nan)
    for row in range(len(session)):
        total, count = 0.0, 0
        before = row - 1
        while before >= 0 and symbol[before] == symbol[row] and session[before] > session[row] - SURPRISE_WINDOW:
            if session[before] < session[row] and np.isfinite(surprise[before]):
                total += surprise[before] ** 2
                count += 1
                if count == SURPRISES:
                    break
            before -= 1
        if count >= MIN_SURPRISES:
            scale = abs(estimate[row]) + np.sqrt(total / count)
            if scale > 0:
                out[row] = surprise[row] / scale
    return out


def new_reports(filings: Events) -> Events:
    """Filings that bring a new quarter: not a second source's copy of one, nor an amendment."""
    period = np.asarray(filings.values["period_end"], dtype="datetime64[D]").astype(np.int64)
    order = np.lexsort((period, filings.session, filings.symbol))
    news = np.zeros(len(filings), dtype=bool)
    news[order] = _first_reports(filings.session[order], filings.symbol[order], period[order])
    return filings.take(news)


@compiled
def _first_reports(session: NDArray[np.int64], symbol: NDArray[np.int64], period: NDArray[np.int64]) -> NDArray:
    """Which filings bring a new quarter; rows by symbol, session, period."""
    out = np.ones(len(session), np.bool_)
    for row in range(len(session)):
        before = row - 1
        while out[row] and before >= 0 and symbol[before] == symbol[row]:
            if session[before] <= session[row] - NEWS_WINDOW:
                break
            out[row] = period[before] < period[row] - SAME_QUARTER
            before -= 1
    return out
