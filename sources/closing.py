"""Until when a session is the latest one: what a daily job without a date would still have been asked for."""

from __future__ import annotations

import datetime

import numpy as np

from sources.calendar import EXCHANGE, _schedule


def superseded(session: np.datetime64, exchange: str = EXCHANGE) -> datetime.datetime:
    """Moment, in UTC, from which a session is no longer the last completed one: the close of the next.

    Parameters
    ----------
    session
        Any day; of one that is no session, the close of the first after it.
    """
    days, closes = _schedule(exchange, session, session)
    close: datetime.datetime = closes[np.searchsorted(days, session, side="right")].item()
    return close.replace(tzinfo=datetime.UTC)
