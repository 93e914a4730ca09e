"""Reads a report back: its tables, its texts, and what it refers to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

Rows = list[list[str]]


@dataclass
class Page(HTMLParser):
    """An HTML page as a reader sees it.

    Attributes:
        tables: By the heading they stand under, each a list of rows of cells.
        references: Whatever a tag refers to by ``src`` or ``href``.
        tags: How often each stands there.
        text: All words outside of scripts and styles.
    """

    source: str
    tables: dict[str, list[Rows]] = field(default_factory=dict)
    references: list[str] = field(default_factory=list)
    tags: dict[str, int] = field(default_factory=dict)
    text: str = ""

    def __post_init__(self) -> None:
        HTMLParser.__init__(self)
        self._heading = ""
        self._open = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self._open = self._open if tag == "span" else tag
        self.references += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag == "h2":
            self._heading = ""
        elif tag == "table":
            self.tables.setdefault(self._heading, []).append([])
        elif tag == "tr":
            self.tables[self._heading][-1].append([])
        elif tag in ("td", "th"):
            self.tables[self._heading][-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = "" if tag in ("td", "th", "h2", "script", "style", "caption") else self._open

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style"):
            return
        self.text += data
        if self._open == "h2":
            self._heading += data
        elif self._open in ("td", "th"):
            self.tables[self._heading][-1][-1][-1] += data


def tables_of_markdown(text: str) -> dict[str, list[Rows]]:
    """The same of a Markdown file."""
    tables: dict[str, list[Rows]] = {}
    heading, is_inside = "", False
    for line in text.splitlines():
        if line.startswith("## "):
            heading = unescape(line[3:])
        if not line.startswith("| "):
            is_inside = False
            continue
        if not is_inside:
            tables.setdefault(heading, []).append([])
            is_inside = True
        cells = [unescape(cell.strip().removeprefix("**").removesuffix("**")) for cell in _cells(line)]
        if not all(re.fullmatch(r"-+:?", cell) for cell in cells):
            tables[heading][-1].append(cells)
    return tables


def unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
