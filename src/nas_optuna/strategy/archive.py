"""Search strategy: what the trials of a study say: which points were judged, how good they are, which run."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.attributes import CURVE, KNOWN_VALUES
from nas_optuna.strategy.parameters import Point


@dataclass(frozen=True)
class Evaluation:
    """What one trial said about a point.

    Attributes:
        point: Its parameters.
        values: One for each objective, more is better; empty where it was pruned or failed.
        constraints: By name; kept where it is 0 or less.
        progress: Last step that it reported, and the value there, more is better; None without any.
        stopped_at: Where a trial with several objectives was pruned: its values by then, more is better.
    """

    point: Point
    values: tuple[float, ...] = ()
    constraints: Mapping[str, float] = field(default_factory=dict)
    progress: tuple[int, float] | None = None
    stopped_at: tuple[float, ...] = ()

    @functools.cached_property
    def violation(self) -> float:
        """How far it is beyond the constraints, in sum; 0 for a feasible point."""
        return sum(max(0.0, excess) for excess in self.constraints.values())

    @property
    def has_failed(self) -> bool:
        """Whether it ended without a word about its worth."""
        return not self.values and self.progress is None

    @property
    def is_feasible(self) -> bool:
        """Whether it was judged to the end and keeps to the constraints."""
        return bool(self.values) and self.violation <= 0

    @functools.cached_property
    def standing(self) -> tuple[float, ...]:
        """The larger, the better, as tuples compare.

        Feasible ones by their first value; then pruned ones, those that got further first; then
        those beyond a constraint, the nearest first; failed ones last.
        """
        if self.is_feasible:
            return (3.0, self.values[0])
        if self.violation > 0:
            return (1.0, -self.violation)
        return (2.0, *self.progress) if self.progress else (0.0,)

    def dominates(self, other: Evaluation) -> bool:
        """Whether it is at least as good in every objective, and better in one."""
        pairs = list(zip(self.values, other.values, strict=True))
        return all(mine >= theirs for mine, theirs in pairs) and any(mine > theirs for mine, theirs in pairs)


class Archive:
    """A study as a strategy sees it. Reading it again costs what is new, and a look at what runs.

    Attributes:
        distributions: Of every parameter that a trial was asked for, the latest.
        evaluations: Of the finished trials, in the order in which they were read.
        front: The feasible ones that none dominates; with one objective the best, or several as good.
        read_for: The number of the trial that asked last.
        running: Points of the trials that are not finished, as far as they have been asked.
    """

    def __init__(self) -> None:
        self._study: Callable[[], optuna.Study | None] = lambda: None
        self._forget()

    def _forget(self) -> None:
        self.distributions: dict[str, BaseDistribution] = {}
        self.evaluations: list[Evaluation] = []
        self.front: list[Evaluation] = []
        self.running: list[Point] = []
        self._points: dict[tuple[str, ...], set[tuple[float, ...]]] = {}
        self._running_points: dict[tuple[str, ...], set[tuple[float, ...]]] = {}
        self._seen: set[int] = set()
        self._finished_below = 0

    def read(self, study: optuna.Study, *, asking: int) -> None:
        """Take up what a study's trials say.

        Args:
            study: Another one than before makes the archive start anew.
            asking: The number of the trial that asks.
        """
        if self._study() is not study:
            self._study = weakref.ref(study)
            self._forget()
        self.read_for = asking
        self.running = []
        trials = study.get_trials(deepcopy=False)
        for trial in trials[self._finished_below :]:
            if trial.number != asking and trial.number not in self._seen:
                self._take(trial, study.directions)
        self._running_points = {}
        for point in self.running:
            # one that was asked for a part as yet says nothing
            if (names := _names(point)) in self._points:
                self._running_points.setdefault(names, set()).add(_values(point, names))
        while self._finished_below in self._seen:
            self._seen.discard(self._finished_below)
            self._finished_below += 1

    def knows(self, point: Point) -> bool:
        """Whether a trial with these parameters would ask for a point that was judged, or is being judged.

        A trial asks for some of them only where parameters depend on one another: it then follows
        the one of before that agrees with the point in all that it was asked for.
        """
        return any(
            all(name in point for name in names) and _values(point, names) in seen
            for known in (self._points, self._running_points)
            for names, seen in known.items()
        )

    def _take(self, trial: FrozenTrial, directions: Sequence[StudyDirection]) -> None:
        self.distributions.update(trial.distributions)
        point = {
            name: float(trial.distributions[name].to_internal_repr(value))
            for name, value in trial.params.items()
        }
        if not trial.state.is_finished():
            self.running += [point] if point else []
            return
        self._seen.add(trial.number)
        if not point:
            return
        evaluation = _evaluate(trial, point, directions)
        self.evaluations.append(evaluation)
        names = _names(point)
        self._points.setdefault(names, set()).add(_values(point, names))
        if evaluation.is_feasible and not any(other.dominates(evaluation) for other in self.front):
            self.front = [other for other in self.front if not evaluation.dominates(other)] + [evaluation]


def _names(point: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(sorted(point))


def _values(point: Point, names: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(point[name] for name in names)


def _evaluate(trial: FrozenTrial, point: Point, directions: Sequence[StudyDirection]) -> Evaluation:
    signs = [1.0 if direction == StudyDirection.MAXIMIZE else -1.0 for direction in directions]
    values: tuple[float, ...] = ()
    if trial.state == TrialState.COMPLETE and trial.values is not None:
        values = tuple(sign * value for sign, value in zip(signs, trial.values, strict=True))
    progress, stopped_at = None, ()
    if trial.state == TrialState.PRUNED:
        known = list(trial.user_attrs.get(KNOWN_VALUES, [None]))
        judged = known.index(None)
        # where there are several objectives, a curve is a user attribute
        reported = trial.intermediate_values or trial.user_attrs.get(CURVE, {})
        if reported:
            step, value = max((int(step), value) for step, value in reported.items())
            known[judged] = -math.inf * signs[judged] if math.isnan(value) else value
            progress = (step, signs[judged] * known[judged])
            if len(known) == len(signs) > 1:
                stopped_at = tuple(sign * value for sign, value in zip(signs, known, strict=True))
    return Evaluation(point, values, trial.constraints, progress, stopped_at)
