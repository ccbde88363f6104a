"""Were signals served every session, for whom, and from how complete data?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from monitoring.rules import MonitoringRule

SERVED, MISSING, BROKEN = "served", "missing", "broken"
HINDSIGHT = "hindsight"
"""Made afterwards for a session before anything was in production: it was never served."""


def measure_data(days: pd.DataFrame, rows: pd.DataFrame, priced: ArrayLike, rule: MonitoringRule) -> dict[str, float]:
    """Gaps, broken days, warnings and outcomes that never came, over the latest `window_sessions` sessions.

    Parameters
    ----------
    days
        One row a session from the first signals to the judged session: `date`, `state` (served, missing, broken,
        hindsight), `warnings` (count), `in_sample`.
    rows
        Served rows as `monitoring.realised.realise` gives them.
    priced
        `(T,)` symbols with a price, a session, the judged one last.

    Returns
    -------
    dict
        `sessions, served, missing, broken, hindsight, warnings, in_sample` of the window, `stale` sessions since the
        last signals, `overdue` share of due outcomes that are not known, `priced_ratio` of the last session to the
        usual, and `priced_trend`: the mean of the window over that of the window before, less one.
    """
    recent = days.tail(rule.window_sessions)
    states = recent["state"]
    served = np.flatnonzero((days["state"] == SERVED).to_numpy())
    due = rows[rows["due"] & (rows["date"] >= recent["date"].min())]
    counts = np.asarray(priced, dtype=np.float64)
    window, before = counts[-rule.window_sessions :], counts[: -rule.window_sessions][-rule.window_sessions :]
    usual = float(np.median(window)) if len(window) else float("nan")
    return {
        "sessions": float(len(recent)),
        "served": float((states == SERVED).sum()),
        "missing": float((states == MISSING).sum()),
        "broken": float((states == BROKEN).sum()),
        "hindsight": float((states == HINDSIGHT).sum()),
        "warnings": float(recent["warnings"].sum()),
        "in_sample": float(recent["in_sample"].sum()),
        "stale": float(len(days) - 1 - served[-1]) if len(served) else float("nan"),
        "overdue": float(due["forward"].isna().mean()) if len(due) else float("nan"),
        "priced_ratio": float(counts[-1] / usual) if usual > 0 else float("nan"),
        "priced_trend": float(window.mean() / before.mean() - 1) if len(before) and before.mean() > 0 else float("nan"),
    }


def daily_universe(rows: pd.DataFrame) -> pd.DataFrame:
    """Symbols served each session, and the share of names that changed since the served session before.

    Returns
    -------
    DataFrame
        `date, symbols, changed`: changed is one less the names of both over the names of either; NaN on the first.
    """
    lines, before = [], frozenset[str]()
    for date, names in rows.groupby("date", sort=True)["symbol"]:
        now = frozenset(names)
        changed = 1 - len(now & before) / len(now | before) if before else float("nan")
        lines.append((date, len(now), changed))
        before = now
    return pd.DataFrame(lines, columns=["date", "symbols", "changed"])


def measure_universe(daily: pd.DataFrame, rule: MonitoringRule) -> dict[str, float]:
    """The last session's size against the usual one of the window, and how fast names change."""
    recent = daily.tail(rule.window_sessions)
    if recent.empty:
        return dict.fromkeys(("symbols", "usual", "ratio", "changed"), float("nan"))
    usual = float(recent["symbols"].median())
    symbols = float(recent["symbols"].iloc[-1])
    return {
        "symbols": symbols,
        "usual": usual,
        "ratio": symbols / usual,
        "changed": float(recent["changed"].mean()),
    }
