"""Optuna's samplers that need the flat space beforehand, or that end by themselves, get along with ours."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
from conftest import make_space
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, BruteForceSampler, GPSampler, GridSampler, QMCSampler, TPESampler

from nas_optuna.space import NasBenchMacro, Space, Stages, measure_costs


def grid(space: Space) -> GridSampler:
    options = {}
    for name, found in space.distributions().items():
        if isinstance(found, CategoricalDistribution):
            options[name] = list(found.choices)
        else:
            assert isinstance(found, IntDistribution)
            options[name] = list(range(found.low, found.high + 1, found.step))
    return GridSampler(options, seed=0)


def macs(space: Space) -> Callable[[optuna.Trial], float]:
    return lambda trial: measure_costs(space(trial), input_shape=(3, 8, 8), classes=10).macs


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    "make",
    [
        grid,
        lambda space: GPSampler(seed=0, n_startup_trials=2),
        lambda space: QMCSampler(seed=0, warn_independent_sampling=False),
        lambda space: TPESampler(seed=0, multivariate=True, n_startup_trials=2),
    ],
    ids=["grid", "gp", "qmc", "tpe"],
)
def test_sampler_walks_the_flat_space(make: Callable[[Space], BaseSampler]) -> None:
    space = NasBenchMacro()
    study = optuna.create_study(sampler=make(space))
    study.optimize(macs(space), n_trials=6)
    assert len(study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))) == 6
    assert all(trial.distributions == space.distributions() for trial in study.trials)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("encoding", ["flat", "conditional"])
def test_brute_force_goes_through_every_network_and_ends(encoding: str) -> None:
    stages = {"only": {"depth": {"low": 1, "high": 2}, "width": 8, "stride": 1}}
    block = {"layer": ["conv", "dwsep"], "kernel": 3, "residual": False}
    stem = {"width": 8, "kernel": 3, "stride": 1}
    space = Stages(stem=stem, stages=stages, block=block, encoding=encoding)
    study = optuna.create_study(sampler=BruteForceSampler(seed=0))
    seen = set()

    def objective(trial: optuna.Trial) -> float:
        seen.add(space(trial).hash)
        return 0.0

    study.optimize(objective, n_trials=100)
    assert len(seen) == space.size().networks == 6
    # conditional: 2 chains of one block, 4 of two; flat asks for the second block in any case
    assert len(study.trials) == {"conditional": 6, "flat": 8}[encoding]


def test_a_study_of_a_space_is_read_by_plain_optuna() -> None:
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="plain")
    space = make_space()
    study.optimize(macs(space), n_trials=3)
    loaded = optuna.load_study(study_name="plain", storage=storage)
    assert space.at(loaded.best_params).hash == space.at(study.best_trial.params).hash
