"""Stage `ingest`: the source's raw tables, checked against their schemas -> data/raw."""

from __future__ import annotations

import sys

from core.progress import progress
from pipelines.layout import RAW
from pipelines.stage import Settings, run_stage
from pipelines.tables import write_tables
from sources.schemas import TABLES


def ingest(settings: Settings) -> None:
    """Read every table that the source has, within the chosen days, and write it as it is."""
    source = settings.open_source()
    available = source.tables()
    start, end = settings.data.start, settings.data.end
    tables = {name: source.read(name, start, end) for name in progress(available, "ingest")}
    expected = {name for name, schema in TABLES.items() if not schema.own}
    for missing in sorted(expected - set(available)):
        print(f"{missing}: the source has no such table; features that need it are skipped", file=sys.stderr)
    write_tables(RAW, tables)
    print("ingested " + ", ".join(f"{name} {len(table):,}" for name, table in sorted(tables.items())))


if __name__ == "__main__":
    run_stage(ingest)
