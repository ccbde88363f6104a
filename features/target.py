"""What the models learn to predict: the residual forward return, ranked to a Gaussian per session.

A row of session D trades at the close of D+1 and is held for h sessions, so its return is
`close[D+1+h] / close[D+1] - 1`, and its outcome is known h + 1 sessions after D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from core.params import Params
from features.companies import joined, separated
from features.kernels import demean, gauss_rank, row_mean
from features.panel import Array, Mask, Panel
from features.returns import market_beta


class TargetRule(Params):
    """Definition of the target.

    Attributes
    ----------
    horizon
        Sessions held, h.
    auxiliary
        Further holding periods that layers may learn from; only `horizon` is predicted and judged.
    beta_window
        Daily returns up to D from which the market beta is estimated; half of them must be present.
    beta_shrinkage
        Weight of 1 in the beta: 0 keeps the estimate, 1 makes every beta 1; a third is Blume (1975).
    """

    horizon: int = Field(5, ge=1)
    auxiliary: list[Annotated[int, Field(ge=1, le=252)]] = Field([1, 21])
    beta_window: int = Field(252, ge=20)
    beta_shrinkage: float = Field(1 / 3, ge=0, le=1)

    @property
    def known_after(self) -> int:
        """Sessions from D until the outcome is known: h + 1."""
        return self.horizon + 1


@dataclass(frozen=True)
class Target:
    """Outcomes of every session, `(T, N)` each, NaN where unknown.

    Attributes
    ----------
    forward
        Return from the close of D+1 to the close of D+1+h, a fraction, for every symbol.
    residual
        The same net of market and sector, a fraction, within the universe of D.
    label
        Normal quantile of the residual's rank within the universe of D.
    """

    forward: Array
    residual: Array
    label: Array


def make_target(panel: Panel, rule: TargetRule, horizon: int | None = None) -> Target:
    """Outcomes of every session of a panel, over the rule's horizon or another.

    Betas and the universe are those of D; only the return itself comes from later sessions, of the same company.
    """
    whole, panel = panel, separated(panel)
    forward = forward_return(panel, rule.horizon if horizon is None else horizon)
    estimate = market_beta(panel, rule.beta_window, rule.beta_window // 2)
    shrunk = 1.0 + (1.0 - rule.beta_shrinkage) * (np.nan_to_num(estimate, nan=1.0) - 1.0)
    residual = residual_return(forward, shrunk, row_mean(forward, panel.universe), panel.universe, panel.sector)
    return Target(*(joined(whole, values) for values in (forward, residual, gauss_rank(residual, panel.universe))))


def forward_return(panel: Panel, horizon: int) -> Array:
    """`close[D+1+h] / close[D+1] - 1`; NaN where a close is missing or a level break lies in between."""
    close = panel["close"]
    out = np.full(panel.shape, np.nan)
    bought, sold = close[1:-horizon], close[1 + horizon :]
    out[: len(sold)] = np.where(bought > 0, sold / bought - 1.0, np.nan)
    if "level_break" in panel.fields:
        breaks = np.cumsum(panel["level_break"] > 0, axis=0)
        out[: len(sold)][breaks[1 + horizon :] > breaks[1:-horizon]] = np.nan
    return out


def residual_return(returns: Array, beta: Array, market: Array, mask: Mask, sector: np.ndarray) -> Array:
    """`r - beta * r_m`, then minus the mean of the sector, over the masked symbols.

    Parameters
    ----------
    returns, beta
        `(T, N)`.
    market
        `(T,)`.
    sector
        `(N,)` codes; where unknown (-1) or of fewer than three names, the mean of all stands in.
    """
    return demean(returns - beta * market[:, None], mask, sector)
