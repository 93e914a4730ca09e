"""Trainings that were stopped or cut off, and are taken up again."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from conftest import SHORT, compose_config, judge_next, make_space, make_training
from optuna.trial import TrialState

from nas_optuna.attributes import PROMOTES
from nas_optuna.data import Digits
from nas_optuna.estimation import CurvePruner, Fidelity, Objectives
from nas_optuna.kept import Kept
from nas_optuna.objective import INTERRUPTED, Objective
from nas_optuna.results import Display
from nas_optuna.search import search
from nas_optuna.study import RETRY_OF, Budget, count_trained, requeue, sweep_dead

EPOCHS = 4
ACCURACY = Objectives(directions={"accuracy": "maximize"})


class StopsOnce(CurvePruner):
    """Stops the second trial after two epochs, and would rather go on with it than begin another."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.number == 1 and len(trial.intermediate_values) == 2

    def promotes(self, study: optuna.Study, among: Collection[int], **trials: Any) -> int | None:
        return next(iter(among), None)


def make_objective(digits: Digits, kept: Kept | None, *, seed: int = 0) -> Objective:
    return Objective(
        space=make_space(),
        data=digits,
        training=make_training(),
        objectives=ACCURACY,
        fidelity=Fidelity(EPOCHS, data_share=0.2),
        seed=seed,
        progress=Display(budget=Budget(5, None), objectives=ACCURACY, elapsed=0.0),
        stop_reason=lambda: None,
        kept=kept,
    )


def make_study(pruner: optuna.pruners.BasePruner) -> optuna.Study:
    return optuna.create_study(
        direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0), pruner=pruner
    )


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "checkpoints", most=3)


@pytest.fixture
def through(digits: Digits) -> optuna.Study:
    """Two trials that nothing stops."""
    study, objective = make_study(optuna.pruners.NopPruner()), make_objective(digits, None)
    for _ in range(2):
        judge_next(study, objective)
    return study


