"""How often a study is looked at, and that those who look at the same time share a look."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas_optuna.looks import SharedLooks
from nas_optuna.pace import Pace


@dataclass
class Clock:
    """Time that passes where one says so, or sleeps; a look takes ``look`` seconds of it."""

    now: float = 1000.0
    look: float = 0.0
    is_computing: bool = True

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.now if self.is_computing else 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Slow(optuna.storages.InMemoryStorage):
    """Takes as long as the clock says."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def get_all_trials(self, *arguments: Any, **named: Any) -> list[FrozenTrial]:
        self._clock.now += self._clock.look
        return super().get_all_trials(*arguments, **named)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for name in ("monotonic", "thread_time", "sleep"):
        monkeypatch.setattr(time, name, getattr(clock, name))
    return clock


@pytest.fixture
def study(clock: Clock) -> optuna.Study:
    return optuna.create_study(storage=Slow(clock))


def seconds_to_the_next(pace: Pace, clock: Clock) -> float:
    """Until a look is due again, to an eighth of a second."""
    began = clock.now
    while not pace.is_due:
        clock.now += 0.125
    return clock.now - began


def test_first_look_is_due() -> None:
    assert Pace(60.0).is_due


def test_look_gives_all_trials(study: optuna.Study) -> None:
    study.ask()
    assert [trial.number for trial in Pace().look(study)] == [0]


def test_look_is_due_again_after_a_hundred_times_as_long_as_it_took(
    clock: Clock, study: optuna.Study
) -> None:
    pace, clock.look = Pace(), 0.125
    pace.look(study)
    assert seconds_to_the_next(pace, clock) == 12.5


def test_more_that_run_make_looks_rarer(clock: Clock, study: optuna.Study) -> None:
    study.add_trials([create_trial(state=TrialState.RUNNING)] * 50)
    pace, clock.look = Pace(), 0.125
    pace.look(study)
    assert seconds_to_the_next(pace, clock) == 25.0


def test_storage_that_keeps_one_waiting_is_looked_at_as_often(clock: Clock, study: optuna.Study) -> None:
    pace, clock.look, clock.is_computing = Pace(2.0), 100.0, False
    pace.look(study)
    assert seconds_to_the_next(pace, clock) == 2.0


def test_quick_look_is_due_again_after_the_shortest_pause(clock: Clock, study: optuna.Study) -> None:
    pace = Pace(2.0)
    pace.look(study)
    assert seconds_to_the_next(pace, clock) == 2.0


def test_slow_look_is_due_again_after_the_longest_pause(clock: Clock, study: optuna.Study) -> None:
    pace, clock.look = Pace(longest=30.0), 100.0
    pace.look(study)
    assert seconds_to_the_next(pace, clock) == 30.0


def test_who_waits_gets_the_reason_to_wait_no_longer(clock: Clock, study: optuna.Study) -> None:
    pace, reasons = Pace(60.0), iter([None, None, "interrupted"])
    pace.look(study)
    began = clock.now
    assert pace.wait(lambda: next(reasons, None)) == "interrupted"
    assert clock.now - began < 2.0


def test_who_waits_without_a_reason_not_to_waits_until_a_look_is_due(
    clock: Clock, study: optuna.Study
) -> None:
    pace = Pace(60.0)
    pace.look(study)
    assert pace.wait(lambda: None) is None
    assert pace.is_due


class Storage:
    """Trials that can be read by one at a time, which takes until it is let go."""

    def __init__(self) -> None:
        self.trials: list[FrozenTrial] = []
        self.looks = 0
        self.is_read, self.go = threading.Event(), threading.Event()

    def read(self, study_id: int) -> Sequence[FrozenTrial]:
        self.looks += 1
        found = list(self.trials)
        self.is_read.set()
        assert self.go.wait(30)
        return found


def test_those_who_ask_during_a_look_share_the_next_one_and_see_what_was_written_meanwhile() -> None:
    storage = Storage()
    looks = SharedLooks(storage.read)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(looks, 0)
        assert storage.is_read.wait(30)
        storage.trials.append(create_trial(state=TrialState.RUNNING))
        begun = threading.Barrier(9)
        later = [pool.submit(lambda: begun.wait(30) * 0 or looks(0)) for _ in range(8)]
        begun.wait(30)
        time.sleep(0.2)  # until they ask; should one be late he looks himself, and that is no fault
        storage.go.set()
        assert first.result() == []
        assert [len(one.result()) for one in later] == [1] * 8
    assert 2 <= storage.looks < 9


def test_look_that_failed_is_not_the_answer_to_others() -> None:
    answers = iter([ConnectionError(), [create_trial(state=TrialState.RUNNING)]])

    def read(study_id: int) -> Sequence[FrozenTrial]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    looks = SharedLooks(read)
    with pytest.raises(ConnectionError):
        looks(0)
    assert len(looks(0)) == 1


def test_each_study_has_looks_of_its_own() -> None:
    looks = SharedLooks(lambda study_id: [create_trial(state=TrialState.RUNNING)] * study_id)
    assert [len(looks(study_id)) for study_id in (1, 2, 1)] == [1, 2, 1]
