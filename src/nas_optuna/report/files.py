"""Report: ``report.html`` and ``report.md``."""

from __future__ import annotations

from pathlib import Path

from nas_optuna.files import write_file
from nas_optuna.report.document_of_study import describe_study
from nas_optuna.report.facts import Facts
from nas_optuna.report.markdown import write_markdown
from nas_optuna.report.page import write_page

HTML, MARKDOWN = "report.html", "report.md"


def write_report(facts: Facts, folder: Path) -> tuple[Path, Path]:
    """Write both files into a folder, and say where they are."""
    document = describe_study(facts)
    files = {folder / HTML: write_page(document), folder / MARKDOWN: write_markdown(document)}
    for path, text in files.items():
        # a study may hold what no text file can: half of a pair of code units
        write_file(path, text.encode(errors="replace"))
    return folder / HTML, folder / MARKDOWN
