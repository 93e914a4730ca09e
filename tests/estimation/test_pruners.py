from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from nas_optuna.errors import InputError
from nas_optuna.estimation import SuccessiveHalvingPruner

STEPS = {"every": range(1, 28), "every third": range(3, 28, 3), "few": (1, 5, 26)}


def stops(pruner: optuna.pruners.BasePruner, steps: Iterable[int]) -> list[int | None]:
    """At which step each of 30 trials with random curves was stopped."""
    study = optuna.create_study(direction="maximize", pruner=pruner)
    curves = np.random.default_rng(0).random((30, 28)).cumsum(axis=1)
    found: list[int | None] = []
    for curve in curves:
        trial, stopped = study.ask(), None
        for step in steps:
            trial.report(curve[step], step)
            if trial.should_prune():
                stopped = step
                break
        found.append(stopped)
        study.tell(trial, None if stopped else curve[-1], TrialState.PRUNED if stopped else None)
    return found


@pytest.mark.parametrize("options", [{}, {"min_early_stopping_rate": 1}, {"bootstrap_count": 2}])
@pytest.mark.parametrize("steps", STEPS)
def test_successive_halving_decides_as_optuna_does(steps: str, options: dict[str, int]) -> None:
    expected = stops(optuna.pruners.SuccessiveHalvingPruner(2, 3, **options), STEPS[steps])
    assert stops(SuccessiveHalvingPruner(2, 3, **options), STEPS[steps]) == expected
    assert len(set(expected)) > 1


def test_successive_halving_reads_the_storage_at_rungs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, pruner=SuccessiveHalvingPruner(2, 3))
    read, reads = storage.get_trial_system_attrs, []
    monkeypatch.setattr(storage, "get_trial_system_attrs", lambda key: reads.append(key) or read(key))
    trial, asked = study.ask(), []
    for step in range(1, 10):
        trial.report(0.0, step)
        reads.clear()
        trial.should_prune()
        if reads:
            asked.append(step)
    assert asked == [2, 6]


def test_successive_halving_wants_a_first_rung() -> None:
    with pytest.raises(InputError, match=r"estimation\.pruner\.min_resource: 0 must be a whole number"):
        SuccessiveHalvingPruner(0, 3)
