from __future__ import annotations

import time

import pytest

from nas_optuna.estimation import Stopwatch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test sets."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_inner_span_is_not_charged_to_the_outer_one(clock: list[float]) -> None:
    stopwatch = Stopwatch()
    clock[0] = 1.0
    with stopwatch.span("build"):
        clock[0] = 3.0
        with stopwatch.span("data"):
            clock[0] = 7.0
        clock[0] = 15.0
    clock[0] = 31.0
    assert stopwatch.lap() == {"other": 17.0, "build": 10.0, "data": 4.0}


def test_span_ends_with_an_exception(clock: list[float]) -> None:
    stopwatch = Stopwatch()

    def fail() -> None:
        with stopwatch.span("step"):
            clock[0] = 2.0
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    clock[0] = 5.0
    assert stopwatch.lap() == {"other": 3.0, "step": 2.0}


def test_asking_ends_and_telling_begins_with_the_objective(clock: list[float]) -> None:
    stopwatch = Stopwatch()
    stopwatch.start("ask")
    clock[0] = 1.0
    with stopwatch.judging():
        clock[0] = 11.0
    clock[0] = 111.0
    assert stopwatch.lap() == {"other": 10.0, "ask": 1.0, "tell": 100.0}
