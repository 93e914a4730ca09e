from __future__ import annotations

import itertools
import json

import optuna
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nas_optuna.space import LAYERS, Architecture, Block, Network, ResConv, Stem, measure_costs


def build(architecture: Architecture, channels: int = 3) -> Network:
    return Network(architecture, classes=10, mean=[0.5] * channels, std=[0.25] * channels)


def random_architectures(space: ResConv, count: int) -> list[Architecture]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space(study.ask()) for _ in range(count)]


@pytest.mark.parametrize("size", [1, 2, 7, 8, 33])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_every_layer_trains_at_any_size(layer: str, residual: bool, size: int) -> None:
    blocks = tuple(
        Block(layer, width, kernel, stride, residual)
        for width, kernel, stride in ((8, 3, 1), (12, 5, 2), (12, 3, 1), (16, 1, 2), (16, 7, 2))
    )
    network = build(Architecture(Stem(8), blocks))
    logits = network(torch.rand(2, 3, size, size))
    assert logits.shape == (2, 10)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_layer_halves_the_size_at_stride_two_rounding_up(layer: str) -> None:
    output = LAYERS[layer](4, 6, 3, 2)(torch.rand(2, 4, 9, 8))
    assert output.shape == (2, 6, 5, 4)


def test_depthwise_separable_needs_the_published_part_of_a_standard_convolution() -> None:
    # Howard et al. 2017, section 3.1; norms are left out, as there
    for width, kernel in itertools.product((8, 16, 64), (3, 5, 7)):
        convolutions = {
            name: sum(
                weight.numel()
                for weight in LAYERS[name](width, width, kernel, 1).parameters()
                if weight.ndim > 1
            )
            for name in ("conv", "dwsep")
        }
        assert convolutions["dwsep"] / convolutions["conv"] == pytest.approx(1 / width + 1 / kernel**2)


def test_residual_adds_the_input() -> None:
    torch.manual_seed(0)
    network = build(Architecture(Stem(8), (Block("conv", 8, 3, residual=True),))).eval()
    block = network.blocks[0]
    features = torch.rand(2, 8, 5, 5)
    expected = torch.relu(block[0].layer(features) + features)
    torch.testing.assert_close(block(features), expected)


def test_residual_projects_where_shapes_differ() -> None:
    network = build(Architecture(Stem(8), (Block("conv", 12, 3, stride=2, residual=True),)))
    shortcut = network.blocks[0][0].shortcut
    assert shortcut(torch.rand(2, 8, 9, 9)).shape == (2, 12, 5, 5)


def test_network_normalises_its_input() -> None:
    network = build(Architecture(Stem(8), ())).eval()
    seen = []
    network.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.full((1, 3, 4, 4), 0.75))
    torch.testing.assert_close(seen[0], torch.ones(1, 3, 4, 4))


def test_costs_equal_an_independent_counter(space: ResConv) -> None:
    for architecture in random_architectures(space, 20):
        costs = measure_costs(architecture, input_shape=(3, 17, 17), classes=10)
        network = build(architecture).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.rand(1, 3, 17, 17))
        # torch counts a multiplication and an addition as two
        assert costs.macs == counter.get_total_flops() / 2
        assert costs.params == sum(parameter.numel() for parameter in network.parameters())


def test_architecture_survives_json(space: ResConv) -> None:
    for architecture in random_architectures(space, 20):
        copy = Architecture.from_dict(json.loads(json.dumps(architecture.to_dict())))
        assert copy == architecture
        assert copy.hash == architecture.hash


def test_different_architectures_have_different_hashes(space: ResConv) -> None:
    distinct = set(random_architectures(space, 200))
    assert len({architecture.hash for architecture in distinct}) == len(distinct)


def test_unknown_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="schema 99"):
        Architecture.from_dict({"schema": 99})


def test_summary_line_reads_as_documented() -> None:
    blocks = (Block("conv", 16, 3, residual=True), Block("dwsep", 32, 5, stride=2, residual=True))
    assert str(Architecture(Stem(16), blocks)) == "stem3-16 conv3-16+ dwsep5-32/2+"
