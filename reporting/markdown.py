"""A report as Markdown for the repository: the blocks of `reporting.page.Page`, pictures as files beside the text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from reporting.page import Verdict, figure_bytes, format_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Markdown:
    """Builds a page block by block, in the order of the calls; methods return the page.

    Parameters
    ----------
    title
        Heading.
    subtitle
        A paragraph below it.
    images
        Folder of the pictures as the text names it, relative to where the text will lie.

    Attributes
    ----------
    pictures
        PNG files by name, to be written into that folder.
    """

    def __init__(self, title: str, subtitle: str = "", images: str = "images") -> None:
        self.title = title
        self.subtitle = subtitle
        self.images = images
        self.pictures: dict[str, bytes] = {}
        self._banners: list[str] = []
        self._sections: list[str] = []
        self._blocks: list[str] = []

    def banner(self, text: str, verdict: Verdict = "info") -> Markdown:
        """Add a quoted line above everything else."""
        self._banners.append(f"> {_escaped(text)}" if verdict == "info" else f"> **{_escaped(text)}**")
        return self

    def section(self, heading: str, intro: str = "") -> Markdown:
        """Start a section; it is listed in the contents."""
        self._sections.append(heading)
        self._blocks.append(f"## {_escaped(heading)}")
        return self.paragraph(intro) if intro else self

    def paragraph(self, text: str) -> Markdown:
        """Add a paragraph of plain text."""
        self._blocks.append(_escaped(text))
        return self

    def bullets(self, items: Sequence[str]) -> Markdown:
        """Add a list of plain texts."""
        self._blocks.append("\n".join(f"- {_escaped(item)}" for item in items))
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
    ) -> Markdown:
        """Add a table of a frame's columns; parameters as in `Page.table`, but Markdown has no colours for verdicts."""
        if frame.empty:
            return self.paragraph(empty)
        table = markdown_table(frame, formats, headings)
        self._blocks.append(f"**{_escaped(caption)}**\n\n{table}" if caption else table)
        return self

    def figure(self, figure: Figure, caption: str = "", form: Literal["svg", "png"] = "png") -> Markdown:
        """Add a matplotlib figure as a PNG file, named after the first words of its caption.

        A drawing as text (`form="svg"`) would fill the repository's history, so that the form is not heeded.
        """
        first = re.split(r"[.,:;]", caption)[0] or f"figure {len(self.pictures) + 1}"
        name = re.sub(r"[^a-z0-9]+", "-", first.lower()).strip("-") + ".png"
        # The very bytes that the HTML page carries inside.
        self.pictures[name] = figure_bytes(figure)
        self._blocks.append(f"![{_escaped(caption)}]({self.images}/{name})\n\n*{_escaped(caption)}*")
        return self

    def render(self) -> str:
        """The page as text."""
        contents = [f"- [{_escaped(heading)}](#{_anchor(heading)})" for heading in self._sections]
        top = [f"# {_escaped(self.title)}", _escaped(self.subtitle), *self._banners, "\n".join(contents)]
        return "\n\n".join(block for block in (*top, *self._blocks) if block) + "\n"


def markdown_table(
    frame: pd.DataFrame, formats: Mapping[str, str] | None = None, headings: Mapping[str, str] | None = None
) -> str:
    """A frame's columns as a Markdown table, numbers to the right; parameters as in `Page.table`."""
    formats, headings = formats or {}, headings or {}
    columns = [str(name) for name in frame.columns]
    right = [pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype) for dtype in frame.dtypes]
    cells = [
        [_cell(format_value(value, formats.get(name))) for value in frame.iloc[:, place].tolist()]
        for place, name in enumerate(columns)
    ]
    head = [_cell(headings.get(name, name.replace("_", " "))) for name in columns]
    lines = [head, ["---:" if number else "---" for number in right], *zip(*cells, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """Text that Markdown takes for no markup, code between backticks apart."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return re.sub(r"([\\*<`])", r"\\\1", text)
    parts[::2] = [re.sub(r"([\\*<])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def _cell(text: str) -> str:
    return " ".join(_escaped(text).replace("|", "\\|").split())


def _anchor(heading: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
