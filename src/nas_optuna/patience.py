"""A storage that may be gone for a while: what is asked of it is asked again until it answers."""

from __future__ import annotations

import copy
import math
import random
import sys
import time
from collections.abc import Callable, Container
from typing import Any

import sqlalchemy.exc
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.errors import StorageGone
from nas_optuna.looks import SharedLooks

SECONDS = 300.0  # of asking; a server that is restarted takes a few, a network that is repaired minutes
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
NO_ANSWER = ("UNAVAILABLE", "DEADLINE_EXCEEDED")  # of gRPC's status codes


class Patient:
    """Asks the storage behind it again, with growing pauses, where that can't be reached.

    What is asked twice because the answer was lost does no harm: a value is written over itself, an end
    that was told is known, and a trial that was made for nobody is found by ``lease.Watch``.

    It spares the storage looks as well: threads that ask for all trials at the same time share one
    (``SharedLooks``), and whether any trial waits, which Optuna asks before each new one, is asked of the
    database, whose cache would read all that run for it.

    Args:
        backend: The storage.
        shown: Its address as it may be printed.
        seconds: How long it is asked; then ``StorageGone`` is raised.
        database: What the backend caches; None where it is no cache.
    """

    def __init__(
        self,
        backend: BaseStorage,
        *,
        shown: str,
        seconds: float = SECONDS,
        database: BaseStorage | None = None,
    ) -> None:
        self._backend = backend
        self._database = database
        self._shown = shown
        self._seconds = seconds
        self._is_said = False  # that it does not answer; once, however many threads ask
        self._looks = SharedLooks(lambda study_id: self._ask("get_all_trials", study_id, deepcopy=False))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """See ``optuna.storages.BaseStorage``."""
        if states == (TrialState.WAITING,) and not self._has_waiting(study_id):
            return []
        # what waits is read by the cache, which has to know each trial that runs here
        trials = self._looks(study_id)
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def _has_waiting(self, study_id: int) -> bool:
        """Whether any trial waits, as far as one can tell at a low price."""
        asked, states = self._database, (TrialState.WAITING,)
        return asked is None or bool(
            self._ask_of(asked, "get_all_trials", study_id, deepcopy=False, states=states)
        )

    def _ask(self, name: str, *arguments: Any, **named: Any) -> Any:
        return self._ask_of(self._backend, name, *arguments, **named)

    def _ask_of(self, storage: BaseStorage, name: str, *arguments: Any, **named: Any) -> Any:
        method, began, pause = getattr(storage, name), 0.0, FIRST_PAUSE
        while True:
            try:
                answer = method(*arguments, **named)
            except UpdateFinishedTrialError:
                if not began or not self._is_told(name, *arguments, **named):
                    raise
                answer = True
            except Exception as error:
                if not is_passing(error):
                    raise
                began = self._be_patient(error, began)
                time.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if began and self._is_said:
                self._is_said = False
                _say(f"storage: {self._shown!r} answers again")
            return answer

    def _be_patient(self, error: Exception, began: float) -> float:
        """When the asking began; raises ``StorageGone`` where that is too long ago."""
        now, reason = time.monotonic(), describe(error)
        if not began:
            return now
        if now - began > self._seconds:
            raise StorageGone(
                f"storage: {self._shown!r} has not answered for {self._seconds:.0f} s ({reason}). All that "
                "was told before is kept: give the same command again when it does."
            ) from error
        if not self._is_said:
            self._is_said = True
            until = "until it does" if self._seconds == math.inf else f"for {self._seconds:.0f} s"
            _say(f"storage: {self._shown!r} does not answer ({reason}); asking {until}")
        return began

    def _is_told(self, name: str, *arguments: Any, **named: Any) -> bool:
        """Whether an end that can't be told is the very one that is known, from the call before."""
        if name != "set_trial_state_values":
            return False
        trial_id, state, *_ = (*arguments, *named.values())
        return bool(self._backend.get_trial(trial_id).state == state)


def patient(
    backend: BaseStorage, *, shown: str, seconds: float = SECONDS, database: BaseStorage | None = None
) -> BaseStorage:
    """The storage, made patient: see ``Patient``."""
    storage: BaseStorage = _PatientStorage(backend, shown=shown, seconds=seconds, database=database)
    return storage


def is_passing(error: BaseException) -> bool:
    """Whether it says that a storage can't be reached or is busy, rather than that the request is wrong."""
    cause = _cause(error)
    if isinstance(cause, sqlalchemy.exc.DBAPIError):
        kinds = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError)
        return isinstance(cause, kinds) or cause.connection_invalidated
    if isinstance(cause, sqlalchemy.exc.TimeoutError | OSError):
        return True
    # grpc is an extra: not to be imported here
    code = getattr(cause, "code", None)
    return callable(code) and getattr(code(), "name", None) in NO_ANSWER


def describe(error: BaseException) -> str:
    """The reason in one line, as the driver gives it."""
    cause = _cause(error)
    details = getattr(cause, "details", None)  # of gRPC
    said = details() if callable(details) else getattr(cause, "orig", None) or cause
    return (str(said).strip().splitlines() or [type(cause).__name__])[0]


def _cause(error: BaseException) -> BaseException:
    """What the driver said, from under the errors that were made of it.

    Optuna's storage follows a query that failed with a simpler one within the same transaction. Where the
    connection is lost, that second one can only say that the transaction has to be rolled back first, which
    the storage then does: what went wrong is the error before.
    """
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    if isinstance(cause, sqlalchemy.exc.PendingRollbackError) and cause.__context__:
        return cause.__context__
    return cause


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _forward(name: str) -> Callable[..., Any]:
    def method(self: Patient, *arguments: Any, **named: Any) -> Any:
        return self._ask(name, *arguments, **named)

    method.__name__ = name
    return method


# whatever Optuna asks of a storage, the parts that have a default included: a cache answers them faster
_ASKED = {name for name in vars(BaseStorage) if not name.startswith("_")} - {"check_trial_is_updatable"}
_METHODS = {name: _forward(name) for name in _ASKED if name not in vars(Patient)}
_PatientStorage: Any = type("PatientStorage", (Patient, BaseStorage), _METHODS)
