"""What commands print: tables on a terminal, plain aligned lines in a pipe; times in UTC."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from core.text import shown

_STYLES = {"pass": "green", "FAIL": "bold red", "warn": "yellow", "WAIVED": "bold yellow"}


class Printer:
    """Prints to standard output."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def line(self, text: str = "", style: str = "") -> None:
        """One line; never wrapped, never read as markup."""
        self.console.print(escape(shown(text)), style=style or None)

    def warning(self, text: str) -> None:
        """One line that must not be missed."""
        self.line(f"WARNING {text}", "bold yellow")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table with a title."""
        if not self.console.is_terminal:
            self._plain(title, columns, rows)
            return
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(shown(cell), style=_STYLES.get(cell, "")) for cell in row))
        self.console.print(table)

    def _plain(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.line(title)
        widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
        for row in (columns, *rows):
            self.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def utc(moment: datetime) -> str:
    """A moment to the second, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
