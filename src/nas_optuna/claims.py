"""The budget of a study, counted by processes that know nothing of one another but the study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.attributes import CLAIM, PROMOTES, RETRY_OF
from nas_optuna.pace import WAIT_SECONDS, Pace
from nas_optuna.study import BUDGET_LEFT, is_counted, is_retry, unqueued

ASKS, HOLDS, WITHDREW = "asks", "holds", "withdrew"
SPENT = "budget spent"
LOOK_SECONDS = 0.1


class Claims:
    """Lets exactly ``n_trials`` networks of a study be trained, by however many processes, on any storage.

    The first ``n_trials`` trials, by their numbers, have a part of the budget each, and need to ask nobody:
    the look at all that runs is what costs most on a database. Later ones get what those leave, as what ends
    without a training costs none. Such a trial says so in the study (``claim: asks``) and only then counts
    the others that hold a part, ended or not, and those that ask. Where all of them leave room it may train.
    Of two that may, the later one to ask saw the earlier one, so no more may than the budget allows; this
    needs nothing of a storage but that what was written before is read. Where there is no room for all that
    ask, the younger ones withdraw and ask again later, so the oldest gets it. A later trial that waits for
    room holds none. What was cut off keeps its part until it is tried again.

    Args:
        study: Says its budget, as ``study.keep_budget`` wrote it.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study

    @property
    def budget(self) -> Mapping[str, Any]:
        """``n_trials`` and ``deadline``, None each for no limit."""
        found: Mapping[str, Any] = self._study.user_attrs.get(BUDGET_LEFT) or {}
        return {"n_trials": found.get("n_trials"), "deadline": found.get("deadline")}

    def may_ask(self, trials: Sequence[FrozenTrial]) -> bool | None:
        """Whether a process may ask for a network; None for not now: it depends on those that run.

        Args:
            trials: All of the study's, as they were read last; ``claim`` reads them anew.
        """
        limit = self.budget["n_trials"]
        if limit is None:
            return True
        ended = sum(_is_spent(trial) for trial in trials if is_counted(trial))
        waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
        if ended >= limit:
            # what costs nothing, and whose finder died before he came to it
            return any(PROMOTES in trial.user_attrs for trial in waiting)
        running = sum(trial.state == TrialState.RUNNING for trial in trials if is_counted(trial))
        if ended + running >= limit:
            return None
        if waiting:
            return True
        return True if ended + running + len(_cut_off(trials, limit)) < limit else None

    def claim(self, trial: optuna.Trial, *, stop: Callable[[], str | None]) -> str | None:
        """Get a part of the budget for a trial's training; wait where that depends on others.

        Args:
            trial: About to be trained.
            stop: A reason to wait no longer, or None.

        Returns:
            None where it may train; else why not: the budget is spent, or what ``stop`` gave.
        """
        limit = self.budget["n_trials"]
        if limit is None:
            return None
        if trial.number < limit:
            trial.set_user_attr(CLAIM, HOLDS)
            return None
        asks, pace = True, Pace(LOOK_SECONDS, longest=WAIT_SECONDS)
        trial.set_user_attr(CLAIM, ASKS)
        while True:
            trials = pace.look(self._study)
            others = [other for other in trials if is_counted(other) and other.number != trial.number]
            held = sum(_holds(other, limit) for other in others)
            is_retried = RETRY_OF in trial.user_attrs
            kept_free = 0 if is_retried else len(_cut_off(trials, limit)) + _retrying(others, limit)
            queued = not is_retried and any(other.state == TrialState.WAITING for other in others)
            asking = [other.number for other in others if _asks(other) and not _holds(other, limit)]
            if asks and held + kept_free + len(asking) < limit:
                trial.set_user_attr(CLAIM, HOLDS)
                return None
            # whoever waits for one that is queued would keep it from being tried
            is_full = held + kept_free >= limit
            is_spent = sum(map(_is_spent, others)) >= limit or (is_full and (kept_free > 0 or queued))
            has_room = held + kept_free + sum(number < trial.number for number in asking) < limit
            if not (refused := SPENT if is_spent else stop()):
                if has_room == asks:
                    refused = pace.wait(stop)
                else:
                    asks = has_room
                    trial.set_user_attr(CLAIM, ASKS if asks else WITHDREW)
            if refused:
                if asks:
                    trial.set_user_attr(CLAIM, WITHDREW)
                return refused


def _holds(trial: FrozenTrial, limit: int) -> bool:
    """Whether a part of the budget is this trial's, or will be."""
    if trial.number < limit:
        return not trial.state.is_finished() or _is_spent(trial)
    is_running = trial.state == TrialState.RUNNING
    return _is_spent(trial) or (is_running and trial.user_attrs.get(CLAIM) == HOLDS)


def _is_spent(trial: FrozenTrial) -> bool:
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def _asks(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.RUNNING and trial.user_attrs.get(CLAIM) == ASKS


def _retrying(trials: Sequence[FrozenTrial], limit: int) -> int:
    """How many networks that were cut off are just being tried again, and are about to claim their part."""
    return sum(
        is_retry(trial) and trial.state == TrialState.RUNNING and not _holds(trial, limit) for trial in trials
    )


def _cut_off(trials: Sequence[FrozenTrial], limit: int) -> list[FrozenTrial]:
    """What is to be tried again, queued or not yet, at a part of the budget that it does not hold itself."""
    queued = [
        trial
        for trial in trials
        if trial.state == TrialState.WAITING and is_retry(trial) and not _holds(trial, limit)
    ]
    return [trial for trial in [*queued, *unqueued(trials)] if is_counted(trial)]
