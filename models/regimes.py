"""Market states as inputs of a model: how probable stress is today, told from the past alone.

Two judges that fail differently: a hidden Markov model on the market's return, which reacts within
days, and a statistical jump model on its trailing risk, which changes its mind rarely. Both are
fitted on the past that the caller cuts, and each day is then judged from a window of fixed length,
so that a daily job that holds the window reproduces the numbers of a full history bit for bit.

References
----------
Hamilton, J. D. (1989). A new approach to the economic analysis of nonstationary time series and the
business cycle. Econometrica 57(2).
Shu, Y., Yu, C. and Mulvey, J. M. (2024). Downside risk reduction using regime-switching signals: a
statistical jump model approach. Journal of Asset Management 25.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from core.errors import ConfigError, DataError
from core.params import Params, parse
from market.hmm import GaussianHMM, filtered_window, fit_hmm
from market.jumps import HALF_LIVES, JumpModel, fit_jumps, online_window, risk_features

Array = NDArray[np.float64]

STATES = ("stress_hmm", "stress_jump")
"""Columns of the states: P(stress) of the hidden Markov model, and the jump model's 0 or 1."""

FEATURE_WINDOW = 252
"""Sessions that a row of the jump model's risk features reads."""

RISK_COLUMN = 4
"""Feature that orders the jump model's states: log downside deviation of the middle half-life, a month."""


class RegimeRule(Params):
    """How the market's states are fitted and told; there are two, calm and stress.

    Attributes
    ----------
    penalty
        Price of a jump of the jump model; a higher one makes its regimes last longer.
    window
        Sessions that each day's filter looks back on.
    min_sessions
        Known market returns that a fit needs; the features take half of FEATURE_WINDOW of them.
    """

    penalty: float = Field(default=50.0, ge=0, allow_inf_nan=False)
    window: int = Field(default=252, ge=2)
    min_sessions: int = Field(default=252, ge=FEATURE_WINDOW // 2 + 50)


@dataclass(frozen=True)
class RegimeModel:
    """The two fitted models of the market's state, and the rule they were fitted by.

    Attributes
    ----------
    hmm
        Of the market's daily return, a fraction; its last state is stress.
    jump
        Of `market.jumps.risk_features` of that return; its last state is stress.
    """

    rule: RegimeRule
    hmm: GaussianHMM
    jump: JumpModel

    @classmethod
    def fit(cls, market: ArrayLike, rule: RegimeRule) -> RegimeModel:
        """Fit both models on every return that is given: the caller cuts at the past.

        Parameters
        ----------
        market
            `(T,)` daily equal-weight market returns as fractions in time order; NaN where unknown.

        Raises
        ------
        DataError
            Fewer than `min_sessions` returns are known, or they hold no two states.
        """
        returns = np.asarray(market, dtype=np.float64)
        known = int(np.isfinite(returns).sum())
        if known < rule.min_sessions:
            raise DataError(
                f"regimes: {known} market returns are known, a fit needs {rule.min_sessions}: begin the history "
                "earlier, or lower min_sessions"
            )
        features = risk_features(returns, HALF_LIVES, FEATURE_WINDOW)
        return cls(rule, fit_hmm(returns), fit_jumps(features, 2, rule.penalty, order_by=RISK_COLUMN))

    @property
    def lookback(self) -> int:
        """Market sessions that a row of `states` depends on, its own included."""
        return self.rule.window + FEATURE_WINDOW - 1

    def states(self, market: ArrayLike) -> Array:
        """Today's states from today's window, day by day.

        Row t has the same bits whether it is computed from the whole series or from its last
        `lookback` sessions, and nothing after t can change it.

        Parameters
        ----------
        market
            `(T,)` daily equal-weight market returns as fractions in time order; NaN where unknown.

        Returns
        -------
        `(T, 2)` in the order of STATES: the filtered probability of stress, and 1 in stress else 0.
        NaN where less than half of the window is known: returns for the first, rows of risk features
        for the second.
        """
        returns = np.asarray(market, dtype=np.float64)
        features = risk_features(returns, HALF_LIVES, FEATURE_WINDOW)
        window = self.rule.window
        probability = filtered_window(self.hmm, returns, window)[:, -1]
        stress = online_window(self.jump, features, window) == len(self.jump.centres) - 1
        return np.column_stack(
            [
                np.where(_half_known(np.isfinite(returns), window), probability, np.nan),
                np.where(_half_known(np.asarray(np.isfinite(features).all(axis=1)), window), stress, np.nan),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return {"rule": self.rule.model_dump(), "hmm": self.hmm.to_dict(), "jump": self.jump.to_dict()}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> RegimeModel:
        """The model that `to_dict` described.

        Raises
        ------
        DataError
            A part is missing or of the wrong kind.
        """
        try:
            rule, hmm, jump = state["rule"], state["hmm"], state["jump"]
            model = cls(parse(RegimeRule, rule, "rule"), GaussianHMM.from_dict(hmm), JumpModel.from_dict(jump))
        except (ConfigError, KeyError, TypeError) as error:
            raise DataError(f"regimes: cannot be read ({error!r}): write the bundle again") from error
        if len(model.jump.mean) != 3 * len(HALF_LIVES):
            raise DataError(f"regimes: the jump model has {len(model.jump.mean)} features: write the bundle again")
        return model


def _half_known(known: NDArray[np.bool_], window: int) -> NDArray[np.bool_]:
    """Whether at least half of the `window` rows that end at each row are known."""
    count = np.append(0, np.cumsum(known))
    low = np.maximum(np.arange(1, len(known) + 1) - window, 0)
    return 2 * (count[1:] - count[low]) >= window
