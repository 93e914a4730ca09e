"""What sets the predictor apart from other samplers, and the arithmetic behind it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import Trial, create_trial
from scipy.optimize import check_grad
from scipy.stats import norm

from nas_optuna.strategy import SAMPLERS, Description, PointSampler, PredictorSampler, choose_sampler
from nas_optuna.strategy.encoding import Encoding
from nas_optuna.strategy.parameters import Parameter
from nas_optuna.strategy.predictor import _expected_gain, _log_expected_improvement, _normal_scores
from nas_optuna.strategy.surrogate import Component, GaussianProcess

OPERATIONS = ("none", "skip", "conv")


def operations(trial: Trial) -> list[str]:
    return [trial.suggest_categorical(f"edge{index}", OPERATIONS) for index in range(6)]


def describe(values: Mapping[str, Any]) -> Description:
    """Edges commute: only how many of each there are matters; four convolutions are too many."""
    chosen = tuple(sorted(values.values()))
    return Description(chosen, (float(chosen.count("conv")),), chosen.count("conv") < 4)


every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.__name__)


@every_sampler
def test_described_sampler_asks_for_equal_points_once(sampler: type[PointSampler]) -> None:
    study = optuna.create_study(sampler=sampler(seed=0, describe=describe))
    study.optimize(lambda trial: operations(trial).count("skip"), n_trials=18)
    chosen = [tuple(sorted(trial.params.values())) for trial in study.trials]
    # there are 22 allowed ones; the first is asked for blindly
    assert len(set(chosen)) >= 17


@every_sampler
def test_described_sampler_keeps_to_the_limits(sampler: type[PointSampler]) -> None:
    study = optuna.create_study(sampler=sampler(seed=0, describe=describe), direction="maximize")
    study.optimize(lambda trial: operations(trial).count("conv"), n_trials=18)
    assert all(list(trial.params.values()).count("conv") < 4 for trial in study.trials[1:])


def test_features_tell_what_parameters_hide() -> None:
    random = np.random.default_rng(0)
    hidden = dict(zip(itertools.product(range(4), repeat=5), random.random(4**5), strict=True))

    def worth(values: Mapping[str, Any]) -> float:
        return float(hidden[tuple(values[f"x{index}"] for index in range(5))])

    def objective(trial: Trial) -> float:
        return worth({f"x{index}": trial.suggest_categorical(f"x{index}", range(4)) for index in range(5)})

    def best(told: bool) -> float:
        found = []
        for seed in range(4):
            sampler = PredictorSampler(
                seed=seed,
                describe=lambda values: Description(
                    tuple(sorted(values.items())), (worth(values) if told else 0.0,)
                ),
            )
            study = optuna.create_study(sampler=sampler, direction="maximize")
            study.optimize(objective, n_trials=20)
            found.append(study.best_value)
        return float(np.mean(found))

    assert best(told=True) > 0.99 > best(told=False)


def test_void_parameters_tell_nothing() -> None:
    numbers, idle = ("x", "y"), ("a", "b", "c")
    distributions: dict[str, BaseDistribution] = {
        **{name: FloatDistribution(0.0, 1.0) for name in numbers},
        **{name: CategoricalDistribution(OPERATIONS) for name in idle},
    }

    def asked(void: frozenset[str], *, seed: int) -> list[float]:
        """What is asked for after 20 trials; the seed is that of the idle parameters."""
        random, chance = np.random.default_rng(0), np.random.default_rng(seed)
        sampler = PredictorSampler(
            seed=0,
            describe=lambda values: Description(tuple(values[name] for name in numbers), void=void),
        )
        study = optuna.create_study(sampler=sampler, direction="maximize")
        for _ in range(20):
            params: dict[str, Any] = {name: float(random.random()) for name in numbers}
            worth = -abs(params["x"] - 0.3) - abs(params["y"] - 0.6)
            params |= {name: str(chance.choice(OPERATIONS)) for name in idle}
            study.add_trial(create_trial(params=params, distributions=distributions, value=worth))
        trial = study.ask(distributions)
        return [trial.params[name] for name in numbers]

    assert asked(frozenset(idle), seed=1) == asked(frozenset(idle), seed=2)
    assert asked(frozenset(), seed=1) != asked(frozenset(), seed=2)


def test_outlier_does_not_hide_what_matters() -> None:
    def reached(outlier: float) -> float:
        study = optuna.create_study(sampler=PredictorSampler(seed=0), direction="maximize")

        def objective(trial: Trial) -> float:
            return outlier if trial.number == 3 else float(operations(trial).count("conv"))

        study.optimize(objective, n_trials=30)
        return study.best_value

    assert reached(-1e12) == reached(-1.0) == 6.0


def test_fast_goal_begins_sooner() -> None:
    def first_steps(goal: str) -> int:
        sampler = PredictorSampler(seed=0, goal=goal)
        study = optuna.create_study(sampler=sampler, direction="maximize")
        calls = []
        propose = sampler._propose
        sampler._propose = lambda parameters: calls.append(len(study.trials)) or propose(parameters)
        study.optimize(lambda trial: operations(trial).count("conv"), n_trials=15)
        return calls[0] - 1

    assert (first_steps("fast"), first_steps("best")) == (5, 10)


def test_many_workers_do_not_wait_for_all_random_points() -> None:
    study = optuna.create_study(sampler=PredictorSampler(seed=0), direction="maximize")
    calls = []
    sampler = study.sampler
    assert isinstance(sampler, PredictorSampler)
    propose = sampler._propose
    sampler._propose = lambda parameters: calls.append(len(study.trials)) or propose(parameters)
    running = []
    for _ in range(16):
        trial = study.ask()
        running.append((trial, operations(trial).count("conv")))
        if len(running) == 8:
            study.tell(*running.pop(0))
    # five of ten were known when the thirteenth was asked for
    assert calls == [13, 14, 15, 16]


def test_points_that_run_leave_predictions_as_they_are_and_less_to_learn() -> None:
    sampler = PredictorSampler(seed=0)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.optimize(lambda trial: operations(trial).count("conv"), n_trials=20)
    for _ in range(8):
        operations(study.ask())
    process = sampler._processes["value"]
    mean, deviation = process.predict(sampler._offered)
    scores = _normal_scores([evaluation.standing for evaluation in sampler._archive.evaluations])
    process.fit(sampler._known, scores, learn=False)
    mean_of_known, deviation_of_known = process.predict(sampler._offered)
    np.testing.assert_allclose(mean, mean_of_known, atol=0.05)
    assert (deviation < deviation_of_known).all()


@pytest.mark.parametrize(("n_trials", "startup"), [(None, 5), (25, 5), (26, 10)])
def test_budget_decides_the_goal(n_trials: int | None, startup: int) -> None:
    assert choose_sampler(n_trials=n_trials)._n_startup_trials == startup


def test_bolder_predictor_tries_what_is_less_certain() -> None:
    mean, deviation = np.array([1.0, 0.5]), np.array([0.1, 1.0])
    bold = _log_expected_improvement(mean, deviation, 1.0)
    careful = _log_expected_improvement(mean, 0.2 * deviation, 1.0)
    assert bold[1] > bold[0]
    assert careful[0] > careful[1]


def test_expected_improvement_is_that_of_the_formula() -> None:
    mean, deviation = np.linspace(-8, 3, 13), np.full(13, 0.7)
    z = (mean - 0.4) / deviation
    expected = deviation * (z * norm.cdf(z) + norm.pdf(z))
    assert np.exp(_log_expected_improvement(mean, deviation, 0.4)) == pytest.approx(expected, rel=1e-6, abs=0)


def test_improvement_that_is_next_to_impossible_still_has_an_order() -> None:
    places = np.array([-4.9, -5.1, -50.0, -999.0, -1001.0, -1e5])
    far = _log_expected_improvement(places, np.ones(6), 0.0)
    assert np.isfinite(far).all()
    assert (np.diff(far) < 0).all()


def test_improvement_that_is_certain_is_the_difference() -> None:
    certain = _log_expected_improvement(np.array([2.0]), np.array([1e-6]), 1.0)
    assert np.exp(certain) == pytest.approx(1.0)


def test_gain_is_that_of_the_hypervolume() -> None:
    scores = np.array([[0.0, 3.0], [1.0, 2.0], [3.0, 0.0]])
    candidates = np.array([[2.0, 2.0], [2.0, 1.5], [1.0, 1.0], [3.5, 3.5]])
    low = scores.min(axis=0) - 0.1 * 3

    def volume(points: np.ndarray[Any, Any]) -> float:
        grid = np.stack(np.meshgrid(*(np.linspace(edge, 4, 400) for edge in low)), axis=-1)
        return float((points[:, None, None] >= grid).all(axis=-1).any(axis=0).mean())

    true = [volume(np.vstack([scores, candidate])) - volume(scores) for candidate in candidates]
    gains = np.mean(
        [
            _expected_gain(candidates, np.zeros((4, 2)), scores, np.random.default_rng(seed))
            for seed in range(20)
        ],
        axis=0,
    )
    assert gains[2] == 0.0 == true[2]
    assert gains / gains[3] == pytest.approx(np.array(true) / true[3], abs=0.03)


def test_normal_scores_keep_order_and_ties() -> None:
    scores = _normal_scores([(3.0, 0.2), (2.0,), (3.0, 0.9), (2.0,), (3.0, -1e9)])
    assert scores[1] == scores[3] < scores[4] < scores[0] < scores[2]
    assert scores[2] == pytest.approx(norm.ppf(0.9))


def make_process() -> GaussianProcess:
    return GaussianProcess(
        [
            Component(np.array([0, 0, 1, 2]), np.full(3, 0.4)),
            Component(np.array([0, 1]), np.full(2, 0.1)),
        ]
    )


def sample(count: int) -> tuple[list[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    inputs = [random.random((count, 4)), random.normal(size=(count, 2))]
    return inputs, np.sin(3 * inputs[0][:, 0]) + inputs[1][:, 1]


def test_gradient_of_the_surrogate_is_exact() -> None:
    process = make_process()
    inputs, targets = sample(25)
    distances = process._distances(inputs)
    for shift in (-0.5, 0.0, 0.7):
        error = check_grad(
            lambda parameters: process._loss(parameters, distances, targets)[0],
            lambda parameters: process._loss(parameters, distances, targets)[1],
            process._usual + shift,
        )
        assert error < 1e-3


def test_surrogate_predicts_what_it_has_not_seen() -> None:
    process = make_process()
    inputs, targets = sample(120)
    process.fit([part[:90] for part in inputs], targets[:90])
    mean, deviation = process.predict([part[90:] for part in inputs])
    assert np.corrcoef(mean, targets[90:])[0, 1] > 0.95
    # it knows how far off it may be
    assert np.mean(np.abs(mean - targets[90:]) < 3 * deviation + 0.1) > 0.9


def test_surrogate_is_less_sure_where_it_knows_nothing() -> None:
    process = make_process()
    inputs, targets = sample(60)
    process.fit(inputs, targets)
    near, far = process.predict(inputs)[1], process.predict([part + 10 for part in inputs])[1]
    assert far.min() > near.max()


def test_surrogate_takes_noise_for_noise() -> None:
    random = np.random.default_rng(1)
    inputs, targets = sample(150)
    process = make_process()
    process.fit(inputs, targets + random.normal(scale=1.0, size=150))
    mean, _ = process.predict(inputs)
    # nearer to the truth than what it was told
    assert np.mean((mean - targets) ** 2) < 0.5


def test_points_are_near_where_they_agree() -> None:
    distribution = optuna.distributions.CategoricalDistribution(("a", "b", "c"))
    parameters = {
        "kind": Parameter(distribution),
        "width": Parameter(optuna.distributions.IntDistribution(8, 64, step=8)),
    }
    encoding = Encoding(parameters)
    points = [
        {"kind": 0.0, "width": 8.0},
        {"kind": 1.0, "width": 8.0},
        {"kind": 2.0, "width": 8.0},
        {"kind": 0.0, "width": 16.0},
        {"kind": 0.0, "width": 64.0},
        {"width": 8.0},
    ]
    (columns,) = encoding(encoding.values(points), np.zeros((6, 0)))
    distances = ((columns[:1] - columns) ** 2).sum(axis=1)
    assert distances[1] == pytest.approx(distances[2]) == pytest.approx(1.0)
    assert 0 < distances[3] < distances[4] == pytest.approx(1.0)
    # without a value it is between all of them
    assert 0 < distances[5] < 1


def test_counts_of_alike_parameters_are_seen() -> None:
    distribution = optuna.distributions.CategoricalDistribution(OPERATIONS)
    encoding = Encoding({f"edge{index}": Parameter(distribution) for index in range(4)})
    values = encoding.values(
        [
            {f"edge{index}": float(option) for index, option in enumerate(row)}
            for row in ("0012", "2100", "2222")
        ]
    )
    encoding.standardize(values, np.zeros((3, 0)))
    together = encoding(values, np.zeros((3, 0)))[1]
    assert (together[0] == together[1]).all()
    assert (together[0] != together[2]).any()
