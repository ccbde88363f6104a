"""`signals risk`: what the book of a session's signals may lose, and through what -> risk/date=D."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.checkout import PARAMS
from core.dates import date_option
from core.errors import DataError, SessionError
from core.files import atomic_directory, read_json, read_parquet, write_json, write_text
from features.panel import Panel
from features.registry import Feature
from features.returns import market_return
from governance.outputs import read_output
from market.catalogue import load_catalogue
from market.scenarios import PARTS
from models.regimes import RegimeRule
from models.stress import STRESS, walk_forward_stress
from pipelines.asof import AsOf, read_as_of
from pipelines.books import BOOK_TABLES, book_inputs, wanted_features
from pipelines.console import Printer
from pipelines.day import last_rows
from pipelines.holdings import holdings
from pipelines.layout import BACKTEST, PREVIEW, PREVIEW_RISK, RISK, SIGNALS
from pipelines.params import Settings, load_settings
from pipelines.tables import sectors_of
from portfolio.book_risk import HISTORY, BookRisk, book_risk
from portfolio.conditions import TRAILING
from portfolio.performance import DrawdownState, checked_daily, drawdown_state
from portfolio.styles import LOOKBACK
from portfolio.walk import Walk, walk
from reporting.page import format_value
from reporting.risk import (
    CONTRIBUTION_FORMATS,
    cash_page,
    drawdown_words,
    plain,
    plain_cash,
    risk_page,
    top_and_bottom,
)

MOST_SESSIONS = 63
"""Signals in a row that a book is walked over, at most."""
SETTLED = 21
"""Sessions after which a book does not remember that it began in cash."""
_REACH = max(LOOKBACK, HISTORY + 1)
"""Sessions that loadings and scenarios of losses look back on."""


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
    tables = dict.fromkeys(("prices", "securities", *BOOK_TABLES))
    past = read_as_of(settings.open_source(), session, _REACH, settings.universe, tables)
    days = _days_of(folder.parent, past.panel)
    warnings = ["PREVIEW: the signals are not promoted, the book is not for trading"] if preview else []
    if len(days) < SETTLED:
        warnings.append(
            f"the book begins in cash {len(days)} session(s) ago, with the first of the signals in a row: one that had "
            "been held for longer would not be quite the same"
        )
    book, notes = wanted_book(settings, past, pd.concat(days))
    warnings += notes
    state = _drawdown(root, session)
    title, subtitle = f"Risk of the book of {session}", "after the session's close"
    why = "" if book.targets[-1].any() else _why_in_cash(book)
    measured = None
    if not why:
        measured = book_risk(
            holdings(past.panel, sectors_of(past.tables.get("securities")), book.targets[-1]), catalogue
        )
        told, page = plain(measured, state), risk_page(measured, state, title, subtitle, warnings)
    else:
        told, page = plain_cash(str(session), why, state), cash_page(why, state, title, subtitle, warnings)
    out = root / (PREVIEW_RISK if preview else RISK) / folder.name
    with atomic_directory(out) as temporary:
        origin = read_json(folder / "manifest.json")
        told = {**told, "warnings": warnings, "preview": preview, "bundle": origin["bundle"]}
        write_json(temporary / "risk.json", told)
        write_text(temporary / "risk.html", page)
    printer = printer or Printer()
    for warning in warnings:
        printer.warning(warning)
    if measured is None:
        printer.line(f"book of {session}: {why}")
        printer.line(drawdown_words(state))
    else:
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
    day = date_option("--as-of", str(as_of), SessionError, ", or latest")
    if folder / f"date={day}" not in there:
        newest = f"the newest are of {there[-1].name.removeprefix('date=')}" if there else "there are none at all"
        raise SessionError(f"{folder} holds no signals for {day} ({newest}): write them with {remedy}")
    return folder / f"date={day}"


def _days_of(folder: Path, panel: Panel) -> list[pd.DataFrame]:
    """Signals of the last sessions in a row that have them, at most `MOST_SESSIONS`.

    Raises
    ------
    DataError
        A folder is not as it was written, or its symbols are not those of the data.
    """
    found: list[pd.DataFrame] = []
    for day in panel.dates[: -MOST_SESSIONS - 1 : -1]:
        one = folder / f"date={day}"
        if not one.is_dir():
            break
        _, problems = read_output(one)
        if problems:
            raise DataError(
                f"{one} is not as it was written ({problems[0]}): write the signals of that session again (--force)"
            )
        signals = read_parquet(one / "signals.parquet")
        if strangers := sorted(set(signals["symbol"]) - set(panel.symbols)):
            raise DataError(
                f"{one} is of other data: {len(strangers)} of its {len(signals)} symbols, such as {strangers[0]}, have "
                "no prices in the data that params.yaml names; write the signals of that session again (--force)"
            )
        found.insert(0, signals)
    return found


def wanted_book(settings: Settings, past: AsOf, signals: pd.DataFrame) -> tuple[Walk, list[str]]:
    """The book of the backtest over served signals, from cash on, and what a reader must know of it.

    Parameters
    ----------
    signals
        Of sessions in a row that end with the past's, with `stress_hmm`.
    """
    panel, horizon, notes = past.panel, settings.target.horizon, []
    rule = settings.portfolio.book_for(horizon)
    places = panel.dates.searchsorted(np.sort(signals["date"].unique()).astype("datetime64[D]"))
    p_stress = np.full(len(panel.dates), np.nan)
    if STRESS in signals:
        p_stress[places] = signals.groupby("date")[STRESS].first().to_numpy(dtype=np.float64)
    if not np.isfinite(p_stress[places]).any():
        notes.append("the bundle tells no regimes: the probability of stress is told from the prices of the last years")
        p_stress = walk_forward_stress(market_return(panel), [int(places[0])], RegimeRule())
    wanted = [feature for feature in settings.inputs.features if feature.name in wanted_features(rule)]
    features = _last_features(panel, wanted, TRAILING + len(places) - 1)
    market, told = book_inputs(
        panel, signals, p_stress, features, past.tables.get("securities"), rule=settings.portfolio, horizon=horizon
    )
    return walk(market, told, rule, start=int(places[0])), notes


def _last_features(panel: Panel, wanted: Sequence[Feature], sessions: int) -> dict[str, NDArray[np.float64]]:
    """`(T, N)` of features by name, in the last sessions alone; those whose inputs are missing are left out."""
    known = [feature for feature in wanted if not feature.missing(panel)]
    count = min(sessions, len(panel.dates))
    values = last_rows(panel, known, count) if known else np.empty((count, len(panel.symbols), 0))
    out = {feature.name: np.full(panel.shape, np.nan) for feature in known}
    for place, feature in enumerate(known):
        out[feature.name][-count:] = values[:, :, place]
    return out


def _why_in_cash(book: Walk) -> str:
    last = book.daily.iloc[-1]
    return (
        f"it holds nothing and can lose nothing. Its mode is {last['mode']} ({last['mode_reason']}), and no symbol "
        "has a side that is sure enough (portfolio.book.stance) within the limits"
    )


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
