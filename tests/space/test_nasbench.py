from __future__ import annotations

import pytest

from nas_optuna.space import NasBench201, NasBenchMacro, measure_costs


@pytest.mark.parametrize(
    ("layers", "params", "macs"),
    # from the published table
    [
        ("00000000", 387_882, 7_713_280),
        ("02012100", 890_666, 47_327_744),
        ("11111221", 2_181_386, 65_012_224),
        ("22222222", 2_932_586, 105_660_928),
    ],
)
def test_nasbench_macro_has_the_published_costs(layers: str, params: int, macs: int) -> None:
    architecture = NasBenchMacro().at({f"layer{i}": int(digit) for i, digit in enumerate(layers, start=1)})
    costs = measure_costs(architecture, input_shape=(3, 32, 32), classes=10)
    assert (costs.params, costs.macs) == (params, macs)


def test_nasbench_macro_has_the_published_number_of_distinct_networks() -> None:
    space = NasBenchMacro()
    assert (space.points, space.size().networks) == (6561, 3969)


def test_identity_commutes_within_a_stage() -> None:
    space = NasBenchMacro()
    first, second = (
        space.at(dict(zip(space.decisions, map(int, digits), strict=True)))
        for digits in ("11120111", "11102111")
    )
    assert first != second
    assert first.hash == second.hash


@pytest.mark.parametrize(
    ("operations", "params"),
    # from the published table: cells 0 and 1
    [
        (("avgpool3x3", "conv1x1", "skip", "conv1x1", "skip", "skip"), 129_306),
        (("conv3x3", "conv3x3", "avgpool3x3", "skip", "conv3x3", "skip"), 802_426),
    ],
)
def test_nasbench201_has_the_published_parameters(operations: tuple[str, ...], params: int) -> None:
    space = NasBench201()
    architecture = space.at(dict(zip(space.decisions, operations, strict=True)))
    assert measure_costs(architecture, input_shape=(3, 32, 32), classes=10).params == params
