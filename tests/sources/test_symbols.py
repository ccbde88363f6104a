"""The same symbol in two spellings is found, whichever table has it."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from sources.cleaning.spelling import check_symbols
from sources.symbols import clean_label, spelt_otherwise, spelt_twice


def table(*symbols: str) -> pd.DataFrame:
    return pd.DataFrame({"symbol": pd.Series(symbols, dtype="str"), "value": 1.0})


@given(st.sampled_from(["BRK.B", "AAPL", "BF A"]), st.sampled_from([".", "-", "/", " ", "_", " - "]), st.booleans())
def test_case_and_separators_are_spelling(symbol: str, separator: str, lower: bool) -> None:
    other = symbol.replace(".", separator).replace(" ", separator)
    other = other.lower() if lower else other
    assert spelt_otherwise([other], ["BRK.B", "AAPL", "BF A"]) == ({} if other == symbol else {other: symbol})


def test_letters_are_no_spelling() -> None:
    assert spelt_otherwise(["BRKB", "AAPLE", "X"], ["BRK.B", "AAPL", "XX"]) == {}
    assert spelt_twice(["BRK.B", "BRKB", "aapl", "AAPL", "Aapl"]) == {"Aapl": "AAPL", "aapl": "AAPL"}


@pytest.mark.parametrize("raw", [" AA", "AA\t", "\u00a0AA", "\uff21\uff21", "A\u200bA", "\ufeffAA"])
def test_encoding_is_no_spelling(raw: str) -> None:
    assert clean_label(raw) == "AA"


def test_findings_name_table_symbol_and_rows() -> None:
    prices = table("AA", "BRK.B", "CC", "CC")
    found = check_symbols(
        {"prices": prices, "posts": table("aa", "aa", "brk-b", "CC", "ZZ"), "macro": pd.DataFrame({"series": ["VIX"]})}
    )
    assert found[["table", "symbol", "rows", "example"]].values.tolist() == [
        ["posts", "aa", 2, "prices have AA"],
        ["posts", "brk-b", 1, "prices have BRK.B"],
    ]
    # A table may cover more symbols than the prices do.
    assert check_symbols({"prices": prices, "posts": table("CC", "ZZ")}).empty
    twice = check_symbols({"prices": table("AA", "aa", "aa")})
    assert twice[["table", "symbol", "rows"]].values.tolist() == [["prices", "aa", 2]]


@pytest.mark.parametrize("symbols", [("aa", "cc"), ("X1", "X2")])
def test_a_table_that_matches_nothing_is_refused(symbols: tuple[str, ...]) -> None:
    likely = {"aa": r"\('aa' may be 'AA'\): spell"}.get(symbols[0], ": spell")
    with pytest.raises(DataError, match=f"posts: none of its 2 symbols.*{likely}"):
        check_symbols({"prices": table("AA", "BB", "CC"), "posts": table(*symbols)})
