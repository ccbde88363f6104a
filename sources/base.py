"""What a source of raw tables is, and how one is opened by name."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from pydantic import BaseModel

from core.errors import SessionError
from core.params import parse
from core.registry import Registry
from sources.calendar import Dates, sessions


class Source(Protocol):
    """Raw tables in the schemas of `sources.schemas`.

    A provider is a class with an attribute `Params` and the constructor `(path, params)`; it
    registers itself with `PROVIDERS.register("name")`.
    """

    def tables(self) -> tuple[str, ...]:
        """Names of the tables that this source has; `prices` is always one of them."""
        ...

    def read(self, table: str, start: datetime.date | None = None, end: datetime.date | None = None) -> pd.DataFrame:
        """Normalised rows that became known on the days `[start, end]`; undated tables come whole.

        Raises
        ------
        DataError
            The table is absent or does not fit its schema.
        """
        ...

    def last_day(self) -> np.datetime64:
        """Last day that has a price, a session or not; what `read` would refuse may count."""
        ...


def last_session(source: Source) -> np.datetime64:
    """The latest session of the data: rows on days that the exchange was closed do not count.

    Raises
    ------
    SessionError
        No price lies on a session.
    """
    last = source.last_day()
    if (near := _last_of(np.array([last]))) is None:
        near = _last_of(source.read("prices")["date"].to_numpy().astype("datetime64[D]"))
    if near is None:
        raise SessionError(
            f"no price up to {last} lies on a session of the exchange: check the dates, or declare data.openings"
        )
    return near


def _last_of(days: Dates) -> np.datetime64 | None:
    """The latest of the days that is a session; None where none is."""
    found = days[np.isin(days, sessions(days.min(), days.max()))]
    return found.max() if len(found) else None


class Provider(Protocol):
    """What is registered: a class that makes a source."""

    @property
    def Params(self) -> type[BaseModel]:
        """Model of the provider's parameters."""
        ...

    def __call__(self, path: Path | None, params: Any) -> Source:
        """Open the source."""
        ...


PROVIDERS: Registry[Provider] = Registry("data source", "sources.providers")


def open_source(name: str, path: Path | None, params: Mapping[str, Any]) -> Source:
    """Open a source by the name of its provider.

    Parameters
    ----------
    path
        Folder of the data, for providers that read one.
    params
        The provider's own parameters.

    Raises
    ------
    ConfigError
        The provider is unknown or a parameter does not fit.
    DataError
        The data cannot be found.
    """
    provider = PROVIDERS[name]
    return provider(path, parse(provider.Params, params, f"data.{name}"))
