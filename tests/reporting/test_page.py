"""The page is one file, offline, escaped, and the same bytes for the same inputs."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from core.errors import ConfigError
from reporting.page import Card, Page, format_value, new_figure


def _figure():
    figure, axes = new_figure(width=4, height=2)
    axes.plot([1, 2, 3], [3, 1, 2], label="a")
    axes.plot([1, 2, 3], [1, 2, 3], color="black")
    axes.set_title("<title> & more")
    axes.legend()
    return figure


def _page() -> Page:
    frame = pd.DataFrame({
        "symbol": ["AA", "<b>x</b>"], "ic": [0.01234, np.nan], "rows": [1234567, 2],
        "date": pd.to_datetime(["2015-01-02", "2015-01-05"]), "verdict": ["pass", "fail"], "ok": [True, False],
    })  # fmt: skip
    return (
        Page("Title <script>", "sub & title")
        .banner("careful <i>", "warn")
        .section("One", "intro")
        .table(frame, "caption", formats={"ic": ".3f"}, verdicts={"ic": lambda v: "bad" if v > 0.01 else None})
        .section("Two")
        .bullets(["a", "<b>"])
        .cards([Card("IC", 0.0345, "t = 4", "good", ".3f")])
        .figure(_figure(), "a plot")
        .figure(_figure(), "the same plot")
        .figure(_figure(), "pixels", form="png")
    )


def test_same_inputs_same_bytes():
    assert _page().render() == _page().render()
    code = (
        "import importlib.util, sys, hashlib; s = importlib.util.spec_from_file_location('t', sys.argv[1]); "
        "m = importlib.util.module_from_spec(s); s.loader.exec_module(m); "
        "print(hashlib.sha256(m._page().render().encode()).hexdigest())"
    )
    digests = {
        subprocess.run([sys.executable, "-c", code, __file__], capture_output=True, text=True, check=True,
                       env={"PYTHONHASHSEED": seed, "PATH": "", "HOME": "/nonexistent", "PYTHONPATH": ".",
                            "MPLBACKEND": "agg"}).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1


def test_text_is_escaped_and_nothing_is_loaded_from_outside():
    html = _page().render()
    assert "<script" not in html
    assert "<b>x</b>" not in html
    assert "&lt;b&gt;x&lt;/b&gt;" in html
    assert "careful &lt;i&gt;" in html
    outside = [u for u in re.findall(r'(?:src|href)="([^"]+)"', html) if not u.startswith(("#", "data:"))]
    assert outside == []
    assert "@import" not in html
    assert "<?xml" not in html


def test_html_is_well_formed_and_ids_are_unique():
    class Checker(HTMLParser):
        def __init__(self):
            super().__init__()
            self.stack, self.ids = [], []

        def handle_starttag(self, tag, attrs):
            self.ids += [v for k, v in attrs if k == "id"]
            if tag not in {"meta", "img"}:
                self.stack.append(tag)

        def handle_startendtag(self, tag, attrs):
            self.ids += [v for k, v in attrs if k == "id"]

        def handle_endtag(self, tag):
            assert self.stack.pop() == tag

    checker = Checker()
    html = _page().render()
    checker.feed(html)
    assert checker.stack == []
    assert len(checker.ids) == len(set(checker.ids))
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', html))
    assert used <= set(checker.ids)


def test_plots_follow_the_text_colour():
    html = _page().render()
    svg = html[html.index("<svg") : html.index("</svg>")]
    assert "currentColor" in svg
    assert "#000000" not in svg
    assert "fill: #ffffff" not in svg
    assert "<text" not in svg


def test_cells_are_formatted_and_coloured():
    html = _page().render()
    assert '<td class="number bad">0.012</td>' in html
    assert "1,234,567" in html
    assert '<td class=" good">pass</td>' in html
    assert '<td class=" bad">no</td>' in html
    assert "2015-01-05" in html


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [(None, None, "–"), (float("nan"), ".2f", "–"), (pd.NaT, None, "–"), (True, None, "yes"), (1234, None, "1,234"),
     (0.12345, ".1%", "12.3%"), (np.float32(0.5), None, "0.5"), (np.int64(5), None, "5"), (123456.7, None, "123,457"),
     (12345.6, None, "12,346"), (1e-7, None, "1e-07"), (np.datetime64("2015-01-02"), None, "2015-01-02"),
     (pd.Timestamp("2015-01-02 14:30"), None, "2015-01-02 14:30"), ("a", ".2f", "a"), ([1, 2], None, "1, 2"),
     (0.0, None, "0")],
)  # fmt: skip
def test_format_value(value, spec, text):
    assert format_value(value, spec) == text


def test_unknown_column_is_named_and_an_empty_table_says_so():
    frame = pd.DataFrame({"a": [1.0]})
    with pytest.raises(ConfigError, match=r"no column 'b'; columns: a"):
        Page("x").table(frame, formats={"b": ".2f"})
    assert "No findings" in Page("x").table(frame.iloc[:0], empty="No findings").render()
