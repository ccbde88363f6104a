"""The data-quality page and summary count every finding once and explain every rule."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sources.cleaning
from core.files import canonical_json
from reporting.quality import RULES, events_figure, explain, quality_page, quality_summary


@pytest.fixture
def findings():
    return pd.DataFrame(
        [
            ("prices", "open_not_positive", "AA", 3, "field unknown", "2015-01-02 open 0"),
            ("prices", "open_not_positive", "BB", 5, "field unknown", "2015-01-05 open 0"),
            ("prices", "high_below_low", "AA", 1, "widened", "2015-01-06 <high> 3"),
            ("posts", "repeated_text", "BB", 40, "row marked", "'$BB & co'"),
        ],
        columns=["table", "rule", "symbol", "rows", "action", "example"],
    )


@pytest.fixture
def coverage():
    dates = pd.bdate_range("2015-01-01", periods=120)
    return pd.DataFrame({
        "date": dates, "symbols_with_price": np.r_[np.arange(60), np.full(60, 58)], "universe_size": 40,
        "filings": 1, "posts": 3,
    })  # fmt: skip


@pytest.fixture
def tables():
    return pd.DataFrame({
        "table": ["prices", "posts"], "rows": [1000, 200], "rows_clean": [990, 200], "first": ["2015-01-01"] * 2,
        "last": ["2015-06-01"] * 2, "symbols": [60, 2],
    })  # fmt: skip


def test_summary_counts_per_table_rule_and_symbol(findings, coverage, tables):
    summary = quality_summary(findings, coverage, tables)
    assert summary["tables"]["prices"]["findings"] == 9
    assert summary["tables"]["prices"]["rows_clean"] == 990
    assert summary["tables"]["posts"]["findings"] == 40
    assert {"table": "prices", "rule": "open_not_positive", "rows": 8, "symbols": 2} in summary["rules"]
    assert summary["symbols"]["BB"] == {"posts": {"repeated_text": 40}, "prices": {"open_not_positive": 5}}
    assert summary["coverage"]["universe_last"] == 40
    assert summary["coverage"]["first"] == "2015-01-01"
    assert sum(row["rows"] for row in summary["rules"]) == findings["rows"].sum()
    assert json.loads(canonical_json(summary))["tables"]["posts"]["symbols"] == 2


def test_page_shows_every_rule_with_its_meaning_and_is_deterministic(findings, coverage, tables):
    html = quality_page(findings, coverage, tables)
    assert html == quality_page(findings.copy(), coverage.copy(), tables.copy())
    for rule in findings["rule"].unique():
        assert rule.replace("_", " ") in html
        assert explain(rule)[:20] in html.replace("&#39;", "'")
    assert "&lt;high&gt;" in html
    assert "49 findings in 1,200 raw rows" in html
    assert html.count("<svg") == 3


def test_nothing_found_and_no_session_still_makes_a_page(findings, coverage, tables):
    html = quality_page(findings.iloc[:0], coverage.iloc[:0], tables)
    assert "No rule found anything." in html
    assert quality_summary(findings.iloc[:0], coverage.iloc[:0], tables)["symbols"] == {}


def test_every_rule_of_the_cleaning_room_is_explained():
    used = set()
    for file in Path(sources.cleaning.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], (ast.Constant, ast.JoinedStr)):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                text = ast.unparse(node.args[0]).lstrip("f").strip("'\"")
                if name in {"add", "report", "file"} and len(node.args) >= 3:
                    used.add(re.sub(r"{\w+}", r"\\w+", text))
    assert len(used) > 10
    unexplained = [rule for rule in sorted(used) if not any(re.fullmatch(rule, known) for known in RULES)]
    assert unexplained == []


def test_bars_of_events_can_be_seen(coverage):
    axes = events_figure(coverage, ["filings", "posts"]).axes
    for axis, total in zip(axes, (120, 360), strict=True):
        assert sum(bar.get_height() for bar in axis.patches) == total
        assert [bar.get_width() for bar in axis.patches] == [24.0] * 6
