"""Is a feed still alive? How long event tables stay silent, and when a silence is too long to be one.

A price that does not arrive is seen at once. A feed of filings, announcements or posts that stops does
not: its features fade out over weeks. What is usual is told by the table's own past.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

import numpy as np

from features.panel import Events, Panel

YEAR = 252
PATIENCE = 2
"""A silence of more than so many times the longest one of a year is a feed that stopped."""
LEAST = 5
"""Sessions of silence that are never too long."""


class Silence(TypedDict):
    """Sessions without a row of a table: the longest stretch between two rows, and the one that goes on."""

    longest: int
    current: int


def silences(panel: Panel) -> dict[str, Silence]:
    """How silent each event table was in the last year of a panel."""
    return {name: _silence(events, len(panel.dates)) for name, events in sorted(panel.events.items())}


def stopped(usual: Mapping[str, Silence], panel: Panel) -> dict[str, int]:
    """Feeds that were alive when `usual` was measured and are silent at the panel's last session.

    Parameters
    ----------
    usual
        What `silences` said then; a feed that had already stopped is not asked for.

    Returns
    -------
    dict
        By table, the sessions of silence that it has exceeded.
    """
    limits = {name: _limit(before) for name, before in sorted(usual.items()) if before["current"] <= _limit(before)}
    length = len(panel.dates)
    known = {name: _current(panel.events[name], length) for name in limits if name in panel.events}
    return {name: limits[name] for name, silent in known.items() if silent > limits[name]}


def _limit(silence: Silence) -> int:
    return max(PATIENCE * silence["longest"], LEAST)


def _silence(events: Events, length: int) -> Silence:
    heard = np.unique(events.session)
    heard = heard[heard >= length - YEAR]
    longest = int(np.diff(heard).max(initial=1)) - 1
    return {"longest": longest, "current": _current(events, length)}


def _current(events: Events, length: int) -> int:
    """Sessions since the last row; all of them where there is none."""
    return length - 1 - int(events.session[-1]) if len(events) else length
