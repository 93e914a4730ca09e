"""A worker that joins a study from anywhere: the study says what is searched, how, and how much is left."""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import optuna
from omegaconf import DictConfig
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.claims import Claims
from nas_optuna.configuration import plain
from nas_optuna.cores import tune_process
from nas_optuna.errors import InputError, NothingFound, check_number
from nas_optuna.files import remove_temporaries
from nas_optuna.interrupt import EXIT_CODE, Interrupt
from nas_optuna.lease import SECONDS, Watch
from nas_optuna.member import build_objective, run_trial
from nas_optuna.objective import INTERRUPTED, OUT_OF_TIME
from nas_optuna.pace import WAIT_SECONDS, Pace
from nas_optuna.reopen import Reopened, open_again, overrides_of
from nas_optuna.results import Display, front
from nas_optuna.storages import hide_password, open_storage, path_of, settle
from nas_optuna.study import (
    BUDGET_LEFT,
    CONFIGURATION,
    FAILURES_IN_A_ROW,
    UNTRAINED_IN_A_ROW,
    Budget,
    is_trained,
    requeue,
    sweep_dead,
)
from nas_optuna.study_dir import make_study_dir

LOOK_SECONDS = 0.5  # between two looks for something to do
LATE = 3  # trials of each that runs before the budget may be spent: a worker looks after each of its own
SAID = ("plan", "fingerprint", CONFIGURATION, BUDGET_LEFT)  # by a study that can be joined


def join(config: DictConfig) -> float:
    """Train networks of a study until its budget is spent, or this process is asked to end.

    Args:
        config: The composed configuration of ``worker.yaml``.

    Returns:
        How many trials were run here.

    Raises:
        InputError: The request is wrong, or the study can't be joined. Nothing was trained.
        NothingFound: Several networks in a row failed, or very many needed no training.
        SystemExit: It was asked to end. What it had begun is queued again.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tune_process()
    check_number("wait", config.wait, at_least=0)
    if config.get("storage") is None:
        raise InputError(
            "storage is missing: set it on the command line, storage=postgresql://user@host/name."
        )
    with Interrupt() as interrupt, ExitStack() as stack:
        study = _wait_for_study(config, interrupt)
        folder = _folder(config, study, stack)
        reopened = open_again(
            study,
            storage=str(config.storage),
            folder=folder,
            allow=[str(module) for module in plain(config, "allow") or ()],
            overrides=overrides_of(config),
        )
        worker = Joined(reopened, interrupt)
        with worker.display:
            worker.run()
    if interrupt.requested:
        raise SystemExit(EXIT_CODE)
    if worker.has_failed:
        raise NothingFound
    return float(worker.done)


class Joined:
    """One worker. Building it reads the data; nothing is trained yet.

    Args:
        reopened: The study, and what it says of itself.
        interrupt: Says when to end.

    Attributes:
        display: What the user sees: the trials of this worker.
        done: How many there were.
        has_failed: Whether the last ones in a row came to nothing.
    """

    def __init__(self, reopened: Reopened, interrupt: Interrupt) -> None:
        self._interrupt = interrupt
        self._study = reopened.study
        self._objectives = reopened.objectives
        self._address = str(reopened.config.storage)
        self._folder = reopened.folder
        self._claims = Claims(self._study)
        self._pace = Pace()
        self._watch = Watch(self._study, seconds=reopened.config.get("lease", SECONDS))
        budget = self._claims.budget
        self._deadline: float | None = budget["deadline"]
        left = None if self._deadline is None else max(1.0, self._deadline - time.time())
        self.display = Display(
            budget=Budget(budget["n_trials"], left), objectives=self._objectives, elapsed=0.0
        )
        self.done = 0
        self._failures = self._untrained = 0
        self._objective = build_objective(
            self._study,
            reopened.config,
            data=reopened.data,
            fidelity=reopened.fidelity,
            # two that come at the same moment must not begin with the same networks
            worker=1 + secrets.randbits(32),
            folder=reopened.folder,
            progress=self.display,
            stop_reason=self._stop_reason,
            say=self.display.say,
        )
        self._has_found = bool(front(self._study, self._objectives))

    @property
    def has_failed(self) -> bool:
        """Whether so many networks in a row failed, or were known, that the next ones would as well."""
        return self._failures >= FAILURES_IN_A_ROW or self._untrained >= UNTRAINED_IN_A_ROW

    def run(self) -> None:
        """Run trials while there is something to do."""
        sweep_dead(self._study)
        remove_temporaries(self._folder)
        pace = Pace(LOOK_SECONDS, longest=WAIT_SECONDS)
        trials = self._pace.look(self._study)
        self.display.resume(trials)
        while (answer := self._may_ask(trials)) is not False:
            if answer:
                trials = self._run_trial(trials)
            else:
                pace.wait(lambda: self._interrupt.requested)
                trials = pace.look(self._study)
        self._leave()
        self.display.say(f"{self._study.study_name}: {self._reason()}; trials of this worker: {self.done}")

    def _leave(self) -> None:
        """Tidy up; who is the last one to leave a study that is done leaves no states of trainings."""
        if not self.has_failed:
            self._watch.wait_out(lambda: self._interrupt.requested)
        remove_temporaries(self._folder)
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        is_done = not running and not self._interrupt.requested and not self.has_failed
        if is_done and self._objective.kept is not None:
            self._objective.kept.clear()

    def _run_trial(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Run one; all trials there are, as far as they are known after it."""
        trial, _ = run_trial(self._study, self._objective, trials)
        after = self._look_after(trial, trials)
        self.done += 1
        if after is not trials:
            self.display.resume(after, without=trial.number)
        self.display.ended(trial)
        self._has_found = self._has_found or trial.state == TrialState.COMPLETE
        if is_trained(trial):
            self._failures = self._failures + 1 if "error" in trial.user_attrs else 0
        self._untrained = 0 if is_trained(trial) else self._untrained + 1
        if trial.user_attrs.get("stopped") == INTERRUPTED:
            requeue(self._study, trial)
        if self._objective.kept is not None:
            self._objective.kept.tidy(self._study, after)
        settle(self._address)
        return after

    def _look_after(self, trial: FrozenTrial, before: list[FrozenTrial]) -> list[FrozenTrial]:
        """All trials there are after one that ended here; what was read before where that will do.

        What others did meanwhile matters near the end of the budget, and what they learned at times.
        """
        limit = self._claims.budget["n_trials"]
        running = sum(other.state == TrialState.RUNNING for other in before)
        is_late = limit is not None and trial.number + LATE * (1 + running) >= limit
        return self._pace.look(self._study) if is_late or self._pace.is_due else before

    def _may_ask(self, trials: Sequence[FrozenTrial]) -> bool | None:
        self._sweep()
        # the search may have been given more meanwhile
        self._deadline = self._claims.budget["deadline"]
        if self._interrupt.requested or self._is_time_over() or self.has_failed:
            return False
        return self._claims.may_ask(trials)

    def _stop_reason(self) -> str | None:
        self._sweep()
        if self._interrupt.requested:
            return INTERRUPTED
        return OUT_OF_TIME if self._has_found and self._is_time_over() else None

    def _sweep(self) -> None:
        if lost := self._watch.sweep():
            self.display.say(f"the workers of trial {', '.join(map(str, lost))} are gone: queued again")

    def _is_time_over(self) -> bool:
        return self._deadline is not None and time.time() >= self._deadline

    def _reason(self) -> str:
        if self._interrupt.requested:
            return "asked to end"
        if self._failures >= FAILURES_IN_A_ROW:
            return f"the last {FAILURES_IN_A_ROW} networks failed (user attribute 'error')"
        if self.has_failed:
            return f"the last {UNTRAINED_IN_A_ROW} networks were known already or beyond the limits"
        return "the time is over" if self._is_time_over() else "the budget is spent"


