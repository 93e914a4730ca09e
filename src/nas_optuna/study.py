"""The study: opened or created, checked to be the same search, and its budget."""

from __future__ import annotations

import heapq
import json
import os
import platform
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.attributes import PROMOTES
from nas_optuna.attributes import RETRY_OF as RETRY_OF
from nas_optuna.errors import InputError, check_number
from nas_optuna.storages import hide_password, open_storage

CONFIGURATION = "configuration"  # a study's user attribute
BUDGET = ("n_trials", "timeout", "worker", "workers", "plan")  # keys of a configuration
BUDGET_LEFT = "budget"  # a study's user attribute
MOST_DEATHS = 3  # of processes that train one network: it may be this network that kills them
FAILURES_IN_A_ROW, UNTRAINED_IN_A_ROW = 3, 500  # which stop a search: the next would come to nothing, too
INTERRUPTED, OUT_OF_TIME = "interrupted", "out of time"  # what a trial's user attribute ``stopped`` says
COUNTED_STATES = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Budget:
    """How much a study may spend in all, over every run of it.

    Attributes:
        n_trials: Networks trained, those still running included; None for no limit.
        timeout: Seconds for search, comparison and final training; None for no limit.
    """

    n_trials: int | None
    timeout: float | None

    def __post_init__(self) -> None:
        if self.n_trials is None and self.timeout is None:
            raise InputError(
                "the search has no budget: set n_trials, timeout (seconds), or choose an experiment, "
                "such as +experiment=digits."
            )
        if self.n_trials is not None:
            check_number("n_trials", self.n_trials, whole=True, at_least=1)
        if self.timeout is not None:
            check_number("timeout", self.timeout, above=0)


def open_study(
    storage: str,
    study_name: str,
    *,
    directions: Mapping[str, str],
) -> optuna.Study:
    """Load the study, or create it where there is none.

    Raises:
        InputError: The storage can't be opened, or holds a study of this name with other objectives.
    """
    study = optuna.create_study(
        storage=open_storage(storage),
        study_name=study_name,
        directions=[StudyDirection[direction.upper()] for direction in directions.values()],
        load_if_exists=True,
    )
    existing = [direction.name.lower() for direction in study.directions]
    if existing != list(directions.values()):
        raise InputError(
            f"objective: the study {study_name!r} has the directions {', '.join(existing)}, this command "
            f"{', '.join(directions.values())}. Choose another study_name or the study's own objective."
        )
    if study.metric_names is None:
        with warnings.catch_warnings():
            # names for dashboards; should Optuna change how they are set, nothing else depends on it
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(directions))
    return study


def check_same(
    study: optuna.Study, fingerprint: Mapping[str, Any], *, cure: str = "Choose another study_name."
) -> None:
    """Refuse to mix results that can't be compared; remember what they depend on in an empty study.

    Args:
        study: Empty, or of an earlier run.
        fingerprint: Nested settings that a result depends on.
        cure: What the user can do where they differ.

    Raises:
        InputError: A setting differs from the earlier run's; names the first.
    """
    known = study.user_attrs.get("fingerprint")
    if known is None or not study.get_trials(deepcopy=False):
        study.set_user_attr("fingerprint", dict(fingerprint))
        return
    before, now = _flatten(known), _flatten(fingerprint)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise InputError(
                f"{key}: the study {study.study_name!r} was made with {before.get(key)!r}, this command has "
                f"{now.get(key)!r}, so its results can't be continued. {cure}"
            )


def keep_configuration(study: optuna.Study, config: Mapping[str, Any]) -> None:
    """Let the study say how it was made, so that it can be opened by its folder alone.

    Args:
        study: Its user attribute ``configuration`` is set, as JSON, where that changes it.
        config: The configuration without interpolations. The budget, which each run may raise, is left
            out, and so is the storage's password.
    """
    kept = {name: value for name, value in config.items() if name not in BUDGET}
    kept["storage"] = hide_password(str(config["storage"]))
    text = json.dumps(kept)
    if study.user_attrs.get(CONFIGURATION) != text:
        study.set_user_attr(CONFIGURATION, text)


def keep_budget(study: optuna.Study, *, n_trials: int | None, deadline: float | None) -> None:
    """Let the study say how much it may spend, for workers that know nothing but its address.

    Args:
        study: Its user attribute ``budget`` is set.
        n_trials: Networks trained in all.
        deadline: When no more shall begin, in seconds as ``time.time`` counts.
    """
    study.set_user_attr(BUDGET_LEFT, {"n_trials": n_trials, "deadline": deadline})


def sweep_dead(study: optuna.Study) -> list[int]:
    """End trials whose process on this machine is gone, and queue their networks again.

    Returns:
        Numbers of the trials that were ended.
    """
    return end_lost(study, dead(study.get_trials(deepcopy=False)))


