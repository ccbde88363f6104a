"""`signals tearsheet`: the last run's backtest as a page -> reports/tearsheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from core.checkout import PARAMS
from core.errors import DataError
from core.files import atomic_directory, read_json, read_parquet, write_json, write_text
from features.panel import pivot
from governance.reports import MADE_OF, digests
from market.catalogue import load_catalogue
from pipelines.console import Printer
from pipelines.holdings import holdings
from pipelines.layout import BACKTEST, BUNDLE, CLEAN, REPORTS, TEAR_SHEET
from pipelines.panels import load_panel
from pipelines.params import Settings, load_settings
from pipelines.stages import out_of_date
from pipelines.tables import read_securities, sectors_of
from portfolio.book_risk import LEVELS, BookRisk, book_risk
from portfolio.forecasts import DEFAULT, MIN_JUDGED, Judged, judge
from portfolio.value_at_risk.base import WINDOW
from reporting.tearbook import BookRun
from reporting.tearsheet import Record, tear_sheet

COMPARED = (DEFAULT, "historical", "normal", "student_t", "cornish_fisher", "peaks_over_threshold")
"""Models held against the record; the one with a fitted GARCH takes minutes and is left to `signals risk`."""
_DAILY, _METRICS = BACKTEST / "daily.parquet", REPORTS / "metrics.json"
_BOOK = tuple(BACKTEST / f"{name}.parquet" for name in ("positions", "limits", "capacity", "compared", "targets"))
_PODS = BACKTEST / "pod_reviews.parquet"
_STATES = REPORTS / "evaluation" / "daily.parquet"


def tearsheet(root: Path, scenarios: Sequence[Path] = (), printer: Printer | None = None) -> Path:
    """Write the tear sheet of the run on disk; return its page.

    `signals register` puts it beside the version, as long as the run is still the same.

    Parameters
    ----------
    scenarios
        Files of stress scenarios beside the catalogue's.

    Raises
    ------
    DataError
        There is no run, or a part of it is of another run than the rest.
    ConfigError
        A file of scenarios is wrong.
    """
    printer = printer or Printer()
    settings = load_settings(root / PARAMS)
    catalogue = load_catalogue(*scenarios)
    made_of = digests(root, (_DAILY, *_BOOK, BUNDLE / "manifest.json", _METRICS, _STATES))
    warnings = require_one_run(root)
    daily = read_parquet(root / _DAILY)
    luck = read_json(root / _METRICS).get("overfitting") or {}
    states = read_parquet(root / _STATES, columns=["date", "part", "regime"]).set_index("date")
    positions, limits, capacity, compared, targets = (read_parquet(root / file) for file in _BOOK)
    book, missing = _last_book(root, settings, catalogue, positions)
    judged = _judge(daily["net"])
    record = Record(
        daily=daily,
        labels={name: states[name] for name in ("part", "regime")},
        judged=judged,
        trials=luck.get("trials"),
        trial_variance=luck.get("trial_sharpe_variance"),
        book=book,
        missing=missing,
        run=BookRun(
            limits=limits,
            capacity=capacity,
            compared=compared,
            targets=targets,
            rank=read_json(root / BACKTEST / "summary.json")["rank"],
            pods=read_parquet(root / _PODS) if (root / _PODS).is_file() else None,
            participation=settings.portfolio.book.construction.limits.participation,
        ),
    )
    page, figures = tear_sheet(record, warnings=warnings)
    with atomic_directory(root / TEAR_SHEET) as folder:
        write_text(folder / "index.html", page)
        write_json(folder / "figures.json", {**figures, "warnings": warnings})
        write_json(folder / MADE_OF, made_of)
    for warning in warnings:
        printer.warning(warning)
    for one in (one for one in judged if one.model == DEFAULT):
        said = one.why or "; ".join(one.failures) or "passes its tests"
        printer.line(f"value at risk at {one.level:.0%} by {one.model}: {said}")
    printer.line(f"written: {(TEAR_SHEET / 'index.html').as_posix()}")
    return root / TEAR_SHEET / "index.html"


def require_one_run(root: Path) -> list[str]:
    """Refuse a run whose parts are not of each other; what else changed since is returned in words.

    Raises
    ------
    DataError
        What a stage has read is not what it would read now.
    """
    changed = out_of_date(root, "evaluate")
    for stage, files in changed.items():
        # Raw data that is new is no part of the run; what one of its stages gave another is.
        for file in sorted(files) if stage != "ingest" else ():
            if file.startswith(("artifacts/", "data/", "reports/")):
                raise DataError(f"{file} is not of the run that {stage} belongs to: finish it with `signals run` first")
    if not changed:
        return []
    return [f"the run on disk is not of the parameters, code and data of now ({', '.join(sorted(changed))})"]


def _judge(net: pd.Series) -> list[Judged]:
    """Every compared model at every level; a short record is judged on a shorter window."""
    window = WINDOW if len(net) >= WINDOW + 2 * MIN_JUDGED else WINDOW // 2
    return [judge(net, level, model, window) for level in LEVELS for model in COMPARED]


def _last_book(
    root: Path, settings: Settings, catalogue: dict, positions: pd.DataFrame
) -> tuple[BookRisk | None, list[str]]:
    """Risk of the weights that the backtest asked for at its last session that holds something."""
    panel = load_panel(root / CLEAN, settings.universe)
    sectors = sectors_of(read_securities(root / CLEAN))
    asked = positions[positions["target"] != 0]
    if asked.empty:
        return None, ["the book at the end: the backtest never asked for a position"]
    day = asked["date"].max()
    last = int(panel.dates.searchsorted(day.to_datetime64().astype("datetime64[D]")))
    weights = pivot(asked[asked["date"] == day], "target", panel.dates, panel.symbols)[last]
    try:
        return book_risk(holdings(panel.cut(last), sectors, np.nan_to_num(weights)), catalogue), []
    except DataError as error:
        return None, [f"the book at the end: {error}"]
