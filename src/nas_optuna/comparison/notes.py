"""Comparison: what to bear in mind with the searches at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from nas_optuna.comparison.contrasts import SECONDS, Comparison
from nas_optuna.comparison.groups import passes
from nas_optuna.comparison.run import Run
from nas_optuna.comparison.verdict import describe_budget

SHORTER = 0.8  # of another search's budget: then it is said whose the common one is


def notes(comparison: Comparison) -> Iterator[str]:
    """What makes this comparison less than it seems, in sentences."""
    runs = comparison.runs
    if not comparison.base.is_random:
        yield (
            "No group searches at random: this tells which of them is better, not whether one beats luck. "
            "Add searches with strategy=random."
        )
    if any(run.is_looked_up for run in runs):
        yield "Networks were looked up in a table, so seconds say nothing of trainings."
    for over, least in comparison.budget.items():
        shortest, longest = min(runs, key=_spent(over)), max(runs, key=_spent(over))
        if least < SHORTER * _spent(over)(longest):
            yield (
                f"Compared after {describe_budget(least, over)}, all that {shortest.folder} has; "
                f"{longest.folder} has {describe_budget(_spent(over)(longest), over)}."
            )
    yield from _trainings(runs)
    counts = sorted({run.side_by_side for run in runs})
    if len(counts) > 1 and SECONDS in comparison.budget:
        yield (
            f"{counts[0]} to {counts[-1]} networks were trained side by side: seconds are not those of like "
            "machines."
        )
    missing = next((run for run in runs if run.tested is None), None)
    if missing is not None:
        yield f"Tested accuracies are left out: {missing.folder} has not tested its winner."
    often = max(runs, key=lambda run: run.tests)
    if often.tests > 1:
        yield f"{often.folder} was tested {often.tests} times: choosing by tests is luck again."


def _spent(over: str) -> Callable[[Run], float]:
    return lambda run: float(getattr(run, over))


def _trainings(runs: Sequence[Run]) -> Iterator[str]:
    lengths = [passes(run) for run in runs]
    if min(lengths) != max(lengths):
        yield (
            f"Trainings pass {min(lengths):.2f} to {max(lengths):.2f} times over the images, and longer "
            "ones have higher validation accuracies. Final trainings are apart from that: hold on to tested "
            "accuracies."
        )
    if len({str(run.config["estimation"].get("pruner")) for run in runs}) > 1:
        yield (
            "Networks that were stopped early count as trained, so that seconds, not networks, are the fair "
            "measure of one estimation against another."
        )
