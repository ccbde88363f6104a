"""What a strategy is asked to be, and whether it was: targets of each, and of how alike they are."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from pydantic import Field

from core.errors import DataError
from core.params import Params
from portfolio.performance import summarise


class StrategyTarget(Params):
    """Bounds of a strategy's figures, None where there is none; the figures are those of `summarise`.

    Attributes
    ----------
    net_sharpe, net_return
        At least, a year.
    volatility, max_drawdown, turnover, beta
        At most; the beta in size.
    """

    net_sharpe: float | None = None
    net_return: float | None = None
    volatility: float | None = Field(default=None, gt=0)
    max_drawdown: float | None = Field(default=None, gt=0, le=1)
    turnover: float | None = Field(default=None, ge=0)
    beta: float | None = Field(default=None, ge=0)


_AT_LEAST = ("net_sharpe", "net_return")


def check_targets(
    books: Mapping[str, pd.DataFrame], targets: Mapping[str, StrategyTarget], correlation: float | None = None
) -> pd.DataFrame:
    """Hold strategies' daily frames against their targets.

    Parameters
    ----------
    books
        By strategy, `Walk.daily` or `Backtest.daily`.
    targets
        By strategy; each has a book.
    correlation
        The most that net returns of any two books may be correlated, over the sessions that both have.

    Returns
    -------
    DataFrame
        `strategy` (of a correlation "one, other"), `target`, `value`, `bound`, `met`; a value that is not known is not
        met.

    Raises
    ------
    DataError
        A target's strategy has no book.
    """
    missing = sorted(set(targets) - set(books))
    if missing:
        raise DataError(f"targets: no book of {', '.join(missing)}: run it, or drop its targets")
    rows = []
    for strategy, target in targets.items():
        figures = summarise(books[strategy])
        for name, bound in target.model_dump(exclude_none=True).items():
            value = abs(figures[name]) if name == "beta" else figures[name]
            rows.append((strategy, name, value, bound, value >= bound if name in _AT_LEAST else value <= bound))
    if correlation is not None:
        net = {name: daily.set_index("date")["net"] for name, daily in books.items()}
        for one, other in combinations(books, 2):
            both = pd.concat([net[one], net[other]], axis=1, join="inner").to_numpy(dtype=np.float64)
            moves = len(both) > 2 and bool((both.std(axis=0) > 0).all())
            value = float(np.corrcoef(both.T)[0, 1]) if moves else float("nan")
            rows.append((f"{one}, {other}", "correlation", value, correlation, value <= correlation))
    return pd.DataFrame(rows, columns=["strategy", "target", "value", "bound", "met"])
