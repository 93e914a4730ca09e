"""What Optuna asks of every sampler, asked of ours."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

import nas_optuna.strategy
from nas_optuna.strategy import EvolutionSampler, GatedSampler


def behind_a_gate(make: Callable[..., BaseSampler]) -> Callable[..., BaseSampler]:
    return lambda **options: GatedSampler(make(**options), score=len, candidates=2)


def joint(seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(multivariate=True, seed=seed)


# a gate before one that draws independently, one that does not, and one of ours
GATED = {"RandomSampler": RandomSampler, "TPESampler": joint, "EvolutionSampler": EvolutionSampler}
SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    **{sampler.__name__: sampler for sampler in nas_optuna.strategy.SAMPLERS},
    **{f"gate before {name}": behind_a_gate(sampler) for name, sampler in GATED.items()},
}


class OurSampler:
    @pytest.fixture(params=SAMPLERS.values(), ids=SAMPLERS)
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return lambda: request.param(seed=0)


class TestBasic(OurSampler, BasicSamplerTestCase):
    pass


class TestRelative(OurSampler, RelativeSamplerTestCase):
    pass


class TestMultiObjective(OurSampler, MultiObjectiveSamplerTestCase):
    pass
