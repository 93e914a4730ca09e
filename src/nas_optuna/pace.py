"""How often a study is looked at: as often as its storage can bear."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState

Reason = TypeVar("Reason")

SHARE = 0.01  # of a process's time, that its looks may take
SHARE_OF_ALL = 0.25  # of one processor, that the looks of all processes may take together
WAIT_SECONDS = 30.0  # at most from look to look, of one who can do nothing else
STOP_SECONDS = 0.5  # after which one who waits has noticed that he shall not


class Pace:
    """Says when a study may be looked at again, so that looks take no more than a hundredth of the time.

    A database reads every trial that runs anew for each process that looks: the more workers, the longer a
    look takes, and the more looks the server has to answer. What can wait waits, then, a hundred times as
    long as the last look took, and with more than 25 trials that run, each of which has a process that
    looks, four times as long for each of them; on a quick storage that is no time at all.

    A look takes what it takes this process to compute: that a storage was gone for a while, or a machine
    busy, is no reason to look less often.

    Args:
        shortest: Seconds that pass between two looks in any case.
        longest: Seconds after which a look is due in any case.
    """

    def __init__(self, shortest: float = 0.0, *, longest: float = 600.0) -> None:
        self._shortest = shortest
        self._longest = longest
        self._next = -math.inf

    @property
    def is_due(self) -> bool:
        """Whether enough time has passed since the last look."""
        return time.monotonic() >= self._next

    def look(self, study: optuna.Study) -> list[FrozenTrial]:
        """Look, whether or not that is due.

        Args:
            study: Is read.

        Returns:
            All its trials, which are not to be changed.
        """
        began = time.thread_time()
        trials = study.get_trials(deepcopy=False)
        took = time.thread_time() - began
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        pause = took * max(1 / SHARE, running / SHARE_OF_ALL)
        self._next = time.monotonic() + max(self._shortest, min(self._longest, pause))
        return trials

    def wait(self, stop: Callable[[], Reason | None]) -> Reason | None:
        """Wait until the next look is due.

        Args:
            stop: Gives a reason to wait no longer, or nothing. It may give a reason once only.

        Returns:
            The reason; None where the look is due.
        """
        while (left := self._next - time.monotonic()) > 0:
            if reason := stop():
                return reason
            time.sleep(min(left, STOP_SECONDS))
        return None
