from __future__ import annotations

import json

import optuna
import pytest
import torch

from nas_optuna.errors import InputError
from nas_optuna.space import Architecture, Block, Head, Network, Parts, Stages, Stem, measure_costs
from nas_optuna.space.architecture import DOWNSAMPLING
from nas_optuna.space.parts import ACTIVATIONS, NORMS


def build(architecture: Architecture, channels: int = 3) -> Network:
    return Network(architecture, classes=10, mean=[0.5] * channels, std=[0.25] * channels)


def random_architectures(space: Stages, count: int) -> list[Architecture]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space(study.ask()) for _ in range(count)]


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
def test_every_activation_and_norm_trains(norm: str, activation: str, dimensions: int) -> None:
    blocks = (Block("mbconv", 12, 2, choices={"squeeze_excite": True}), Block("conv", 12, residual=True))
    architecture = Architecture(Stem(7), blocks, Head(9), Parts(dimensions, activation, norm))
    network = build(architecture)
    network(torch.rand(2, 3, *[5] * dimensions)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("downsampling", DOWNSAMPLING)
@pytest.mark.parametrize("stride", [2, 3])
def test_every_way_of_shrinking_rounds_up(downsampling: str, stride: int) -> None:
    network = build(Architecture(Stem(8), (Block("conv", 8, stride, downsampling=downsampling),)))
    for size, expected in ((1, 1), (7, -(-7 // stride)), (12, 12 // stride)):
        assert network.blocks(torch.rand(2, 8, size, size)).shape[2:] == (expected, expected)


def test_shrinking_by_a_pool_costs_less_than_by_the_layer_after_it() -> None:
    costs = {
        how: measure_costs(
            Architecture(Stem(8), (Block("dwsep", 8, 2, downsampling=how),)),
            input_shape=(3, 16, 16),
            classes=10,
        )
        for how in ("stride", "maxpool")
    }
    # the same layer at the same output size
    assert costs["stride"].macs == costs["maxpool"].macs
    assert costs["stride"].params == costs["maxpool"].params


def test_residual_adds_the_input() -> None:
    torch.manual_seed(0)
    network = build(Architecture(Stem(8), (Block("conv", 8, residual=True),))).eval()
    block = network.blocks[0]
    features = torch.rand(2, 8, 5, 5)
    expected = torch.relu(block[0].layer(features) + features)
    torch.testing.assert_close(block(features), expected)


def test_residual_projects_where_shapes_differ() -> None:
    network = build(Architecture(Stem(8), (Block("conv", 12, stride=2, residual=True),)))
    shortcut = network.blocks[0][0].shortcut
    assert shortcut(torch.rand(2, 8, 9, 9)).shape == (2, 12, 5, 5)


def test_network_normalises_its_input() -> None:
    network = build(Architecture(Stem(8), ())).eval()
    seen = []
    network.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.full((1, 3, 4, 4), 0.75))
    torch.testing.assert_close(seen[0], torch.ones(1, 3, 4, 4))


def test_architecture_survives_json(space: Stages) -> None:
    for architecture in random_architectures(space, 20):
        copy = Architecture.from_dict(json.loads(json.dumps(architecture.to_dict())))
        assert copy == architecture
        assert copy.hash == architecture.hash


def test_different_networks_have_different_hashes(space: Stages) -> None:
    distinct = {found.canonical() for found in random_architectures(space, 200)}
    assert len({architecture.hash for architecture in distinct}) == len(distinct)


@pytest.mark.parametrize(
    ("blocks", "simplest"),
    [
        ((Block("identity", 8), Block("conv", 8)), (Block("conv", 8),)),
        ((Block("conv", 8), Block("identity", 8, residual=True)), (Block("conv", 8),)),
        ((Block("maxpool", 16, 2, choices={"kernel": 1}),), (Block("identity", 16, 2),)),
        ((Block("conv", 8, downsampling="maxpool"),), (Block("conv", 8),)),
        (
            (Block("groupconv", 8, choices={"groups": 1, "kernel": 5}),),
            (Block("conv", 8, choices={"kernel": 5}),),
        ),
        ((Block("maxpool", 8, choices={"kernel": 1}),), ()),
        ((Block("avgpool", 16, choices={"kernel": 1}),), (Block("identity", 16),)),
        ((Block("conv", 8, choices={"kernel": 3}),), (Block("conv", 8),)),
    ],
)
def test_equal_networks_have_one_hash(blocks: tuple[Block, ...], simplest: tuple[Block, ...]) -> None:
    assert Architecture(Stem(8), blocks).hash == Architecture(Stem(8), simplest).hash


@pytest.mark.parametrize(
    "other",
    [
        Block("identity", 16),
        Block("identity", 8, 2),
        Block("conv", 8, residual=True),
        Block("conv", 8, choices={"kernel": 5}),
        Block("conv", 8, 2),
        Block("conv", 8, 2, downsampling="maxpool"),
    ],
)
def test_unequal_networks_have_different_hashes(other: Block) -> None:
    assert Architecture(Stem(8), (other,)).hash != Architecture(Stem(8), (Block("conv", 8),)).hash


def test_unknown_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="schema 99"):
        Architecture.from_dict({"schema": 99})


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (Block("convv", 8), "unknown layer 'convv'; known: avgpool"),
        (Block("conv", 8, choices={"expansion": 6}), "layer 'conv' has no choice 'expansion'"),
        (Block("conv", 8, choices={"kernel": 4}), "kernel: 4 is even"),
        (Block("conv", 8, choices={"kernel": "3"}), "kernel: '3' must be a whole number"),
        (Block("mbconv", 8, choices={"squeeze_excite": 1}), "squeeze_excite: 1 must be true or false"),
        (Block("groupconv", 8, choices={"groups": 0}), "groups: 0 must be a whole number, at least 1"),
        (Block("conv", 8, residual=1), r"block 1\.residual: 1 must be true or false"),
        (Block("cell", 8, choices={"operations": 3}), "operations '3' must be 6 of|must be 6 of none"),
        (Block("conv", 0), r"block 1\.width: 0 must be a whole number, at least 1"),
        (Block("conv", 8, downsampling="sum"), r"block 1\.downsampling: 'sum' is unknown; known: stride"),
        (Block("groupconv", 9), "block 1: 8 channels can't|9 channels can't be divided into 4"),
    ],
)
def test_impossible_architecture_is_refused_when_read(block: Block, message: str) -> None:
    with pytest.raises((InputError, ValueError), match=message):
        Architecture.from_dict(Architecture(Stem(8), (block,)).to_dict())


