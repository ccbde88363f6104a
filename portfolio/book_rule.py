"""How a book is run: one block of parameters for its stance, construction, execution and hedge."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from core.params import Params
from portfolio.construction import ConstructionRule
from portfolio.hedge import HedgeRule
from portfolio.policy import StancePolicy
from portfolio.risk_model import RiskRule

OPTIMISED = "optimised"
"""The scheme that is no allocation scheme: mean-variance with costs."""


class DrawdownRule(Params):
    """Exposure that shrinks with the book's own drawdown, as in `portfolio.drawdown`.

    Attributes
    ----------
    soft, hard
        Drawdowns at which the gross limit begins to shrink, and at which it is 0.
    window
        Sessions of wealth that the peak is the highest of: a book that is out comes back when the peak is forgotten.
    """

    soft: float = Field(default=0.1, ge=0, lt=1)
    hard: float = Field(default=0.2, gt=0, le=1)
    window: int = Field(default=252, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> DrawdownRule:
        if self.soft >= self.hard:
            raise ValueError(f"soft {self.soft} is not below hard {self.hard}")
        return self


class BookRule(Params):
    """How a book is run.

    Attributes
    ----------
    scheme
        "optimised": mean-variance with costs. Or an allocation scheme (`portfolio.allocation`) over the symbols with a
        side, whose weights are brought within the same limits with the least tracking error.
    rebalance_sessions
        Sessions from one rebalance to the next.
    rebalance_on_mode
        Rebalance at once when the mode of the stance changes.
    horizon
        Sessions that the forecast spans. Of a shorter way to the next rebalance it gives a part, of a longer one all.
    execution
        Price of a fill in the session after the decision: its open, its close, or the mean of high, low and close
        as a stand-in for the volume-weighted average.
    close_flat
        Close what has no stance, whatever that costs. Otherwise, and while a side is in doubt, it is reduced where
        its risk costs more than the trade.
    neutral_beta
        Absolute market exposure allowed where the stance asks for none.
    delisting_return
        Return over the last price when a symbol is delisted; delistings for cause lost 30 % on average.
    adv_sessions, volatility_sessions
        Windows of the average traded value and of the daily volatility.
    construction
        Its `capital` is the cash that the book starts with, and its `sessions` those of this block.
    drawdown
        None: the exposure does not depend on the drawdown.

    References
    ----------
    Shumway, T. (1997). The delisting bias in CRSP data. Journal of Finance 52(1).
    """

    scheme: str = OPTIMISED
    rebalance_sessions: int = Field(default=5, ge=1)
    rebalance_on_mode: bool = True
    horizon: int = Field(default=5, ge=1)
    execution: Literal["open", "close", "vwap"] = "close"
    close_flat: bool = True
    neutral_beta: float = Field(default=0.0, ge=0)
    delisting_return: float = Field(default=0.0, ge=-1, le=0)
    adv_sessions: int = Field(default=21, ge=1)
    volatility_sessions: int = Field(default=63, ge=2)
    construction: ConstructionRule = ConstructionRule()
    stance: StancePolicy = StancePolicy()
    hedge: HedgeRule = HedgeRule()
    risk: RiskRule = RiskRule()
    drawdown: DrawdownRule | None = DrawdownRule()
