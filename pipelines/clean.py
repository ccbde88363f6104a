"""Stage `clean`: causal cleaning of the raw tables -> data/clean and reports/data_quality."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np
import pandas as pd

from core.files import atomic_directory, write_json, write_parquet, write_text
from features.assemble import assemble
from features.panel import Panel
from pipelines.layout import CLEAN, QUALITY, RAW
from pipelines.panels import closing_remedy, session_range
from pipelines.requirements import require_enough
from pipelines.stage import Settings, run_stage
from pipelines.tables import read_tables, write_tables
from reporting.quality import quality_page, quality_summary
from sources.calendar import sessions
from sources.cleaning import clean
from sources.cleaning.findings import join
from sources.cleaning.spelling import check_symbols

_DATED = ("date", "session", "available_date", "created_at")


def main(settings: Settings) -> None:
    """Clean every table, refuse data that is too little for the run, report what was found per table, rule, symbol."""
    raw = read_tables(RAW)
    first, last = raw["prices"]["date"].min().date(), raw["prices"]["date"].max().date()
    spelling = check_symbols(raw)
    cleaned = clean(raw, first, last)
    findings = join([cleaned.findings, spelling])
    panel = assemble(cleaned.tables, session_range(cleaned.tables["prices"]), settings.universe)
    require_enough(panel, settings)
    counts = count_tables(raw, cleaned.tables)
    _note_days(raw["prices"], panel)
    coverage = measure_coverage(panel)
    write_tables(CLEAN, cleaned.tables)
    with atomic_directory(QUALITY) as folder:
        write_json(folder / "quality.json", quality_summary(findings, coverage, counts))
        write_parquet(folder / "findings.parquet", findings)
        write_text(folder / "quality.html", quality_page(findings, coverage, counts))
    for name, found in spelling.groupby("table"):
        one = found.iloc[0]
        print(
            f"{name}: {len(found)} symbols are spelt otherwise than in the prices (first {one['symbol']!r}: "
            f"{one['example']}) and count as others: spell them alike",
            file=sys.stderr,
        )
    print(
        f"cleaned {len(cleaned.tables['prices']):,} price rows; {int(findings['rows'].sum()):,} findings; "
        f"universe {panel.universe[-1].sum()} of {len(panel.symbols)} symbols on {panel.dates[-1]}"
    )


def _note_days(prices: pd.DataFrame, panel: Panel) -> None:
    """Name the days on which the calendar and the prices disagree, and how to declare them."""
    if remedy := closing_remedy(panel):
        print(f"prices: {remedy.removeprefix('; ')}", file=sys.stderr)
    days = np.unique(prices["date"].to_numpy().astype("datetime64[D]"))
    outside = np.sort(days[~np.isin(days, sessions(days.min(), days.max()))])
    if len(outside):
        print(
            f"prices: rows on days that are not sessions of the exchange are dropped ({len(outside)}, the last "
            f"{outside[-1]}): if the exchange was open, list such days under data.openings in params.yaml",
            file=sys.stderr,
        )


def count_tables(raw: Mapping[str, pd.DataFrame], cleaned: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Rows before and after, dates and symbols of every raw table."""
    renamed = {"fundamentals": "filings"}
    rows = []
    for name, table in sorted(raw.items()):
        after = cleaned.get(renamed.get(name, name))
        dated = next((column for column in _DATED if column in table), None)
        rows.append(
            {
                "table": name,
                "rows": len(table),
                "rows_clean": 0 if after is None else len(after),
                "first": f"{table[dated].min():%Y-%m-%d}" if dated else "",
                "last": f"{table[dated].max():%Y-%m-%d}" if dated else "",
                "symbols": table["symbol"].nunique() if "symbol" in table else 0,
            }
        )
    return pd.DataFrame(rows)


def measure_coverage(panel: Panel) -> pd.DataFrame:
    """Per session: symbols with a close, size of the universe, events that became known."""
    frame = pd.DataFrame(
        {
            "date": panel.dates,
            "symbols_with_price": np.isfinite(panel["close"]).sum(axis=1),
            "universe_size": panel.universe.sum(axis=1),
        }
    )
    for name, events in sorted(panel.events.items()):
        table = name.partition(":")[0]
        frame[table] = frame.get(table, 0) + np.bincount(events.session, minlength=len(panel.dates))
    return frame


if __name__ == "__main__":
    run_stage(main)
