"""The way of one trial: from the networks that a space can say to values in the study."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from pytorch_lightning.utilities.memory import garbage_collection_cuda

from nas_optuna.artifacts import TrialArtifacts
from nas_optuna.attributes import INHERITS, LIKENESS, PROMOTES, RETRY_OF, VOID
from nas_optuna.claims import SPENT, Claims
from nas_optuna.data import LabelledData
from nas_optuna.description import measure_network
from nas_optuna.estimation import (
    Checkpoint,
    CurvePruner,
    EpochCallback,
    Estimator,
    Fidelity,
    LearningCurve,
    Objectives,
    Parent,
    PruningCallback,
    Stopwatch,
    is_out_of_memory,
    may_prune,
    read_curve,
)
from nas_optuna.heirs import Heirs
from nas_optuna.kept import Kept, may_promote
from nas_optuna.latency import LATENCY, LatencyMeter
from nas_optuna.lease import SECONDS, Beat
from nas_optuna.space import Architecture, Space
from nas_optuna.study import INTERRUPTED as INTERRUPTED
from nas_optuna.study import OUT_OF_TIME as OUT_OF_TIME
from nas_optuna.study import derive_seed, origins, read_trials, this_worker
from nas_optuna.twins import mean_over_twins, twin_of
from nas_optuna.zero_cost import ProxyMeter

DUPLICATES = ("reuse", "retrain", "skip")
INHERITANCE = {INHERITS, LIKENESS}
LOST = "lost"  # to another process, which took this one for dead

Measures = Mapping[str, float]


class Progress(Protocol):
    """Who hears what goes on."""

    def running(self, what: str) -> None:
        """A training begins."""

    def epoch(self, epoch: int, accuracy: float | None, epochs: int) -> None:
        """An epoch of it ended."""


class TrialInterrupted(Exception):
    """The user asked to stop while this trial ran, or it came too late for the budget."""


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
        duplicates: What a network gets that is equal to an earlier one, at no cost to the budget: ``reuse``
            that one's values, waiting for them where it is being trained; ``skip``: nothing, pruned. Or
            ``retrain``, at full cost: its value is then the mean over all trainings of the network.
        stopwatch: Told what the time of a trial goes into.
        latency: Measures it before the training; None where nothing asks for it, or a table knows it.
        proxies: Measures them before the training; None where none are asked for.
        kept: Trainings that may be taken up; None for none.
        heirs: Weights that networks begin with; None where each begins anew.
        artifacts: Gives trained trials their diagram and curve; None for none.
        lease: Seconds without a sign of life after which other processes take this one for dead.
        claims: Asked before a training; None where nobody else trains networks of the study.
    """

    space: Space
    data: LabelledData
    training: Estimator
    objectives: Objectives
    fidelity: Fidelity
    seed: int
    progress: Progress
    stop_reason: Callable[[], str | None]
    duplicates: str = "reuse"
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    latency: LatencyMeter | None = None
    proxies: ProxyMeter | None = None
    kept: Kept | None = None
    heirs: Heirs | None = None
    artifacts: TrialArtifacts | None = None
    lease: float = SECONDS
    claims: Claims | None = None

    def __call__(self, trial: optuna.Trial) -> tuple[float, ...]:
        try:
            with self.stopwatch.judging():
                trial.set_user_attr("worker", this_worker())
                with Beat(trial, seconds=self.lease) as beat:
                    return self._judge(trial, beat)
        except (optuna.TrialPruned, TrialInterrupted, UpdateFinishedTrialError):
            raise
        except Exception as error:
            trial.set_user_attr("error", f"{type(error).__name__}: {error}")
            trial.set_user_attr("traceback", traceback.format_exc())
            raise

    def promote(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
        """Let the next trial take a stopped training up, where that is worth more than a fresh network.

        Args:
            study: Where it is queued.
            trials: All of the study's, as they were read last.
        """
        if self.kept is None or not may_promote(study):
            return
        if any(trial.state == TrialState.WAITING for trial in trials):
            return
        stopped = {trial.number: trial for trial in self.kept.stopped(trials)}
        assert isinstance(study.pruner, CurvePruner)
        number = study.pruner.promotes(study, stopped.keys(), trials=trials)
        if number is not None and self.kept.claim(number):
            study.enqueue_trial(stopped[number].params, user_attrs={PROMOTES: number})

    def _judge(self, trial: optuna.Trial, beat: Beat) -> tuple[float, ...]:
        with self.stopwatch.span("ask"):
            architecture = self.space(trial).canonical()
        measures = self._measure(architecture)
        with self.stopwatch.span("report"):
            trial.set_user_attr("network", str(architecture))
            trial.set_user_attr("hash", architecture.hash)
            if void := self.space.void(trial.params):
                trial.set_user_attr(VOID, sorted(void))
            for name, measure in measures.items():
                trial.set_user_attr(name, measure)
        promotes = f" takes up trial {trial.user_attrs[PROMOTES]}" if PROMOTES in trial.user_attrs else ""
        self.progress.running(f"trial {trial.number}{promotes}: {architecture}")
        return (
            self._refuse_oversized(trial, measures)
            or self._answer_twin(trial, architecture, measures)
            or self._train(trial, architecture, measures, beat)
        )

    def _measure(self, architecture: Architecture) -> Measures:
        with self.stopwatch.span("build"):
            measures = measure_network(
                architecture,
                self.training,
                input_shape=self.data.input_shape,
                classes=len(self.data.classes),
            )
        # beyond another limit it would be measured in vain, unless it is one of the trial's values
        is_needed = LATENCY in self.objectives.names or self.objectives.fits(measures)
        if self.latency is not None and is_needed:
            with self.stopwatch.span("latency"):
                measures[LATENCY] = self.latency(architecture)
        return measures

    def _refuse_oversized(self, trial: optuna.Trial, measures: Measures) -> tuple[float, ...] | None:
        excess = self.objectives.excess(measures)
        # one for all limits, and where there is none as well: limits may change when a study goes on,
        # and GPSampler wants the same constraints in every trial
        trial.set_constraint("limits", max(excess.values(), default=-1.0))
        over = [name for name, value in excess.items() if value > 0]
        if not over:
            return None
        trial.set_user_attr("untrained", True)
        measure, limit = measures[over[0]], self.objectives.limits[over[0]]
        said = f"{measure} > {limit:g} ms" if over[0] == LATENCY else f"{measure:,} > {limit:,.0f}"
        return self._infeasible(trial, measures, f"{over[0]} {said}", trained=0.0)

    def _answer_twin(
        self, trial: optuna.Trial, architecture: Architecture, measures: Measures
    ) -> tuple[float, ...] | None:
        """What an earlier equal network says; None where there is none, or it shall be trained again."""
        if self.duplicates == "retrain" or PROMOTES in trial.user_attrs:
            return None
        twin, reason = twin_of(trial, architecture, stop=self.stop_reason)
        if reason:
            self._stop(trial, reason)
        if twin is None:
            return None
        trial.set_user_attr("untrained", True)
        trial.set_user_attr("reused", twin.user_attrs.get("reused", twin.number))
        if self.duplicates == "skip":
            raise optuna.TrialPruned("equal to an earlier network")
        if twin.state == TrialState.PRUNED:
            curve, known = self._curve(trial, measures), read_curve(twin, trial.study.directions)
            for epoch, accuracy in known.values.items():
                curve.report(accuracy, epoch, loss=known.losses.get(epoch))
            raise optuna.TrialPruned("equal to one that was pruned")
        trial.set_constraint("trained", 0.0)
        return tuple(twin.values)

    @staticmethod
    def _stop(trial: optuna.Trial, reason: str) -> NoReturn:
        trial.set_user_attr("stopped", reason)
        if reason in (INTERRUPTED, SPENT):
            raise TrialInterrupted
        raise optuna.TrialPruned(reason)

    def _train(
        self, trial: optuna.Trial, architecture: Architecture, measures: Measures, beat: Beat
    ) -> tuple[float, ...]:
        if self.claims is not None and PROMOTES not in trial.user_attrs:
            with self.stopwatch.span("ask"):
                refused = self.claims.claim(trial, stop=self.stop_reason)
            if refused:
                self._stop(trial, refused)
        self._tell_proxies(trial, architecture)
        seed, checkpoint = self._begin(trial)
        trial.set_user_attr("seed", seed)
        pruning = PruningCallback(
            self._curve(trial, measures), may_prune=may_prune(trial.study), stopwatch=self.stopwatch
        )
        epoch = EpochCallback(
            lambda number, accuracy: self.progress.epoch(number, accuracy, self.fidelity.epochs)
        )
        goes_on = checkpoint is not None and checkpoint.path.is_file()
        parent = None if goes_on else self._parent(trial, architecture)
        try:
            module = self.training.fit(
                architecture,
                self.data,
                fidelity=self.fidelity,
                seed=seed,
                scale=self.training.scale,
                callbacks=[epoch, pruning],
                stop=lambda: LOST if beat.is_lost else self.stop_reason(),
                stopwatch=self.stopwatch,
                checkpoint=checkpoint,
                parent=parent,
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            garbage_collection_cuda()
            return self._infeasible(trial, measures, "out of memory", trained=1.0)
        trial.set_user_attr("execution", str(module.execution))
        if self.artifacts is not None:
            with self.stopwatch.span("show"):
                self.artifacts.show(trial, architecture, pruning.curve)
        if checkpoint is not None and not pruning.pruned and module.stopped != INTERRUPTED:
            checkpoint.remove()
        if module.diverged:
            return self._infeasible(trial, measures, "diverged", trained=1.0)
        if module.stopped:
            self._stop(trial, module.stopped)
        if pruning.pruned:
            raise optuna.TrialPruned
        trial.set_constraint("trained", 0.0)
        if self.heirs is not None:
            self.heirs.keep(trial.number, module.network)
        accuracy = module.curve[-1]
        if self.duplicates == "retrain":
            accuracy = mean_over_twins(trial, architecture, accuracy)
        return self.objectives.values(accuracy=accuracy, measures=measures)

    def _tell_proxies(self, trial: optuna.Trial, architecture: Architecture) -> None:
        if self.proxies is not None:
            with self.stopwatch.span("build"):
                for name, value in self.proxies(architecture).items():
                    trial.set_user_attr(name, value)

    def _begin(self, trial: optuna.Trial) -> tuple[int, Checkpoint | None]:
        """The seed of a trial's training, and where its state is kept; both of the trial it takes up."""
        before = origins(read_trials(trial.study), trial) if self._goes_on(trial) else []
        if self.kept is not None:
            # what died before it took its origin's state over left it there
            any(self.kept.hand_over(origin.number, trial.number) for origin in before)
        known = [origin.user_attrs["seed"] for origin in before if "seed" in origin.user_attrs]
        first = before[-1] if before else trial
        for name in INHERITANCE & (before[0].user_attrs.keys() if before else set()):
            trial.set_user_attr(name, before[0].user_attrs[name])
        checkpoint = self.kept.checkpoint(trial.number) if self.kept is not None else None
        return known[0] if known else derive_seed(self.seed, first.number), checkpoint

    @staticmethod
    def _goes_on(trial: optuna.Trial) -> bool:
        return bool({PROMOTES, RETRY_OF} & trial.user_attrs.keys())

    def _parent(self, trial: optuna.Trial, architecture: Architecture) -> Parent | None:
        """The relative whose weights a training begins with, if there is one."""
        if self.heirs is None:
            return None
        with self.stopwatch.span("build"):
            relative = self.heirs.relative_of(architecture, trial.study)
        if relative is None:
            return None
        trial.set_user_attr(INHERITS, relative.parent.number)
        trial.set_user_attr(LIKENESS, round(relative.likeness, 4))
        return relative.parent

    def _curve(self, trial: optuna.Trial, measures: Measures) -> LearningCurve:
        """What takes the curve."""
        if len(self.objectives.names) == 1:
            return LearningCurve(trial)
        known = [None if name == "accuracy" else float(measures[name]) for name in self.objectives.names]
        return LearningCurve(trial, values=known)

    def _infeasible(
        self, trial: optuna.Trial, measures: Measures, reason: str, *, trained: float
    ) -> tuple[float, ...]:
        trial.set_user_attr("infeasible", reason)
        trial.set_constraint("trained", trained)
        return self.objectives.values(accuracy=1 / len(self.data.classes), measures=measures)


def rebuild(space: Space, trial: FrozenTrial) -> Architecture:
    """The network of a finished trial, from its parameters."""
    return space.at(trial.params).canonical()
