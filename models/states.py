"""States of the market that the meta-learner may lean on: filtered regimes and market-wide features.

Everything is fitted on the past that the caller cuts: the regime models, and the mean and deviation
that each state is standardised by. What is not known is 0, the average state.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.errors import DataError
from core.params import Params
from models.dataset import Dataset
from models.inputs import session_bounds
from models.regimes import STATES, RegimeModel, RegimeRule

Array = NDArray[np.float64]

_LIMIT = 3.0
# A deviation below this share of the level is rounding.
_STILL = 1e-9


class StateRule(Params):
    """What tells the market's state apart."""

    states: list[str] = Field(
        default=["vix_z", "market_correlation", "market_herding_t", "market_lows", "market_dispersion_z"],
        description="features that are the same for every row of a session, by name or pattern",
    )
    regimes: RegimeRule | None = Field(default=RegimeRule(), description="filtered regimes of the market; null: none")


@dataclass(frozen=True, eq=False)
class StateModel:
    """How a session's states are told.

    Attributes
    ----------
    regimes
        Fitted regime models; None where too little of the market is known, or none is wanted.
    names : J names
        The states, in order: those of `models.regimes.STATES`, then market-wide columns of the dataset.
    mean, std : (J,)
        Of each state over the past that the model was fitted on.
    """

    regimes: RegimeModel | None
    names: tuple[str, ...]
    mean: Array
    std: Array

    @classmethod
    def fit(cls, dataset: Dataset, until: int, rule: StateRule) -> Self:
        """Fit on the sessions before `until`; no outcome is looked at.

        A state that is known in fewer than two of them, or never moved, is left out, as are the
        regimes where the market's return is known for too few.

        Raises
        ------
        DataError
            A feature differs between the rows of one session.
        """
        past = dataset.between(0, until - 1)
        regimes = _regimes(dataset.market[:until], rule.regimes)
        names = (*(STATES if regimes else ()), *state_columns(dataset.features, rule.states))
        raw = _raw(past, regimes, names)
        known = np.isfinite(raw)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, raw, 0.0).sum(axis=0) / count
        std = np.sqrt(np.where(known, (raw - mean) ** 2, 0.0).sum(axis=0) / count)
        moved = std > _STILL * np.maximum(np.abs(mean), 1.0)
        kept = tuple(name for name, told in zip(names, moved, strict=True) if told)
        return cls(regimes if set(kept) & set(STATES) else None, kept, mean[moved], std[moved])

    @property
    def lookback(self) -> int:
        """Sessions of the market's return, the predicted one included, that a session's states read; 0 for none."""
        return self.regimes.lookback if self.regimes else 0

    def states(self, dataset: Dataset) -> Array:
        """(S, J) states of each session that the dataset has rows of, in order.

        A session's states depend on its own rows and on the last `lookback` market returns, so a
        session alone gives the same bits as the full history.

        Raises
        ------
        DataError
            A feature is missing or differs between the rows of one session, or the model holds
            regimes and no market return is known.
        """
        raw = _raw(dataset, self.regimes, self.names)
        scaled = np.clip((raw - self.mean) / self.std, -_LIMIT, _LIMIT)
        return np.ascontiguousarray(np.where(np.isfinite(scaled), scaled, 0.0))

    def rows(self, dataset: Dataset) -> Array:
        """(R, J) states of each row's session."""
        return np.repeat(self.states(dataset), np.diff(session_bounds(dataset.session)), axis=0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "regimes": None if self.regimes is None else self.regimes.to_dict(),
            "states": [
                {"name": name, "mean": mean, "std": std}
                for name, mean, std in zip(self.names, self.mean.tolist(), self.std.tolist(), strict=True)
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The model that `to_dict` described.

        Raises
        ------
        DataError
            A part is missing or of the wrong kind.
        """
        try:
            regimes = None if values["regimes"] is None else RegimeModel.from_dict(values["regimes"])
            told = list(values["states"])
            names = tuple(str(state["name"]) for state in told)
            mean, std = (np.array([state[part] for state in told], dtype=np.float64) for part in ("mean", "std"))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"states: cannot be read ({error!r}): write the bundle again") from error
        return cls(regimes, names, mean, std)


def state_columns(features: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """Features that a pattern names, in the order of the patterns; one that matches nothing is left out."""
    found = [name for pattern in patterns for name in fnmatch.filter(features, pattern)]
    return tuple(dict.fromkeys(found))


def _regimes(market: Array, rule: RegimeRule | None) -> RegimeModel | None:
    if rule is None:
        return None
    try:
        return RegimeModel.fit(market, rule)
    except DataError:
        # too little history for regimes is usual in the first blocks: the names of the states tell
        return None


def _raw(dataset: Dataset, regimes: RegimeModel | None, names: Sequence[str]) -> Array:
    """(S, J) states as they come, NaN where not known."""
    features = [name for name in names if name not in STATES]
    data = dataset.with_columns(features)
    starts = session_bounds(data.session)[:-1]
    sessions = data.session[starts]
    columns: dict[str, Array] = {}
    if regimes:
        columns.update(zip(STATES, _filtered(data.market, sessions, regimes).T, strict=True))
    for place, name in enumerate(features):
        columns[name] = _shared(name, data.X[:, place], starts, data.dates[sessions])
    return np.array([columns[name] for name in names]).reshape(len(names), len(sessions)).T


def _shared(name: str, values: NDArray[np.float32], starts: NDArray[np.int64], dates: NDArray[np.datetime64]) -> Array:
    """(S,) the one value that a column has in each session, NaN where it has none."""
    if not len(starts):
        return np.empty(0)
    low, high = np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)
    differs = np.flatnonzero(low < high)
    if differs.size:
        raise DataError(
            f"stack.states: {name} differs between the symbols of {dates[differs[0]]}: "
            "name features of the whole market only"
        )
    return low.astype(np.float64)


def _filtered(market: Array, sessions: NDArray[np.int32], regimes: RegimeModel) -> Array:
    """(S, 2) regimes of the given sessions, from no more of the market than they read."""
    if not len(sessions):
        return np.empty((0, len(STATES)))
    first, last = int(sessions[0]), int(sessions[-1])
    begin = max(0, first - regimes.lookback + 1)
    window = market[begin : last + 1]
    if not np.isfinite(window).any():
        raise DataError(
            f"states: the stack reads {regimes.lookback} sessions of the market's return and none is known: "
            "hand over `market` with the rows"
        )
    return regimes.states(window)[sessions - begin]
