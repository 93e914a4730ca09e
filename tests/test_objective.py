"""One trial whose network can't be trained ends alone, and never as FAIL."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable
from typing import Any

import optuna
import pytest
import torch
from conftest import make_space, make_training
from optuna.trial import TrialState
from torch import Tensor, nn

from nas_optuna.data import Digits
from nas_optuna.estimation import Fidelity, Objectives
from nas_optuna.objective import Objective
from nas_optuna.results import Display, front
from nas_optuna.space import register_layer
from nas_optuna.space.layers import Convolution
from nas_optuna.study import Budget

OBJECTIVES = {
    "one": Objectives(directions={"accuracy": "maximize"}),
    "two": Objectives(directions={"accuracy": "maximize", "macs": "minimize"}),
}


class Greedy(Convolution):
    """Asks for more memory than any machine has."""

    def forward(self, features: Tensor) -> Tensor:
        if not features.is_meta:
            torch.empty(2**50, dtype=torch.uint8)
        return super().forward(features)


class Broken(Convolution):
    """Has an error of its own."""

    def forward(self, features: Tensor) -> Tensor:
        if not features.is_meta:
            raise KeyError("a mistake")
        return super().forward(features)


def make_objective(
    digits: Digits,
    *,
    objectives: Objectives = OBJECTIVES["one"],
    stop_reason: Callable[[], str | None] = lambda: None,
    block: dict[str, Any] | None = None,
    trials: int = 1,
    duplicates: str = "reuse",
    **training: Any,
) -> Objective:
    return Objective(
        space=make_space(**(block or {})),
        data=digits,
        training=make_training(**training),
        objectives=objectives,
        fidelity=Fidelity(2, data_share=0.2),
        seed=0,
        progress=Display(budget=Budget(trials, None), objectives=objectives, elapsed=0.0),
        stop_reason=stop_reason,
        duplicates=duplicates,
    )


def run(
    digits: Digits,
    *,
    objectives: Objectives = OBJECTIVES["one"],
    trials: int = 1,
    **settings: Any,
) -> optuna.Study:
    objective = make_objective(digits, objectives=objectives, trials=trials, **settings)
    study = optuna.create_study(
        directions=list(objectives.directions.values()),
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    study.optimize(objective, n_trials=trials, catch=(Exception,))
    return study


def with_layer(layer: type[nn.Module]) -> dict[str, Any]:
    register_layer("odd", layer)
    return {"layer": "odd", "residual": False}


@pytest.mark.parametrize("objectives", OBJECTIVES.values(), ids=OBJECTIVES)
def test_diverging_network_is_infeasible_and_never_best(digits: Digits, objectives: Objectives) -> None:
    study = run(digits, objectives=objectives, learning_rate=1e12)
    trial = study.trials[0]
    assert trial.state == TrialState.COMPLETE
    assert trial.user_attrs["infeasible"] == "diverged"
    assert trial.constraints == {"limits": -1.0, "trained": 1.0}
    assert trial.values[0] == 0.1  # guessing among ten digits
    assert study.best_trials == []


def test_network_beyond_the_memory_is_infeasible(digits: Digits) -> None:
    trial = run(digits, block=with_layer(Greedy)).trials[0]
    assert trial.state == TrialState.COMPLETE
    assert trial.user_attrs["infeasible"] == "out of memory"
    assert trial.constraints == {"limits": -1.0, "trained": 1.0}


def test_error_of_a_layer_fails_its_trial_and_keeps_the_traceback(digits: Digits) -> None:
    trial = run(digits, block=with_layer(Broken)).trials[0]
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["error"] == "KeyError: 'a mistake'"
    assert "in forward" in trial.user_attrs["traceback"]


def test_network_beyond_a_limit_is_told_without_training(digits: Digits) -> None:
    objectives = Objectives(directions={"accuracy": "maximize"}, limits={"macs": 1.0, "params": None})
    trial = run(digits, objectives=objectives).trials[0]
    assert trial.state == TrialState.COMPLETE
    assert trial.constraints["limits"] == trial.user_attrs["macs"] - 1
    assert "untrained" in trial.user_attrs
    assert "seed" not in trial.user_attrs


def test_equal_network_is_not_trained_twice(digits: Digits) -> None:
    one_network = {"layer": "conv", "kernel": 3, "residual": False}
    study = run(digits, block=one_network, trials=12)
    by_hash: dict[str, list[optuna.trial.FrozenTrial]] = {}
    for trial in study.trials:
        by_hash.setdefault(trial.user_attrs["hash"], []).append(trial)
    assert any(len(twins) > 1 for twins in by_hash.values())
    for first, *others in by_hash.values():
        assert "reused" not in first.user_attrs
        for twin in others:
            assert twin.user_attrs["reused"] == first.number
            assert twin.values == first.values
            assert "seed" not in twin.user_attrs


def group_equal(study: optuna.Study) -> list[list[optuna.trial.FrozenTrial]]:
    """Trials by their network, those with more than one."""
    by_hash: dict[str, list[optuna.trial.FrozenTrial]] = {}
    for trial in study.trials:
        by_hash.setdefault(trial.user_attrs["hash"], []).append(trial)
    groups = [twins for twins in by_hash.values() if len(twins) > 1]
    assert groups
    return groups


ONE_NETWORK = {"layer": "conv", "kernel": 3, "residual": False}


def run_often(digits: Digits) -> optuna.Study:
    """Twelve trials of few networks, each trained to its end."""
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.NopPruner(),
    )
    study.optimize(make_objective(digits, block=ONE_NETWORK, duplicates="retrain"), n_trials=12)
    return study


def test_equal_network_is_trained_again_on_request(digits: Digits) -> None:
    study = run_often(digits)
    for twins in group_equal(study):
        trained = [twin.user_attrs["trained"] for twin in twins]
        assert len({twin.user_attrs["seed"] for twin in twins}) == len(twins)
        for count, twin in enumerate(twins, start=1):
            assert twin.value == pytest.approx(sum(trained[:count]) / count)
            assert twin.user_attrs["trainings"] == count
            assert "untrained" not in twin.user_attrs


def test_network_that_was_trained_twice_stands_with_its_mean(digits: Digits) -> None:
    study = run_often(digits)
    found = {trial.user_attrs["hash"]: trial for trial in front(study, OBJECTIVES["one"])}
    for twins in group_equal(study):
        assert found[twins[0].user_attrs["hash"]].number == twins[-1].number


def test_equal_network_is_skipped_on_request(digits: Digits) -> None:
    study = run(digits, block=ONE_NETWORK, trials=12, duplicates="skip")
    for first, *others in group_equal(study):
        assert first.state == TrialState.COMPLETE
        for twin in others:
            assert twin.state == TrialState.PRUNED
            assert twin.user_attrs["reused"] == first.number
            assert "untrained" in twin.user_attrs


def test_network_equal_to_a_pruned_one_is_pruned_without_training(digits: Digits) -> None:
    study = run(digits, block=ONE_NETWORK, trials=1)
    architecture = study.trials[0]
    pruned = optuna.trial.create_trial(
        state=TrialState.PRUNED,
        params=architecture.params,
        distributions=architecture.distributions,
        user_attrs={"hash": architecture.user_attrs["hash"]},
        intermediate_values={1: 0.25},
    )
    study = optuna.create_study(direction="maximize")
    study.add_trial(pruned)
    study.enqueue_trial(architecture.params)
    study.optimize(make_objective(digits, block=ONE_NETWORK), n_trials=1)
    again = study.trials[1]
    assert again.state == TrialState.PRUNED
    assert again.intermediate_values == {1: 0.25}
    assert again.user_attrs["reused"] == 0
    assert "seed" not in again.user_attrs


def test_network_that_was_pruned_once_and_finished_once_has_its_values(digits: Digits) -> None:
    finished = run(digits, block=ONE_NETWORK, trials=1).trials[0]
    study = optuna.create_study(direction="maximize")
    for state, value in ((TrialState.PRUNED, None), (TrialState.COMPLETE, 0.5)):
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=value,
                params=finished.params,
                distributions=finished.distributions,
                user_attrs={"hash": finished.user_attrs["hash"]},
                intermediate_values={1: 0.25},
            )
        )
    study.enqueue_trial(finished.params)
    study.optimize(make_objective(digits, block=ONE_NETWORK), n_trials=1)
    assert study.trials[2].value == 0.5


def test_network_that_another_process_trains_is_waited_for(digits: Digits) -> None:
    params = run(digits, block=ONE_NETWORK, trials=1).trials[0]
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial(params.params)
    study.enqueue_trial(params.params)
    other = study.ask()
    other.set_user_attr("hash", params.user_attrs["hash"])
    # a process of this machine that lives while the test runs
    other.set_user_attr("worker", f"{platform.node()}:{os.getppid()}")
    objective = make_objective(digits, block=ONE_NETWORK)
    for name, distribution in params.distributions.items():
        other._suggest(name, distribution)
    timer = threading.Timer(1.0, lambda: study.tell(other, 0.75))
    timer.start()
    study.optimize(objective, n_trials=1)
    timer.join()
    assert study.trials[1].value == 0.75
    assert study.trials[1].user_attrs["reused"] == 0


def test_trial_out_of_time_is_pruned(digits: Digits) -> None:
    trial = run(digits, stop_reason=lambda: "out of time").trials[0]
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs["stopped"] == "out of time"
    assert trial.intermediate_values == {}


def test_pruner_stops_a_training(digits: Digits) -> None:
    class Merciless(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return True

    objective = Objective(
        space=make_space(),
        data=digits,
        training=make_training(),
        objectives=OBJECTIVES["one"],
        fidelity=Fidelity(5, data_share=0.2),
        seed=0,
        progress=Display(budget=Budget(1, None), objectives=OBJECTIVES["one"], elapsed=0.0),
        stop_reason=lambda: None,
    )
    study = optuna.create_study(direction="maximize", pruner=Merciless())
    study.optimize(objective, n_trials=1)
    assert study.trials[0].state == TrialState.PRUNED
    assert list(study.trials[0].intermediate_values) == [1]
