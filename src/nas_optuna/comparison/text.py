"""Comparison: what the terminal shows and the page repeats."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping

from rich.table import Table
from rich.text import Text

from nas_optuna.comparison.contrasts import TESTED, Comparison, Reached
from nas_optuna.comparison.notes import notes
from nas_optuna.comparison.verdict import describe_budget, one_seed, sentence, too_few

VALIDATION = (
    "Validation accuracy is what networks were chosen by: the best of many owes part of it to luck, the "
    "more the more were tried."
)
TEST = "Tested accuracy owes nothing to that: a search sees no test image before its winner is trained."


def describe_scores(values: Mapping[int, float]) -> str:
    """Mean, and of several seeds the lowest and the highest."""
    mean = f"{statistics.mean(values.values()):.4f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values.values()):.4f} to {max(values.values()):.4f})"


def heading(comparison: Comparison, measure: str) -> str:
    """A measure in words, with the budget."""
    if measure == TESTED:
        return "tested accuracy"
    name = comparison.yardstick.name
    best = f"best {name}" if comparison.yardstick.is_accuracy else name
    return f"{best} after {describe_budget(comparison.budget[measure], measure)}"


def column(comparison: Comparison, measure: str) -> str:
    """The same for the head of a table, where there is little room."""
    if measure == TESTED:
        return "tested"
    name = "validation" if comparison.yardstick.is_accuracy else comparison.yardstick.name
    return f"{name}, {describe_budget(comparison.budget[measure], measure)}"


def best_so_far(comparison: Comparison) -> str:
    """What progress is measured by."""
    name = comparison.yardstick.name
    return f"best {name} so far" if comparison.yardstick.is_accuracy else f"{name} so far"


def rows(comparison: Comparison) -> Iterator[list[str]]:
    """The table: its head, then a row for each group."""
    yield ["", "seeds", "networks", "seconds", *(column(comparison, name) for name in comparison.measures)]
    for group in comparison.groups:
        yield [
            group.label,
            str(len(group.runs)),
            _range([run.networks for run in group.runs.values()]),
            _range([round(run.seconds) for run in group.runs.values()]),
            *(describe_scores(comparison.scores(group, name)) for name in comparison.measures),
        ]


def table(comparison: Comparison) -> Table:
    """The same for the terminal."""
    view = Table(box=None, pad_edge=False)
    head, *body = rows(comparison)
    for index, name in enumerate(head):
        view.add_column(name, justify="right" if index else "left", overflow="fold")
    for row in body:
        view.add_row(*map(Text, row))
    return view


def verdicts(comparison: Comparison) -> Iterator[str]:
    """A sentence for each measure of each contrast."""
    for contrast in comparison.contrasts:
        first, second = contrast.first.label, contrast.second.label
        if not all(contrast.differences.values()):
            yield one_seed(first, second)
            continue
        for measure, difference in contrast.differences.items():
            assert difference is not None
            what = heading(comparison, measure)
            is_accuracy = measure == TESTED or comparison.yardstick.is_accuracy
            unit = "points" if is_accuracy else "hundredths of the box"
            yield sentence(difference, first=first, second=second, what=what, unit=unit)
        remarks = (too_few(difference) for difference in contrast.differences.values() if difference)
        yield from dict.fromkeys(remark for remark in remarks if remark)


def speeds(comparison: Comparison) -> Iterator[str]:
    """How much sooner one group had what another one ends with."""
    for contrast in comparison.contrasts:
        for reached in contrast.reached:
            yield _speed(contrast.first.label, contrast.second.label, reached)
        for reached in contrast.reversed:
            yield _speed(contrast.second.label, contrast.first.label, reached)


def explanations(comparison: Comparison) -> Iterator[str]:
    """How the figures are to be read, then what to bear in mind with these searches."""
    if not comparison.yardstick.is_accuracy:
        corner = ", ".join(f"{name} {value:.4g}" for name, value in comparison.yardstick.reference.items())
        yield (
            f"Hypervolume is the part that a front dominates of the box between {corner}, and a network "
            "that is always right and costs nothing; accuracies in it are validation accuracies."
        )
    yield VALIDATION
    if TESTED in comparison.measures:
        yield TEST
    yield from notes(comparison)


def _speed(first: str, second: str, reached: Reached) -> str:
    if reached.first is None:
        return f"{first} did not reach {second}'s final mean ({reached.goal:.4f}) in the same {reached.over}."
    said = f"{first} had {second}'s final mean ({reached.goal:.4f}) after "
    said += describe_budget(reached.first, reached.over)
    times = f": {reached.ratio:.2f} times as soon" if reached.ratio is not None else ""
    return f"{said}, {second} after {describe_budget(reached.second, reached.over)}{times}."


def _range(values: list[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"
