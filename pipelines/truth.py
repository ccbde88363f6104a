"""`signals truth`: what the last run's signals find of a simulated market's truth. No stage reads that truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from core.checkout import PARAMS
from core.errors import DataError
from core.files import read_json, read_parquet, write_json
from core.params import parse
from models.truth import EVERY_REGIME, Recovery, join_truth, recover
from pipelines.choices import SIMULATED
from pipelines.console import Printer
from pipelines.layout import DATASET, RAW, RECOVERY, STACK
from pipelines.params import Settings, load_settings
from pipelines.stages import out_of_date
from pipelines.tables import read_outcomes
from reporting.page import format_value
from sources.providers.simulated import Simulated
from sources.simulation.archive import TRUTH
from sources.simulation.params import SimulationParams
from sources.simulation.plant import HORIZON

_COLUMNS = {
    "days": ("days", None),
    "rank_ic": ("rank IC", ".4f"),
    "rank_ic_t": ("t", ".1f"),
    "oracle_rank_ic": ("oracle", ".4f"),
    "share": ("found", ".0%"),
    "agreement": ("with truth", ".3f"),
}
_WITHOUT_ORACLE = ("days", "rank_ic", "rank_ic_t")


def truth(root: Path, printer: Printer | None = None) -> None:
    """Print how much of the truth the stack and each layer find, and write reports/truth.json.

    Raises
    ------
    DataError
        The data has no known truth, the run is of other data, or there is no run.
    """
    printer = printer or Printer()
    settings = load_settings(root / PARAMS)
    refuse_without_truth(settings)
    meta, signals = read_json(root / STACK / "meta.json"), read_parquet(root / STACK / "oof.parquet")
    warn_of_other_run(settings, printer)
    known = load_truth(settings, signals["date"].min())
    rows = join_truth(signals, read_outcomes(root / DATASET), known)
    models = {"stack": "signal", **meta["columns"]}
    horizon = settings.target.horizon
    result = recover(rows, models, horizon=horizon, min_names=settings.evaluation.min_names)
    if result.sources and horizon != HORIZON:
        printer.warning(
            f"the truth is told of {HORIZON} sessions, target.horizon is {horizon}: the oracle is none for this target"
        )
    write_json(root / RECOVERY, for_machines(result, horizon))
    _show(printer, result)


def refuse_without_truth(settings: Settings) -> None:
    """Refuse data of which nobody knows the truth.

    Raises
    ------
    DataError
        The source is no simulated market, and no folder that one was written to.
    """
    folder = settings.data.path
    if settings.data.source != SIMULATED and not (settings.root / folder / TRUTH).is_file():
        raise DataError(
            f"data.source is {settings.data.source} and {folder} has no {TRUTH}: the truth is known of simulated "
            "markets alone; write one with `signals simulate --out FOLDER` and run on it"
        )


def warn_of_other_run(settings: Settings, printer: Printer) -> None:
    """Refuse a run of another market than there is now; warn where something else changed since.

    Raises
    ------
    DataError
        The data, or how they are simulated, changed since the run.
    """
    changed = out_of_date(settings.root, "stack")
    same = ("core", "pipelines/", RAW.as_posix(), *(() if settings.data.source == SIMULATED else ("sources/",)))
    if other := sorted(file for file in changed.get("ingest", ()) if not file.startswith(same)):
        raise DataError(
            f"{other[0]} changed since the last run, whose signals may be of another market: `signals run` first"
        )
    if changed:
        printer.warning(f"the run on disk is not of the parameters and code of now ({', '.join(sorted(changed))})")


def load_truth(settings: Settings, first: Any = None) -> pd.DataFrame:
    """What is true of each symbol and session, as `sources.simulation.truth.symbol_truth` has it.

    Parameters
    ----------
    first
        First date that is wanted of a folder; None for all.
    """
    if settings.data.source == SIMULATED:
        return Simulated(None, parse(SimulationParams, settings.provider, "data.simulated")).truth()
    filters = None if first is None else [("date", ">=", first)]
    return read_parquet(settings.root / settings.data.path / TRUTH, filters=filters)


def for_machines(result: Recovery, horizon: int) -> dict[str, Any]:
    """The result in plain values: what is known to four decimals, t-values to two."""
    tables = {
        name: table.round({column: 2 if str(column).endswith("_t") else 4 for column in table}).to_dict("records")
        for name, table in (("found", result.found), ("by_source", result.by_source))
    }
    return {"planted": list(result.sources), "horizon": horizon, **tables}


def _show(printer: Printer, result: Recovery) -> None:
    if not result.sources:
        printer.line("nothing is planted in this market: there is nothing to find")
        printer.line("a rank IC here is luck, and |t| below 2 is what luck makes nineteen times in twenty")
    shown = _COLUMNS if result.sources else {name: _COLUMNS[name] for name in _WITHOUT_ORACLE}
    lines = [
        [line["part"], line["regime"], line["model"]]
        + [format_value(line[name], spec) for name, (_, spec) in shown.items()]
        for line in result.found.to_dict("records")
    ]
    title = "Rank IC" + (", and the share found of the oracle's on the same rows" if result.sources else "")
    printer.table(title, ["part", "regime", "model", *(name for name, _ in shown.values())], lines)
    if result.sources:
        _show_sources(printer, result)
    printer.line(f"figures: {RECOVERY.as_posix()}")


def _show_sources(printer: Printer, result: Recovery) -> None:
    whole = result.by_source[result.by_source["regime"] == EVERY_REGIME]
    lines = []
    for (part, model), of_model in whole.groupby(["part", "model"], sort=False):
        told = {line["source"]: line for line in of_model.to_dict("records")}
        cells = (
            f"{format_value(told[name]['correlation'], '.2f')} ({format_value(told[name]['share'], '.0%')})"
            for name in result.sources
        )
        lines.append([str(part), str(model), *cells])
    title = "Which source each finds: rank correlation with its part of the truth (and as a share of the oracle's own)"
    printer.table(title, ["part", "model", *result.sources], lines)
