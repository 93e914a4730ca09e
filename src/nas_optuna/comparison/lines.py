"""Comparison: the lines that both the page and the PNG plots draw."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from nas_optuna.comparison.contrasts import NETWORKS, Comparison
from nas_optuna.comparison.groups import Group


@dataclass(frozen=True)
class Line:
    """The best so far of a group, as steps: each value holds until the next place.

    Attributes:
        places: Networks or seconds.
        means: Over the seeds.
        lows, highs: Lowest and highest of the seeds.
    """

    places: Sequence[float]
    means: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]


def draw_line(comparison: Comparison, group: Group, over: str) -> Line:
    """From where all searches of the group have found something to where the first of them ends.

    Args:
        comparison: That the group is part of.
        group: The searches.
        over: ``networks`` or ``seconds``.
    """
    runs = list(group.runs.values())
    progresses = [comparison.yardstick.progress(run) for run in runs]
    end = float(min(getattr(run, over) for run in runs))
    begin = max(getattr(progress, over)[1] for progress in progresses)
    rises = {float(place) for progress in progresses for place in getattr(progress, over)}
    places = [place for place in sorted({*rises, end}) if begin <= place <= end]
    scores = [
        [
            progress.after_networks(place) if over == NETWORKS else progress.after_seconds(place)
            for progress in progresses
        ]
        for place in places
    ]
    return Line(
        places=places,
        means=[statistics.mean(values) for values in scores],
        lows=[min(values) for values in scores],
        highs=[max(values) for values in scores],
    )
