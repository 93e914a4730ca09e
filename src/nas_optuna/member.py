"""One process of a crew: asks for networks and judges them until it is told to stop."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import optuna
import torch
from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial

from nas_optuna.artifacts import make_artifacts
from nas_optuna.claims import Claims
from nas_optuna.configuration import build, build_sampler, build_space
from nas_optuna.cores import leave_out_lasting, tune_process
from nas_optuna.data import LabelledData
from nas_optuna.description import NetworkDescription
from nas_optuna.errors import StorageGone
from nas_optuna.estimation import EXECUTIONS_FILE, Estimator, Executions, Fidelity, Objectives
from nas_optuna.heirs import make_heirs
from nas_optuna.kept import make_kept
from nas_optuna.latency import make_meter
from nas_optuna.lease import SECONDS as LEASE_SECONDS
from nas_optuna.objective import INTERRUPTED, Objective, Progress
from nas_optuna.storages import open_storage
from nas_optuna.study import read_trials
from nas_optuna.zero_cost import make_proxies

GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Job:
    """What a worker has to know; it goes to its process by pickle.

    Attributes:
        index: Number of the worker, from 0.
        config: The composed configuration, without interpolations, its trainings' length set.
        data: Prepared, and shared as far as possible.
        fidelity: Length of a training.
        threads: CPU threads.
    """

    index: int
    config: dict[str, Any]
    data: LabelledData
    fidelity: Fidelity
    threads: int


def run_trial(
    study: optuna.Study, objective: Objective, trials: Sequence[FrozenTrial]
) -> tuple[FrozenTrial, dict[str, float]]:
    """Ask for one network, judge it, tell the study.

    Args:
        study: Its trials.
        objective: Judges them.
        trials: All there are, as they were read last.

    Returns:
        The trial as it ended, and the seconds of each span from ask to tell.
    """
    begun: list[optuna.Trial] = []
    ended: list[FrozenTrial] = []

    def judge(trial: optuna.Trial) -> tuple[float, ...]:
        begun.append(trial)
        return objective(trial)

    objective.stopwatch.reset()
    objective.stopwatch.start("ask")
    objective.promote(study, trials)
    try:
        # a network and its Trainer refer to one another: only the collector frees them
        study.optimize(
            judge,
            n_trials=1,
            catch=(Exception,),
            callbacks=[lambda _, trial: ended.append(trial)],
            gc_after_trial=True,
        )
    except (ValueError, UpdateFinishedTrialError):
        # another process took this one for dead, and ended its trial
        ended += [read_trials(study)[trial.number] for trial in begun]
        if not ended or not ended[0].state.is_finished():
            raise
    leave_out_lasting()
    return ended[0], objective.stopwatch.lap()


def work(job: Job, connection: Connection) -> None:
    """Entry point of a worker's process.

    It sends ``("ready",)`` and gets True for one trial or False for the end; on the way it sends
    ``("running", text)``, ``("epoch", number, accuracy, epochs)`` and ``("ended", trial number,
    seconds)``. A text that it gets is the reason to stop the training that runs.
    """
    end_with_parent(grace=GRACE_SECONDS)
    torch.set_num_threads(job.threads)
    tune_process()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study, objective = _build(job, connection)
    try:
        connection.send(("ready",))
        while (answer := connection.recv()) is not False:
            if answer is not True:  # came too late: the training had ended
                continue
            trial, seconds = run_trial(study, objective, read_trials(study))
            connection.send(("ended", trial.number, seconds))
            connection.send(("ready",))
    except (EOFError, BrokenPipeError, StorageGone):
        pass  # the search is gone, or says itself that the storage is


def end_with_parent(*, grace: float) -> None:
    """Let this process end when the one that started it is gone, at once or ``grace`` seconds later.

    A training hears of it from its pipe, and has the grace to stop in order; compiling a network
    hears nothing for a minute. What was begun is queued again when the search goes on.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        time.sleep(grace)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _build(job: Job, connection: Connection) -> tuple[optuna.Study, Objective]:
    config, messages = OmegaConf.create(job.config), Messages(connection)
    study = optuna.load_study(study_name=config.study_name, storage=open_storage(config.storage))
    objective = build_objective(
        study,
        config,
        data=job.data,
        fidelity=job.fidelity,
        worker=job.index,
        folder=Path(config.study_dir),
        progress=messages,
        stop_reason=_stop_reason(connection),
        say=messages.say,
    )
    return study, objective


def build_objective(
    study: optuna.Study,
    config: DictConfig,
    *,
    data: LabelledData,
    fidelity: Fidelity,
    worker: int,
    folder: Path,
    progress: Progress,
    stop_reason: Callable[[], str | None],
    say: Callable[[str], None],
) -> Objective:
    """What a process needs to judge networks of a study, which gets its sampler and pruner here.

    Args:
        study: As it was loaded.
        config: The study's configuration, without interpolations, its trainings' length set.
        data: Prepared.
        fidelity: Length of a training.
        worker: Number of the worker, from 0; each draws other networks.
        folder: Of checkpoints and of what is known of networks' speeds.
        progress: Hears what goes on.
        stop_reason: See ``Objective``.
        say: Told in one line what the user should know.
    """
    objectives: Objectives = build(config, "objective")
    training: Estimator = build(config, "estimation")
    training.executions = Executions(folder / EXECUTIONS_FILE)
    space = build_space(config)
    shape, classes = data.input_shape, len(data.classes)
    study.pruner = training.pruner
    proxies = make_proxies(config.get("proxies"), training, data)
    describe = NetworkDescription(
        space, objectives, training, input_shape=shape, classes=classes, proxies=proxies
    )
    study.sampler = build_sampler(
        config,
        existing=len(read_trials(study)),
        worker=worker,
        describe=describe,
        score=None if proxies is None else proxies.score(describe),
        distributions=space.distributions(),
    )
    return Objective(
        space=space,
        data=data,
        training=training,
        objectives=objectives,
        fidelity=fidelity,
        seed=config.seed,
        progress=progress,
        stop_reason=stop_reason,
        duplicates=config.duplicates,
        kept=make_kept(folder, config.checkpoints, training),
        heirs=make_heirs(folder, space, objectives, training, input_shape=shape, classes=classes),
        # a study from before there was the key has none
        artifacts=make_artifacts(
            folder, config.get("dashboard", False), input_shape=shape, classes=classes, say=say
        ),
        latency=make_meter(objectives, training, input_shape=shape, classes=classes, folder=folder),
        proxies=proxies,
        lease=config.get("lease", LEASE_SECONDS),
        claims=Claims(study),
    )


@dataclass(frozen=True)
class Messages:
    """Tells the search's process what goes on here."""

    connection: Connection

    def running(self, what: str) -> None:
        """A training begins."""
        self._send("running", what)

    def epoch(self, epoch: int, accuracy: float | None, epochs: int) -> None:
        """An epoch of it ended."""
        self._send("epoch", epoch, accuracy, epochs)

    def say(self, text: str) -> None:
        """Something that the user should know."""
        self._send("say", text)

    def _send(self, *message: object) -> None:
        # without the search's process the training is stopped, which no network is to blame for
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(message)


def _stop_reason(connection: Connection) -> Callable[[], str | None]:
    def reason() -> str | None:
        if not connection.poll():
            return None
        try:
            return str(connection.recv())
        except (EOFError, ConnectionResetError):
            return INTERRUPTED  # the search is gone

    return reason
