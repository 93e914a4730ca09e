"""What Optuna asks of every sampler, asked of ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

import nas_optuna.strategy

SAMPLERS = nas_optuna.strategy.SAMPLERS


class OurSampler:
    @pytest.fixture(params=SAMPLERS, ids=lambda sampler: sampler.__name__)
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return lambda: request.param(seed=0)


class TestBasic(OurSampler, BasicSamplerTestCase):
    pass


class TestRelative(OurSampler, RelativeSamplerTestCase):
    pass


class TestMultiObjective(OurSampler, MultiObjectiveSamplerTestCase):
    pass
