"""`signals risk`: what the book of a session's signals may lose, and through what -> risk/date=D."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import DataError, SessionError
from core.files import atomic_directory, digest_tree, read_json, read_parquet, write_json, write_text
from market.catalogue import load_catalogue
from market.scenarios import PARTS
from pipelines.books import read_history, target_book
from pipelines.console import Printer
from pipelines.layout import BACKTEST, PARAMS, PREVIEW, PREVIEW_RISK, RISK, SIGNALS
from pipelines.params import load_settings
from portfolio.book_risk import BookRisk, book_risk
from portfolio.performance import DrawdownState, checked_daily, drawdown_state
from reporting.page import format_value
from reporting.risk import CONTRIBUTION_FORMATS, drawdown_words, plain, risk_page, top_and_bottom


def risk(
    root: Path,
    as_of: str | None = None,
    *,
    preview: bool = False,
    scenarios: Sequence[Path] = (),
    printer: Printer | None = None,
) -> Path:
    """Print and write the risk of the book that a session's signals ask for; return the folder written.

    Parameters
    ----------
    as_of
        Session as YYYY-MM-DD; None or "latest": the newest that has signals.
    preview
        Take the previewed signals and not the served ones.
    scenarios
        Files of stress scenarios beside the catalogue's.

    Raises
    ------
    SessionError
        There are no signals for that session, or the data does not reach it.
    DataError
        The signals or the data cannot be used.
    ConfigError
        A file of scenarios is wrong.
    """
    settings = load_settings(root / PARAMS)
    catalogue = load_catalogue(*scenarios)
    folder = _signals_of(root / (PREVIEW if preview else SIGNALS), as_of, preview)
    session = pd.Timestamp(folder.name.removeprefix("date=")).to_numpy().astype("datetime64[D]")
    panel, sectors = read_history(settings, session)
    days = panel.dates[-settings.backtest.hold_sessions :]
    found = [read for day in days if len(read := _read(folder.parent / f"date={day}"))]
    warnings = ["PREVIEW: the signals are not promoted, the book is not for trading"] if preview else []
    if len(found) < len(days):
        warnings.append(
            f"signals of {len(found)} of the last {len(days)} sessions are there: the book is the mean of theirs, "
            f"where the backtest holds that of all {len(days)}"
        )
    measured = book_risk(target_book(panel, sectors, pd.concat(found), settings.backtest), catalogue)
    state = _drawdown(root, session)
    out = root / (PREVIEW_RISK if preview else RISK) / folder.name
    title = f"Risk of the book of {session}"
    with atomic_directory(out) as temporary:
        origin = read_json(folder / "manifest.json")
        told = {**plain(measured, state), "warnings": warnings, "preview": preview, "bundle": origin["bundle"]}
        write_json(temporary / "risk.json", told)
        write_text(temporary / "risk.html", risk_page(measured, state, title, "after the session's close", warnings))
    printer = printer or Printer()
    for warning in warnings:
        printer.warning(warning)
    _show(printer, measured, state)
    printer.line(f"written: {(out / 'risk.html').relative_to(root).as_posix()}")
    return out


def _signals_of(folder: Path, as_of: str | None, preview: bool) -> Path:
    """Folder of the session's signals.

    Raises
    ------
    SessionError
        The date is none, or there are no signals for it.
    """
    there = sorted(path for path in folder.glob("date=*") if path.is_dir())
    remedy = "`signals preview`" if preview else "`signals infer`, or look at the preview's with --preview"
    if as_of in (None, "latest"):
        if not there:
            raise SessionError(f"{folder} holds no signals: write them with {remedy}")
        return there[-1]
    try:
        day = datetime.date.fromisoformat(str(as_of))
    except ValueError:
        raise SessionError(f"--as-of {as_of!r} is no date: write YYYY-MM-DD, or latest") from None
    if folder / f"date={day}" not in there:
        newest = f"the newest are of {there[-1].name.removeprefix('date=')}" if there else "there are none at all"
        raise SessionError(f"{folder} holds no signals for {day} ({newest}): write them with {remedy}")
    return folder / f"date={day}"


def _read(folder: Path) -> pd.DataFrame:
    """Signals of a session; none where it has no folder.

    Raises
    ------
    DataError
        The folder is not as it was written.
    """
    columns = ["date", "symbol", "signal"]
    if not folder.is_dir():
        return pd.DataFrame(columns=columns)
    if read_json(folder / "manifest.json").get("files") != digest_tree(folder, skip=("manifest.json",)):
        raise DataError(f"{folder} is not as it was written: write the signals of that session again (--force)")
    return read_parquet(folder / "signals.parquet", columns=columns)


def _drawdown(root: Path, session: np.datetime64) -> DrawdownState | None:
    """Where the backtest on disk stood at the session; None where it does not reach it."""
    if not (root / BACKTEST / "daily.parquet").is_file():
        return None
    daily = checked_daily(read_parquet(root / BACKTEST / "daily.parquet"))
    known = daily[daily["date"] <= pd.Timestamp(session)]
    return drawdown_state(known) if len(known) else None


def _show(printer: Printer, told: BookRisk, state: DrawdownState | None) -> None:
    figures = told.figures
    printer.line(
        f"book of {told.date}: {figures['names']} names as concentrated as {figures['effective_names']:.0f} equal "
        f"ones, gross {figures['gross']:.0%}, net {figures['net']:+.1%}, beta {figures['beta']:+.2f}, "
        f"volatility {figures['volatility']:.1%} a year"
    )
    for note in told.notes:
        printer.line(f"note: {note}")
    _table(printer, "Loss of the next session", told.tails, {"level": ".0%", "var": ".2%", "es": ".2%"})
    _table(printer, "Exposure by factor", told.exposures, {"exposure": "+.3f"})
    _table(printer, "Exposure by sector", told.sectors, {"net": "+.1%", "gross": ".1%"})
    _table(printer, "Who carries the risk", top_and_bottom(told.contributions), CONTRIBUTION_FORMATS)
    stress = told.stress.drop(columns="title")
    _table(printer, "Stress, by part", stress, dict.fromkeys(("total", *PARTS), "+.1%"))
    printer.line(drawdown_words(state))


def _table(printer: Printer, title: str, table: pd.DataFrame, formats: dict[str, str]) -> None:
    rows = [[format_value(row[name], formats.get(str(name))) for name in table] for row in table.to_dict("records")]
    printer.table(title, [str(name).replace("_", " ") for name in table], rows)
