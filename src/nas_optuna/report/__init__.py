"""What a study found, and why to believe it: facts, figures, and a page that holds both."""

from nas_optuna.report.document import Code, Document, Figure, Folded, Part, Picture, Section, Table, Text
from nas_optuna.report.document_of_study import describe_study
from nas_optuna.report.facts import Facts, Row, gather
from nas_optuna.report.figures import figures
from nas_optuna.report.files import write_report
from nas_optuna.report.markdown import write_markdown
from nas_optuna.report.page import write_page
from nas_optuna.report.statistics import Step, chance, expected_best, progress, random_rows

__all__ = [
    "Code",
    "Document",
    "Facts",
    "Figure",
    "Folded",
    "Part",
    "Picture",
    "Row",
    "Section",
    "Step",
    "Table",
    "Text",
    "chance",
    "describe_study",
    "expected_best",
    "figures",
    "gather",
    "progress",
    "random_rows",
    "write_markdown",
    "write_page",
    "write_report",
]
