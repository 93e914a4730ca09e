from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from nas_optuna.errors import InputError
from nas_optuna.storages import settle
from nas_optuna.study import (
    Budget,
    check_same,
    count_trained,
    derive_seed,
    ended_last,
    open_study,
    sweep_dead,
    this_worker,
)


def open_here(folder: Path, directions: dict[str, str]) -> optuna.Study:
    return open_study(f"sqlite:///{folder}/study.db", "study", directions=directions)


def test_study_is_created_then_loaded(tmp_path: Path) -> None:
    open_here(tmp_path, {"accuracy": "maximize"}).set_user_attr("mark", 1)
    again = open_here(tmp_path, {"accuracy": "maximize"})
    assert again.user_attrs["mark"] == 1
    assert again.metric_names == ["accuracy"]


def test_settled_study_is_on_disk_whole(tmp_path: Path) -> None:
    study = open_here(tmp_path, {"accuracy": "maximize"})
    study.add_trial(optuna.trial.create_trial(value=0.5))
    settle(f"sqlite:///{tmp_path}/study.db")
    # as a power cut would leave it: the file that was waited for, without the log beside it
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "study.db", tmp_path / "copy" / "study.db")
    assert [trial.value for trial in open_here(tmp_path / "copy", {"accuracy": "maximize"}).trials] == [0.5]


@pytest.mark.parametrize("storage", ["sqlite://", "sqlite:///:memory:", "postgresql://user@nowhere/name"])
def test_only_files_are_settled(storage: str) -> None:
    settle(storage)


def test_other_directions_are_refused(tmp_path: Path) -> None:
    open_here(tmp_path, {"accuracy": "maximize"})
    with pytest.raises(InputError, match="has the directions maximize, this command maximize, minimize"):
        open_here(tmp_path, {"accuracy": "maximize", "macs": "minimize"})


def test_changed_setting_is_named() -> None:
    study = optuna.create_study()
    check_same(study, {"space": {"width": {"low": 9}}, "data": "b"})  # an empty study has nothing to mix
    check_same(study, {"space": {"width": {"low": 8}}, "data": "a"})
    study.ask()
    check_same(study, {"space": {"width": {"low": 8}}, "data": "a"})
    with pytest.raises(InputError, match=r"space.width.low: .* was made with 8, this command has 16"):
        check_same(study, {"space": {"width": {"low": 16}}, "data": "a"})


def test_budget_counts_running_and_finished_but_not_failed_or_untrained() -> None:
    study = optuna.create_study()
    for state, attributes in [
        (TrialState.COMPLETE, {}),
        (TrialState.COMPLETE, {"untrained": True}),
        (TrialState.PRUNED, {}),
        (TrialState.FAIL, {}),
        (TrialState.RUNNING, {}),
        (TrialState.WAITING, {}),
    ]:
        value = 0.0 if state == TrialState.COMPLETE else None
        study.add_trial(optuna.trial.create_trial(state=state, value=value, user_attrs=attributes))
    assert count_trained(study.trials) == 3


@pytest.mark.parametrize("wrong", [{"n_trials": 0}, {"n_trials": 1.5}, {"timeout": -1}, {"timeout": "soon"}])
def test_impossible_budget_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Budget(**({"n_trials": None, "timeout": None} | wrong))


def test_trial_of_a_dead_process_is_ended_and_queued_again() -> None:
    study = optuna.create_study()
    dead, alive, elsewhere = study.ask(), study.ask(), study.ask()
    dead.suggest_int("width", 1, 100)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    host = this_worker().rpartition(":")[0]
    dead.set_user_attr("worker", f"{host}:{ended.pid}")
    alive.set_user_attr("worker", f"{host}:{living.pid}")
    elsewhere.set_user_attr("worker", f"another-{host}:{ended.pid}")
    try:
        assert sweep_dead(study) == [dead.number]
    finally:
        living.communicate(b"\n")
    retried = study.ask()
    assert retried.user_attrs["retry_of"] == dead.number
    assert retried.suggest_int("width", 1, 100) == dead.params["width"]


def test_network_whose_processes_died_thrice_is_not_tried_again() -> None:
    study = optuna.create_study()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = this_worker().rpartition(":")[0]
    for _ in range(3):
        trial = study.ask()
        trial.suggest_int("width", 1, 100)
        trial.set_user_attr("worker", f"{host}:{ended.pid}")
        assert sweep_dead(study) == [trial.number]
    assert not study.get_trials(states=(TrialState.WAITING,))


def test_seeds_differ_and_repeat() -> None:
    seeds = {derive_seed(seed, number) for seed in range(10) for number in range(10)}
    assert len(seeds) == 100
    assert derive_seed(1, 2) == derive_seed(1, 2)


def test_trials_that_ended_last_are_told_whatever_runs_beside_them() -> None:
    study = optuna.create_study()
    trials = [study.ask() for _ in range(5)]
    for number in (2, 0, 3):
        study.tell(trials[number], 0.5)
    assert [trial.number for trial in ended_last(study.trials, 2)] == [3, 0]
