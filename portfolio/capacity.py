"""How much capital a book bears, and what other ways to run it would have earned.

By the square-root law an order's cost grows with the root of the capital: with the same trades at `ratio` times the
capital the impact is sqrt(ratio) times that of the walk, and all else is the same part of the equity. That is
`capacity_curve`, which costs nothing. A book that knows its capital trades less the larger it is: `compare` runs it
anew, for capitals as for rebalancing frequencies and weighting schemes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from core.errors import ConfigError
from portfolio.book_rule import BookRule
from portfolio.performance import SESSIONS_PER_YEAR, summarise
from portfolio.sessions import Market, Signals
from portfolio.walk import Walk, walk

# A fill's price may differ from the one that the order was sized at.
_MOVED = 1.1


def capacity_curve(result: Walk, rule: BookRule, capitals: ArrayLike) -> pd.DataFrame:
    """Net figures of a walk's own trades at other capitals.

    Parameters
    ----------
    result, rule
        A walk and the rule that it was made by.
    capitals
        `(K,)` currency at the start, > 0.

    Returns
    -------
    DataFrame
        `capital`, `net_sharpe`, `net_return`, `cost_annual`, `impact_annual` (fractions a year), `largest_share` (of a
        symbol's average traded value in one session) and `tradable` (whether that is within the participation limit,
        but for the move of a price between order and fill).
    """
    asked = np.atleast_1d(np.asarray(capitals, dtype=np.float64))
    if asked.ndim != 1 or not (np.isfinite(asked) & (asked > 0)).all():
        raise ConfigError("capacity: capitals must be positive numbers: give currency at the start")
    rows = []
    for capital in asked:
        ratio = capital / rule.construction.capital
        more = result.daily["impact"] * (np.sqrt(ratio) - 1.0)
        daily = result.daily.assign(cost=result.daily["cost"] + more, net=result.daily["net"] - more)
        figures, share = summarise(daily), float(result.daily["largest_share"].max()) * ratio
        rows.append(
            {
                "capital": capital,
                **{name: figures[name] for name in ("net_sharpe", "net_return", "cost_annual")},
                "impact_annual": float(result.daily["impact"].mean()) * np.sqrt(ratio) * SESSIONS_PER_YEAR,
                "largest_share": share,
                "tradable": bool(share <= rule.construction.limits.participation * _MOVED),
            }
        )
    return pd.DataFrame(rows)


def variants(
    rule: BookRule,
    *,
    rebalance_sessions: Sequence[int] = (),
    schemes: Sequence[str] = (),
    capitals: Sequence[float] = (),
) -> dict[str, BookRule]:
    """A rule with every combination of other frequencies, schemes and capitals; an empty list leaves the rule's own."""
    out = {}
    every = rebalance_sessions or (rule.rebalance_sessions,)
    amounts = capitals or (rule.construction.capital,)
    for sessions, scheme, capital in product(every, schemes or (rule.scheme,), amounts):
        values = rule.model_dump() | {"rebalance_sessions": sessions, "scheme": scheme}
        values["construction"] |= {"capital": float(capital)}
        out[f"{scheme}, every {sessions}, {capital:.3g}"] = BookRule.model_validate(values)
    return out


def ways(rule: BookRule, rebalance_sessions: Sequence[int], schemes: Sequence[str]) -> dict[str, BookRule]:
    """A rule as it is, with its own scheme at other frequencies, and with other schemes at its own frequency."""
    return {
        **variants(rule),
        **variants(rule, rebalance_sessions=rebalance_sessions),
        **variants(rule, schemes=schemes),
    }


def compare(market: Market, signals: Signals, rules: Mapping[str, BookRule], *, start: int = 0) -> pd.DataFrame:
    """Walk each rule over the same sessions.

    Returns
    -------
    DataFrame
        A row a rule: `name`, `scheme`, `rebalance_sessions`, `capital`, and the figures of `summarise`.
    """
    rows = []
    for name, rule in rules.items():
        told = {
            "name": name,
            "scheme": rule.scheme,
            "rebalance_sessions": rule.rebalance_sessions,
            "capital": rule.construction.capital,
        }
        rows.append(told | walk(market, signals, rule, start=start).summary)
    return pd.DataFrame(rows)
