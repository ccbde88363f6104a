"""Spelling of symbols: accidents of encoding removed, and the same symbol in two spellings found."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_SEPARATORS = re.compile(r"[\s./_^-]+")


def clean_label(value: str) -> str:
    """A label in the compatibility form NFKC, without invisible characters and outer blanks."""
    if value.isascii():
        return value.strip()
    composed = unicodedata.normalize("NFKC", value)
    return "".join(letter for letter in composed if unicodedata.category(letter) != "Cf").strip()


def spelt_otherwise(symbols: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Symbols that are not known, each with the known one that differs in case, blanks or separators alone.

    Parameters
    ----------
    symbols
        As a table has them.
    known
        As the prices have them.

    Examples
    --------
    >>> spelt_otherwise(["aapl", "BRK-B", "MSFT", "NONE"], ["AAPL", "BRK.B", "MSFT"])
    {'BRK-B': 'BRK.B', 'aapl': 'AAPL'}
    """
    known = set(known)
    bare = {_bare(symbol): symbol for symbol in sorted(known, reverse=True)}
    return {symbol: bare[_bare(symbol)] for symbol in sorted(set(symbols) - known) if _bare(symbol) in bare}


def spelt_twice(symbols: Iterable[str]) -> dict[str, str]:
    """Symbols that differ from another of them in spelling alone, each with the first such one."""
    first: dict[str, str] = {}
    return {symbol: one for symbol in sorted(symbols) if (one := first.setdefault(_bare(symbol), symbol)) != symbol}


def _bare(symbol: str) -> str:
    return _SEPARATORS.sub(".", symbol.strip().casefold())
