"""Stress scenarios as data: what the market, its factors and sectors did in past crises, and what a user supposes.

A scenario is one entry of a YAML file, and a file of a user's own has the form of `stress.yaml` beside this module,
whose head says what each key means. The moves of single names and of funds are total returns, recorded as such; each
stands for a sector or for a factor. A shock is what remains over the market,

    s_k = mean over the proxies p of k of (move_p - market),

so that a stock of that sector with a beta of one falls as the sector's proxies fell: the market is not counted twice.

References
----------
Khandani, A. E. and Lo, A. W. (2011). What happened to the quants in August 2007? Evidence from factors and transactions
data. Journal of Financial Markets 14.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field

from core.errors import ConfigError
from core.params import Day, Params, parse, read_yaml

BUILT_IN = Path(__file__).with_name("stress.yaml")
"""The scenarios that come with the package."""

LARGEST = 5.0
"""Greatest move that is taken for a fraction and not for percent."""


@dataclass(frozen=True)
class Proxy:
    """A single name or fund and its total return, a fraction, standing for a sector or for a factor."""

    symbol: str
    move: float
    sector: str = ""
    factor: str = ""


@dataclass(frozen=True)
class Scenario:
    """What happened, or what is supposed to happen; returns as fractions.

    Attributes
    ----------
    market
        Return of the market.
    first, last
        Days of the window, counted from the close of `first` or, if `counted_from` says so, from the close before;
        None where the scenario is hypothetical.
    vix_from, vix_to
        VIX where the window begins and its highest close within it; None where unknown.
    factors
        Returns of long-short factor portfolios.
    sectors
        Returns of sectors over the market's.
    proxies
        Single names and funds with their total returns.
    days
        Return of the market on single days of the window.
    crowd
        Times that the exit of the crowd counts; 0 where it stays.
    source, note
        Where the numbers are from, and what else happened.
    recalled
        Keys that are recalled from the publication and not computed, as `factors.reversal`.

    Raises
    ------
    ConfigError
        The window is impossible, a number is not finite, a shock is given in two ways or a key is unknown.
    """

    name: str
    title: str
    market: float
    first: datetime.date | None = None
    last: datetime.date | None = None
    counted_from: Literal["close", "previous close"] = "close"
    vix_from: float | None = None
    vix_to: float | None = None
    factors: Mapping[str, float] = field(default_factory=dict)
    sectors: Mapping[str, float] = field(default_factory=dict)
    proxies: tuple[Proxy, ...] = ()
    days: Mapping[datetime.date, float] = field(default_factory=dict)
    crowd: float = 1.0
    source: str = ""
    recalled: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        numbers = [self.market, self.crowd, *self.factors.values(), *self.sectors.values(), *self.days.values()]
        numbers += [proxy.move for proxy in self.proxies]
        if not np.isfinite(numbers).all():
            raise ConfigError(f"{self.name}: a move is not a finite number: write a fraction, or leave the key out")
        self._check_window()
        self._check_vix()
        for proxy in self.proxies:
            if bool(proxy.sector) == bool(proxy.factor):
                raise ConfigError(f"{self.name}.proxies.{proxy.symbol}: let it stand for one sector or for one factor")
            for kind, what, given in (("factors", proxy.factor, self.factors), ("sectors", proxy.sector, self.sectors)):
                if what in given:
                    raise ConfigError(
                        f"{self.name}.{kind}.{what}: proxy {proxy.symbol} stands for it too: keep one of them"
                    )
        for key in self.recalled:
            if key not in set(self._keys()):
                raise ConfigError(
                    f"{self.name}.recalled: {key} is no number of the scenario; there are {', '.join(self._keys())}"
                )

    def _check_window(self) -> None:
        if (self.first is None) != (self.last is None):
            raise ConfigError(f"{self.name}: first {self.first}, last {self.last}: give both days or neither")
        if self.first is None or self.last is None:
            if self.days:
                raise ConfigError(f"{self.name}.days: there is no window: give first and last too")
            return
        single = self.first == self.last and self.counted_from == "close"
        if self.first > self.last or single:
            raise ConfigError(
                f"{self.name}: from the close of {self.first} to that of {self.last} is no session: give a later last "
                "day, or for a single day `counted_from: previous close`"
            )
        for day in self.days:
            if not self.first <= day <= self.last:
                raise ConfigError(f"{self.name}.days.{day}: outside of {self.first} to {self.last}: widen the window")

    def _check_vix(self) -> None:
        known = [level for level in (self.vix_from, self.vix_to) if level is not None]
        if len(known) == 1 or not all(0 < level < np.inf for level in known):
            raise ConfigError(
                f"{self.name}: vix_from {self.vix_from}, vix_to {self.vix_to}: give two positive levels or neither"
            )

    def _keys(self) -> Iterator[str]:
        """Dotted names of the scenario's numbers."""
        yield "market"
        if self.vix_from is not None:
            yield from ("vix_from", "vix_to")
        for kind in ("factors", "sectors", "days"):
            yield from (f"{kind}.{key}" for key in getattr(self, kind))
        yield from (f"proxies.{proxy.symbol}" for proxy in self.proxies)

    def factor_shocks(self) -> dict[str, float]:
        """Return of each factor, those of funds over the market's."""
        return {**self.factors, **self._mean_excess([(p.factor, p.move) for p in self.proxies if p.factor])}

    def sector_shocks(self) -> dict[str, float]:
        """Return of each sector over the market's."""
        return {**self.sectors, **self._mean_excess([(p.sector, p.move) for p in self.proxies if p.sector])}

    def _mean_excess(self, proxies: list[tuple[str, float]]) -> dict[str, float]:
        moves: dict[str, list[float]] = {}
        for what, move in proxies:
            moves.setdefault(what, []).append(move)
        return {what: sum(each) / len(each) - self.market for what, each in moves.items()}

    def volatility_ratio(self) -> float | None:
        """Times that implied volatility rose, None where the VIX is unknown."""
        return None if self.vix_from is None or self.vix_to is None else self.vix_to / self.vix_from


