"""How often a study is looked at, and that those who look at the same time share a look."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas_optuna.looks import SharedLooks
from nas_optuna.pace import LONGEST_PAUSE, Pace


@dataclass
class Clock:
    """Time that passes where one says so, or sleeps."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for name in ("monotonic", "sleep"):
        monkeypatch.setattr(time, name, getattr(clock, name))
    return clock


def test_first_look_is_due() -> None:
    assert Pace(60.0).is_due


def test_look_is_due_again_after_a_hundred_times_as_long_as_it_took(clock: Clock) -> None:
    pace = Pace()
    assert pace.look(lambda: clock.sleep(0.125) or "seen") == "seen"
    clock.sleep(12.4)
    assert not pace.is_due
    clock.sleep(0.1)
    assert pace.is_due


def test_quick_look_is_due_again_after_the_shortest_pause(clock: Clock) -> None:
    pace = Pace(2.0)
    pace.look(lambda: None)
    clock.sleep(1.9)
    assert not pace.is_due
    clock.sleep(0.1)
    assert pace.is_due


def test_pause_has_an_end_however_long_a_look_took(clock: Clock) -> None:
    pace = Pace()
    pace.look(lambda: clock.sleep(100.0))
    clock.sleep(LONGEST_PAUSE)
    assert pace.is_due


def test_look_that_failed_counts(clock: Clock) -> None:
    pace = Pace(2.0)
    with pytest.raises(ConnectionError):
        pace.look(fail)
    assert not pace.is_due


def fail() -> None:
    raise ConnectionError


def test_who_waits_gets_the_reason_to_wait_no_longer(clock: Clock) -> None:
    pace, reasons = Pace(60.0), iter([None, None, "interrupted"])
    pace.look(lambda: None)
    began = clock.now
    assert pace.wait(lambda: next(reasons, None)) == "interrupted"
    assert clock.now - began < 2.0


def test_who_waits_without_a_reason_not_to_waits_until_a_look_is_due(clock: Clock) -> None:
    pace = Pace(60.0)
    pace.look(lambda: None)
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
