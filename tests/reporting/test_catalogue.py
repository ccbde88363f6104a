"""The catalogue's page says what a reader must know to not be fooled, in Markdown and in HTML alike."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.registry import Feature
from models.screening import screen
from reporting.catalogue import Catalogue, catalogue_figures, figures_of, fill_catalogue, thresholds
from reporting.markdown import Markdown
from reporting.page import Page

T, N = 300, 30


def _feature(name: str, family: str, sign: int = 0) -> Feature:
    return Feature(
        name, family, 5, ("close",), "fraction", sign, "Nobody (2020) <i>", f"What {name} | is.", lambda p: p
    )


def _catalogue(holdout: int = 50) -> Catalogue:
    rng = np.random.default_rng(0)
    outcome = rng.normal(size=(T, N))
    values = {
        "good": outcome + 5 * rng.normal(size=(T, N)),
        "noise": rng.normal(size=(T, N)),
        "wide": np.repeat(rng.normal(size=(T, 1)), N, axis=1),
        "none": np.full((T, N), np.nan),
    }
    families = {"good": "one", "noise": "one", "wide": "two", "none": "one"}
    found = screen(
        list(values.values()),
        pd.bdate_range("2014-01-01", periods=T).to_numpy("datetime64[D]"),
        np.ones((T, N), dtype=bool),
        outcome,
        rng.normal(size=T),
        horizon=5,
        holdout_start=T - holdout,
    )
    features = tuple(_feature(name, families[name], sign=1) for name in values)
    absent = ((_feature("unknown", "three"), ("posts",)),)
    return Catalogue(features, found, absent, frozenset({"one"}), "simulated", N, holdout)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return _catalogue()


@pytest.fixture(scope="module")
def text(catalogue: Catalogue) -> str:
    page = Markdown("Features", "how", images="images/features")
    fill_catalogue(page, catalogue)
    return page.render()


def test_what_stands_out_is_told_from_what_does_not(catalogue):
    table = figures_of(catalogue).set_index("feature")
    assert table["stands_out"].to_dict() == {"good": "yes", "noise": "no", "wide": "no", "none": ""}
    limits = thresholds(table["t"])
    assert limits["tests"] == 3
    assert limits["bonferroni"] == pytest.approx(2.394, abs=1e-3)
    assert limits["largest_by_luck"] == pytest.approx(1.3, abs=0.2)


def test_the_page_is_honest(text):
    assert "The holdout is left out: the last 50 sessions, and the 5 before them" in text
    assert "No t-value here is corrected for multiple testing. 3 features are judged" in text
    assert "OVER TIME" in text
    assert "there is no rank IC" in text
    row = next(line for line in text.splitlines() if line.startswith("| wide | two |"))
    assert row.count("|") == 8
    assert "| unknown | three |" in text
    assert "Not in the run" in text


def test_without_a_holdout_the_page_warns():
    page = Markdown("Features")
    fill_catalogue(page, _catalogue(holdout=0))
    assert "No holdout is set apart" in page.render()


def test_nothing_judged_is_no_failure():
    page = Page("Features")
    fill_catalogue(page, _catalogue(holdout=T))
    assert "No feature could be judged" in page.render()


def test_the_same_measurements_give_the_same_bytes(catalogue, text):
    pages = [Markdown("Features", "how", images="images/features") for _ in range(2)]
    for page in pages:
        fill_catalogue(page, catalogue)
    assert pages[0].pictures == pages[1].pictures
    assert pages[0].render() == pages[1].render() == text


def test_markup_in_words_stays_words(text):
    assert "What good \\| is." in text
    assert "\\<i>" in text


def test_both_forms_hold_the_same(catalogue, text):
    page = Page("Features", "how")
    fill_catalogue(page, catalogue)
    html = page.render()
    table = figures_of(catalogue).set_index("feature")
    for form in (text, html):
        assert f"{table.loc['good', 'ic']:.4f}" in form
        assert f"{table.loc['wide', 'timing']:.3f}" in form
    assert html.count("<figure") == text.count("![")


def test_figures_for_machines(catalogue):
    figures = catalogue_figures(catalogue)
    assert figures["absent"] == {"unknown": ["posts"]}
    first = figures["features"][0]
    assert list(first["ic_by_year"]) == ["2014"]
    assert first["ic_by_year"]["2014"] == pytest.approx(first["ic"], abs=0.05)
    assert [near["feature"] for near in first["nearest"]] == ["noise"]


def test_markdown_blocks():
    frame = pd.DataFrame({"a_b": [1.25, np.nan], "ok": [True, False], "c": ["x|y", "`p|q` *z*"]})
    page = Markdown("T*", "s").banner("careful", "warn").section("One & two", "intro").bullets(["a", "b"])
    text = page.table(frame, "cap", formats={"a_b": ".1f"}, headings={"c": "see"}).table(frame.iloc[:0]).render()
    assert text.startswith("# T\\*\n\ns\n\n> **careful**\n\n- [One & two](#one--two)\n\n## One & two\n\nintro\n")
    assert "| a b | ok | see |\n| ---: | --- | --- |\n| 1.2 | yes | x\\|y |\n| – | no | `p\\|q` \\*z\\* |" in text
    assert text.endswith("Nothing to show.\n")
