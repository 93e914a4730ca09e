"""The study: opened or created, checked to be the same search, and its budget."""

from __future__ import annotations

import json
import os
import platform
import re
import sqlite3
import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import sqlalchemy.event
import sqlalchemy.exc
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url

from nas_optuna.attributes import PROMOTES
from nas_optuna.errors import InputError, check_number

CONFIGURATION = "configuration"  # a study's user attribute
BUDGET = ("n_trials", "timeout", "workers", "plan")  # keys of a configuration
RETRY_OF = "retry_of"  # user attribute: number of the trial that was cut off and is tried again
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
    backend = open_storage(storage)
    study = optuna.create_study(
        storage=backend,
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


def sweep_dead(study: optuna.Study) -> list[int]:
    """End trials whose process on this machine is gone, and queue their networks again.

    Returns:
        Numbers of the trials that were ended.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    dead = [trial for trial in running if _is_dead(trial.user_attrs.get("worker", ""))]
    for trial in dead:
        study.tell(trial.number, state=TrialState.FAIL)
        # not a second time: it may be this network that kills its process
        if RETRY_OF not in trial.user_attrs:
            requeue(study, trial)
    return [trial.number for trial in dead]


def requeue(study: optuna.Study, trial: FrozenTrial) -> None:
    """Let the network of a trial that did not end be tried first, by whoever asks next."""
    promotes = {name: number for name, number in trial.user_attrs.items() if name == PROMOTES}
    study.enqueue_trial(trial.params, user_attrs=promotes | {RETRY_OF: trial.number})


def this_worker() -> str:
    """Name of this process, by which a later one can tell whether it still lives."""
    return f"{platform.node()}:{os.getpid()}"


def is_alive(trial: FrozenTrial) -> bool:
    """Whether another process of this machine works on a running trial."""
    worker = trial.user_attrs.get("worker", "")
    return worker.rpartition(":")[0] == platform.node() and not _is_dead(worker)


def is_trained(trial: FrozenTrial) -> bool:
    """Whether the trial was trained: neither infeasible from the start nor reused."""
    return "untrained" not in trial.user_attrs


def is_counted(trial: FrozenTrial) -> bool:
    """Whether the trial counts against the budget: one that takes another up is counted there."""
    return is_trained(trial) and PROMOTES not in trial.user_attrs


def trained_trials(study: optuna.Study) -> int:
    """How much of ``n_trials`` is spent."""
    return sum(map(is_counted, study.get_trials(deepcopy=False, states=COUNTED_STATES)))


def claimed_trials(study: optuna.Study) -> int:
    """How many of ``trained_trials`` are still running, and may yet turn out to cost nothing."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether the trial is within every limit and was trained without diverging."""
    return all(value <= 0 for value in trial.constraints.values())


def derive_seed(*parts: int) -> int:
    """One seed of 32 bits from several whole numbers, such as the search's seed and a trial's number."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def hide_password(storage: str) -> str:
    """The storage's address as it may be printed and saved."""
    try:
        return make_url(storage).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return re.sub(r"//[^@/]*@", "//***@", storage)


def open_storage(storage: str) -> optuna.storages.BaseStorage:
    """The database at an address.

    Raises:
        InputError: It can't be opened.
    """
    shown = hide_password(storage)
    try:
        backend = optuna.storages.RDBStorage(storage)
        if backend.engine.dialect.name == "sqlite":
            sqlalchemy.event.listen(backend.engine, "connect", _log_ahead)
            backend.engine.dispose()
            with backend.engine.connect():
                pass
        return backend
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, OSError, ValueError, RuntimeError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise InputError(
            f"storage: {shown!r} can't be opened ({reason}). Give the address of a database, such as "
            "sqlite:///study.db or postgresql://user@host/name."
        ) from error


def settle(storage: str) -> None:
    """Wait until the disk holds what a study in sqlite knows, so that a power cut takes nothing of it."""
    address = make_url(storage)
    is_file = address.database not in (None, "", ":memory:") and "uri" not in address.query
    if address.get_backend_name() == "sqlite" and is_file:
        with closing(sqlite3.connect(str(address.database))) as connection:
            connection.execute("PRAGMA wal_checkpoint")


def _log_ahead(connection: sqlite3.Connection, record: object) -> None:
    # readers and a writer then don't wait for one another, and no write waits for the disk, which on a
    # busy one takes a third of a second: ``settle`` does that once a trial
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


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
