from __future__ import annotations

import pytest

from nas_optuna.errors import InputError
from nas_optuna.estimation import COSTS, Objectives
from nas_optuna.space import Architecture, Block, Costs, Stem, measure_costs


@pytest.fixture
def costs() -> Costs:
    return measure_costs(Architecture(Stem(8), (Block("dwsep", 16, 2),)), input_shape=(3, 8, 8), classes=10)


@pytest.mark.parametrize("cost", COSTS)
def test_every_cost_can_be_an_objective(cost: str, costs: Costs) -> None:
    objectives = Objectives(directions={cost: "minimize", "accuracy": "maximize"})
    assert objectives.values(accuracy=0.5, measures=vars(costs)) == (float(getattr(costs, cost)), 0.5)


@pytest.mark.parametrize("cost", COSTS)
def test_every_cost_can_be_limited(cost: str, costs: Costs) -> None:
    value = getattr(costs, cost)
    for limit, fits in ((value, True), (value - 1, False)):
        excess = Objectives(directions={"accuracy": "maximize"}, limits={cost: limit}).excess(vars(costs))
        assert (excess[cost] <= 0) is fits


def test_unknown_cost_lists_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"objective\.limits: 'flops' is unknown; known: macs, params, memory, size"
    ):
        Objectives(directions={"accuracy": "maximize"}, limits={"flops": 1})
