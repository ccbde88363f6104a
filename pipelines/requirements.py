"""What a run needs of its data: symbols in a cross-section, sessions for the folds, and a cross-section to train on."""

from __future__ import annotations

import numpy as np

from core.errors import ConfigError, DataError
from features.panel import Panel
from features.universe import conditions
from models.folds import tuning_folds, walk_forward
from models.scoring import MIN_NAMES
from pipelines.params import Settings

LEAST_DAYS = 10
"""Sessions with a cross-section that the first training range needs."""


def cross_section(settings: Settings) -> tuple[int, str]:
    """Symbols of the universe that every stage and the daily job need on a session, and the setting that asks most."""
    wanted = {
        "the daily job": MIN_NAMES,
        "evaluation.min_names": settings.evaluation.min_names,
        "portfolio.rank.min_names": settings.portfolio.rank.min_names,
    }
    for name, layer in settings.layers.items():
        wanted[f"layers.{name}.min_names"] = getattr(layer, "min_names", 0)
    most = max(wanted, key=lambda name: wanted[name])
    return wanted[most], most


def require_enough(panel: Panel, settings: Settings) -> None:
    """Refuse data on which a later stage, or the daily job, would fail for want of symbols or sessions.

    Parameters
    ----------
    panel : Panel
        Of every session of the clean prices.
    settings : Settings
        Of the run: universe, folds, layers, evaluation, portfolio.

    Raises
    ------
    DataError
        No session has a cross-section, or it begins too late for the folds.
    ConfigError
        There are fewer sessions than the folds need.
    """
    needed, reason = cross_section(settings)
    members = panel.universe.sum(axis=1)
    if members.max() < needed:
        raise DataError(_too_few(panel, settings, needed, reason))
    folds, horizon = settings.folds, settings.target.horizon
    walk_forward(panel.dates, folds, horizon)
    first, last = tuning_folds(panel.dates, folds, horizon)[0].train
    days = int((members[first : last + 1] >= needed).sum())
    if days >= LEAST_DAYS:
        return
    begins = int(np.argmax(members >= needed))
    said = (
        f"the universe has {needed} symbols ({reason}) from {panel.dates[begins]} on, session {begins + 1} of "
        f"{len(panel.dates)}, and the first model is fitted on sessions {first + 1} to {last + 1}, of which {days} "
        f"have so many and {LEAST_DAYS} are needed"
    )
    begin = begins + 1 - settings.universe.lookback
    if begin <= 0:
        raise ConfigError(f"folds: {said}: raise folds.train_sessions, or shorten universe.coverage_sessions")
    walk_forward(panel.dates[begin:], folds, horizon)
    raise DataError(f"prices: {said}: set data.start to '{panel.dates[begin]}' in params.yaml")


def _too_few(panel: Panel, settings: Settings, needed: int, reason: str) -> str:
    """The best session's count of symbols, and how many pass each condition of the universe."""
    members = panel.universe.sum(axis=1)
    best = len(members) - 1 - int(np.argmax(members[::-1]))
    passed = {name: int(mask[best].sum()) for name, mask in conditions(panel.fields, settings.universe).items()}
    listed = ", ".join(f"{count} {name}" for name, count in passed.items())
    remedy = "add symbols" if len(panel.symbols) < needed else "add what is missing, or loosen that rule"
    if not np.isfinite(panel["volume"]).any():
        remedy = "no row has a volume; add it"
    return (
        f"prices: the universe has at most {members[best]} of {len(panel.symbols)} symbols (on {panel.dates[best]}), "
        f"at least {needed} are needed ({reason}); on that session pass: {listed}: {remedy}"
    )
