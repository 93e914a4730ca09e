"""Performance estimation: learning curves of a study's trials, with one objective or several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.attributes import CURVE, KNOWN_VALUES, LOSSES, VOID
from nas_optuna.errors import InputError


@dataclass(frozen=True)
class Curve:
    """What a trial reported, turned so that more is better.

    Attributes:
        values: By step, in order; minus infinity where NaN or infinite was reported.
        final: What it is worth in the end; None unless it was trained to the end, within the constraints.
        known: The study's values that were known before the training; empty with one objective.
        objective: Which of the study's values has the curve.
        losses: By step, as far as they were reported; less is better.
        point: The trial's parameters that say something, in Optuna's internal representation.
    """

    values: Mapping[int, float]
    final: float | None = None
    known: tuple[float, ...] = ()
    objective: int = 0
    losses: Mapping[int, float] = field(default_factory=dict)
    point: Mapping[str, float] = field(default_factory=dict)

    @property
    def steps(self) -> list[int]:
        """The steps reported, in order."""
        return list(self.values)

    def at(self, step: int) -> float:
        """The value at a step, or at the last one before it; NaN where the curve does not reach it."""
        if not self.values or self.steps[-1] < step:
            return math.nan
        return next((self.values[known] for known in reversed(self.steps) if known <= step), math.nan)

    def loss_at(self, step: int) -> float:
        """The loss at a step; NaN where none was reported."""
        return self.losses.get(step, math.nan)


class LearningCurve:
    """The curve of a running trial; with several objectives, where ``trial.report`` raises, the only way.

    There it lives in the trial's user attribute ``curve``, which every storage and dashboard knows, and asks
    the study's pruner, which has to be one that reads it: ``ParetoPruner`` or ``CurvePruner``. With one
    objective it reports to Optuna, for any pruner. Losses that come with the values lie in the user attribute
    ``losses``. A trial that shall stop raises ``optuna.TrialPruned``::

        study = optuna.create_study(directions=["maximize", "minimize"], pruner=ParetoPruner())

        def objective(trial):
            curve = LearningCurve(trial, values=(None, macs))  # accuracy has the curve
            for epoch in range(1, 21):
                accuracy, loss = ...
                curve.report(accuracy, epoch, loss=loss)
                if curve.should_prune():
                    raise optuna.TrialPruned
            return accuracy, macs

    Args:
        trial: The running trial.
        values: The study's values, None in the place of the one that has the curve: the others are
            known before the training. With one objective it may be left out.

    Raises:
        InputError: There is not one value for each objective, or not exactly one None.
    """

    def __init__(self, trial: optuna.Trial, *, values: Sequence[float | None] = (None,)) -> None:
        directions = trial.study.directions
        if len(values) != len(directions) or list(values).count(None) != 1:
            raise InputError(
                f"values: {tuple(values)!r} must hold one number for each of the study's {len(directions)} "
                "objectives, and None for the one that has the curve."
            )
        self._trial = trial
        self._is_alone = len(directions) == 1
        self._curve: dict[str, float] = {}
        self._losses: dict[str, float] = {}
        if not self._is_alone:
            trial.set_user_attr(KNOWN_VALUES, list(values))

    def report(self, value: float, step: int, *, loss: float | None = None) -> None:
        """Add what the objective that has the curve is worth after so many steps, from 0 or 1.

        Args:
            value: As the study counts it.
            step: So many.
            loss: Such as the cross entropy, on the images that the value is of; less is better. It tells
                networks apart that have as many images right by luck. None where nobody knows.
        """
        # before the value: whoever sees that may ask for the loss
        if loss is not None and math.isfinite(loss):
            self._losses[str(int(step))] = float(loss)
            self._trial.set_user_attr(LOSSES, self._losses)
        if self._is_alone:
            self._trial.report(value, step)
            return
        self._curve[str(int(step))] = float(value)
        self._trial.set_user_attr(CURVE, self._curve)

    def should_prune(self) -> bool:
        """What the study's pruner says of the curve so far."""
        if self._is_alone:
            return self._trial.should_prune()
        study = self._trial.study
        # a storage gives a running trial only with all others that run
        frozen = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=self._trial.params,
            distributions=self._trial.distributions,
            user_attrs=self._trial.user_attrs,
        )
        frozen.number = self._trial.number
        return study.pruner.prune(study, frozen)


def read_curve(trial: FrozenTrial, directions: Sequence[StudyDirection], *, objective: int = 0) -> Curve:
    """What a trial reported, by ``trial.report`` or ``LearningCurve``.

    Args:
        trial: Finished or running.
        directions: Of the study.
        objective: Which of the study's values has the curve, for a trial that does not say so itself, as one
            that was told with its values only.
    """
    signs = [1.0 if direction == StudyDirection.MAXIMIZE else -1.0 for direction in directions]
    known: list[float | None] = list(trial.user_attrs.get(KNOWN_VALUES) or trial.values or [])
    if None in known:
        objective = known.index(None)
    void = frozenset(trial.user_attrs.get(VOID, ()))
    # a study with one objective has its curves in Optuna's own place
    reported = trial.intermediate_values or trial.user_attrs.get(CURVE, {})
    is_complete = trial.state == TrialState.COMPLETE and all(
        excess <= 0 for excess in trial.constraints.values()
    )
    return Curve(
        values={
            int(step): _finite(signs[objective] * value)
            for step, value in sorted(reported.items(), key=lambda item: int(item[0]))
        },
        final=_finite(signs[objective] * trial.values[objective]) if is_complete else None,
        known=tuple(
            sign * value
            for index, (sign, value) in enumerate(zip(signs, known, strict=False))
            if index != objective and value is not None
        ),
        objective=objective,
        losses={int(step): loss for step, loss in trial.user_attrs.get(LOSSES, {}).items()},
        point={
            name: float(trial.distributions[name].to_internal_repr(value))
            for name, value in trial.params.items()
            if name not in void
        },
    )


def _finite(value: float) -> float:
    return value if math.isfinite(value) else -math.inf
