"""Nothing of the company that had a ticker before gets into what is computed of the one that has it now."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.assemble import assemble
from features.companies import Columns, companies, joined, separated
from features.invariance import prove, require
from features.panel import Panel
from features.registry import FAMILIES, build_features
from features.risk import risk_scale
from features.target import TargetRule, forward_return, make_target
from features.universe import UniverseRule
from sources.identity import ANOTHER_COMPANY, LONG_GAP, SHORT_GAP

SYMBOL, END = "S007", 300
"""The ticker, and the last session of the company that had it first."""
RULE = UniverseRule(min_dollar_volume=1e5, coverage_sessions=130, min_coverage=0.3, break_sessions=0)


def build(tables: dict[str, pd.DataFrame], gap: int, old: bool) -> Panel:
    """The panel where the ticker is given away after so many sessions from price to price, with or without the past."""
    dates = pd.bdate_range("2012-01-02", periods=700)
    begin = dates[END + gap]
    out = dict(tables)
    prices = tables["prices"].copy()
    mine = prices["symbol"] == SYMBOL
    before = mine & (prices["date"] <= dates[END])
    prices.loc[before, ["open", "high", "low", "close", "vwap", "close_unadjusted"]] *= 20.0
    prices.loc[before, "volume"] *= 1e-9  # in no universe, so that no market's past differs
    prices.loc[mine & (prices["date"] == begin), "level_break"] = ANOTHER_COMPANY if old and gap <= LONG_GAP else 0.0
    kept = ~mine | (prices["date"] >= begin) | (before & old)
    out["prices"] = prices[kept]
    for name in ("filings", "earnings", "posts"):
        rows = tables[name]
        out[name] = rows if old else rows[(rows["symbol"] != SYMBOL) | (rows["session"] > dates[END])]
    return assemble(out, dates.to_numpy("datetime64[D]"), RULE)


@pytest.mark.parametrize("gap", [SHORT_GAP + 9, LONG_GAP + 1, 70, 100, 250])
def test_features_and_targets_are_those_without_the_company_before(tables, gap: int) -> None:
    with_old, without = build(tables, gap, True), build(tables, gap, False)
    assert with_old.company is not None
    assert without.company is None
    begin = END + gap
    features = build_features({name: {} for name in FAMILIES.names()})
    assert len(features) > 100
    np.testing.assert_array_equal(with_old.universe[begin:], without.universe[begin:])
    assert with_old.universe[begin:, 7].any()
    for feature in features:
        if not feature.missing(without):
            found, expected = (feature(panel)[begin:, 7] for panel in (with_old, without))
            np.testing.assert_array_equal(found, expected, feature.name)
    rule = TargetRule(beta_window=400)
    for horizon in (5, 120):
        found, expected = (make_target(panel, rule, horizon) for panel in (with_old, without))
        np.testing.assert_array_equal(found.label[begin:], expected.label[begin:])
        assert np.isnan(found.forward[END : begin - 1, 7]).all()
        assert np.isnan(found.forward[max(0, begin - horizon - 1) : begin - 1, 7]).all()
    np.testing.assert_array_equal(risk_scale(with_old, 5)[begin:], risk_scale(without, 5)[begin:])


def test_a_shorter_gap_is_one_company(tables) -> None:
    assert build(tables, LONG_GAP, False).company is None
    rows = build(tables, SHORT_GAP, True)  # which the test marks, as cleaning would not
    assert rows.company is not None
    fields = {**rows.fields, "level_break": np.minimum(rows["level_break"], 1.0)}
    assert companies(fields) is None


def test_a_panel_with_two_companies_keeps_the_invariances(tables) -> None:
    panel = build(tables, LONG_GAP + 7, True)
    begin = END + LONG_GAP + 7
    features = build_features({name: {} for name in FAMILIES.names()})
    present = [feature for feature in features if not feature.missing(panel)]
    report = prove(present, panel, [END + 20, begin + 150], seed=1)
    require(report[report["invariance"] != "defined"])


def test_columns_come_apart_and_together() -> None:
    company = 2 * np.array([[0, 1, 0], [0, 1, 1], [0, 2, 1], [0, 2, 1]])
    columns = Columns.of(company)
    assert columns.origin.tolist() == [0, 1, 1, 2, 2]
    assert columns.number.tolist() == [0, 1, 2, 0, 1]
    values = np.arange(12.0).reshape(4, 3)
    apart = columns.apart(values, np.nan)
    assert np.isfinite(apart).sum() == values.size
    np.testing.assert_array_equal(columns.together(apart), values)


def test_companies_are_numbered_by_price_and_gap() -> None:
    close = np.full((200, 2), 10.0)
    close[20 : 20 + LONG_GAP, 0] = np.nan
    close[150:160, 0] = np.nan
    found = companies({"close": close})
    assert found is not None
    assert found[:, 0].tolist() == [0] * 20 + [1] * LONG_GAP + [2] * (180 - LONG_GAP)
    assert (found[:, 1] == 0).all()
    close[20, 0] = 10.0
    assert companies({"close": close}) is None


def test_without_another_company_the_panel_is_itself(panel: Panel) -> None:
    assert panel.company is None
    assert separated(panel) is panel
    assert joined(panel, panel["close"]) is panel["close"]
    assert np.isfinite(forward_return(panel, 5)).any()
