"""Report: what a page says, apart from how it is written: HTML or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
        text: Its words; they may come from a study, so they are never taken for markup.
        is_quiet: Whether it explains what stands beside it.
    """

    text: str
    is_quiet: bool = False


@dataclass(frozen=True)
class Code:
    """Lines to be copied, such as a command."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of texts.

    Attributes:
        head: Names of the columns; empty for none.
        rows: As long as the head.
        left: Indices of columns that hold words; the others hold numbers, which stand to the right.
        caption: What it shows; empty for nothing.
        marked: Indices of rows that stand out.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: Sequence[int] = (0,)
    caption: str = ""
    marked: Sequence[int] = ()


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        name: Its id on the page, of letters, digits and hyphens.
        figure: What is drawn.
        caption: How to read it.
        table: The same in numbers; None where it has too many.
    """

    name: str
    figure: go.Figure
    caption: str = ""
    table: Table | None = None


@dataclass(frozen=True)
class Picture:
    """An SVG.

    Attributes:
        svg: Its text.
        words: What it shows.
    """

    svg: str
    words: str


@dataclass(frozen=True)
class Folded:
    """What is out of the way until it is asked for.

    Attributes:
        title: What it holds.
        parts: The parts.
    """

    title: str
    parts: Sequence[Part]


Part = Text | Code | Table | Figure | Picture | Folded


@dataclass(frozen=True)
class Section:
    """Parts under a heading.

    Attributes:
        title: The heading.
        parts: In order.
    """

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Document:
    """A page.

    Attributes:
        title: Its name.
        lead: What it says, in a sentence or two.
        sections: In order.
    """

    title: str
    lead: str
    sections: Sequence[Section]
