"""Write docs/market-model.md's tables and pictures: `python -m reporting.market_model [--data FOLDER]`.

The text is written by hand. Whatever was measured stands in it between the lines

    <!-- begin NAME -->
    <!-- end NAME -->

and is replaced by every run. The games, the catalogue of scenarios and the simulated markets are computed anew. A real
market is measured only where a folder of its tables is given; what was last measured of one is kept in
docs/market-model.json, which holds derived numbers alone.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import DataError
from core.files import atomic_directory, read_json, write_json, write_text
from core.params import parse
from reporting.market_games import game_figures, game_tables
from reporting.market_grid import measure_orders, order_figure, order_table
from reporting.market_measure import measure, read_panel
from reporting.market_pages import (
    REAL,
    facts_table,
    memory_figure,
    presets_table,
    regimes_figure,
    states_table,
    stress_table,
    tails_figure,
    world_figure,
)
from reporting.page import figure_bytes
from sources.base import open_source
from sources.providers.simulated import Simulated
from sources.simulation.params import PRESETS, SimulationParams

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXT, NUMBERS, IMAGES = "market-model.md", "market-model.json", "images/market-model"

WORLD: Mapping[str, Any] = {"symbols": 160, "start": "2008-01-02", "end": "2017-12-29", "seed": 7}
"""The simulated markets: of the size and span of the pipeline's default run."""
SHOWN = "crisis"
"""The preset whose traders and regimes are drawn."""

_BLOCK = re.compile(r"<!-- begin ([\w-]+) -->\n(.*?)<!-- end \1 -->", re.DOTALL)


def blocks(text: str) -> dict[str, str]:
    """What stands between the marks of a text, by name."""
    return {name: content.strip() for name, content in _BLOCK.findall(text)}


def filled(text: str, contents: Mapping[str, str]) -> str:
    """The text with new contents between its marks.

    Raises
    ------
    DataError
        A block has no content, or a content no block: the page would tell something old, or not tell something.
    """
    named = [name for name, _ in _BLOCK.findall(text)]
    if sorted(named) != sorted(contents):
        raise DataError(
            f"{TEXT}: blocks {', '.join(sorted(set(named) ^ set(contents))) or 'repeated'}: let the text have each of "
            f"{', '.join(contents)} once, between <!-- begin NAME --> and <!-- end NAME -->"
        )
    return _BLOCK.sub(lambda m: f"<!-- begin {m[1]} -->\n\n{contents[m[1]]}\n\n<!-- end {m[1]} -->", text)


def write(docs: Path, data: Path | None = None, world: Mapping[str, Any] = WORLD, meshes: int = 4) -> None:
    """Measure, draw, and fill the page.

    Parameters
    ----------
    docs
        Folder of the page.
    data
        Folder of real tables, read by the provider `files`.
    world
        Parameters of the simulated markets.
    meshes
        Most meshes on which each game is solved.

    Raises
    ------
    DataError
        The page or its marks are missing, or a market cannot be measured.
    """
    page = docs / TEXT
    if not page.is_file():
        raise DataError(f"{page} is missing: restore the text, of which only the tables are written")
    known = read_json(docs / NUMBERS)["markets"] if (docs / NUMBERS).is_file() else {}
    kept = {REAL: known[REAL]} if REAL in known else {}
    markets, figures = _simulated(world)
    if data is not None:
        kept = {REAL: measure(read_panel(open_source("files", data, {})))}
    markets |= kept
    orders = measure_orders(meshes)
    figures |= {**game_figures(), "grid": order_figure(orders)}
    figures |= {"tails": tails_figure(markets), "memory": memory_figure(markets)}
    contents = {
        **game_tables(),
        "grid": order_table(orders),
        "states": states_table(markets),
        "stress": stress_table(),
        "presets": presets_table(),
        "facts": facts_table(markets),
    }
    text = filled(page.read_text(encoding="utf-8"), contents)
    with atomic_directory(docs / IMAGES) as folder:
        for name, figure in figures.items():
            (folder / f"{name}.png").write_bytes(figure_bytes(figure, dpi=100))
    write_json(docs / NUMBERS, {"markets": markets})
    write_text(page, text)


def _simulated(world: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Figure]]:
    """What was measured of a market of each preset, and pictures of one."""
    markets, figures = {}, {}
    for preset in PRESETS:
        source = Simulated(None, parse(SimulationParams, {"planted_ic": None, **world, "preset": preset}, "world"))
        panel = read_panel(source)
        markets[preset] = measure(panel)
        if preset == SHOWN:
            figures = {"world": world_figure(source.world), "regimes": regimes_figure(panel, source.world)}
    return markets, figures


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of market-model.md")
    parser.add_argument("--data", type=Path, help="folder of real tables; without it the real column stays as it was")
    arguments = parser.parse_args()
    write(arguments.docs, arguments.data)


if __name__ == "__main__":
    main()
