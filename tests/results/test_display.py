from __future__ import annotations

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas_optuna.estimation import Objectives
from nas_optuna.results import Display
from nas_optuna.study import Budget

OBJECTIVES = Objectives(directions={"accuracy": "maximize", "macs": "minimize"})


def trial(number: int, state: TrialState, accuracy: float | None = None, **attributes: object) -> FrozenTrial:
    made = create_trial(
        state=state,
        values=None if accuracy is None else [accuracy, 2e6],
        user_attrs={"network": "stem3-8", "macs": 2_000_000} | attributes,
        system_attrs={"constraints:trained": 1.0} if "infeasible" in attributes else {},
    )
    made.number = number
    return made


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Display:
    monkeypatch.setattr("nas_optuna.results.display.time.monotonic", lambda: 1000.0)
    return Display(budget=Budget(9, 100.0), objectives=OBJECTIVES, elapsed=65.0)


def test_each_end_of_a_trial_is_a_line(display: Display, capsys: pytest.CaptureFixture[str]) -> None:
    display.ended(trial(0, TrialState.COMPLETE, 0.9))
    display.ended(trial(1, TrialState.COMPLETE, 0.8, reused=0, untrained=True))
    display.ended(trial(2, TrialState.COMPLETE, 0.99, infeasible="diverged"))
    display.ended(trial(3, TrialState.PRUNED))
    display.ended(trial(4, TrialState.FAIL, error="KeyError: 'x'"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1:3] for line in lines] == [
        ["trial 1/9", "accuracy 0.900"],
        ["trial 1/9", "accuracy 0.800 (as trial 0)"],
        ["trial 2/9", "infeasible: diverged"],
        ["trial 3/9", "pruned"],
        ["trial 3/9", "failed: KeyError: 'x'"],
    ]
    assert all("best accuracy 0.900 (trial 0)" in line for line in lines)
    assert all(line.startswith("1:05  ") for line in lines)


def test_live_view_shows_progress_time_best_and_running_epoch(display: Display) -> None:
    display.ended(trial(0, TrialState.COMPLETE, 0.9))
    display.ended(trial(1, TrialState.PRUNED))
    display.running("trial 2: stem3-8")
    display.epoch(3, 0.5, 10)
    with display.console.capture() as capture:
        display.console.print(display._view())
    shown = capture.get()
    for text in (
        "trial 3 of 9",
        "1:05 elapsed",
        "0:35 left",
        "accuracy 0.900 (trial 0)",
        "trial 2: stem3-8",
        "epoch 3/10, accuracy 0.500",
        "1 pruned, 0 failed",
    ):
        assert text in shown
