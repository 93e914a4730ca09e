"""Report: a document as a Markdown file, for where HTML is not read. Figures are left to the page."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nas_optuna.report.document import Code, Document, Figure, Folded, Part, Section, Table, Text


def write_markdown(document: Document) -> str:
    """A document as Markdown: a figure by its table, if it has one, a picture not at all.

    Whatever comes from a study is escaped, so that none of it is markup or a link.
    """
    blocks = [f"# {escape(document.title)}", escape(document.lead)]
    for section in document.sections:
        blocks += _section(section)
    return "\n\n".join(blocks) + "\n"


def escape(text: str) -> str:
    """A text in one line that Markdown takes for nothing but itself."""
    one_line = " ".join(text.split())
    marked = re.sub(r"([\\`*_\[\]<>|#~!])", r"\\\1", one_line)
    # what would be a link without any mark
    return re.sub(r"(https?|ftp|www)(:|\.)", r"\1\\\2", marked)


def _section(section: Section) -> list[str]:
    said = [text for part in section.parts for text in _part(part)]
    return [f"## {escape(section.title)}", *said] if said else []


def _part(part: Part) -> list[str]:
    if isinstance(part, Text):
        return [escape(part.text)]
    if isinstance(part, Code):
        return [_code(part.text)]
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Folded):
        return [f"### {escape(part.title)}", *(text for inner in part.parts for text in _part(inner))]
    if isinstance(part, Figure) and part.table is not None:
        return [*_table(part.table), *([escape(part.caption)] if part.caption else [])]
    return []


def _code(text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _table(table: Table) -> list[str]:
    lines = ["---" if index in table.left else "---:" for index in range(len(table.head))]
    rows = [_row(list(map(escape, table.head))), _row(lines)]
    for number, row in enumerate(table.rows):
        cells = [escape(cell) for cell in row]
        rows.append(
            _row([f"**{cell}**" if cell else cell for cell in cells] if number in table.marked else cells)
        )
    caption = [escape(table.caption)] if table.caption else []
    return [*caption, "\n".join(rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
