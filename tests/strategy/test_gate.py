"""The gate: which of several candidates of another strategy is proposed."""

from __future__ import annotations

import math
import pickle
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, BruteForceSampler, GridSampler, RandomSampler

from nas_optuna.errors import InputError
from nas_optuna.strategy import EvolutionSampler, GatedSampler, LocalSearchSampler, PredictorSampler

STRATEGIES: dict[str, Callable[[], BaseSampler]] = {
    "evolution": lambda: EvolutionSampler(population_size=3, sample_size=2, seed=0),
    "local": lambda: LocalSearchSampler(n_startup_trials=3, seed=0),
    "predictor": lambda: PredictorSampler(n_startup_trials=3, seed=0),
    "random": lambda: RandomSampler(seed=0),
    "tpe": lambda: optuna.samplers.TPESampler(multivariate=True, n_startup_trials=3, seed=0),
    "gp": lambda: optuna.samplers.GPSampler(n_startup_trials=3, seed=0),
    "nsga2": lambda: optuna.samplers.NSGAIISampler(population_size=3, seed=0),
    "cmaes": lambda: optuna.samplers.CmaEsSampler(n_startup_trials=3, seed=0),
    "qmc": lambda: optuna.samplers.QMCSampler(seed=0),
}


def sum_of(trial: optuna.Trial) -> float:
    return sum(trial.suggest_float(name, 0.0, 1.0) for name in ("x", "y"))


class Score:
    """Remembers what it was asked."""

    def __init__(self, score: Callable[[Mapping[str, Any]], float]) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self._score = score

    def __call__(self, point: Mapping[str, Any]) -> float:
        self.asked.append(point)
        return self._score(point)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_best_of_the_candidates_of_every_strategy_is_proposed(strategy: str) -> None:
    score = Score(lambda point: point["x"] - point["y"])
    sampler = GatedSampler(STRATEGIES[strategy](), score=score, candidates=3)
    study = optuna.create_study(sampler=sampler)
    study.optimize(sum_of, n_trials=8)
    assert len(score.asked) == 3 * 7  # at the first nothing was known of the space
    for number, trial in enumerate(study.trials[1:]):
        candidates = score.asked[3 * number : 3 * number + 3]
        assert trial.params == max(candidates, key=lambda point: point["x"] - point["y"])


def test_first_trial_is_gated_where_the_space_is_known() -> None:
    space = {name: FloatDistribution(0.0, 1.0) for name in ("x", "y")}
    score = Score(lambda point: point["x"])
    sampler = GatedSampler(RandomSampler(seed=0), score=score, distributions=space)
    study = optuna.create_study(sampler=sampler)
    study.optimize(sum_of, n_trials=1)
    assert study.trials[0].params == max(score.asked, key=lambda point: point["x"])


def test_nan_is_the_least() -> None:
    sampler = GatedSampler(
        RandomSampler(seed=0), score=lambda point: math.nan if point["x"] > 0.5 else point["x"], candidates=20
    )
    study = optuna.create_study(sampler=sampler)
    study.optimize(sum_of, n_trials=10)
    assert all(trial.params["x"] <= 0.5 for trial in study.trials[1:])


def test_parameters_that_depend_on_others_are_gated_as_well() -> None:
    def objective(trial: optuna.Trial) -> float:
        kind = trial.suggest_categorical("kind", ["a", "b"])
        return trial.suggest_float(f"of {kind}", 0.0, 1.0)

    sampler = GatedSampler(
        RandomSampler(seed=0),
        score=lambda point: point[f"of {point['kind']}"],
        candidates=8,
        distributions={
            "kind": CategoricalDistribution(["a", "b"]),
            **{f"of {kind}": FloatDistribution(0.0, 1.0) for kind in ("a", "b")},
        },
    )
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=30)
    # the largest of eight has a mean of 8 / 9
    assert statistics.fmean(trial.values[0] for trial in study.trials) > 0.8
    assert all(len(trial.params) == 2 for trial in study.trials)


def test_fixed_parameters_stay() -> None:
    study = optuna.create_study(sampler=GatedSampler(RandomSampler(seed=0), score=len))
    study.optimize(sum_of, n_trials=2)
    study.enqueue_trial({"x": 0.25, "y": 0.75})
    study.optimize(sum_of, n_trials=1)
    assert study.trials[-1].params == {"x": 0.25, "y": 0.75}


def test_gate_goes_to_another_process() -> None:
    sampler = pickle.loads(pickle.dumps(GatedSampler(RandomSampler(seed=0), score=len)))
    study = optuna.create_study(sampler=sampler)
    study.optimize(sum_of, n_trials=3)
    assert len(study.trials) == 3


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("make", [BruteForceSampler, lambda: GridSampler({"x": [0.0]})])
def test_lists_of_points_are_refused(make: Callable[[], BaseSampler]) -> None:
    with pytest.raises(InputError, match=r"proxies\.gate: (BruteForce|Grid)Sampler"):
        GatedSampler(make(), score=len)


@pytest.mark.parametrize("candidates", [1, 0, 2.5, "many"])
def test_candidates_are_two_or_more(candidates: Any) -> None:
    with pytest.raises(InputError, match=r"proxies\.candidates"):
        GatedSampler(RandomSampler(), score=len, candidates=candidates)
