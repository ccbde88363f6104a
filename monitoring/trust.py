"""Do intervals and probabilities of being wrong still come true?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from models.calibration import brier, ece, reliability
from models.evaluation import CALIBRATION_BINS, wrong_sign
from monitoring.rules import MonitoringRule


def daily_trust(rows: pd.DataFrame) -> pd.DataFrame:
    """Per judged session: share of outcomes inside their interval, Brier score, stated and realised share wrong.

    Parameters
    ----------
    rows
        As `monitoring.realised.realise` gives them.

    Returns
    -------
    DataFrame
        `date, coverage, brier, p_wrong, share_wrong`, ascending.
    """
    judged = _judged(rows)
    if judged.empty:
        return pd.DataFrame(columns=["date", "coverage", "brier", "p_wrong", "share_wrong"])
    table = judged.assign(brier=(judged["p_wrong"] - judged["wrong"]) ** 2)
    table.loc[table["wrong"].isna(), "p_wrong"] = np.nan
    daily = table.groupby("date", as_index=False)[["inside", "brier", "p_wrong", "wrong"]].mean()
    return daily.rename(columns={"inside": "coverage", "wrong": "share_wrong"})


def measure_trust(
    rows: pd.DataFrame, level: float, expected: Mapping[str, Any], rule: MonitoringRule
) -> tuple[dict[str, float], pd.DataFrame]:
    """Calibration over the latest `window_sessions` judged sessions, and its reliability table.

    Parameters
    ----------
    level
        Coverage that the intervals claim.
    expected
        The version's out-of-fold `brier` and `ece`; None where it told none.

    Returns
    -------
    dict
        `days, level, coverage, brier, brier_expected, brier_excess` (over that of the realised base rate alone),
        `ece, ece_expected, p_wrong, share_wrong`; NaN where too few sessions are judged.
    DataFrame
        As `models.calibration.reliability` gives it.
    """
    judged = _judged(rows)
    days = np.unique(judged["date"].to_numpy())[-rule.window_sessions :]
    nothing = float("nan")
    promised = {f"{name}_expected": _number(expected.get(name)) for name in ("brier", "ece")}
    figures = {"days": float(len(days)), "level": level, **promised}
    names = ("coverage", "brier", "brier_excess", "ece", "p_wrong", "share_wrong")
    if len(days) < rule.least_sessions:
        return figures | dict.fromkeys(names, nothing), reliability([], [])
    recent = judged[judged["date"] >= days[0]]
    signed = recent[recent["wrong"].notna()]
    share = float(signed["wrong"].mean()) if len(signed) else nothing
    score = brier(signed["p_wrong"], signed["wrong"])
    figures |= {
        "coverage": float(recent["inside"].mean()),
        "brier": score,
        "brier_excess": score - share * (1 - share),
        "ece": ece(signed["p_wrong"], signed["wrong"], CALIBRATION_BINS),
        "p_wrong": float(signed["p_wrong"].mean()) if len(signed) else nothing,
        "share_wrong": share,
    }
    return figures, reliability(signed["p_wrong"], signed["wrong"], equal_count=True)


def _judged(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with a known outcome and a stated probability."""
    known = rows[rows["forward"].notna() & rows["p_wrong"].notna()]
    inside = (known["forward"] >= known["interval_low"]) & (known["forward"] <= known["interval_high"])
    return known.assign(inside=inside.astype(float), wrong=wrong_sign(known["expected_return"], known["forward"]))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")
