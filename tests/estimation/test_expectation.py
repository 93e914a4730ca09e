from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from nas_optuna.attributes import VOID
from nas_optuna.estimation import CurvePruner, LearningCurve, ParetoPruner
from nas_optuna.estimation.expectation import MOST_LEARNED, Expectation

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "depth": IntDistribution(1, 4),
    "layer": CategoricalDistribution(["conv", "dwsep", "pool"]),
}


def points(count: int, *, seed: int = 0) -> tuple[list[dict[str, float]], np.ndarray]:
    """Parameters, and what they are worth: noise aside it follows from them."""
    random = np.random.default_rng(seed)
    found = [
        {"depth": float(random.integers(1, 5)), "layer": float(random.integers(3))} for _ in range(count)
    ]
    worths = np.array([0.5 + 0.03 * point["depth"] - 0.1 * (point["layer"] == 2) for point in found])
    return found, worths + 0.01 * random.normal(size=count)


def test_worth_is_learned_from_parameters() -> None:
    expectation = Expectation()
    known, worths = points(60)
    expectation.learn(known, worths, DISTRIBUTIONS)
    new, true = points(60, seed=1)
    expected = [expectation.of(point) for point in new]
    assert np.corrcoef(expected, true)[0, 1] > 0.95


def test_a_point_does_not_count_for_itself() -> None:
    known, worths = points(40)
    expectation = Expectation()
    before = expectation.learn(known, worths, DISTRIBUTIONS)
    worths[7] += 0.05
    after = expectation.learn(known, worths, DISTRIBUTIONS)
    assert abs(after[7] - before[7]) < 0.005
    # another one with its parameters heeds it
    alike = next(index for index in range(40) if index != 7 and known[index] == known[7])
    assert after[alike] - before[alike] > 0.002


def test_of_many_points_the_latest_are_learned_from() -> None:
    known, worths = points(MOST_LEARNED + 50)
    expected = Expectation().learn(known, worths[50:], DISTRIBUTIONS)
    assert expected.shape == (MOST_LEARNED + 50,)
    assert np.corrcoef(expected[:50], worths[:50])[0, 1] > 0.9


def test_a_parameter_that_is_new_is_learned_as_well() -> None:
    known, worths = points(40)
    expectation = Expectation()
    expectation.learn(known, worths, DISTRIBUTIONS)
    wider = DISTRIBUTIONS | {"residual": CategoricalDistribution([True, False])}
    with_residual = [point | {"residual": float(index % 2)} for index, point in enumerate(known)]
    worths = worths - 0.2 * (np.arange(40) % 2)
    expectation.learn(with_residual, worths, wider)
    alike = {"depth": 2.0, "layer": 0.0}
    assert expectation.of(alike | {"residual": 0.0}) > expectation.of(alike | {"residual": 1.0}) + 0.1


def begun(study: optuna.Study, params: dict[str, Any], *, void: list[str] | None = None) -> LearningCurve:
    study.enqueue_trial(params, user_attrs={VOID: void} if void else {})
    return LearningCurve(study.ask(DISTRIBUTIONS), values=(None, 1.0))


def taught(pruner: Any, *, seed: int = 0) -> optuna.Study:
    """A study in which first epochs are chance, and parameters tell nearly all."""
    study = optuna.create_study(directions=["maximize", "minimize"], pruner=pruner)
    random = np.random.default_rng(seed)
    for point, worth in zip(*points(60), strict=True):
        distribution = DISTRIBUTIONS["layer"]
        curve = begun(
            study,
            {"depth": int(point["depth"]), "layer": distribution.to_external_repr(point["layer"])},
        )
        for epoch in range(1, 9):
            curve.report(worth if epoch == 8 else worth - 0.1 + 0.04 * random.normal(), epoch)
        study.tell(curve._trial, (worth, 1.0))
    return study


@pytest.mark.parametrize("pruner", [CurvePruner, ParetoPruner])
def test_of_equal_curves_the_one_with_the_poorer_parameters_is_stopped(pruner: Any) -> None:
    study = taught(pruner())
    decisions = {}
    for layer in ("conv", "pool"):
        curve = begun(study, {"depth": 4, "layer": layer})
        curve.report(0.47, 1)
        decisions[layer] = curve.should_prune()
    assert decisions == {"conv": False, "pool": True}


def test_void_parameters_tell_nothing() -> None:
    study = taught(ParetoPruner())
    decisions = []
    for void in (["layer"], None):
        curve = begun(study, {"depth": 4, "layer": "pool"}, void=void)
        curve.report(0.47, 1)
        decisions.append(curve.should_prune())
        study.tell(curve._trial, state=TrialState.FAIL)
    assert decisions == [False, True]
