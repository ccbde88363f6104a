"""The page on the market model says what the code says now, and one command writes all of it."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import numpy as np
import pytest

from core.errors import DataError
from core.files import read_json
from features.registry import FAMILIES, build_features
from market.catalogue import load_catalogue
from market.games.systemic import event_probability
from market.stylised import RANGES
from reporting import market_model
from reporting.market_games import game_tables
from reporting.market_grid import STUDIES, measure_orders
from reporting.market_measure import measure, read_panel
from reporting.market_model import IMAGES, NUMBERS, TEXT, blocks, filled, write
from reporting.market_pages import REAL, facts_table, presets_table, states_table, stress_table
from sources.providers.simulated import Simulated
from sources.simulation.archive import write_world
from sources.simulation.params import PRESETS, SimulationParams

DOCS = Path(__file__).resolve().parents[2] / "docs"
SMALL = {"symbols": 12, "start": "2010-01-04", "end": "2015-12-31", "seed": 3, "posts_per_day": 0.0}


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / TEXT).read_text(encoding="utf-8")


# --- the page as it stands ------------------------------------------------------------------------------------


def test_the_games_in_the_page_are_those_of_the_code(page):
    written = blocks(page)
    for name, table in game_tables().items():
        assert written[name] == table, name
    assert written["presets"] == presets_table()
    assert written["stress"] == stress_table()
    assert written["stress"].count("\n") - 1 == len(load_catalogue())


def test_the_markets_in_the_page_are_those_of_the_numbers(page):
    numbers = read_json(DOCS / NUMBERS)["markets"]
    assert set(numbers) == {*PRESETS, REAL}
    markets = {name: numbers[name] for name in (*PRESETS, REAL)}
    assert blocks(page)["facts"] == facts_table(markets)
    assert blocks(page)["states"] == states_table(markets)
    # A bold value would be one outside of its range.
    assert "**" not in blocks(page)["facts"]
    for found in markets.values():
        assert all(low <= found["stocks"][name] <= high for name, (low, high) in RANGES.items())


def test_values_of_the_publications_are_in_the_page(page):
    written = blocks(page)
    for name, values in {
        "execution": ["0.6071", "911,227", "603,431", "662,500", "1,040,673"],
        "crowding": ["2.9727", "0.093416", "2.1128", "-0.497246", "1.5459", "-0.998114"],
        "interbank": ["0.1643", "0.3891", "0.0269"],
        "entry-exit": ["0.293131", "0.295758", "0.074530", "0.055556", "-0.013320911"],
        "branching": ["7.4591", "0.009906"],
    }.items():
        assert not [value for value in values if value not in written[name]], name
    assert f"{float(event_probability(-0.7, 1.0, 1.0, 0.5, 10)):.4f}" in written["systemic"]


def test_the_solver_converges_as_the_page_says(page):
    rows = [line.split("|")[1:-1] for line in blocks(page)["grid"].splitlines()[2:]]
    said = {(game.strip(), quantity.strip()): errors.split(",") for game, quantity, _, errors, _ in rows}
    for game, study in measure_orders(2).items():
        for quantity, errors in study.errors.items():
            told = [float(error) for error in said[game, quantity]]
            assert errors == pytest.approx(told[:2], rel=0.06), (game, quantity)
            finer = next(study.meshes for study in STUDIES if study.name == game)
            assert len(told) == len(finer)
            order = np.log2(told[0] / told[-1]) / np.log2(finer[-1][0] / finer[0][0])
            assert order == pytest.approx(1.0 if "σ = 0" in game else 2.0, abs=0.35)


def test_every_picture_is_there_and_small(page):
    named = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    assert sorted(named) == sorted(f"{IMAGES}/{file.name}" for file in (DOCS / IMAGES).iterdir())
    for name in named:
        assert (DOCS / name).read_bytes().startswith(b"\x89PNG"), name
        assert (DOCS / name).stat().st_size < 80_000, name


def test_the_features_that_the_page_names_exist(page):
    features = {feature.name for feature in build_features({"crowding": FAMILIES["crowding"].params()})}
    told = {name for line in page.split("*Used by*")[1:] for name in re.findall(r"`(\w+)`", line.split("*Limits*")[0])}
    assert told - {"crowding", "behaviour"} == features


# --- writing it -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_command_writes_all_of_it_and_keeps_the_real_market(tmp_path, monkeypatch, page):
    folder, docs = tmp_path / "tables", tmp_path / "docs"
    docs.mkdir()
    (docs / TEXT).write_text(page, encoding="utf-8")
    days = {name: datetime.date.fromisoformat(SMALL[name]) for name in ("start", "end")}
    params = SimulationParams(planted_ic=None, **{**SMALL, **days, "symbols": 11})
    write_world(params, folder)
    monkeypatch.setattr(market_model, "PRESETS", {"crisis": PRESETS["crisis"]})
    monkeypatch.setattr("sys.argv", ["market_model", "--docs", str(docs), "--data", str(folder)])
    monkeypatch.setattr(market_model, "write", lambda docs, data: write(docs, data, SMALL, meshes=2))
    market_model.main()
    first = {file.name: file.read_bytes() for file in docs.rglob("*.*")}
    assert sorted(read_json(docs / NUMBERS)["markets"]) == ["crisis", REAL]
    # A folder of tables is measured as the market that it holds.
    assert read_json(docs / NUMBERS)["markets"][REAL] == measure(read_panel(Simulated(None, params)))
    assert "real: 11 symbols, 2010-01-04 to 2015-12-31" in (docs / TEXT).read_text(encoding="utf-8")

    write(docs, None, SMALL, meshes=2)
    assert {file.name: file.read_bytes() for file in docs.rglob("*.*")} == first
    (docs / NUMBERS).unlink()
    write(docs, None, SMALL, meshes=2)
    assert list(read_json(docs / NUMBERS)["markets"]) == ["crisis"]


def test_a_page_whose_marks_do_not_fit_is_refused(tmp_path):
    text = "a\n<!-- begin one -->\nold\n<!-- end one -->\nb\n"
    assert filled(text, {"one": "new \\1"}) == "a\n<!-- begin one -->\n\nnew \\1\n\n<!-- end one -->\nb\n"
    assert filled(filled(text, {"one": "x"}), {"one": "new"}) == filled(text, {"one": "new"})
    for contents in ({}, {"one": "", "two": ""}, {"two": ""}):
        with pytest.raises(DataError, match="let the text have each of"):
            filled(text, contents)
    with pytest.raises(DataError, match="repeated"):
        filled(text + text, {"one": ""})
    with pytest.raises(DataError, match="is missing"):
        write(tmp_path)


def test_a_value_outside_of_its_range_is_bold():
    markets = read_json(DOCS / NUMBERS)["markets"]
    markets["null"]["stocks"]["hill"] = 6.0
    markets["null"]["stocks"]["volume_correlation"] = None
    table = facts_table(markets)
    assert table.count("**") == 2
    assert "| **6.00** |" in table
    assert "| – |" in table