def test_stopped_training_that_is_taken_up_ends_as_one_that_ran_through(
    digits: Digits, kept: Kept, through: optuna.Study, tmp_path: Path
) -> None:
    study, objective = make_study(StopsOnce()), make_objective(digits, kept)
    for _ in range(3):
        judge_next(study, objective)
    _, stopped, resumed = study.trials
    assert stopped.state == TrialState.PRUNED
    assert resumed.state == TrialState.COMPLETE
    assert resumed.user_attrs[PROMOTES] == 1
    assert resumed.params == stopped.params
    # not a digit differs from the training that nothing stopped
    assert resumed.intermediate_values == through.trials[1].intermediate_values
    assert resumed.value == through.trials[1].value
    # one network was trained, not two
    assert count_trained(study.trials) == 2
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_cut_off_training_is_taken_up_by_its_retry(
    digits: Digits, kept: Kept, through: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas_optuna.kept.SECONDS", 0.0)
    study, objective = make_study(optuna.pruners.NopPruner()), make_objective(digits, kept)
    judge_next(study, objective)

    def within_the_third_epoch() -> str | None:
        return INTERRUPTED if len(study.trials[1].intermediate_values) == 2 else None

    objective.stop_reason = within_the_third_epoch
    interrupted = judge_next(study, objective)
    assert interrupted.state == TrialState.FAIL
    requeue(study, interrupted)
    objective.stop_reason = lambda: None
    resumed = judge_next(study, objective)
    assert resumed.user_attrs[RETRY_OF] == 1
    assert resumed.user_attrs["seed"] == interrupted.user_attrs["seed"]
    assert resumed.value == through.trials[1].value


def test_cut_off_training_is_taken_up_where_its_first_retry_died_at_once(
    digits: Digits, kept: Kept, through: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas_optuna.kept.SECONDS", 0.0)
    study, objective = make_study(optuna.pruners.NopPruner()), make_objective(digits, kept)
    judge_next(study, objective)
    objective.stop_reason = lambda: INTERRUPTED if len(study.trials[1].intermediate_values) == 2 else None
    interrupted = judge_next(study, objective)
    requeue(study, interrupted)
    # it had come to its network, and no further
    study.ask().set_user_attr("worker", f"{platform.node()}:{dead_process()}")
    assert sweep_dead(study) == [2]
    kept.tidy(study, study.trials)
    objective.stop_reason = lambda: None
    resumed = judge_next(study, objective)
    assert resumed.params == interrupted.params
    assert resumed.user_attrs["seed"] == interrupted.user_attrs["seed"]
    assert resumed.value == through.trials[1].value


def test_training_of_a_process_that_was_taken_for_dead_stops(digits: Digits, kept: Kept) -> None:
    study, objective = make_study(optuna.pruners.NopPruner()), make_objective(digits, kept)
    objective.lease = 0.2
    objective.fidelity = Fidelity(2000)

    def another_one_ends_it() -> None:
        trial = study.trials[0]
        if trial.intermediate_values and not trial.state.is_finished():
            study.tell(0, state=TrialState.FAIL)

    objective.stop_reason = another_one_ends_it
    ended = judge_next(study, objective)
    assert ended.state == TrialState.FAIL
    assert "error" not in ended.user_attrs
    assert len(ended.intermediate_values) < 2000
    # the next one is judged as if nothing had been
    objective.stop_reason = lambda: None
    objective.fidelity = Fidelity(1)
    assert judge_next(study, objective).state == TrialState.COMPLETE


def test_training_whose_state_is_damaged_begins_anew_with_its_seed(
    digits: Digits, kept: Kept, through: optuna.Study, tmp_path: Path
) -> None:
    study, objective = make_study(StopsOnce()), make_objective(digits, kept)
    for _ in range(2):
        judge_next(study, objective)
    (tmp_path / "checkpoints" / "trial-1.pt").write_bytes(b"torn")
    resumed = judge_next(study, objective)
    assert resumed.intermediate_values == through.trials[1].intermediate_values


def stopped_study(kept: Kept, folder: Path, values: list[float]) -> optuna.Study:
    """A trial for each value, stopped after one epoch, its state kept."""
    study = make_study(CurvePruner())
    folder.mkdir(exist_ok=True)
    for value in values:
        trial = study.ask()
        trial.report(value, 1)
        study.tell(trial, state=TrialState.PRUNED)
        (folder / f"trial-{trial.number}.pt").write_bytes(b"state")
    return study


def test_the_best_of_what_was_stopped_is_kept(kept: Kept, tmp_path: Path) -> None:
    study = stopped_study(kept, tmp_path / "checkpoints", [0.5, 0.1, 0.4, 0.2, 0.3])
    kept.tidy(study, study.trials)
    assert [trial.number for trial in kept.stopped(study.trials)] == [0, 2, 4]


def test_nothing_is_kept_of_what_no_pruner_takes_up(kept: Kept, tmp_path: Path) -> None:
    study = stopped_study(kept, tmp_path / "checkpoints", [0.5, 0.1])
    study.pruner = optuna.pruners.MedianPruner()
    kept.tidy(study, study.trials)
    assert kept.stopped(study.trials) == []


def test_states_that_another_study_left_are_not_looked_at(kept: Kept, tmp_path: Path) -> None:
    study = stopped_study(kept, tmp_path / "checkpoints", [0.5])
    (tmp_path / "checkpoints" / "trial-7.pt").write_bytes(b"state")
    kept.tidy(study, study.trials)
    assert [trial.number for trial in kept.stopped(study.trials)] == [0]


def test_of_several_processes_one_takes_a_training_up(kept: Kept, tmp_path: Path) -> None:
    stopped_study(kept, tmp_path / "checkpoints", [0.5])
    assert kept.claim(0)
    assert not kept.claim(0)
    kept.hand_over(0, 7)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["trial-7.pt"]


def test_retry_of_one_that_took_another_up_costs_no_budget_either() -> None:
    study = make_study(CurvePruner())
    study.enqueue_trial({}, user_attrs={PROMOTES: 0})
    trial = study.ask()
    trial.set_user_attr("worker", f"{platform.node()}:{dead_process()}")
    sweep_dead(study)
    study.ask()
    assert study.trials[1].user_attrs == {PROMOTES: 0, RETRY_OF: 0}
    assert count_trained(study.trials) == 0


def dead_process() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def test_pruner_takes_up_what_turned_out_to_be_worth_more() -> None:
    """Low values that rise, which is found out after many of them were stopped."""
    study = make_study(CurvePruner())
    random = torch.Generator().manual_seed(0)

    def tell(start: float, end: float | None) -> None:
        trial = study.ask()
        trial.report(start, 1)
        if end is None:
            study.tell(trial, state=TrialState.PRUNED)
            return
        for epoch in (2, 4, 8):
            trial.report(start + (end - start) * epoch / 8, epoch)
        study.tell(trial, end)

    def noise() -> float:
        return float(torch.rand(1, generator=random)) * 0.02

    for _ in range(10):
        tell(0.5 + noise(), 0.6 + noise())
    tell(0.2, None)
    stopped = len(study.trials) - 1
    pruner = study.pruner
    assert isinstance(pruner, CurvePruner)
    assert pruner.promotes(study, [stopped]) is None
    for _ in range(10):
        tell(0.2 + noise(), 0.9 + noise())
    assert pruner.promotes(study, [stopped]) == stopped
    assert pruner.promotes(study, []) is None


@pytest.mark.slow
def test_search_ends_without_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    search(compose_config(*SHORT, "estimation.epochs=3", "estimation.data_share=0.2", "n_trials=12"))
    study = optuna.load_study(study_name="study", storage="sqlite:///runs/study/study.db")
    assert study.get_trials(states=(TrialState.PRUNED,))
    assert count_trained(study.trials) == 12
    assert not (tmp_path / "runs" / "study" / "checkpoints").exists()
