"""Trials of equal networks: found, waited for, averaged over."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.attributes import CURVE
from nas_optuna.pace import WAIT_SECONDS, Pace
from nas_optuna.space import Architecture
from nas_optuna.study import is_alive, is_feasible, read_trials

LOOK_SECONDS = 0.2  # between two looks at one that is being trained


def twin_of(
    trial: optuna.Trial, architecture: Architecture, *, stop: Callable[[], str | None]
) -> tuple[FrozenTrial | None, str | None]:
    """An earlier trial of an equal network that has been judged; one that is being judged is waited for.

    Args:
        trial: Of this process.
        architecture: Its network.
        stop: Gives a reason to wait no longer, or None.

    Returns:
        The first that was trained to its end, or else the first that was pruned, or None where there is no
        such trial; and the reason why it was not waited for, if any.
    """
    pace = Pace(LOOK_SECONDS, longest=WAIT_SECONDS)
    while True:
        trials = pace.look(trial.study)
        running = _twins(trials, trial, architecture, TrialState.RUNNING)
        if not any(twin.number < trial.number and is_alive(twin) for twin in running):
            break
        if reason := pace.wait(stop):
            return None, reason
    judged = _twins(trials, trial, architecture, TrialState.COMPLETE, TrialState.PRUNED)
    return min(judged, key=lambda twin: twin.state != TrialState.COMPLETE, default=None), None


def mean_over_twins(trial: optuna.Trial, architecture: Architecture, accuracy: float) -> float:
    """The mean over all trainings of a network, this one included, which the trial's attributes then tell.

    Args:
        trial: Of this process.
        architecture: Its network.
        accuracy: Of its own training.
    """
    twins = _twins(read_trials(trial.study), trial, architecture, TrialState.COMPLETE)
    trained = [twin.user_attrs["trained"] for twin in twins if "trained" in twin.user_attrs]
    trial.set_user_attr("trained", accuracy)
    trial.set_user_attr("trainings", len(trained) + 1)
    return float(statistics.mean([*trained, accuracy]))


def _twins(
    trials: Sequence[FrozenTrial], trial: optuna.Trial, architecture: Architecture, *states: TrialState
) -> list[FrozenTrial]:
    """Other trials of an equal network in these states, judged or being judged."""
    return [
        twin
        for twin in trials
        if twin.state in states
        and twin.user_attrs.get("hash") == architecture.hash
        and twin.number != trial.number
        and is_feasible(twin)
        # one that ran out of time, or was skipped, says nothing
        and (twin.state != TrialState.PRUNED or twin.intermediate_values or CURVE in twin.user_attrs)
        and "stopped" not in twin.user_attrs
    ]
