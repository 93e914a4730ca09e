"""Comparison: one number for the best that a search has found so far, over networks and over seconds."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_optuna.comparison.hypervolume import Point, front, hypervolume, is_dominated
from nas_optuna.comparison.run import Judged, Run

MARGIN = 1.1  # of the largest cost: the reference of a hypervolume


@dataclass(frozen=True)
class Progress:
    """The best so far of one search: it holds from each place on to the next.

    Attributes:
        networks, seconds: Where it rises; the first is 0.
        scores: From there on; the first is what guessing has.
    """

    networks: Sequence[int]
    seconds: Sequence[float]
    scores: Sequence[float]

    def after_networks(self, networks: float) -> float:
        """The score once so many were trained."""
        return self.scores[bisect.bisect_right(self.networks, networks) - 1]

    def after_seconds(self, seconds: float) -> float:
        """The score after so long."""
        return self.scores[bisect.bisect_right(self.seconds, seconds) - 1]


class Yardstick:
    """Measures all runs in the same way.

    With one objective: the best validation accuracy. With several: the hypervolume that the front dominates,
    as a part of the box between a network that guesses and costs 1.1 times as much as the costliest of all
    runs, and one that is always right and costs nothing.

    Args:
        runs: All that are compared, with the same objectives.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.directions = dict(runs[0].directions)
        self.chance = runs[0].chance
        found = [judged.values for run in runs for judged in run.judged if judged.values]
        self.largest = {
            name: max(values[name] for values in found) for name in self.directions if name != "accuracy"
        }
        self.is_accuracy = len(self.directions) == 1
        self.name = "validation accuracy" if self.is_accuracy else "hypervolume"
        self.guessing = self.chance if self.is_accuracy else 0.0
        self._progress: dict[Path, Progress] = {}

    @property
    def reference(self) -> dict[str, float]:
        """The corner of the box that a network has to beat on every axis."""
        costs = {name: MARGIN * value for name, value in self.largest.items()}
        costs |= {name: 0.0 for name in self.largest if self.directions[name] == "maximize"}
        return {"accuracy": self.chance, **costs}

    def progress(self, run: Run) -> Progress:
        """The best so far of a run."""
        if run.folder not in self._progress:
            self._progress[run.folder] = self._measure(run.judged)
        return self._progress[run.folder]

    def _measure(self, judged: Sequence[Judged]) -> Progress:
        networks, seconds, scores = [0], [0.0], [self.guessing]
        points: list[Point] = []
        for one in judged:
            if one.values is None:
                continue
            point = self._losses(one)
            if is_dominated(point, points):
                continue
            points = front([*points, point])
            score = self._score(points)
            if score > scores[-1]:
                networks.append(one.networks)
                seconds.append(one.seconds)
                scores.append(score)
        return Progress(networks, seconds, scores)

    def _score(self, points: Sequence[Point]) -> float:
        if self.is_accuracy:
            return -min(points)[0]
        return hypervolume(points, (1.0,) * len(self.directions))

    def _losses(self, judged: Judged) -> Point:
        """A place in the box: 0 is the best there could be on an axis, 1 the reference. Or minus accuracy."""
        assert judged.values is not None
        if self.is_accuracy:
            return (-judged.values["accuracy"],)
        return tuple(self._loss(name, value) for name, value in judged.values.items())

    def _loss(self, name: str, value: float) -> float:
        if name == "accuracy":
            return (1 - value) / (1 - self.chance)
        if self.directions[name] == "maximize":
            return 1 - value / self.largest[name]
        return value / (MARGIN * self.largest[name])


def mean_first_reached(
    progresses: Sequence[Progress], goal: float, *, over: str, until: float
) -> float | None:
    """Where the mean over searches first is at least the goal; None where it is not by ``until``.

    Args:
        progresses: One a search.
        goal: A score.
        over: ``networks`` or ``seconds``.
        until: Where to stop looking, on the same axis.
    """
    for place in sorted({place for progress in progresses for place in getattr(progress, over)}):
        if place > until:
            break
        mean = statistics.mean(getattr(progress, f"after_{over}")(place) for progress in progresses)
        if mean >= goal or math.isclose(mean, goal, rel_tol=1e-12):
            return float(place)
    return None