def load_catalogue(*files: Path) -> dict[str, Scenario]:
    """The package's scenarios and then those of each file, by name.

    Parameters
    ----------
    files
        YAML files in the form of `stress.yaml`. What a proxy stands for in one file holds in the later ones.

    Raises
    ------
    ConfigError
        Names the file, the scenario and the key that is wrong, and what is allowed.
    """
    scenarios: dict[str, Scenario] = {}
    stands_for: dict[str, dict[str, str]] = {}
    for path in (BUILT_IN, *files):
        if not path.is_file():
            raise ConfigError(f"{path} is no file: give a YAML file in the form of {BUILT_IN}")
        values = read_yaml(path)
        try:
            _read(values, scenarios, stands_for)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
    return scenarios


def _fraction(value: float) -> float:
    if not -1 <= value <= LARGEST:
        raise ValueError(f"write returns as fractions from -1 to {LARGEST:g}, -0.339 for a fall of 33.9 %")
    return value


_Move = Annotated[float, AfterValidator(_fraction)]
_Word = Annotated[str, Field(min_length=1)]


class _Entry(Params):
    """A scenario as its file has it."""

    title: _Word
    market: _Move
    first: Day | None = None
    last: Day | None = None
    counted_from: Literal["close", "previous close"] = "close"
    vix_from: Annotated[float, Field(gt=0)] | None = None
    vix_to: Annotated[float, Field(gt=0)] | None = None
    factors: dict[_Word, _Move] = Field({})
    sectors: dict[_Word, _Move] = Field({})
    proxies: dict[_Word, _Move] = Field({})
    days: dict[Day, _Move] = Field({})
    crowd: Annotated[float, Field(ge=0)] = 1.0
    source: _Word
    recalled: list[str] = Field([])
    note: str = ""


class _Meanings(Params):
    """What proxies stand for."""

    sector_proxies: dict[_Word, _Word] = Field({})
    factor_proxies: dict[_Word, _Word] = Field({})


def _read(values: dict[str, object], scenarios: dict[str, Scenario], stands_for: dict[str, dict[str, str]]) -> None:
    """Add a file's scenarios and meanings to those that are known."""
    entries = values.pop("scenarios", None)
    if not isinstance(entries, dict) or not entries:
        raise ConfigError("scenarios: need a mapping of at least one name to its scenario")
    unknown = sorted(map(str, values.keys() - _Meanings.model_fields.keys()))
    if unknown:
        known = ", ".join(("scenarios", *_Meanings.model_fields))
        raise ConfigError(f"{unknown[0]}: unknown section; known here: {known}")
    meanings = parse(_Meanings, values, "")
    for kind, new in (("sector", meanings.sector_proxies), ("factor", meanings.factor_proxies)):
        for symbol, what in new.items():
            if stands_for.setdefault(symbol, {kind: what}) != {kind: what}:
                old = " ".join(*stands_for[symbol].items())
                raise ConfigError(f"{kind}_proxies.{symbol}: stands for {old} already: leave it out")
    for name, entry in entries.items():
        if not isinstance(name, str) or not re.fullmatch("[a-z][a-z0-9_]*", name):
            raise ConfigError(f"scenarios.{name}: name it in lower case, digits and underscores, from a letter on")
        if name in scenarios:
            raise ConfigError(f"scenarios.{name}: there is a scenario of that name already: choose another")
        if not isinstance(entry, dict):
            raise ConfigError(f"scenarios.{name}: need a mapping with at least title, market and source")
        scenarios[name] = _scenario(name, parse(_Entry, entry, f"scenarios.{name}"), stands_for)


def _scenario(name: str, entry: _Entry, stands_for: Mapping[str, Mapping[str, str]]) -> Scenario:
    proxies = []
    for symbol, move in entry.proxies.items():
        if symbol not in stands_for:
            raise ConfigError(
                f"scenarios.{name}.proxies.{symbol}: stands for nothing: add it to sector_proxies or factor_proxies"
            )
        proxies.append(Proxy(symbol, move, **stands_for[symbol]))
    fields = {key: getattr(entry, key) for key in _Entry.model_fields}
    try:
        return Scenario(name, **{**fields, "proxies": tuple(proxies), "recalled": tuple(entry.recalled)})
    except ConfigError as error:
        raise ConfigError(f"scenarios.{error}") from None
