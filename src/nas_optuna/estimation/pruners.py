"""Performance estimation: pruners, which stop what is not worth its training."""

from __future__ import annotations

import math
import weakref
from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from scipy.special import stdtr

from nas_optuna.attributes import PROMOTES
from nas_optuna.errors import check_number
from nas_optuna.estimation.curves import Curve, read_curve
from nas_optuna.estimation.expectation import MOST_LEARNED, Expectation
from nas_optuna.estimation.extrapolation import Extrapolation, choose_rungs
from nas_optuna.estimation.stopping import StoppingRule
from nas_optuna.pace import Pace

# a model may be wrong: the best quarter of a rung always goes on, and so does one of ten that would be
# stopped, or it would never be found out that low values rise
LEADING, EXPLORED = 0.25, 0.1
FEW = 30  # curves
REFIT_SHARE = (
    0.03  # of the curves are new: as long as fewer are, and none is complete, what was learned holds
)
RISK = 0.02  # of stopping, at one rung, what would have reached the front


class SuccessiveHalvingPruner(optuna.pruners.SuccessiveHalvingPruner):
    """Optuna's asynchronous successive halving, which asks the storage at rungs alone.

    Optuna's own reads the whole trial back at every report, only to find between two rungs that
    there is nothing to decide: on epochs of small images that takes a twentieth of the training. The
    decisions are the same, provided that it is asked after every report.

    Args:
        min_resource: Step of the first rung.
        reduction_factor: From one rung to the next the step is so many times larger, and one trial
            of so many goes on.
        options: Others of ``optuna.pruners.SuccessiveHalvingPruner``.

    Raises:
        InputError: The first rung is no whole number of steps.
    """

    def __init__(self, min_resource: int, reduction_factor: int, **options: int) -> None:
        check_number("estimation.pruner.min_resource", min_resource, whole=True, at_least=1)
        super().__init__(min_resource, reduction_factor, **options)
        self._factor = reduction_factor
        self._first = min_resource * reduction_factor ** options.get("min_early_stopping_rate", 0)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial shall stop at its last reported step."""
        return self._is_past_new_rung(sorted(trial.intermediate_values)) and super().prune(study, trial)

    def _is_past_new_rung(self, steps: list[int]) -> bool:
        """Whether the last step reached a rung that the one before had not."""
        rung, before = self._first, steps[-2] if len(steps) > 1 else 0
        while rung <= before:
            rung *= self._factor
        return bool(steps) and rung <= steps[-1]


class RungPruner(optuna.pruners.BasePruner):
    """Decides at the rungs of a study's curves, once one is complete; a subclass says how.

    What reports NaN or an infinite value is stopped at once.
    """

    def __init__(self, *, expects: bool = False) -> None:
        self._curves = StudyCurves(expects=expects)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial shall stop at its last reported step."""
        curve = read_curve(trial, study.directions)
        if curve.values and math.isinf(curve.values[curve.steps[-1]]):
            return True
        reached = self._curves.judge(study, trial.number, curve)
        return reached is not None and self._stops(trial.number, curve, *reached)

    @abstractmethod
    def _stops(self, number: int, curve: Curve, rung: int, chain: Extrapolation) -> bool:
        """Whether the trial of this number shall stop at the rung that its curve has just reached."""


class CurvePruner(RungPruner):
    """Stops a training where a fresh network is a better use of its time, by the study's own curves.

    Nothing has to be set: from the curves so far it learns how far each rung foretells the last value
    (``Extrapolation``), and goes on with a training where its expected gain over the best network is worth
    its further steps (``StoppingRule``). Where the first epoch is chance it waits, where that ranks
    already it is as quick as successive halving. Before a first network is trained to the end it stops
    none, unless one reports NaN.

    With several objectives it decides as ``ParetoPruner``.

    Args:
        risk: See ``ParetoPruner``; without effect with one objective.

    Raises:
        InputError: The risk is out of its range.
    """

    def __init__(self, risk: float = RISK) -> None:
        super().__init__()
        self._pareto = ParetoPruner(risk)
        self._rule: tuple[Extrapolation, StoppingRule] | None = None

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial shall stop at its last reported step."""
        if len(study.directions) > 1:
            return self._pareto.prune(study, trial)
        return super().prune(study, trial)

    def promotes(
        self, study: optuna.Study, among: Collection[int], *, trials: Sequence[FrozenTrial] | None = None
    ) -> int | None:
        """Which stopped training is worth more than a fresh network, now that more is known.

        The one with the largest expected gain is taken up (promotion, as in asynchronous successive
        halving: Li et al. 2020, section 3.2). With several objectives none is: only what had no
        prospect was stopped.

        Args:
            study: Whose trials have curves.
            among: Numbers of the stopped trials whose training can be taken up.
            trials: The study's, as they were read last; None to read them.

        Returns:
            The number of a trial, or None where a fresh network is worth more.
        """
        if len(study.directions) > 1 or not among or (chain := self._curves.latest(study, trials)) is None:
            return None
        rule = self._rule_of(chain, self._curves.best(()))
        worths = {
            number: rule.worth(read_last(curve, rung, chain), rung)
            for number, curve in self._curves.of(among)
            if (rung := new_rung(curve.steps, chain.rungs)) is not None
        }
        best = max(worths, key=lambda number: worths[number], default=None)
        return best if best is not None and worths[best] > 0.0 else None

    def _rule_of(self, chain: Extrapolation, best: float) -> StoppingRule:
        if self._rule is None or self._rule[0] is not chain:
            self._rule = chain, StoppingRule(chain, best=best)
        return self._rule[1]

    def _stops(self, number: int, curve: Curve, rung: int, chain: Extrapolation) -> bool:
        value = read_last(curve, rung, chain)
        return (
            self._rule_of(chain, self._curves.best(curve.known)).stops(value, rung)
            and not chain.is_among_best(value, rung, share=LEADING)
            and np.random.default_rng((number, rung)).random() >= EXPLORED
        )


class ParetoPruner(RungPruner):
    """Stops a network whose curve says that it will not reach the Pareto front at its costs.

    For studies with several objectives, of which one has a curve and the others are known before the
    training, as MACs are. Optuna's ``trial.report`` refuses such studies: ``LearningCurve`` takes the values.
    A network is on the front if no other one that costs no more is as good; it goes on unless the
    probability that its last value exceeds the best of those is below ``risk``. Costs count in the
    extrapolation: large networks learn more slowly at first, and end higher. So does, from 30 curves on, what
    others tell of the trial's parameters (``Expectation``), but for those that its user attribute ``void``
    names.

    With one objective, the front is the best network.

    Args:
        risk: Of stopping, at one rung, a network that would have reached the front, above 0, below 0.5.

    Raises:
        InputError: The risk is out of its range.
    """

    def __init__(self, risk: float = RISK) -> None:
        check_number("estimation.pruner.risk", risk, above=0, below=0.5)
        super().__init__(expects=True)
        self._risk = risk

    def _stops(self, number: int, curve: Curve, rung: int, chain: Extrapolation) -> bool:
        target = self._curves.best(curve.known)
        known = self._curves.known_of(curve)
        mean, deviation, freedom = chain.forecast(read_last(curve, rung, chain), rung, known)
        return float(stdtr(freedom, (mean - target) / deviation)) < self._risk


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


def may_prune(study: optuna.Study) -> bool:
    """Whether a study's pruner can stop anything: with several objectives those of this module alone."""
    if len(study.directions) > 1:
        return isinstance(study.pruner, (CurvePruner, ParetoPruner))
    return not isinstance(study.pruner, optuna.pruners.NopPruner)
