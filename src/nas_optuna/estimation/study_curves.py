"""Performance estimation: the curves of a study, and what is learned from them while it goes on."""

from __future__ import annotations

import math
import weakref
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.attributes import PROMOTES
from nas_optuna.estimation.curves import Curve, read_curve
from nas_optuna.estimation.expectation import MOST_LEARNED, Expectation
from nas_optuna.estimation.extrapolation import Extrapolation, choose_rungs
from nas_optuna.pace import Pace

FEW = 30  # curves
# so large a part of the curves is new: as long as fewer are, and none is complete, what was learned holds
REFIT_SHARE = 0.03


class StudyCurves:
    """The curves of a study and how they go on, read again where a rung is reached.

    Between two rungs there is nothing to decide, and the storage is left alone. It is read where a trial
    reaches its first rung; at later ones only where the last look is long enough ago (``Pace``): what ended
    meanwhile, ended in other processes.

    Args:
        expects: Whether the trials' parameters foretell how curves go on as well.
    """

    def __init__(self, *, expects: bool = False) -> None:
        self._expects = expects
        self._follow(None)

    def __getstate__(self) -> dict[str, Any]:
        return {"expects": self._expects}  # all else comes from the study

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._expects = state["expects"]
        self._follow(None)

    def _follow(self, study: optuna.Study | None) -> None:
        self._study = weakref.ref(study) if study is not None else None
        self._curves: dict[int, Curve] = {}
        self._rungs: list[int] = []
        self._length = 0
        self._rows: dict[int, list[float]] = {}
        self._chain: Extrapolation | None = None
        self._distributions: dict[str, BaseDistribution] = {}
        self._expectation: Expectation | None = None
        self._learned = 0
        self._pace = Pace()
        self._running: set[int] = set()
        self._was_told = False  # what had ended when the trial that comes next began

    def judge(self, study: optuna.Study, number: int, running: Curve) -> tuple[int, Extrapolation] | None:
        """The rung that a running curve has just reached, and how curves go on from there.

        None between two rungs, at the last one, and before any curve is complete.

        Args:
            study: Whose curves.
            number: Of the running trial.
            running: Its curve.
        """
        if self._study is None or self._study() is not study:
            self._follow(study)
        if self._chain is not None and new_rung(running.steps, self._chain.rungs) is None:
            return None
        if self._is_to_be_read(number):
            trials = self._pace.look(study)
            self._take_in(study, running.objective, trials)
        if self._chain is None or (rung := new_rung(running.steps, self._rungs)) is None:
            return None
        # among few, the one that is judged says much of how far values differ
        return rung, self._learn(running) if self._learned < FEW else self._chain

    def latest(
        self, study: optuna.Study, trials: Sequence[FrozenTrial] | None = None
    ) -> Extrapolation | None:
        """How curves go on, by all that have ended; None before any is complete.

        Args:
            study: Whose curves.
            trials: Its trials as they were read last; None to read them.
        """
        if self._study is None or self._study() is not study:
            self._follow(study)
        self._was_told = trials is not None
        self._take_in(study, 0, study.get_trials(deepcopy=False) if trials is None else trials)
        return self._chain

    def of(self, numbers: Collection[int]) -> list[tuple[int, Curve]]:
        """The curves of stopped trials that no later one has taken up, without those that diverged."""
        found = [(number, self._curves[number]) for number in sorted(numbers) if number in self._curves]
        return [
            (number, curve)
            for number, curve in found
            if curve.final is None and curve.values and not math.isinf(curve.values[curve.steps[-1]])
        ]

    def best(self, known: tuple[float, ...]) -> float:
        """The best final value of networks that are no worse in all that is known of them."""
        rivals = (
            curve.final
            for curve in self._curves.values()
            if curve.final is not None
            and len(curve.known) == len(known)
            and all(theirs >= mine for theirs, mine in zip(curve.known, known, strict=True))
        )
        return max(rivals, default=-math.inf)

    def known_of(self, curve: Curve) -> tuple[float, ...]:
        """What the chain knows of a running network beside its curve: costs, and what is expected of it."""
        if self._expectation is None:
            return curve.known
        return (*curve.known, self._expectation.of(curve.point))

    def _is_to_be_read(self, number: int) -> bool:
        """Whether the study may have come on since it was read: since this trial began, or for a while."""
        is_new = number not in self._running
        self._running.add(number)
        was_told, self._was_told = self._was_told, self._was_told and not is_new
        return (is_new and not was_told) or self._pace.is_due

    def _take_in(self, study: optuna.Study, objective: int, trials: Sequence[FrozenTrial]) -> None:
        trials = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        unseen = [trial for trial in trials if trial.number not in self._curves]
        for trial in unseen:
            self._distributions |= trial.distributions
        new = {trial.number: read_curve(trial, study.directions, objective=objective) for trial in unseen}
        # what was taken up is the beginning of another curve, and counts once
        taken_up = {trial.user_attrs[PROMOTES] for trial in trials if PROMOTES in trial.user_attrs}
        for number in taken_up & (self._curves.keys() | new.keys()):
            new.pop(number, None)
            self._curves[number] = Curve({})
            self._rows.pop(number, None)
        self._curves |= new
        complete = [curve for curve in new.values() if curve.final is not None and curve.values]
        longest = max(complete, key=lambda curve: len(curve.values), default=None)
        if longest is not None and len(longest.values) > self._length:
            self._length = len(longest.values)
            self._rungs = choose_rungs(longest.steps)
            new, self._rows = self._curves, {}
        self._rows |= {
            number: [curve.at(rung) for rung in self._rungs] for number, curve in new.items() if curve.values
        }
        if complete or (self._rungs and len(self._rows) - self._learned > REFIT_SHARE * self._learned):
            self._chain, self._learned = self._learn(), len(self._rows)

    def _learn(self, *running: Curve) -> Extrapolation:
        # those that were stopped before the first rung say nothing
        numbers = [number for number, row in self._rows.items() if not math.isnan(row[0])]
        rows = [self._rows[number] for number in numbers]
        rows += [[curve.at(rung) for rung in self._rungs] for curve in running]
        curves = [*(self._curves[number] for number in numbers), *running]
        known = np.array([curve.known for curve in curves]).reshape(len(curves), -1)
        losses = None
        if any(curve.losses for curve in curves):
            losses = np.array([[curve.loss_at(rung) for rung in self._rungs] for curve in curves])
        chain = Extrapolation(self._rungs, np.array(rows), known, losses)
        if not self._expects or not self._distributions:
            return chain
        if self._expectation is None and len(numbers) < FEW:
            return chain
        latest = np.arange(max(0, len(curves) - MOST_LEARNED), len(curves))
        self._expectation = self._expectation or Expectation()
        expected = self._expectation.learn(
            [curve.point for curve in curves], chain.ends(latest), self._distributions
        )
        return Extrapolation(self._rungs, np.array(rows), np.column_stack([known, expected]), losses)


def read_last(curve: Curve, rung: int, chain: Extrapolation) -> float:
    """The last value of a curve, as its loss shows it; ``rung`` is the index of the one that it reached."""
    last = curve.steps[-1]
    return chain.read(curve.values[last], rung, curve.loss_at(last))


def new_rung(steps: Sequence[int], rungs: Sequence[int]) -> int | None:
    """Index of the rung that the last step reached and the one before had not; None for the last rung."""
    if not steps or steps[-1] >= rungs[-1]:
        return None
    before = steps[-2] if len(steps) > 1 else -1
    reached = [index for index, rung in enumerate(rungs) if before < rung <= steps[-1]]
    return reached[-1] if reached else None
