"""The budget of a study, counted by processes that know nothing of one another but the study."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.attributes import CLAIM
from nas_optuna.study import BUDGET_LEFT, is_counted

ASKS, HOLDS, WITHDREW = "asks", "holds", "withdrew"
SPENT = "budget spent"
LOOK_SECONDS = 0.1


class Claims:
    """Lets exactly ``n_trials`` networks of a study be trained, by however many processes, on any storage.

    A trial that is about to train says so in the study (``claim: asks``) and only then counts the others that
    hold a part of the budget, ended or not, and those that ask. Where all of them leave room it may train.
    Of two that may, the later one to ask saw the earlier one, so no more may than the budget allows; this
    needs nothing of a storage but that what was written before is read. Where there is no room for all that
    ask, the younger ones withdraw and ask again later, so the oldest gets it. A trial that waits for room
    holds none, and what ends without a training costs none.

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

    def may_ask(self) -> bool | None:
        """Whether a process may ask for a network; None for not now: it depends on those that run."""
        limit = self.budget["n_trials"]
        if limit is None:
            return True
        counted = [trial for trial in self._study.get_trials(deepcopy=False) if is_counted(trial)]
        ended = sum(map(_is_spent, counted))
        if ended >= limit:
            return False
        running = sum(trial.state == TrialState.RUNNING for trial in counted)
        return True if ended + running < limit else None

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
        asks = False
        while True:
            others = self._others(trial)
            held = [other for other in others if _is_spent(other) or other.user_attrs.get(CLAIM) == HOLDS]
            asking = [other for other in others if _asks(other)]
            if asks and len(held) + len(asking) < limit:
                trial.set_user_attr(CLAIM, HOLDS)
                return None
            if sum(map(_is_spent, held)) >= limit:
                return SPENT
            if reason := stop():
                return reason
            older = [other for other in asking if other.number < trial.number]
            has_room = len(held) + len(older) < limit
            if has_room == asks:
                time.sleep(LOOK_SECONDS)
            else:
                asks = has_room
                trial.set_user_attr(CLAIM, ASKS if asks else WITHDREW)

    def _others(self, trial: optuna.Trial) -> list[FrozenTrial]:
        states = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
        trials = self._study.get_trials(deepcopy=False, states=states)
        return [other for other in trials if is_counted(other) and other.number != trial.number]


def _is_spent(trial: FrozenTrial) -> bool:
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def _asks(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.RUNNING and trial.user_attrs.get(CLAIM) == ASKS
