"""What a search expects of each of our samplers, whatever its method."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import Trial, TrialState

import nas_optuna.strategy
from nas_optuna.strategy import EvolutionSampler, LocalSearchSampler
from nas_optuna.strategy.archive import Archive

NAMES = [sampler.__name__ for sampler in nas_optuna.strategy.SAMPLERS]
every_sampler = pytest.mark.parametrize("name", NAMES)


def make(name: str, seed: int = 0) -> optuna.samplers.BaseSampler:
    sampler: optuna.samplers.BaseSampler = getattr(nas_optuna.strategy, name)(seed=seed)
    return sampler


def layers(trial: Trial) -> list[int]:
    """Eight choices of three."""
    return [trial.suggest_categorical(f"layer{index}", [0, 1, 2]) for index in range(8)]


def quality(chosen: list[int]) -> float:
    """Best where choices alternate between 1 and 2; neighbours in the chain matter to one another."""
    target = [1, 2] * (len(chosen) // 2)
    hits = [a == b for a, b in zip(chosen, target, strict=True)]
    return sum(hits) + sum(a and b for a, b in itertools.pairwise(hits))


def points(study: optuna.Study) -> list[tuple[tuple[str, object], ...]]:
    return [tuple(sorted(trial.params.items())) for trial in study.trials]


@every_sampler
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_sampler_finds_more_than_random_ones(name: str, direction: str) -> None:
    sign = 1 if direction == "maximize" else -1

    def best(sampler: optuna.samplers.BaseSampler) -> float:
        study = optuna.create_study(sampler=sampler, direction=direction)
        study.optimize(lambda trial: sign * quality(layers(trial)), n_trials=60)
        return sign * study.best_value

    found = [best(make(name, seed)) for seed in range(5)]
    random = [best(optuna.samplers.RandomSampler(seed=seed)) for seed in range(5)]
    assert np.mean(found) > np.mean(random) + 2


@every_sampler
def test_sampler_finds_more_of_the_front_than_random_ones(name: str) -> None:
    def hypervolume(sampler: optuna.samplers.BaseSampler) -> float:
        study = optuna.create_study(sampler=sampler, directions=["maximize", "minimize"])

        def objective(trial: Trial) -> tuple[float, float]:
            chosen = layers(trial)
            return quality(chosen), sum(chosen)

        study.optimize(objective, n_trials=60)
        # area that the front dominates, up to a cost of 16
        best = [
            max((t.values[0] for t in study.trials if t.values[1] <= cost), default=0) for cost in range(16)
        ]
        return float(sum(best))

    found = [hypervolume(make(name, seed)) for seed in range(4)]
    random = [hypervolume(optuna.samplers.RandomSampler(seed=seed)) for seed in range(4)]
    assert np.mean(found) > 1.1 * np.mean(random)


@every_sampler
def test_sampler_asks_for_a_point_once(name: str) -> None:
    study = optuna.create_study(sampler=make(name))
    study.optimize(
        lambda trial: sum(trial.suggest_categorical(f"x{index}", [0, 1, 2]) for index in range(4)),
        n_trials=75,
    )
    # the first point is asked for blindly
    assert len(set(points(study))) >= 74


@every_sampler
def test_sampler_asks_for_a_conditional_point_once(name: str) -> None:
    study = optuna.create_study(sampler=make(name))

    def objective(trial: Trial) -> float:
        depth = trial.suggest_int("depth", 1, 3)
        return sum(trial.suggest_categorical(f"layer{index}", [0, 1, 2]) for index in range(depth))

    study.optimize(objective, n_trials=36)  # of 3 + 9 + 27
    # before the third layer is known it is drawn blindly
    assert len(set(points(study))) >= 34


@every_sampler
def test_sampler_goes_on_when_all_points_are_known(name: str) -> None:
    study = optuna.create_study(sampler=make(name))
    study.optimize(lambda trial: trial.suggest_categorical("x", [0, 1, 2]), n_trials=15)
    assert {trial.params["x"] for trial in study.trials} == {0, 1, 2}


@every_sampler
def test_workers_do_not_meet_at_one_point(name: str) -> None:
    study = optuna.create_study(sampler=make(name), direction="maximize")
    study.optimize(lambda trial: quality(layers(trial)), n_trials=20)
    for _ in range(8):
        layers(study.ask())
    assert len(set(points(study)[20:])) == 8


@every_sampler
def test_bad_trials_neither_trouble_a_sampler_nor_win(name: str) -> None:
    study = optuna.create_study(sampler=make(name), direction="maximize")

    def objective(trial: Trial) -> float:
        chosen = layers(trial)
        worth = quality(chosen)
        trial.report(100.0 + worth, 1)
        if trial.number % 5 == 0:
            raise ZeroDivisionError
        if trial.number % 5 == 1:
            return float("nan")
        if chosen[0] == 0:
            trial.set_constraint("limit", 1.0)
            return 1000.0
        trial.set_constraint("limit", -1.0)
        if trial.number % 5 == 2:
            raise optuna.TrialPruned
        return worth

    study.optimize(objective, n_trials=100, catch=(ZeroDivisionError,))
    feasible = [
        trial
        for trial in study.get_trials(states=(TrialState.COMPLETE,))
        if all(value <= 0 for value in trial.constraints.values())
    ]
    assert max(trial.value or 0.0 for trial in feasible) >= 8
    # most of what it asks for keeps to the limit
    late = study.trials[50:]
    assert sum(trial.params["layer0"] == 0 for trial in late) < len(late) / 3


@every_sampler
def test_sampler_learns_from_trials_that_are_all_infeasible(name: str) -> None:
    study = optuna.create_study(sampler=make(name), direction="maximize")

    def objective(trial: Trial) -> float:
        chosen = layers(trial)
        trial.set_constraint("limit", sum(chosen) - 2.0)
        return 0.0

    study.optimize(objective, n_trials=80)
    # of random ones one in 146: four of them would be found once in 430 times
    assert sum(trial.constraints["limit"] <= 0 for trial in study.trials) >= 4


@every_sampler
def test_sampler_goes_on_after_pickling(name: str) -> None:
    study = optuna.create_study(sampler=make(name), direction="maximize")
    study.optimize(lambda trial: quality(layers(trial)), n_trials=15)
    study.sampler = pickle.loads(pickle.dumps(study.sampler))
    study.optimize(lambda trial: quality(layers(trial)), n_trials=15)
    assert len(set(points(study))) >= 29


@every_sampler
def test_new_sampler_takes_up_a_study(name: str, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(sampler=make(name), direction="maximize", storage=storage, study_name="study")
    study.optimize(lambda trial: quality(layers(trial)), n_trials=30)
    later = optuna.load_study(study_name="study", storage=storage, sampler=make(name, seed=1))
    later.optimize(lambda trial: quality(layers(trial)), n_trials=30)
    values = [trial.value or 0.0 for trial in later.trials]
    assert np.mean(values[30:]) > np.mean(values[:10])
    assert len(set(points(later))) >= 59


@every_sampler
def test_same_seed_asks_for_the_same_points(name: str) -> None:
    def run(seed: int) -> list[tuple[tuple[str, object], ...]]:
        study = optuna.create_study(sampler=make(name, seed))
        study.optimize(lambda trial: -quality(layers(trial)), n_trials=25)
        return points(study)

    assert run(3) == run(3)
    assert run(3) != run(4)


@every_sampler
def test_numbers_of_every_kind_are_searched(name: str) -> None:
    def objective(trial: Trial) -> float:
        x = trial.suggest_float("x", -5.0, 5.0)
        rate = trial.suggest_float("rate", 1e-5, 1.0, log=True)
        width = trial.suggest_int("width", 8, 512, log=True)
        step = trial.suggest_float("step", 0.0, 1.0, step=0.1)
        kind = trial.suggest_categorical("kind", ["a", "b", "c"])
        return abs(x - 2) / 5 + abs(np.log10(rate) + 3) + abs(np.log2(width) - 6) + step + (kind != "b")

    def best(sampler: optuna.samplers.BaseSampler) -> float:
        study = optuna.create_study(sampler=sampler)
        study.optimize(objective, n_trials=100)
        return study.best_value

    found = [best(make(name, seed)) for seed in range(3)]
    random = [best(optuna.samplers.RandomSampler(seed=seed)) for seed in range(3)]
    assert np.mean(found) < 0.7 * np.mean(random)


def test_package_is_light() -> None:
    code = "import sys, nas_optuna.strategy; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_evolution_forgets_what_is_old() -> None:
    study = optuna.create_study(sampler=EvolutionSampler(population_size=5, sample_size=5, seed=0))

    def objective(trial: Trial) -> float:
        chosen = layers(trial)
        # the third trial was lucky
        return -100.0 if trial.number == 2 else float(sum(chosen))

    study.optimize(objective, n_trials=30)

    def distance(number: int) -> int:
        lucky = study.trials[2].params
        return sum(lucky[name] != value for name, value in study.trials[number].params.items())

    assert [distance(number) for number in (5, 6, 7)] == [1, 1, 1]
    # later parents are the lucky one's descendants: what they inherit is chosen anew
    assert max(distance(number) for number in range(20, 30)) > 2


def test_local_search_stays_until_no_neighbour_is_better() -> None:
    study = optuna.create_study(sampler=LocalSearchSampler(n_startup_trials=1, seed=0), direction="maximize")
    study.optimize(lambda trial: quality(layers(trial)), n_trials=40)
    centre = study.trials[0]
    restarts = 0
    for trial in study.trials[1:]:
        changed = sum(trial.params[name] != value for name, value in centre.params.items())
        if changed != 1:
            # all 16 neighbours were tried before it went elsewhere
            neighbours = [
                other
                for other in study.trials[: trial.number]
                if sum(other.params[name] != value for name, value in centre.params.items()) == 1
            ]
            assert len(neighbours) == 16
            restarts += 1
        if changed != 1 or (trial.value or 0) > (centre.value or 0):
            centre = trial
    assert restarts > 0


def test_network_stopped_on_its_way_counts_with_what_it_had_reached() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    trial.set_user_attr("known_values", [None, 5.0])
    trial.set_user_attr("curve", {"2": 0.4, "10": 0.6, "9": 0.5})
    study.tell(trial, state=TrialState.PRUNED)
    archive = Archive()
    archive.read(study, asking=1)
    (evaluation,) = archive.evaluations
    assert evaluation.stopped_at == (0.6, -5.0)
    assert evaluation.progress == (10, 0.6)
    assert not evaluation.is_feasible
    assert not archive.front
