"""What a day's signals are told with: the market's regime, how its crowd behaves, and a stance for each symbol.

Regimes and the state of the market are those that the bundle itself leans on. A symbol's behavioural state is the
measure of the crowd on which it stands out most from its session. The stance is a rule of ranks and of the chance of
being wrong: it says which way, never how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from core.params import Params
from models.bundle import Bundle
from models.dataset import Dataset
from models.inputs import gaussian_ranks
from models.regimes import STATES
from models.states import StateModel

CROWD = "behaviour"
"""Family of the features that measure the crowd."""
NOTHING = "none"
STANDS_OUT = 2.0
"""Gauss rank beyond which a symbol stands out: the outer 2.3 % on either side."""

LONG, SHORT, FLAT = "long", "short", "flat"


class StanceRule(Params):
    """Who is long, who is short, and who is neither."""

    share: float = Field(default=0.2, gt=0, le=0.5, description="of the names, long at the top and short at the bottom")
    max_p_wrong: float = Field(default=0.5, ge=0, le=1, description="above it, or where it is unknown, a name is flat")


def stances(rank: NDArray[np.integer], p_wrong: NDArray[np.floating], rule: StanceRule) -> list[str]:
    """Stance of each of a session's N symbols.

    Parameters
    ----------
    rank : (N,)
        1 for the best, N for the worst.
    p_wrong : (N,)
        Probability that the sign of the expected return is wrong; NaN where unknown.

    Returns
    -------
    list of str
        `long` for the first `floor(share * N)` ranks, `short` for as many last ones, `flat` for the rest and
        wherever the sign is too likely to be wrong.
    """
    count = len(rank)
    each = int(np.floor(rule.share * count))
    sure = np.asarray(p_wrong) <= rule.max_p_wrong
    out = np.full(count, FLAT, dtype=object)
    out[sure & (rank <= each)] = LONG
    out[sure & (rank > count - each)] = SHORT
    return [str(stance) for stance in out]


def crowd_states(bundle: Bundle, day: Dataset) -> list[str]:
    """What the crowd does most unusually to each of a session's symbols: `fomo +2.31`, or `none`.

    The number is the Gauss rank of the measure within the session; of equal ones the first counts.
    """
    measures = [str(told["name"]) for told in bundle.declared if told.get("family") == CROWD]
    if not measures or not len(day):
        return [NOTHING] * len(day)
    ranks = gaussian_ranks(day.with_columns(measures).X, day.session)
    most = np.abs(ranks).argmax(axis=1)
    found = ranks[np.arange(len(day)), most]
    return [
        f"{measures[column]} {rank:+.2f}" if abs(rank) > STANDS_OUT else NOTHING
        for column, rank in zip(most.tolist(), found.tolist(), strict=True)
    ]


def market_state(bundle: Bundle, data: Dataset, session: int) -> dict[str, float | None]:
    """The market on a session as the bundle tells it; None where a value is not known.

    Returns
    -------
    dict
        `stress_hmm`, the filtered probability of stress, and `stress_jump`, 1 in stress else 0, where the bundle
        tells regimes; and each feature of the whole market that it reads as a state, in that feature's units.
    """
    told: dict[str, float | None] = {}
    day = data.between(session, session)
    for model in _state_models(bundle):
        if model.regimes is not None and STATES[0] not in told:
            window = data.market[max(0, session - model.lookback + 1) : session + 1]
            told |= zip(STATES, map(_known, model.regimes.states(window)[-1]), strict=True)
        for name in model.names:
            if name not in told:
                values = day.with_columns([name]).X[:, 0]
                values = values[np.isfinite(values)]
                told[name] = _known(values[0]) if len(values) else None
    return told


def with_outlook(
    bundle: Bundle, data: Dataset, session: int, signals: pd.DataFrame, rule: StanceRule
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The signals of one session with its regimes, behavioural states and stances, and the state of its market.

    Parameters
    ----------
    data
        What the signals were predicted from.
    signals
        As `Bundle.predict` gives them for that session alone.

    Returns
    -------
    frame
        The columns `stress_hmm, stress_jump` (NaN where unknown or not told), `behaviour` and `stance` stand before
        the reasons.
    market
        See `market_state`.
    """
    market = market_state(bundle, data, session)
    added: Mapping[str, Any] = {
        **{name: np.full(len(signals), _number(market.get(name))) for name in STATES},
        "behaviour": crowd_states(bundle, data.between(session, session)),
        "stance": stances(signals["rank"].to_numpy(), signals["p_wrong"].to_numpy(), rule),
    }
    frame = signals.assign(**added)
    if "top_reasons" in frame:
        frame = frame[[*(name for name in frame if name != "top_reasons"), "top_reasons"]]
    return frame, market


def _state_models(bundle: Bundle) -> list[StateModel]:
    """The meta-learner's way to tell states, then those of the layers that have one."""
    layers = (getattr(layer, "told", None) for _, layer in sorted(bundle.layers.items()))
    return [model for model in (bundle.meta.states, *layers) if isinstance(model, StateModel)]


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _number(value: float | None) -> float:
    return np.nan if value is None else value
