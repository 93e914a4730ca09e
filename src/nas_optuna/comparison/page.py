"""Comparison: the page that says it all."""

from __future__ import annotations

from collections.abc import Iterator

from nas_optuna.comparison.contrasts import NETWORKS, Comparison
from nas_optuna.comparison.figures import draw_progress, draw_scores
from nas_optuna.comparison.text import best_so_far, column, explanations, heading, rows, speeds, verdicts
from nas_optuna.report import Document, Figure, Part, Section, Table, Text

PROGRESS = (
    "Line: mean over the seeds. Band: from the lowest to the highest seed. The dotted line is the budget "
    "that all searches have, at which they are compared."
)
METHOD = (
    "Where two groups have the same seeds, they are compared seed by seed. p is the share of all ways to "
    "change the signs of the differences that give a mean at least as far from 0 (Fisher 1935), else the "
    "share of all divisions of the searches into two groups that set the means as far apart. Up to 0.05 a "
    "difference counts as more than luck; several comparisons at once are adjusted for (Holm 1979). The "
    "interval is Student's, and holds if seeds scatter normally, which a few of them can't show. The number "
    "of seeds is that with which a t-test shows such a difference in four of five cases."
)


def write_document(comparison: Comparison) -> Document:
    """The comparison as a document."""
    labels = [group.label for group in comparison.groups]
    count = len(comparison.runs)
    return Document(
        title="Did the search beat luck?",
        lead=f"{count} searches: {', '.join(labels)}; held against {comparison.base.label}.",
        sections=[
            Section("Verdict", [Text(said) for said in verdicts(comparison)]),
            # "Figures" would have the id of the page's own figures
            Section("In numbers", [_table(comparison), *_notes(comparison)]),
            Section("Over time", list(_progress(comparison))),
            Section("Seed by seed", list(_scores(comparison))),
            Section("How it was tested", [Text(METHOD)]),
            Section("Searches", [_searches(comparison)]),
        ],
    )


def _table(comparison: Comparison) -> Table:
    head, *body = rows(comparison)
    caption = (
        f"The {best_so_far(comparison)}, and the tested accuracy: mean over the seeds, in brackets the "
        "lowest and the highest."
    )
    return Table(head, body, caption=caption)


def _notes(comparison: Comparison) -> list[Text]:
    return [Text(said, is_quiet=True) for said in explanations(comparison)]


def _progress(comparison: Comparison) -> Iterator[Part]:
    for over in comparison.budget:
        name = "networks" if over == NETWORKS else "seconds"
        yield Figure(f"progress-{name}", draw_progress(comparison, over), PROGRESS)
    for said in speeds(comparison):
        yield Text(said)


def _scores(comparison: Comparison) -> Iterator[Part]:
    for measure in comparison.measures:
        figure = draw_scores(comparison, measure)
        caption = f"{heading(comparison, measure).capitalize()}: a point a seed, a line for their mean."
        yield Figure(f"scores-{measure}", figure, caption)


def _searches(comparison: Comparison) -> Table:
    """Each search with what it reached, for those who want to count again."""
    head = ["folder", "group", "seed", *(column(comparison, measure) for measure in comparison.measures)]
    body = [
        [
            str(run.folder),
            group.label,
            str(seed),
            *(f"{comparison.scores(group, measure)[seed]:.4f}" for measure in comparison.measures),
        ]
        for group in comparison.groups
        for seed, run in group.runs.items()
    ]
    return Table(head, body, left=(0, 1))
