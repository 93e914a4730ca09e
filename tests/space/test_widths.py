"""The same network with other widths."""

from __future__ import annotations

import optuna
import pytest
import torch
from conftest import make_space

from nas_optuna.space import Architecture, Block, Head, Network, Stem, measure_costs
from nas_optuna.space.widths import scale_widths


def test_all_widths_are_multiplied() -> None:
    network = Architecture(Stem(16), (Block("conv", 32), Block("dwsep", 64, 2)), Head(128))
    half = scale_widths(network, 0.5)
    assert (half.stem.width, [block.width for block in half.blocks], half.head.width) == (8, [16, 32], 64)


def test_widths_stay_what_groups_need() -> None:
    blocks = (Block("groupconv", 16, choices={"groups": 4}), Block("groupconv", 24, choices={"groups": 8}))
    quarter = scale_widths(Architecture(Stem(16), blocks), 0.25)
    quarter.check()
    assert [quarter.stem.width, *(block.width for block in quarter.blocks)] == [8, 8, 8]


def test_head_without_a_convolution_stays_so() -> None:
    assert scale_widths(Architecture(Stem(16), (), Head(norm=True)), 0.5).head == Head(norm=True)


@pytest.mark.parametrize("factor", [0.1, 0.5])
@pytest.mark.parametrize(
    "layer", ["conv", "groupconv", "mbconv", "bottleneck", "convnext", "maxpool", "identity"]
)
def test_every_layer_runs_narrower_for_less(layer: str, factor: float) -> None:
    space = make_space(layer=[layer])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    whole = space(study.ask()).canonical()
    narrow = scale_widths(whole, factor)
    logits = Network(narrow, classes=4, mean=[0.5], std=[0.5])(torch.rand(2, 1, 8, 8))
    assert logits.shape == (2, 4)
    costs = [measure_costs(found, input_shape=(1, 8, 8), classes=4) for found in (narrow, whole)]
    assert costs[0].macs < costs[1].macs
