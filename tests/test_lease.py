"""Signs of life, and who misses them."""

from __future__ import annotations

import time

import optuna
import pytest
from conftest import wait_until
from optuna.trial import TrialState

from nas_optuna.attributes import LEASE, PROMOTES, RETRY_OF
from nas_optuna.lease import Beat, Watch
from nas_optuna.study import MOST_DEATHS, origins, requeue, this_worker

ELSEWHERE = "another-machine:1"


def begin(study: optuna.Study, *, worker: str | None = ELSEWHERE) -> optuna.Trial:
    trial = study.ask()
    if worker:
        trial.set_user_attr("worker", worker)
    trial.suggest_int("width", 1, 100)
    return trial


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the watch takes for the time."""
    now = [100.0]
    monkeypatch.setattr("nas_optuna.lease.time.monotonic", lambda: now[0])
    return now


def test_sign_of_life_is_given_while_a_trial_runs() -> None:
    study = optuna.create_study()
    trial = study.ask()
    with Beat(trial, seconds=0.2):
        wait_until(lambda: study.trials[0].user_attrs.get(LEASE, 0) >= 2)
    given = study.trials[0].user_attrs[LEASE]
    time.sleep(0.2)
    assert study.trials[0].user_attrs[LEASE] == given


def test_process_that_was_taken_for_dead_hears_of_it() -> None:
    study = optuna.create_study()
    with Beat(study.ask(), seconds=0.2) as beat:
        study.tell(0, state=TrialState.FAIL)
        wait_until(lambda: beat.is_lost)


def test_trial_without_a_sign_of_life_is_ended_and_queued_again(clock: list[float]) -> None:
    study = optuna.create_study()
    trial = begin(study)
    watch = Watch(study, seconds=60)
    assert watch.sweep() == []
    clock[0] += 61
    assert watch.sweep() == [trial.number]
    ended, queued = study.trials
    assert (ended.state, queued.state) == (TrialState.FAIL, TrialState.WAITING)
    assert queued.user_attrs[RETRY_OF] == trial.number
    assert study.ask().suggest_int("width", 1, 100) == trial.params["width"]


def test_trial_that_gives_signs_is_left_alone(clock: list[float]) -> None:
    study = optuna.create_study()
    trial = begin(study)
    watch = Watch(study, seconds=60)
    for count in range(10):
        trial.set_user_attr(LEASE, count)
        assert watch.sweep() == []
        clock[0] += 50


def test_own_trial_is_left_alone(clock: list[float]) -> None:
    study = optuna.create_study()
    begin(study, worker=this_worker())
    watch = Watch(study, seconds=60)
    watch.sweep()
    clock[0] += 100
    assert watch.sweep() == []


def test_trial_that_nobody_put_his_name_to_is_ended(clock: list[float]) -> None:
    study = optuna.create_study()
    study.ask()
    watch = Watch(study, seconds=60)
    watch.sweep()
    clock[0] += 61
    assert watch.sweep() == [0]
    # there was no network to lose
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]


def test_queued_network_that_nobody_came_to_is_queued_again(clock: list[float]) -> None:
    study = optuna.create_study()
    study.enqueue_trial({"width": 7})
    study.ask()
    watch = Watch(study, seconds=60)
    watch.sweep()
    clock[0] += 61
    watch.sweep()
    assert study.ask().suggest_int("width", 1, 100) == 7


def test_of_two_that_watch_one_queues_a_network(clock: list[float]) -> None:
    study = optuna.create_study()
    begin(study)
    watches = [Watch(study, seconds=60) for _ in range(2)]
    for watch in watches:
        watch.sweep()
    clock[0] += 61
    assert [watch.sweep() for watch in watches] == [[0], []]
    assert len(study.get_trials(states=(TrialState.WAITING,))) == 1


@pytest.mark.parametrize(
    ("attributes", "queued"),
    [({}, 1), ({"stopped": "interrupted"}, 1), ({"stopped": "budget spent"}, 0), ({"error": "wrong"}, 0)],
)
def test_network_whose_finder_died_before_he_queued_it_is_queued(
    attributes: dict[str, str], queued: int, clock: list[float]
) -> None:
    study = optuna.create_study()
    trial = begin(study)
    for name, value in attributes.items():
        trial.set_user_attr(name, value)
    study.tell(trial, state=TrialState.FAIL)
    watch = Watch(study, seconds=60)
    watch.sweep()
    clock[0] += 61
    assert watch.sweep() == []
    assert len(study.get_trials(states=(TrialState.WAITING,))) == queued
    clock[0] += 200
    watch.sweep()
    assert len(study.get_trials(states=(TrialState.WAITING,))) == queued


def test_network_that_kills_its_processes_is_given_up(clock: list[float]) -> None:
    study = optuna.create_study()
    begin(study)
    for death in range(MOST_DEATHS):
        watch = Watch(study, seconds=60)
        watch.sweep()
        clock[0] += 61
        assert watch.sweep() == [death]
        if death + 1 < MOST_DEATHS:
            assert begin(study).number == death + 1
    assert not study.get_trials(states=(TrialState.WAITING,))


def test_interruption_is_no_death(clock: list[float]) -> None:
    study = optuna.create_study()
    begin(study)
    for _ in range(MOST_DEATHS):
        trial = study.trials[-1]
        optuna.Trial(study, trial._trial_id).set_user_attr("stopped", "interrupted")
        study.tell(trial.number, state=TrialState.FAIL)
        requeue(study, trial)
        begin(study)
    watch = Watch(study, seconds=60)
    watch.sweep()
    clock[0] += 61
    watch.sweep()
    assert len(study.get_trials(states=(TrialState.WAITING,))) == 1


def test_origins_lead_through_retries_to_what_was_promoted() -> None:
    study = optuna.create_study()
    for attributes in ({}, {PROMOTES: 0}, {PROMOTES: 0, RETRY_OF: 1}, {PROMOTES: 0, RETRY_OF: 2}):
        study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL, user_attrs=attributes))
    assert [trial.number for trial in origins(study.trials, study.trials[3])] == [2, 1, 0]


@pytest.mark.parametrize("nonsense", [9, -1, "0", 3, None])
def test_origin_that_can_not_be_is_none(nonsense: object) -> None:
    study = optuna.create_study()
    for _ in range(3):
        study.ask()
    study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL, user_attrs={RETRY_OF: nonsense}))
    assert origins(study.trials, study.trials[3]) == []


def test_who_leaves_waits_for_those_that_gave_no_sign() -> None:
    study = optuna.create_study()
    silent, living = begin(study), begin(study)
    with Beat(living, seconds=0.4):
        assert Watch(study, seconds=0.4).wait_out(lambda: False) == [silent.number]
    assert study.trials[living.number].state == TrialState.RUNNING


def test_who_leaves_a_study_where_nobody_runs_waits_for_nobody() -> None:
    study = optuna.create_study()
    begin(study, worker=this_worker())
    assert Watch(study, seconds=3600).wait_out(lambda: False) == []
