"""One self-contained HTML page: text, tables, key figures and plots, readable offline on any screen.

The page needs no network and no script. The same inputs give the same bytes: plots carry no date, a fixed
salt for their identifiers, and glyphs as paths, so that they do not depend on the reader's fonts.
"""

from __future__ import annotations

import base64
import datetime
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from core.errors import ConfigError
from reporting.template import HTML

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure

Verdict = Literal["good", "warn", "bad", "info"]

VERDICT_WORDS: dict[str, Verdict] = {
    "pass": "good", "passed": "good", "ok": "good", "yes": "good", "true": "good",
    "waived": "warn", "warn": "warn", "warning": "warn", "unknown": "warn", "skipped": "warn",
    "fail": "bad", "failed": "bad", "refused": "bad", "no": "bad", "false": "bad", "error": "bad",
}  # fmt: skip

# Mid tones that stand out on paper and on a dark screen alike.
PALETTE = ("#3b82c4", "#e0873a", "#3fa27a", "#c7566f", "#8b78c9", "#a58a3f", "#5aa9b8", "#8a8f98")

_PLOT_STYLE: dict[str, Any] = {
    "svg.hashsalt": "layered-signals",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#8a8f98",
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Card:
    """One key figure: a large value with its name and a short note."""

    label: str
    value: Any
    note: str = ""
    verdict: Verdict | None = None
    spec: str | None = None


def format_value(value: Any, spec: str | None = None) -> str:
    """Text of one cell: thousands separated, dates as ISO, an en dash where there is nothing.

    Parameters
    ----------
    spec
        Format specification for numbers, such as `.2f` or `.1%`; None chooses by type.
    """
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(format_value(item, spec) for item in value)
    if value is None or value is pd.NaT or (isinstance(value, (float, np.floating)) and np.isnan(value)):
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, pd.Timestamp) and value == value.normalize():
        return f"{value:%Y-%m-%d}"
    if isinstance(value, datetime.datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, (int, float, np.number)):
        if spec is not None:
            return format(value, spec)
        return f"{value:,d}" if isinstance(value, (int, np.integer)) else _readable_float(float(value))
    return str(value)


def _readable_float(value: float) -> str:
    if value == 0.0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:.3g}"


def new_figure(
    rows: int = 1, columns: int = 1, width: float = 9.0, height: float = 3.0, **subplots: Any
) -> tuple[Figure, Any]:
    """Figure and axes in the page's style, without pyplot's global state.

    Parameters
    ----------
    width, height
        Inches.
    subplots
        Passed on to `Figure.subplots`.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_rc()):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, **subplots)


def _rc() -> Any:
    from cycler import cycler

    return {**_PLOT_STYLE, "axes.prop_cycle": cycler(color=PALETTE)}


def figure_svg(figure: Figure, prefix: str) -> str:
    """Inline SVG of a figure: no background, black replaced by the colour of the page's text.

    Parameters
    ----------
    prefix
        Put before every identifier, so that two plots of one page cannot share a clip path.
    """
    import matplotlib

    for axes in figure.axes:
        legend = axes.get_legend()
        if legend is not None:
            # A legend's own white paper would shine on a dark screen.
            legend.set_frame_on(False)
    buffer = io.StringIO()
    with matplotlib.rc_context(_rc()):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace("#000000", "currentColor")


def figure_bytes(figure: Figure, dpi: int = 110) -> bytes:
    """PNG file of a figure on white: for plots with more marks than an SVG carries well."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(_rc()):
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def figure_png(figure: Figure) -> str:
    """Data URI of `figure_bytes`."""
    return "data:image/png;base64," + base64.b64encode(figure_bytes(figure)).decode("ascii")


