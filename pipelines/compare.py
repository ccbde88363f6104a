"""What `signals compare` does: two registered versions on the same days, from their stored evidence alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import DataError
from core.files import atomic_directory, write_json, write_text
from governance.evidence import Stored, stored
from governance.policy import load_policy
from governance.reports import COMPARED
from governance.trust import state_now
from models.comparison import Comparison
from models.comparison import compare as compare_records
from pipelines.console import Printer
from pipelines.layout import REPORTS
from pipelines.versions import CHAMPION, version_named
from reporting.compare import MONEY_FORMATS, RANK_FORMATS, comparison_page
from reporting.page import format_value

# What decides the stocks and the outcomes that a rank IC is measured on.
_JUDGED_ON = ("data", "universe", "target")
# The page has turnover and costs beside; a terminal has not the room.
_MONEY_COLUMNS = ("challenger_sharpe", "champion_sharpe", "difference_a_year", "t", "correlation")


@dataclass(frozen=True)
class Written:
    """A comparison, and the folder below the root that holds its page and figures."""

    folder: Path
    names: tuple[str, str]
    result: Comparison
    notes: tuple[str, ...]


def compare(root: Path, challenger: str, champion: str = CHAMPION) -> None:
    """Print how a version stands to another, and write the page and the figures."""
    _show(Printer(), write_comparison(root, challenger, champion))


def write_comparison(root: Path, challenger: str, champion: str = CHAMPION) -> Written:
    """Write how a version stands to another: a page, and the figures for machines.

    Raises
    ------
    DataError
        The versions' outcomes span different horizons, they have too few days in common, or one has no
        daily record.
    GovernanceError
        A version is unknown, there is no champion, or stored evidence was changed.
    """
    state = state_now(root, load_policy(root))
    first, second = (stored(root, state, version_named(root, state, name)) for name in (challenger, champion))
    if first.horizon != second.horizon:
        raise DataError(
            f"version {first.version} predicts {first.horizon} sessions ahead, version {second.version} "
            f"{second.horizon}: their rank ICs do not measure the same; compare versions of one target.horizon"
        )
    result = compare_records(first.daily, second.daily, first.horizon)
    notes = _notes(first, second)
    names = f"version {first.version}", f"version {second.version}"
    folder = REPORTS / COMPARED / f"{first.version}-vs-{second.version}"
    with atomic_directory(root / folder) as temporary:
        write_json(temporary / "comparison.json", _for_machines(first, second, result, notes))
        write_text(temporary / "report.html", comparison_page(result, *names, notes))
    return Written(folder, names, result, tuple(notes))


def _notes(first: Stored, second: Stored) -> list[str]:
    """Why the two may differ for other reasons than the models."""
    if first.version == second.version:
        return [f"version {first.version} is compared with itself"]
    if first.bundle_digest == second.bundle_digest:
        return ["both versions hold the same bundle"]
    changed = [name for name in _JUDGED_ON if first.params.get(name) != second.params.get(name)]
    if not changed:
        return []
    return [
        f"judged on different rows: params.yaml differs in {', '.join(changed)}, so part of the difference may be the "
        "stocks or the outcomes, not the model"
    ]


def _for_machines(first: Stored, second: Stored, result: Comparison, notes: Sequence[str]) -> dict[str, Any]:
    who = {
        name: {"version": side.version, "bundle": side.bundle_digest, "author": side.author}
        for name, side in (("challenger", first), ("champion", second))
    }
    tables = {name: result.tables[name].to_dict("records") for name in ("by_regime", "by_year", "layers")}
    figures = {**result.figures, "first": f"{result.figures['first']:%Y-%m-%d}"}
    figures["last"] = f"{result.figures['last']:%Y-%m-%d}"
    return {**who, "verdict": result.word, "sentence": result.sentence, "notes": list(notes), **figures, **tables}


def _show(printer: Printer, written: Written) -> None:
    result, names = written.result, written.names
    figures = result.figures
    printer.line(
        f"{names[0]} (challenger) against {names[1]} (champion): {figures['days']:,} common days, "
        f"{figures['first']:%Y-%m-%d} to {figures['last']:%Y-%m-%d}, {figures['horizon']} sessions ahead"
    )
    for note in written.notes:
        printer.warning(note)
    titles = {
        "rank_ic": ("Mean daily rank IC, t of the paired daily difference", RANK_FORMATS),
        "net": (
            "Net of costs: Sharpe a year, t of the difference of daily returns",
            {name: MONEY_FORMATS[name] for name in _MONEY_COLUMNS},
        ),
        "by_regime": ("Rank IC by regime", RANK_FORMATS),
        "by_year": ("Rank IC by year", RANK_FORMATS),
        "layers": ("Rank IC by layer, same days", {name: RANK_FORMATS[name] for name in ("challenger", "champion")}),
    }
    for name, (title, formats) in titles.items():
        _print_table(printer, title, result.tables[name], formats)
    printer.line(result.sentence, {"better": "bold green", "worse": "bold red"}.get(result.word, "bold yellow"))
    printer.line(f"report: {(written.folder / 'report.html').as_posix()}")


def _print_table(printer: Printer, title: str, table: pd.DataFrame, formats: dict[str, str]) -> None:
    # The first column is what the line is about; a year among them is no quantity.
    key = str(table.columns[0])
    columns = [key, *(["days"] if "days" in table else []), *formats]
    rows = [
        [str(row[key]), *(format_value(row[name], formats.get(name)) for name in columns[1:])]
        for row in table.to_dict("records")
    ]
    printer.table(title, [name.replace("_", " ") for name in columns], rows)
