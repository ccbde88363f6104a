"""Cleaning never looks ahead, and never further back than it says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sources import calendar
from sources.base import open_source
from sources.cleaning import LOOKBACKS, clean
from sources.cleaning.filings import HISTORY_DAYS
from sources.cleaning.filings import LOOKBACK as FILING_LOOKBACK
from sources.schemas import TABLES

Tables = Mapping[str, pd.DataFrame]


def between(tables: Tables, table: str, start: object, end: object) -> pd.DataFrame:
    known = TABLES[table].known
    frame = tables[table]
    if known is None:
        return frame
    day = frame[known].dt.tz_localize(None) if frame[known].dt.tz is not None else frame[known]
    return frame[(day >= pd.Timestamp(start)) & (day < pd.Timestamp(end) + pd.Timedelta(days=1))].reset_index(drop=True)


def same_up_to(full: Tables, cut: Tables, last: np.datetime64, first: np.datetime64) -> None:
    assert full.keys() == cut.keys()
    for name, table in full.items():
        if name == "securities":
            expected = table
        else:
            day = table["date" if name == "prices" else "session"]
            expected = table[(day >= first) & (day <= last)].reset_index(drop=True)
        pd.testing.assert_frame_equal(cut[name], expected, check_exact=True, obj=f"{name} up to {last}")


def assert_causal(tables: Tables, days: np.ndarray, cuts: list[int]) -> None:
    first, end = days[0].item(), days[-1].item()
    full = clean(tables, first, end).tables
    for cut in cuts:
        last = days[cut]
        known = {name: between(tables, name, "1900-01-01", last) for name in tables}
        same_up_to(full, clean(known, first, last.item()).tables, last, days[0])

        poisoned = dict(tables)
        later = (poisoned["prices"]["date"] > pd.Timestamp(last)).to_numpy()
        poisoned["prices"] = poisoned["prices"].assign(
            close=np.where(later, 1e9 * (1 + np.arange(len(later)) % 3), poisoned["prices"]["close"])
        )
        same_up_to(full, clean(poisoned, first, last.item()).tables, last, days[0])


def assert_lookback(tables: Tables, days: np.ndarray, cuts: list[int]) -> None:
    full = clean(tables, days[0].item(), days[-1].item()).tables
    for cut in cuts:
        last = days[cut]
        near = {name: between(tables, name, days[max(0, cut + 1 - LOOKBACKS.get(name, 1))], last) for name in tables}
        same_up_to(full, clean(near, last.item(), last.item()).tables, last, last)


DAYS = calendar.sessions("2012-01-03", "2016-12-30")[:500]


def test_every_rule_fires_in_the_dirty_world(dirty: Tables) -> None:
    """Otherwise the two proofs below would prove little."""
    found = set(clean(dirty, DAYS[0].item(), DAYS[-1].item()).findings["rule"])
    assert found >= {
        "not_a_session", "close_not_positive", "open_not_positive", "volume_negative", "volume_zero_while_price_moved",
        "high_below_low", "open_or_close_above_high", "open_or_close_below_low", "first_day_at_new_level", "low_stray",
        "level_break", "missing_sessions", "gap_over_10_sessions", "goodwill_intangibles_zero", "other_entity",
        "revenue_jump", "shares_jump", "period_after_available", "repeated_in_one_session", "no_actual_figure",
        "no_text", "repeated_text", "no_value", "available_before_observed", "no_sector",
    }  # fmt: skip


def test_prefix_and_future(dirty: Tables) -> None:
    assert_causal(dirty, DAYS, [60, 200, 333, 460])


def test_lookback(dirty: Tables) -> None:
    assert_lookback(dirty, DAYS, [*range(127, 500, 31), 499])


def test_filings_lookback_covers_its_days() -> None:
    days = calendar.sessions("1995-01-01", "2020-12-31")
    ago = np.searchsorted(days, days - HISTORY_DAYS)
    assert (np.arange(len(days)) - ago).max() < FILING_LOOKBACK


def test_order_of_symbols_and_scale_do_not_matter(dirty: Tables) -> None:
    first, last = DAYS[0].item(), DAYS[-1].item()
    full = clean(dirty, first, last)
    scaled = dirty["prices"].copy()
    mine = scaled["symbol"] == "S03"
    scaled.loc[mine, ["open", "high", "low", "close"]] *= 8.0
    scaled.loc[mine, "volume"] /= 8.0
    other = clean({**dirty, "prices": scaled}, first, last)
    pd.testing.assert_frame_equal(
        other.findings.drop(columns="example"), full.findings.drop(columns="example"), check_exact=True
    )
    renamed = {name: table.copy() for name, table in dirty.items()}
    for table in renamed.values():
        if "symbol" in table:
            table["symbol"] = table["symbol"].str.replace("S03", "Z03")
    moved = clean(renamed, first, last).tables["prices"]
    mine = moved["symbol"] == "Z03"
    pd.testing.assert_frame_equal(
        moved[mine].drop(columns="symbol").reset_index(drop=True),
        full.tables["prices"].query("symbol == 'S03'").drop(columns="symbol").reset_index(drop=True),
        check_exact=True,
    )


@pytest.fixture(scope="module")
def real_tables(real_data: Path) -> dict[str, pd.DataFrame]:
    source = open_source("files", real_data, {})
    return {name: source.read(name) for name in source.tables()}


@pytest.mark.real_data
@pytest.mark.slow
def test_real_prefix_and_lookback(real_tables: dict[str, pd.DataFrame]) -> None:
    # Sentiment has no window; its cost is spared here.
    tables = {name: table for name, table in real_tables.items() if name != "posts"}
    days = calendar.sessions("2004-01-02", "2017-03-31")
    cuts = [int(np.searchsorted(days, np.datetime64(day))) for day in ("2004-07-15", "2011-05-06", "2015-06-01")]
    assert_causal(tables, days, cuts)
    assert_lookback(tables, days, [*cuts, len(days) - 1])
