"""Everything that `portfolio` in params.yaml may say: the book that is traded, and what it is held against."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from core.errors import ConfigError
from core.params import Params
from portfolio.backtest import RankRule
from portfolio.book_rule import BookRule
from portfolio.pod_walk import PodsRule
from portfolio.skill import ForecastRule
from portfolio.targets import StrategyTarget

BOOK, RANK, PODS = "book", "rank", "pods"
"""Names of the strategies of a run, to set targets of; a pod has its own name."""


class CompareRule(Params):
    """Other ways to run the book, walked over the last sessions.

    Attributes
    ----------
    sessions
        How many of the last sessions; 0: nothing is compared.
    rebalance_sessions, schemes
        Frequencies of the book's own scheme, and schemes at the book's own frequency.
    capitals
        Currency at the start, of the capacity curve.
    """

    sessions: int = Field(default=252, ge=0)
    rebalance_sessions: list[Annotated[int, Field(ge=1)]] = Field(default=[2, 10, 21])
    schemes: list[str] = Field(default=["equal_weight", "risk_parity", "hierarchical_risk_parity", "nested_clusters"])
    capitals: list[Annotated[float, Field(gt=0)]] = Field(default=[1e6, 1e7, 1e8, 1e9])


class TargetRule(Params):
    """What the strategies are asked to be; told, and no gate.

    Attributes
    ----------
    strategies
        By name: book, rank, pods, or a pod.
    correlation
        The most that the net returns of any two pods may be correlated; None: any.
    """

    strategies: dict[str, StrategyTarget] = Field(
        default={BOOK: StrategyTarget(net_sharpe=1.0, volatility=0.1, max_drawdown=0.1, beta=0.1)}
    )
    correlation: float | None = Field(default=0.9, ge=-1, le=1)


class PortfolioRule(Params):
    """The section `portfolio` of params.yaml.

    Attributes
    ----------
    forecast
        Where its expected returns come from.
    book
        The book that is traded; its `horizon` is that of the target.
    rank
        The simple rank portfolio, the yardstick; it has the book's capital, costs and execution.
    """

    forecast: ForecastRule = ForecastRule()
    book: BookRule = BookRule()
    rank: RankRule = RankRule()
    compare: CompareRule = CompareRule()
    pods: PodsRule | None = PodsRule()
    targets: TargetRule = TargetRule()

    def book_for(self, horizon: int) -> BookRule:
        """The book of forecasts over a horizon.

        Raises
        ------
        ConfigError
            The section names another one.
        """
        if "horizon" in self.book.model_fields_set and self.book.horizon != horizon:
            raise ConfigError(
                f"portfolio.book.horizon = {self.book.horizon}, the forecasts span {horizon} sessions: "
                "leave it out, or set target.horizon"
            )
        return self.book.model_copy(update={"horizon": horizon})
