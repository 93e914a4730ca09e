"""Signs of life: what a process gives while it works on a trial, and who misses them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.attributes import LEASE
from nas_optuna.errors import StorageGone
from nas_optuna.pace import WAIT_SECONDS, Pace
from nas_optuna.study import end_lost, requeue, this_worker, unqueued

SECONDS = 60.0  # without a sign of life, after which a process counts as dead
SIGNS = 4  # in that time, and looks for those of others


class Beat:
    """While it is entered, a trial's user attribute ``lease`` counts up, whatever else the process does.

    It works on every storage, which Optuna's own heartbeat does not. A thread of its own gives the signs, as
    compiling a network or waiting for a disk may take longer than a lease.

    Args:
        trial: Of this process.
        seconds: Of a lease.

    Attributes:
        is_lost: Another process took this one for dead and ended its trial: the machine slept, or its storage
            could not be reached for too long.
    """

    def __init__(self, trial: optuna.Trial, *, seconds: float = SECONDS) -> None:
        self._trial = trial
        self._pause = seconds / SIGNS
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.is_lost = False

    def __enter__(self) -> Beat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        # not for long: where the storage is gone it waits for that
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        count = 0
        while not self._over.wait(self._pause):
            count += 1
            try:
                self._trial.set_user_attr(LEASE, count)
            except UpdateFinishedTrialError:
                self.is_lost = not self._over.is_set()
                return
            except (Exception, StorageGone):
                return  # the training comes upon it as well


class Watch:
    """Finds what dead processes left in a study, whatever machine they were on, and queues it again.

    A running trial is lost when its lease has not changed for so long by this process's own clock: the clocks
    of machines may differ. So is one that nobody has put his name to, and the network of a trial whose finder
    died before he could queue it.

    Args:
        study: The study.
        seconds: Of a lease.
    """

    def __init__(self, study: optuna.Study, *, seconds: float = SECONDS) -> None:
        self._study = study
        self._seconds = seconds
        self._pace = Pace(seconds / SIGNS)
        self._since: dict[tuple[object, ...], float] = {}

    def sweep(self) -> list[int]:
        """Look, where the last look is long enough ago.

        Returns:
            Numbers of the trials that were ended.
        """
        return bring_back(self._study, self.lost()) if self._pace.is_due else []

    def wait_out(self, stop: Callable[[], object]) -> list[int]:
        """Wait until all who run have given a sign, ended or turned out to be lost.

        Args:
            stop: Whether to wait no longer.

        Returns:
            Numbers of the trials that were ended.
        """
        first: dict[int, tuple[object, ...]] = {}
        ended: list[int] = []
        pace = Pace(self._seconds / SIGNS / SIGNS, longest=WAIT_SECONDS)
        while not stop():
            trials = pace.look(self._study)
            signs = {trial.number: _sign(trial) for trial in self._running(trials)}
            if not any(first.setdefault(number, sign) == sign for number, sign in signs.items()):
                break
            ended += self.sweep()
            pace.wait(stop)
        return ended

    @property
    def has_suspects(self) -> bool:
        """Whether there was something at the last look that may turn out to be lost."""
        return bool(self._since)

    def lost(self) -> list[FrozenTrial]:
        """What had not changed for a lease by now, at each look so far."""
        now, trials = time.monotonic(), self._pace.look(self._study)
        suspects = {_sign(trial): trial for trial in [*self._running(trials), *unqueued(trials)]}
        self._since = {sign: self._since.get(sign, now) for sign in suspects}
        return [trial for sign, trial in suspects.items() if now - self._since[sign] > self._seconds]

    @staticmethod
    def _running(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Of other processes, or of nobody."""
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        return [trial for trial in running if trial.user_attrs.get("worker") != this_worker()]


def bring_back(study: optuna.Study, lost: Sequence[FrozenTrial]) -> list[int]:
    """End what runs no more, and queue all these networks again.

    Returns:
        Numbers of the trials that were ended.
    """
    for trial in lost:
        if trial.state == TrialState.FAIL:
            requeue(study, trial)
    return end_lost(study, [trial for trial in lost if trial.state == TrialState.RUNNING])


def _sign(trial: FrozenTrial) -> tuple[object, ...]:
    attributes, reported = trial.user_attrs, len(trial.intermediate_values)
    return trial.number, trial.state, attributes.get(LEASE), len(attributes), reported