def _wait_for_study(config: DictConfig, interrupt: Interrupt) -> optuna.Study:
    """The study, once its search has made it and said how it is searched."""
    address, until, said = str(config.storage), time.monotonic() + config.wait, ""
    while True:
        found = _look(address, config.get("study_name"))
        if isinstance(found, optuna.Study):
            return found
        if time.monotonic() >= until or interrupt.requested:
            raise InputError(
                f"study_name: {hide_password(address)!r} has no study to join ({found}). Start its search "
                "first: python -m nas_optuna storage=... study_name=..., and give the same here."
            )
        if found != said:
            said = found
            sys.stderr.write(f"waiting for the study: {found}\n")
        time.sleep(LOOK_SECONDS)


def _look(address: str, name: str | None) -> optuna.Study | str:
    """The study, or why there is none yet."""
    path = path_of(address)
    if path is not None and not path.is_file():
        return "the file is missing"
    storage = open_storage(address)
    names = optuna.get_all_study_names(storage)
    if not names or (name is None and len(names) > 1) or (name is not None and name not in names):
        return f"it holds {', '.join(map(repr, names)) or 'no study'}"
    study = optuna.load_study(study_name=name or names[0], storage=storage)
    missing = [key for key in SAID if key not in study.user_attrs]
    return f"{study.study_name!r} does not say its {missing[0]}" if missing else study


def _folder(config: DictConfig, study: optuna.Study, stack: ExitStack) -> Path:
    """Where checkpoints are: what the user says, or beside the file of the study, or nowhere for long.

    What the study says itself is no reason to write anywhere: it may be a stranger's.
    """
    if config.get("study_dir") is not None:
        folder = Path(str(config.study_dir)).expanduser()
        make_study_dir(folder)
        return folder
    path = path_of(str(config.storage))
    own = json.loads(study.user_attrs[CONFIGURATION]).get("study_dir")
    if path is not None and Path(str(own)).resolve() == path.parent.resolve():
        return path.parent
    sys.stderr.write(
        "without study_dir=..., a folder that all workers share, what is cut off here begins anew elsewhere\n"
    )
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nas_optuna-")))