def test_summary_line_reads_as_documented() -> None:
    blocks = (
        Block("conv", 16, residual=True, choices={"kernel": 3}),
        Block("conv", 16, residual=True, choices={"kernel": 3}),
        Block("dwsep", 32, stride=2, residual=True, choices={"kernel": 5}),
        Block(
            "mbconv",
            32,
            2,
            downsampling="maxpool",
            choices={"kernel": 3, "squeeze_excite": True, "expansion": 4},
        ),
        Block("mbconv", 32, choices={"kernel": 3, "squeeze_excite": False, "expansion": 4}),
    )
    line = "stem3-16 2*conv3-16+ dwsep5-32/2+ mbconv3e4se-32/2max mbconv3e4-32"
    assert str(Architecture(Stem(16), blocks)) == line
    unusual = Architecture(Stem(16), (), Head(64), Parts(1, "silu", "group"))
    assert str(unusual) == "1d silu group stem3-16 head-64"


def test_pools_before_a_layer_are_what_they_are_called() -> None:
    features = torch.rand(1, 8, 4, 4)
    windows = features.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    for how, expected in (("maxpool", windows.amax(dim=-1)), ("avgpool", windows.mean(dim=-1))):
        network = build(Architecture(Stem(8), (Block("identity", 8, 2, downsampling=how),))).eval()
        torch.testing.assert_close(network.blocks(features), expected)


def test_identity_is_never_residual() -> None:
    network = build(Architecture(Stem(8), (Block("identity", 8, residual=True),))).eval()
    features = torch.rand(1, 8, 4, 4)
    torch.testing.assert_close(network.blocks(features), features)


def test_pool_of_one_pixel_that_leaves_pixels_out_is_kept() -> None:
    block = Block("maxpool", 8, 2, choices={"kernel": 1})
    assert Architecture(Stem(8), (block,)).canonical().blocks == (block,)


def test_repeated_block_is_simplified_for_the_width_that_it_gets() -> None:
    block = Block("identity", 16)
    repeated = Architecture(Stem(8), (block,) * 3)
    # the first makes 16 channels of 8, those after it do nothing
    assert repeated.canonical().blocks == (block,)


def test_activation_of_stem_and_head_is_there_where_it_is_asked_for() -> None:
    quiet = build(Architecture(Stem(8, activated=False), (), Head(norm=True)))
    assert [type(module).__name__ for module in quiet.stem] == ["Conv2d", "BatchNorm2d"]
    assert [type(module).__name__ for module in quiet.head.features] == ["BatchNorm2d", "ReLU"]
    assert [type(module).__name__ for module in build(Architecture(Stem(8), ())).stem][-1] == "ReLU"
