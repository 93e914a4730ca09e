"""The race of the best few: who is trained again, and who is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from nas_optuna.results.race import Race, close, leader, plan_race

RACE = Race(fewest=2, most=5, trainings=15)


def run(race: Race, train: Callable[[int], float], finalists: int = 3) -> dict[int, list[float]]:
    """A race to its end."""
    fresh: dict[int, list[float]] = {number: [] for number in range(finalists)}
    while (number := race.next(fresh)) is not None:
        fresh[number].append(train(number))
    return fresh


def noisy(means: Sequence[float], noise: float, seed: int = 0) -> Callable[[int], float]:
    random = np.random.default_rng(seed)
    return lambda number: means[number] + noise * float(random.normal())


def told(values: dict[int, list[float]]) -> Callable[[int], float]:
    ahead = {number: iter(accuracies) for number, accuracies in values.items()}
    return lambda number: next(ahead[number])


def test_every_network_has_its_first_seed_before_one_has_its_second() -> None:
    order: list[int] = []

    def train(number: int) -> float:
        order.append(number)
        return 0.5

    run(Race(fewest=2, most=2, trainings=6), train)
    assert order == [0, 1, 2, 0, 1, 2]


def test_clear_winner_is_named_without_another_training() -> None:
    fresh = run(RACE, noisy((0.9, 0.5, 0.5), 0.001))
    assert sum(map(len, fresh.values())) == 6
    assert leader(fresh) == 0


def test_close_ones_alone_are_trained_more_often() -> None:
    fresh = run(RACE, told({0: [0.80, 0.82, 0.81, 0.81, 0.81], 1: [0.81, 0.81] * 3, 2: [0.5, 0.5]}))
    assert {number: len(values) for number, values in fresh.items()} == {0: 5, 1: 5, 2: 2}


@pytest.mark.parametrize("trainings", [6, 7, 9, 15])
def test_race_of_equals_spends_what_there_is_and_no_more(trainings: int) -> None:
    fresh = run(Race(fewest=2, most=5, trainings=trainings), lambda number: 0.5)
    assert sum(map(len, fresh.values())) == trainings


def test_race_goes_on_where_it_was_interrupted() -> None:
    train = noisy((0.80, 0.81, 0.82), 0.02)
    whole = run(RACE, train)
    known: dict[int, list[float]] = {number: values[:1] for number, values in whole.items()}
    while (number := RACE.next(known)) is not None:
        known[number].append(whole[number][len(known[number])])
    assert known == whole


def test_new_network_is_trained_whatever_an_earlier_run_spent_on_others() -> None:
    fresh = {0: [], 1: [0.8] * 5, 2: [0.8] * 5}
    race = Race(fewest=1, most=1, trainings=3)
    assert race.next(fresh) == 0
    assert race.next(fresh | {0: [0.5]}) is None


def test_of_equal_means_the_best_of_the_search_is_named() -> None:
    assert leader({7: [0.5, 0.7], 3: [0.6, 0.6]}) == 7


def test_single_trainings_tell_nothing_about_noise() -> None:
    assert close({0: [0.9], 1: [0.1]}) == [0, 1]


def test_longer_race_names_the_best_more_often() -> None:
    means, named = (0.800, 0.805, 0.810), {2: 0, 5: 0}
    for most in named:
        for seed in range(200):
            race = Race(fewest=2, most=most, trainings=3 * most)
            named[most] += leader(run(race, noisy(means, 0.01, seed))) == 2
    assert named[5] > named[2] + 10


@pytest.mark.parametrize(
    ("affordable", "trials", "expected"),
    [
        (None, None, (3, Race(2, 5, 15))),
        (None, 30, (3, Race(2, 2, 6))),
        (None, 100, (3, Race(2, 5, 10))),
        (None, 1000, (3, Race(2, 5, 15))),
        (1, None, (1, Race(1, 1, 1))),
        (0, None, (1, Race(0, 0, 0))),
        (4, None, (3, Race(1, 2, 4))),
    ],
)
def test_race_is_as_long_as_the_budget_allows(
    affordable: int | None, trials: int | None, expected: tuple[int, Race]
) -> None:
    assert plan_race(3, affordable=affordable, trials=trials, share=0.1) == expected