class Page:
    """Builds a page block by block, in the order of the calls.

    Every text is escaped; methods return the page, so calls can be chained.

    Parameters
    ----------
    title
        Heading and document title.
    subtitle
        One line below it.

    Examples
    --------
    >>> page = Page("Data quality", "simulated market")
    >>> _ = page.banner("2 of 9 rules found something", "warn").section("Prices").paragraph("All sessions present.")
    >>> page.render().startswith("<!doctype html>")
    True
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self._banners: list[dict[str, Any]] = []
        self._blocks: list[dict[str, Any]] = []
        self._sections: list[dict[str, str]] = []
        self._figures = 0

    def banner(self, text: str, verdict: Verdict = "info") -> Page:
        """Add a coloured line above everything else."""
        self._banners.append({"text": text, "verdict": verdict})
        return self

    def section(self, heading: str, intro: str = "") -> Page:
        """Start a section; it is listed in the contents."""
        anchor = f"s{len(self._sections) + 1}"
        self._sections.append({"anchor": anchor, "heading": heading})
        self._blocks.append({"kind": "section", "anchor": anchor, "heading": heading})
        return self.paragraph(intro) if intro else self

    def paragraph(self, text: str) -> Page:
        """Add a paragraph of plain text."""
        self._blocks.append({"kind": "paragraph", "text": text})
        return self

    def bullets(self, items: Sequence[str]) -> Page:
        """Add a list of plain texts."""
        self._blocks.append({"kind": "bullets", "items": list(items)})
        return self

    def cards(self, cards: Sequence[Card]) -> Page:
        """Add a row of key figures."""
        shown = [
            {"label": c.label, "value": format_value(c.value, c.spec), "note": c.note, "verdict": c.verdict or ""}
            for c in cards
        ]
        self._blocks.append({"kind": "cards", "cards": shown})
        return self

    def table(
        self,
        frame: pd.DataFrame,
        caption: str = "",
        *,
        formats: Mapping[str, str] | None = None,
        headings: Mapping[str, str] | None = None,
        verdicts: Mapping[str, Callable[[Any], Verdict | None]] | None = None,
        empty: str = "Nothing to show.",
    ) -> Page:
        """Add a table of a frame's columns (its index is not shown).

        Parameters
        ----------
        formats
            Format specification by column, such as `{"ic": ".3f", "share": ".1%"}`.
        headings
            Heading by column; the column name with spaces otherwise.
        verdicts
            Function of the value by column that colours the cell. A column named `verdict` or `ok` is coloured by
            its word (`VERDICT_WORDS`) without being asked.
        empty
            Shown in place of a table without rows.

        Raises
        ------
        ConfigError
            `formats`, `headings` or `verdicts` name a column that the frame lacks.
        """
        formats, headings, verdicts = formats or {}, headings or {}, verdicts or {}
        names = [str(name) for name in frame.columns]
        unknown = sorted({*formats, *headings, *verdicts} - set(names))
        if unknown:
            raise ConfigError(f"page table {caption!r}: no column {unknown[0]!r}; columns: {', '.join(names)}")
        if frame.empty:
            return self.paragraph(empty)
        numeric = {name: pd.api.types.is_numeric_dtype(dtype) for name, dtype in zip(names, frame.dtypes, strict=True)}
        columns = []
        for position, name in enumerate(names):
            values = frame.iloc[:, position].tolist()
            judge = verdicts.get(name, _word_verdict if name in ("verdict", "ok") else None)
            align = "number" if numeric[name] and not pd.api.types.is_bool_dtype(frame.dtypes.iloc[position]) else ""
            spec = formats.get(name)
            columns.append([_cell(value, spec, judge(value) if judge else None, align) for value in values])
        head = [
            {"text": headings.get(n, n.replace("_", " ")), "align": columns[i][0]["align"]} for i, n in enumerate(names)
        ]
        rows = [list(row) for row in zip(*columns, strict=True)]
        self._blocks.append({"kind": "table", "caption": caption, "head": head, "rows": rows})
        return self

    def figure(self, figure: Figure, caption: str = "", form: Literal["svg", "png"] = "svg") -> Page:
        """Add a matplotlib figure, inline.

        Parameters
        ----------
        caption
            Shown below, and read out in place of the picture.
        form
            `svg` follows the page's light or dark colours; `png` is smaller for thousands of marks.
        """
        self._figures += 1
        block: dict[str, Any] = {"kind": "figure", "caption": caption, "form": form}
        if form == "svg":
            block["svg"] = figure_svg(figure, f"f{self._figures}")
        else:
            block["uri"] = figure_png(figure)
        self._blocks.append(block)
        return self

    def render(self) -> str:
        """The page as HTML text."""
        from markupsafe import Markup

        blocks = [{**b, "svg": Markup(b["svg"])} if "svg" in b else b for b in self._blocks]
        return _template().render(
            title=self.title, subtitle=self.subtitle, banners=self._banners, sections=self._sections, blocks=blocks
        )


def _cell(value: Any, spec: str | None, verdict: Verdict | None, align: str) -> dict[str, str]:
    return {"text": format_value(value, spec), "verdict": verdict or "", "align": align}


def _word_verdict(value: Any) -> Verdict | None:
    return VERDICT_WORDS.get(format_value(value).lower())


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return environment.from_string(HTML)