def dead(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Running trials whose process on this machine is gone."""
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    return [trial for trial in running if _is_dead(trial.user_attrs.get("worker", ""))]


def end_lost(study: optuna.Study, trials: Sequence[FrozenTrial]) -> list[int]:
    """End running trials whose process is gone, and queue their networks again.

    Of several processes that do so one ends a trial, and that one queues its network.

    Returns:
        Numbers of the trials that were ended here.
    """
    ended = []
    for trial in trials:
        try:
            study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, UpdateFinishedTrialError):
            continue
        ended.append(trial.number)
        if _may_retry(study.get_trials(deepcopy=False), trial):
            requeue(study, trial)
    return ended


def unqueued(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Trials that were cut off, whose network is to be queued again: somebody is about to, or died before."""
    retried = {trial.user_attrs[RETRY_OF] for trial in trials if is_retry(trial)}
    return [
        trial
        for trial in trials
        if trial.state == TrialState.FAIL
        and trial.number not in retried
        and "error" not in trial.user_attrs
        and trial.user_attrs.get("stopped", INTERRUPTED) == INTERRUPTED
        and _may_retry(trials, trial)
    ]


def is_retry(trial: FrozenTrial) -> bool:
    """Whether the trial tries a network again that was cut off."""
    return isinstance(trial.user_attrs.get(RETRY_OF), int)


def _may_retry(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> bool:
    """Whether a trial that was cut off had come to a network, which did not kill its process too often."""
    # neither what was stopped by a pruner and promoted, nor what was asked to end
    deaths = [
        one
        for one in (trial, *origins(trials, trial))
        if one.state != TrialState.PRUNED and "stopped" not in one.user_attrs
    ]
    return bool(_decisions(trial) or "fixed_params" in trial.system_attrs) and len(deaths) < MOST_DEATHS


def requeue(study: optuna.Study, trial: FrozenTrial) -> None:
    """Let the network of a trial that did not end be tried first, by whoever asks next."""
    promotes = {name: number for name, number in trial.user_attrs.items() if name == PROMOTES}
    study.enqueue_trial(_decisions(trial), user_attrs=promotes | {RETRY_OF: trial.number})


def origins(trials: Sequence[FrozenTrial], trial: FrozenTrial | optuna.Trial) -> list[FrozenTrial]:
    """The trials whose training a trial goes on with, the last one first, by retry and promotion."""
    found: list[FrozenTrial] = []
    while True:
        number = trial.user_attrs.get(RETRY_OF, trial.user_attrs.get(PROMOTES))
        # an origin is older, unless somebody wrote nonsense
        if not isinstance(number, int) or not 0 <= number < trial.number:
            return found
        trial = trials[number]
        found.append(trial)


def this_worker() -> str:
    """Name of this process, by which a later one can tell whether it still lives."""
    return f"{platform.node()}:{os.getpid()}"


def is_alive(trial: FrozenTrial) -> bool:
    """Whether another process works on a running trial, as far as one can see from this machine.

    What a dead process left on another machine is ended when its lease is over.
    """
    worker = trial.user_attrs.get("worker", "")
    return bool(worker) and not _is_dead(worker)


def is_trained(trial: FrozenTrial) -> bool:
    """Whether the trial was trained: neither infeasible from the start nor reused."""
    return "untrained" not in trial.user_attrs


def is_counted(trial: FrozenTrial) -> bool:
    """Whether the trial counts against the budget: one that takes another up is counted there."""
    return is_trained(trial) and PROMOTES not in trial.user_attrs


def read_trials(study: optuna.Study) -> list[FrozenTrial]:
    """All trials, to be looked at and not changed.

    A storage reads anew whatever runs, for each who asks: with hundreds of workers it is this that saturates
    it. So what is looked at between two trainings is read once, and handed on.
    """
    return study.get_trials(deepcopy=False)


def count_trained(trials: Sequence[FrozenTrial]) -> int:
    """How much of ``n_trials`` is spent."""
    return sum(trial.state in COUNTED_STATES and is_counted(trial) for trial in trials)


def ended_last(trials: Iterable[FrozenTrial], count: int) -> list[FrozenTrial]:
    """Those so many trials that ended last, whatever runs beside them."""
    ended = (trial for trial in trials if trial.state.is_finished())
    return heapq.nlargest(count, ended, key=lambda trial: trial.datetime_complete or datetime.min)


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether the trial is within every limit and was trained without diverging."""
    return all(value <= 0 for value in trial.constraints.values())


def derive_seed(*parts: int) -> int:
    """One seed of 32 bits from several whole numbers, such as the search's seed and a trial's number."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _decisions(trial: FrozenTrial) -> dict[str, Any]:
    """What is known of a trial's network, those that it was queued with and had not yet come to included."""
    fixed: dict[str, Any] = trial.system_attrs.get("fixed_params", {})
    return fixed | trial.params


def _flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, Mapping):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _is_dead(worker: str) -> bool:
    host, _, process = worker.rpartition(":")
    if host != platform.node() or not process.isdigit() or os.name == "nt":
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return int(process) == os.getpid()
