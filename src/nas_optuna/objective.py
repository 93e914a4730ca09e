"""The way of one trial: from the networks that a space can say to values in the study."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState
from pytorch_lightning.utilities.memory import garbage_collection_cuda

from nas_optuna.data import LabelledData
from nas_optuna.estimation import (
    COSTS,
    EpochCallback,
    Estimator,
    Fidelity,
    Objectives,
    PruningCallback,
    Stopwatch,
    is_out_of_memory,
)
from nas_optuna.space import Architecture, Space, measure_costs
from nas_optuna.study import derive_seed, is_feasible, this_worker

INTERRUPTED, OUT_OF_TIME = "interrupted", "out of time"

Measures = Mapping[str, float]


class Progress(Protocol):
    """Who hears what goes on."""

    def running(self, what: str) -> None:
        """A training begins."""

    def epoch(self, epoch: int, accuracy: float | None, epochs: int) -> None:
        """An epoch of it ended."""


class TrialInterrupted(Exception):
    """The user asked to stop while this trial ran."""


@dataclass
class Objective:
    """What ``study.optimize`` calls: judges one network.

    A network that can't be judged never ends as FAIL, which samplers would not see: beyond a limit,
    diverging or too large for the memory, it is told with the accuracy of guessing and a constraint
    that says infeasible. FAIL is left for errors of the program and for interruptions.

    Attributes:
        space: Asks a trial for a network.
        data: What networks learn.
        training: How they learn it.
        objectives: What is asked of them.
        fidelity: How long they learn.
        seed: The search's seed; with the trial's number it gives the trial's own.
        progress: Hears what goes on.
        stop_reason: ``INTERRUPTED``, ``OUT_OF_TIME`` or None.
        stopwatch: Told what the time of a trial goes into.
    """

    space: Space
    data: LabelledData
    training: Estimator
    objectives: Objectives
    fidelity: Fidelity
    seed: int
    progress: Progress
    stop_reason: Callable[[], str | None]
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    def __call__(self, trial: optuna.Trial) -> tuple[float, ...]:
        try:
            with self.stopwatch.judging():
                trial.set_user_attr("worker", this_worker())
                return self._judge(trial)
        except (optuna.TrialPruned, TrialInterrupted):
            raise
        except Exception as error:
            trial.set_user_attr("error", f"{type(error).__name__}: {error}")
            trial.set_user_attr("traceback", traceback.format_exc())
            raise

    def _judge(self, trial: optuna.Trial) -> tuple[float, ...]:
        with self.stopwatch.span("ask"):
            architecture = self.space(trial).canonical()
        with self.stopwatch.span("build"):
            costs = measure_costs(
                architecture, input_shape=self.data.input_shape, classes=len(self.data.classes)
            )
            measures = {name: getattr(costs, name) for name in COSTS} | self.training.measure(architecture)
        with self.stopwatch.span("report"):
            trial.set_user_attr("network", str(architecture))
            trial.set_user_attr("hash", architecture.hash)
            for name, measure in measures.items():
                trial.set_user_attr(name, measure)
        self.progress.running(f"trial {trial.number}: {architecture}")
        return (
            self._refuse_oversized(trial, measures)
            or self._reuse_twin(trial, architecture)
            or self._train(trial, architecture, measures)
        )

    def _refuse_oversized(self, trial: optuna.Trial, measures: Measures) -> tuple[float, ...] | None:
        excess = self.objectives.excess(measures)
        # one for all limits, and where there is none as well: limits may change when a study goes on,
        # and GPSampler wants the same constraints in every trial
        trial.set_constraint("limits", max(excess.values(), default=-1.0))
        over = [name for name, value in excess.items() if value > 0]
        if not over:
            return None
        trial.set_user_attr("untrained", True)
        limit = self.objectives.limits[over[0]]
        return self._infeasible(
            trial, measures, f"{over[0]} {measures[over[0]]:,} > {limit:,.0f}", trained=0.0
        )

    def _reuse_twin(self, trial: optuna.Trial, architecture: Architecture) -> tuple[float, ...] | None:
        finished = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        twins = [
            twin
            for twin in finished
            if twin.user_attrs.get("hash") == architecture.hash and is_feasible(twin)
        ]
        if not twins:
            return None
        trial.set_user_attr("untrained", True)
        trial.set_user_attr("reused", twins[0].user_attrs.get("reused", twins[0].number))
        trial.set_constraint("trained", 0.0)
        return tuple(twins[0].values)

    def _train(
        self, trial: optuna.Trial, architecture: Architecture, measures: Measures
    ) -> tuple[float, ...]:
        seed = derive_seed(self.seed, trial.number)
        trial.set_user_attr("seed", seed)
        # Optuna takes no intermediate values where there are several objectives
        pruning = PruningCallback(trial, self.stopwatch) if len(self.objectives.names) == 1 else None
        epoch = EpochCallback(
            lambda number, accuracy: self.progress.epoch(number, accuracy, self.fidelity.epochs)
        )
        callbacks: list[Any] = [epoch, pruning] if pruning else [epoch]
        try:
            module = self.training.fit(
                architecture,
                self.data,
                fidelity=self.fidelity,
                seed=seed,
                callbacks=callbacks,
                stop=self.stop_reason,
                stopwatch=self.stopwatch,
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            garbage_collection_cuda()
            return self._infeasible(trial, measures, "out of memory", trained=1.0)
        trial.set_user_attr("execution", str(module.execution))
        if module.diverged:
            return self._infeasible(trial, measures, "diverged", trained=1.0)
        if pruning is None:
            trial.set_user_attr("curve", [round(accuracy, 4) for accuracy in module.curve])
        if module.stopped == INTERRUPTED:
            trial.set_user_attr("stopped", INTERRUPTED)
            raise TrialInterrupted
        if module.stopped:
            trial.set_user_attr("stopped", module.stopped)
            raise optuna.TrialPruned(module.stopped)
        if pruning is not None and pruning.pruned:
            raise optuna.TrialPruned
        trial.set_constraint("trained", 0.0)
        return self.objectives.values(accuracy=module.curve[-1], measures=measures)

    def _infeasible(
        self, trial: optuna.Trial, measures: Measures, reason: str, *, trained: float
    ) -> tuple[float, ...]:
        trial.set_user_attr("infeasible", reason)
        trial.set_constraint("trained", trained)
        return self.objectives.values(accuracy=1 / len(self.data.classes), measures=measures)


def rebuild(space: Space, trial: FrozenTrial) -> Architecture:
    """The network of a finished trial, from its parameters."""
    return space.at(trial.params).canonical()
