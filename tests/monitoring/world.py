"""A history of served signals with as much skill as asked for, and what their versions promised."""

import numpy as np
import pandas as pd

from monitoring.drift import FEATURES
from monitoring.monitor import Reference, monitor
from monitoring.realised import realise
from monitoring.rules import AlarmRule, MonitoringRule

NAMES, SESSIONS, HORIZON, SKILL = 60, 160, 5, 0.06
DATES = pd.bdate_range("2020-01-01", periods=SESSIONS).to_numpy("datetime64[D]")
SYMBOLS = np.array([f"S{i:02d}" for i in range(NAMES)])


def _rule(name, metric, verdict, **bounds):
    return AlarmRule(name=name, metric=metric, verdict=verdict, reason="as the docs say", **bounds)


RULE = MonitoringRule(
    history_sessions=SESSIONS,
    false_alarm_sessions=250,
    simulations=200,
    rules=[
        _rule("altered", "data.broken", "freeze", max=0),
        _rule("inverted", "skill.stack.t", "freeze", min=-3.0),
        _rule("skill_lost", "skill.stack.cusum_ratio", "retrain", max=1.0),
        _rule("weak", "skill.stack.z", "watch", min=-2.0),
        _rule("intervals_drift", "calibration.coverage", "watch", min=0.86, max=0.95),
        _rule("challenger_leads", "shadow.best_t", "watch", max=3.0),
    ],
)


def reference(version=1, seed=0):
    noise = np.random.default_rng(seed).normal(0.0, 0.12, (800, 2))
    daily = pd.DataFrame(SKILL + noise, columns=["stack", "linear"])
    columns = {"stack": "signal", "linear": "signal_linear"}
    return Reference(version, daily, columns, {"brier": 0.25, "ece": 0.01}, 0.9, HORIZON)


def outcomes(seed=1):
    return np.random.default_rng(seed).normal(0.0, 0.02, (SESSIONS, NAMES))


def signals(forward, skill, versions=1, seed=2, width=1.645):
    """Signals whose correlation with the outcome is `skill`, a number or one a session."""
    rng = np.random.default_rng(seed)
    rho = np.broadcast_to(np.asarray(skill, dtype=float), SESSIONS)[:, None]
    z = forward / 0.02
    signal = rho * z + np.sqrt(1 - rho**2) * rng.normal(size=z.shape)
    version = np.broadcast_to(versions, SESSIONS)
    return pd.DataFrame(
        {
            "date": np.repeat(DATES.astype("datetime64[ns]"), NAMES),
            "symbol": np.tile(SYMBOLS, SESSIONS),
            "signal": signal.ravel(),
            "signal_linear": (signal + rng.normal(size=z.shape)).ravel(),
            "expected_return": signal.ravel() * 0.001,
            "interval_low": -0.02 * width,
            "interval_high": 0.02 * width,
            "p_wrong": 0.47,
            "version": np.repeat(version, NAMES),
            "in_sample": False,
        }
    )


def days_of(rows):
    version = rows.groupby("date")["version"].first()
    frame = pd.DataFrame({"date": DATES.astype("datetime64[ns]"), "state": "missing", "warnings": 0})
    frame.loc[frame["date"].isin(version.index), "state"] = "served"
    return frame.assign(version=frame["date"].map(version), in_sample=False, problem="")


def judged(rows, forward, at=-1, shadow=(), references=None, rule=RULE, days=None):
    """The monitor at a session, from signals up to it."""
    as_of = DATES[at]
    seen = rows[rows["date"] <= pd.Timestamp(as_of)]
    return monitor(
        realise(seen, DATES, SYMBOLS, forward, as_of, HORIZON),
        days_of(seen)[lambda frame: frame["date"] <= pd.Timestamp(as_of)] if days is None else days,
        references or {version: reference(version) for version in rows["version"].unique()},
        as_of=as_of,
        priced=np.full(SESSIONS, NAMES),
        drift=pd.DataFrame(columns=FEATURES),
        shadow={
            version: realise(frame, DATES, SYMBOLS, forward, as_of, HORIZON) for version, frame in dict(shadow).items()
        },
        rule=rule,
        seed=7,
    )
