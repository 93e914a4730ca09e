"""Performance estimation: pruners, which stop what is not worth its training."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Sequence

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from scipy.special import stdtr

from nas_optuna.errors import check_number
from nas_optuna.estimation.curves import Curve, read_curve
from nas_optuna.estimation.extrapolation import Extrapolation
from nas_optuna.estimation.stopping import StoppingRule
from nas_optuna.estimation.study_curves import StudyCurves, new_rung, read_last

# a model may be wrong: the best quarter of a rung always goes on, and so does one of ten that would be
# stopped, or it would never be found out that low values rise
LEADING, EXPLORED = 0.25, 0.1
RISK = 0.005  # of stopping, at one rung, what would have reached the front


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


def may_prune(study: optuna.Study) -> bool:
    """Whether a study's pruner can stop anything: with several objectives those of this module alone."""
    if len(study.directions) > 1:
        return isinstance(study.pruner, (CurvePruner, ParetoPruner))
    return not isinstance(study.pruner, optuna.pruners.NopPruner)
