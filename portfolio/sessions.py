"""What a book is given: the market and the signals of a history, and the one session of them that a day is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from features.memo import remembered
from portfolio.book_rule import BookRule
from portfolio.stance import Today

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Codes = NDArray[np.int64]

GONE_SESSIONS = 21
"""Sessions without a price after which a symbol counts as delisted."""


@dataclass(frozen=True, eq=False)
class Day:
    """A session after its close: how it traded, and what is known.

    Attributes
    ----------
    date, symbols
        Of the session, and of the N columns.
    open, high, low, close, volume
        `(N,)` prices, and shares traded; NaN or no volume where halted.
    level_break
        `(N,)`, True where the step of the price into the session is no return.
    delisted
        `(N,)`, True from the first session that the symbol is no longer listed in.
    returns, traded
        `(W, N)` daily returns and traded values of the last sessions, this one last; NaN where there is none.
    today
        What the stance knows; its signal is the expected return over the rule's horizon.
    sector, industry
        `(N,)` codes, -1 where unknown.
    factors
        `(N,)` exposures by name, NaN where unknown; "market" is the beta.
    index_return, index_volatility
        Of the market: its return into the close, and the implied volatility of its index per year.
    """

    date: np.datetime64
    symbols: tuple[str, ...]
    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array
    level_break: Mask
    delisted: Mask
    returns: Array
    traded: Array
    today: Today
    sector: Codes | None = None
    industry: Codes | None = None
    factors: Mapping[str, Array] = field(default_factory=dict)
    index_return: float = float("nan")
    index_volatility: float = float("nan")

    @cached_property
    def trades(self) -> Mask:
        """`(N,)` whether the symbol traded in the session, at a price."""
        with np.errstate(invalid="ignore"):
            return (self.close > 0) & np.isfinite(self.close) & (self.volume > 0) & ~self.delisted

    def price(self, execution: str) -> Array:
        """`(N,)` price that orders of this session are filled at, NaN where there is none."""
        if execution == "vwap":
            return (self.high + self.low + self.close) / 3.0
        return self.open if execution == "open" else self.close

    def liquidity(self, rule: BookRule) -> tuple[Array, Array]:
        """`(N,)` average traded value and daily volatility, up to this session; NaN where fewer than half are known."""
        return _liquidity(self.traded, self.returns, rule.adv_sessions, rule.volatility_sessions)


def _liquidity(traded: Array, returns: Array, adv_sessions: int, volatility_sessions: int) -> tuple[Array, Array]:
    return (
        _over(traded[-adv_sessions:], adv_sessions, spread=False),
        _over(returns[-volatility_sessions:], volatility_sessions, spread=True),
    )


def _over(values: Array, length: int, *, spread: bool) -> Array:
    known = np.isfinite(values)
    count = known.sum(axis=0)
    enough = count >= max(length / 2, 2 if spread else 1)
    count = np.maximum(count, 2) if spread else np.maximum(count, 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / count
    if spread:
        squares = np.where(known, (values - mean) ** 2, 0.0).sum(axis=0)
        return np.where(enough, np.sqrt(squares / (count - 1)), np.nan)
    return np.where(enough, mean, np.nan)


@dataclass(frozen=True, eq=False)
class Market:
    """How T sessions of N symbols traded.

    Attributes
    ----------
    dates, symbols
        `(T,)` and N names.
    returns
        `(T, N)` daily returns, NaN where there is none: `features.returns.returns_over(panel, 1)`.
    index_return
        `(T,)` the market's return, `features.returns.market_return`, 0 where no symbol has one. Betas are slopes on it,
        the hedge earns it, and the summary measures beta against it.
    open, high, low, close, volume, level_break, delisted
        `(T, N)`, as in `Day`; None of the last two: nowhere. Open, high and low may be None where fills are at the
        close.
    sector, industry
        `(N,)` codes.
    factors
        `(T, N)` exposures by name, each known at its session's close.
    index_volatility
        `(T,)` implied, per year; None where no put is bought.
    """

    dates: NDArray[np.datetime64]
    symbols: Sequence[str]
    close: Array
    volume: Array
    returns: Array
    index_return: Array
    open: Array | None = None
    high: Array | None = None
    low: Array | None = None
    level_break: Array | None = None
    delisted: Mask | None = None
    sector: Codes | None = None
    industry: Codes | None = None
    factors: Mapping[str, Array] = field(default_factory=dict)
    index_volatility: Array | None = None

    def __post_init__(self) -> None:
        shape = (len(self.dates), len(self.symbols))
        names = ("close", "volume", "returns", "open", "high", "low", "level_break")
        panels = {name: getattr(self, name) for name in names}
        panels |= {"delisted": self.delisted} | {f"factor {name}": values for name, values in self.factors.items()}
        codes = {"sector": (self.sector, shape[1:]), "industry": (self.industry, shape[1:])}
        series = {
            "index_return": (self.index_return, shape[:1]),
            "index_volatility": (self.index_volatility, shape[:1]),
        }
        for name, (values, wanted) in {**{n: (v, shape) for n, v in panels.items()}, **codes, **series}.items():
            if values is not None and np.shape(values) != wanted:
                raise DataError(f"book: {name} has shape {np.shape(values)}, the panel needs {wanted}: use one panel")

    @cached_property
    def breaks(self) -> Mask:
        """`(T, N)` boolean `level_break`."""
        if self.level_break is None:
            return np.zeros(self.close.shape, dtype=bool)
        return np.asarray(np.nan_to_num(self.level_break) != 0)

    @cached_property
    def traded(self) -> Array:
        """`(T, N)` traded values, currency."""
        return self.close * self.volume

    @remembered
    def liquidity(self, adv_sessions: int, volatility_sessions: int) -> tuple[Array, Array]:
        """`(T, N)` each: `Day.liquidity` of every session."""
        traded, returns, end = self.traded, self.returns, len(self.dates)
        past = [
            _liquidity(traded[max(0, t - adv_sessions) : t], returns[max(0, t - volatility_sessions) : t],
                       adv_sessions, volatility_sessions)
            for t in range(1, end + 1)
        ]  # fmt: skip
        return np.stack([adv for adv, _ in past]), np.stack([volatility for _, volatility in past])


@dataclass(frozen=True, eq=False)
class Signals:
    """What was known at the close of each of T sessions.

    Attributes
    ----------
    forecast, p_wrong
        `(T, N)` expected return over the rule's horizon and the probability that its sign is wrong; NaN where none.
    p_stress, systemic, implied_ratio
        `(T,)`, as in `portfolio.stance.Today`; None of the last two: not known.
    crowd_cost, panic
        `(T, N)`, likewise.
    """

    forecast: Array
    p_wrong: Array
    p_stress: Array
    systemic: Array | None = None
    implied_ratio: Array | None = None
    crowd_cost: Array | None = None
    panic: Array | None = None

    def __post_init__(self) -> None:
        shape = np.shape(self.forecast)
        for name in ("p_wrong", "crowd_cost", "panic", "p_stress", "systemic", "implied_ratio"):
            values, wanted = getattr(self, name), shape if name in ("p_wrong", "crowd_cost", "panic") else shape[:1]
            if values is not None and np.shape(values) != wanted:
                raise DataError(f"book: {name} has shape {np.shape(values)}, the forecast asks for {wanted}")

    def today(self, t: int) -> Today:
        """What the stance knows at the close of session t."""

        def row(values: Array | None) -> Array:
            return np.full(self.forecast.shape[1], np.nan) if values is None else values[t]

        def number(values: Array | None) -> float:
            return float("nan") if values is None else float(values[t])

        return Today(
            number(self.p_stress), number(self.systemic), number(self.implied_ratio),
            self.forecast[t], self.p_wrong[t], row(self.crowd_cost), row(self.panic),
        )  # fmt: skip


def long_gone(close: Array, sessions: int = GONE_SESSIONS) -> Mask:
    """`(T, N)` True where a symbol that had a price has had none for `sessions` sessions: it counts as delisted.

    A halt and a delisting look alike on the first day, and nobody knows then which it is.
    """
    known = np.isfinite(close)
    at = np.arange(len(close))[:, None]
    last = np.maximum.accumulate(np.where(known, at, -1), axis=0)
    return np.asarray((last >= 0) & (at - last >= sessions))


def day_at(market: Market, signals: Signals, t: int, rule: BookRule) -> Day:
    """Session t, with as much of the past as the rule reads and nothing of the future."""
    missing = np.full(len(market.symbols), np.nan)

    def row(values: Array | None) -> Array:
        return missing if values is None else values[t]

    back = max(rule.risk.window, rule.volatility_sessions)
    return Day(
        date=market.dates[t],
        symbols=tuple(market.symbols),
        open=row(market.open),
        high=row(market.high),
        low=row(market.low),
        close=market.close[t],
        volume=market.volume[t],
        level_break=market.breaks[t],
        delisted=np.zeros(len(missing), dtype=bool) if market.delisted is None else market.delisted[t],
        returns=market.returns[max(0, t + 1 - back) : t + 1],
        traded=market.traded[max(0, t + 1 - rule.adv_sessions) : t + 1],
        today=signals.today(t),
        sector=market.sector,
        industry=market.industry,
        factors={name: values[t] for name, values in market.factors.items()},
        index_return=float(market.index_return[t]),
        index_volatility=float("nan") if market.index_volatility is None else float(market.index_volatility[t]),
    )
