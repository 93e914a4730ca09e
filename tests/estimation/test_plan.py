from __future__ import annotations

import dataclasses

import pytest
from conftest import make_training

from nas_optuna.data import Digits
from nas_optuna.errors import InputError
from nas_optuna.estimation import Fidelity, PlanSettings, Speed, Training, make_plan, plan_final, time_steps
from nas_optuna.space import Architecture, Stages

SETTINGS = PlanSettings(
    full_trainings=20,
    passes=3,
    fewest_trainings=6,
    search_share=0.65,
    finalists_share=0.1,
    min_epochs=8,
    max_epochs=30,
)


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that always trains 1,000 and judges 4,000 images a second."""
    monkeypatch.setattr(
        "nas_optuna.estimation.plan.time_steps", lambda *_: Speed(training=1e-3, validation=2.5e-4)
    )


def open_training(**changes: object) -> Training:
    return make_training(**({"epochs": None, "data_share": None} | changes))


def plan(digits: Digits, space: Stages, timeout: float | None, **changes: object) -> Fidelity:
    return make_plan(open_training(**changes), space, digits, settings=SETTINGS, timeout=timeout).fidelity


@pytest.mark.usefixtures("speed")
@pytest.mark.parametrize("timeout", [200, 300, 600, 900])
def test_twenty_full_trainings_fit_into_the_search(digits: Digits, space: Stages, timeout: float) -> None:
    made = make_plan(open_training(), space, digits, settings=SETTINGS, timeout=timeout)
    assert made.trial_seconds is not None
    assert 0.7 * timeout * 0.65 < 20 * made.trial_seconds <= timeout * 0.65


@pytest.mark.usefixtures("speed")
def test_time_that_is_gone_is_not_planned_with(digits: Digits, space: Stages) -> None:
    late, short = (
        make_plan(open_training(), space, digits, settings=SETTINGS, timeout=timeout, spent=spent)
        for timeout, spent in ((300, 65), (200, 0))
    )
    assert late == short


@pytest.mark.usefixtures("speed")
def test_too_late_is_too_short(digits: Digits, space: Stages) -> None:
    with pytest.raises(InputError, match="timeout: 300 s is too short"):
        make_plan(open_training(), space, digits, settings=SETTINGS, timeout=300, spent=195)


@pytest.mark.usefixtures("speed")
def test_short_search_trains_fewer_networks_rather_than_hardly_at_all(digits: Digits, space: Stages) -> None:
    # 1,150 images at a millisecond each, three times over, and some judging
    made = plan(digits, space, timeout=40)
    assert made.epochs * made.data_share == pytest.approx(3, rel=0.2)


@pytest.mark.usefixtures("speed")
def test_workers_share_the_time(digits: Digits, space: Stages) -> None:
    alone, crowded = (
        make_plan(open_training(), space, digits, settings=SETTINGS, timeout=300, workers=workers)
        for workers in (1, 4)
    )
    assert crowded.trial_seconds > 2 * alone.trial_seconds
    assert 20 * crowded.trial_seconds <= 4 * 300 * 0.65


@pytest.mark.usefixtures("speed")
def test_little_time_shortens_epochs_rather_than_their_number(digits: Digits, space: Stages) -> None:
    made = plan(digits, space, timeout=60)
    assert made.epochs == 8
    assert made.data_share < 1


@pytest.mark.usefixtures("speed")
def test_much_time_gives_no_more_than_the_most_epochs(digits: Digits, space: Stages) -> None:
    settings = dataclasses.replace(SETTINGS, max_epochs=50)
    made = make_plan(open_training(), space, digits, settings=settings, timeout=1e6)
    assert made.fidelity == Fidelity(50, 1.0, 288)


@pytest.mark.usefixtures("speed")
def test_small_data_may_have_more_epochs_to_have_enough_steps(digits: Digits, space: Stages) -> None:
    assert plan(digits, space, timeout=1e6).epochs == 600 // (1150 // 64)


@pytest.mark.usefixtures("speed")
def test_what_is_set_stays(digits: Digits, space: Stages) -> None:
    assert plan(digits, space, timeout=600, epochs=5).epochs == 5
    assert plan(digits, space, timeout=600, data_share=0.5).data_share == 0.5
    assert plan(digits, space, timeout=600, validation_images=100).validation_images == 100


@pytest.mark.usefixtures("speed")
def test_images_for_rungs_are_paid_for_by_shorter_epochs(digits: Digits, space: Stages) -> None:
    given = {"timeout": 60, "validation_images": 50}
    made = plan(digits, space, **given, rung_images=288)
    assert made.rung_images == 288
    assert made.data_share < plan(digits, space, **given).data_share


def test_without_a_timeout_the_defaults_hold(digits: Digits, space: Stages) -> None:
    assert plan(digits, space, timeout=None) == Fidelity(20, 1.0, None)


@pytest.mark.usefixtures("speed")
def test_too_short_a_timeout_says_how_much_is_needed(digits: Digits, space: Stages) -> None:
    with pytest.raises(InputError, match=r"timeout: 1 s is too short.*Give at least"):
        plan(digits, space, timeout=1)


@pytest.mark.usefixtures("speed")
@pytest.mark.parametrize(("seconds", "epochs", "share"), [(1.5, 8, 0.12), (40, 25, 1.0), (1e6, 60, 1.0)])
def test_final_training_fills_its_time(digits: Digits, seconds: float, epochs: int, share: float) -> None:
    made = plan_final(open_training(), None, digits, seconds=seconds, settings=SETTINGS)
    assert made.epochs == epochs
    assert made.data_share == pytest.approx(share, abs=0.05)


def test_steps_are_timed_on_the_real_way(digits: Digits, space: Stages) -> None:
    import optuna

    measured = time_steps(make_training(), space(optuna.create_study().ask()), digits)
    assert 0 < measured.validation < measured.training


@pytest.mark.parametrize(
    "wrong",
    [
        {"full_trainings": 0},
        {"fewest_trainings": 21},
        {"passes": -1},
        {"search_share": 1.0},
        {"finalists_share": 0.5},
        {"max_epochs": 7},
    ],
)
def test_impossible_setting_is_named(wrong: dict[str, float]) -> None:
    settings = {
        "full_trainings": 20,
        "passes": 3,
        "fewest_trainings": 6,
        "search_share": 0.65,
        "finalists_share": 0.1,
        "min_epochs": 8,
        "max_epochs": 30,
    }
    with pytest.raises(InputError, match=f"plan.{next(iter(wrong))}"):
        PlanSettings(**(settings | wrong))


def test_networks_beyond_the_limits_are_not_timed(
    digits: Digits, space: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[Architecture] = []

    def remember(_: Training, architecture: Architecture, *others: object) -> Speed:
        timed.append(architecture)
        return Speed(training=1e-3, validation=2.5e-4)

    monkeypatch.setattr("nas_optuna.estimation.plan.time_steps", remember)

    def fits(architecture: Architecture) -> bool:
        return architecture.blocks[0].layer == "dwsep"

    make_plan(open_training(), space, digits, settings=SETTINGS, timeout=300, fits=fits)
    assert timed
    assert all(map(fits, timed))
