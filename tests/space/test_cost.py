from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas_optuna.space import LAYERS, Architecture, Block, Head, Network, Stem, measure_costs, register_layer

FLOAT = 4


def costs_of(*blocks: Block, stem: int = 8, size: int = 16) -> object:
    return measure_costs(Architecture(Stem(stem), blocks), input_shape=(3, size, size), classes=10)


def test_totals_are_the_sums_of_the_parts() -> None:
    blocks = (Block("mbconv", 16, 2), Block("conv", 16, residual=True))
    costs = measure_costs(Architecture(Stem(8), blocks, Head(32)), input_shape=(3, 9, 9), classes=10)
    assert [layer.name for layer in costs.layers] == ["stem", "block1", "block2", "head"]
    assert [layer.output_shape for layer in costs.layers] == [(8, 9, 9), (16, 5, 5), (16, 5, 5), (10,)]
    for what in ("macs", "params", "size"):
        assert getattr(costs, what) == sum(getattr(layer, what) for layer in costs.layers)
    assert costs.memory == max(layer.memory for layer in costs.layers)


def test_peak_memory_of_a_standard_convolution_is_its_input_and_output() -> None:
    block = costs_of(Block("conv", 24)).layers[1]
    assert block.memory == FLOAT * 16 * 16 * (8 + 24)


def test_residual_connection_holds_the_input_while_the_layer_works() -> None:
    expanded, width = 48, 8
    plain, residual = (costs_of(Block("mbconv", width, residual=on)).layers[1].memory for on in (False, True))
    # the depthwise convolution reads and writes the expanded features
    assert plain == FLOAT * 16 * 16 * 2 * expanded
    assert residual == plain + FLOAT * 16 * 16 * width


def test_size_is_that_of_the_saved_state() -> None:
    architecture = Architecture(Stem(8), (Block("dwsep", 16, 2), Block("convnext", 16, residual=True)))
    state = Network(architecture, classes=10, mean=[0.5] * 3, std=[0.5] * 3).state_dict()
    costs = measure_costs(architecture, input_shape=(3, 8, 8), classes=10)
    assert costs.size == sum(tensor.numel() * tensor.element_size() for tensor in state.values())


class Attention(nn.Module):
    """Multiplications without a module of their own."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(in_channels, 3 * out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[2:]
        query, key, value = self.mix(features).flatten(2).mT.chunk(3, dim=2)
        mixed = torch.softmax(query @ key.mT, dim=-1) @ value
        attended: Tensor = nn.functional.scaled_dot_product_attention(mixed, key, value)
        return attended.mT.unflatten(2, (height, width))


def test_multiplications_of_a_foreign_module_are_counted() -> None:
    register_layer("attention", Attention)
    architecture = Architecture(Stem(8), (Block("attention", 8),))
    costs = measure_costs(architecture, input_shape=(3, 6, 6), classes=10)
    network = Network(architecture, classes=10, mean=[0.5] * 3, std=[0.5] * 3).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(1, 3, 6, 6))
    assert costs.macs == counter.get_total_flops() / 2


def test_layer_that_replaces_another_of_its_name_is_measured_anew() -> None:
    register_layer("changing", LAYERS["conv"].factory)
    first = costs_of(Block("changing", 8))
    register_layer("changing", LAYERS["dwsep"].factory)
    second = costs_of(Block("changing", 8))
    assert first.params > second.params
