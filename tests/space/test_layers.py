"""Contracts of every layer, and layers from elsewhere."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
import torch
from conftest import compose_config
from hydra.utils import instantiate
from torch import Tensor, nn

from nas_optuna.errors import InputError
from nas_optuna.space import LAYERS, Architecture, Block, Network, Parts, Stem, measure_costs, register_layer
from nas_optuna.space.layers import BUILT_IN

CHOICES: dict[str, dict[str, Any]] = {
    "cell": {"operations": "conv3x3,avgpool3x3,skip,conv1x1,none,conv3x3"},
}
# what keeps its channels is tried where they stay
KEEPING = {"cell"}


def blocks(layer: str, *, residual: bool) -> tuple[Block, ...]:
    shapes = [(8, 1), (12, 2), (12, 1), (16, 2)] if layer not in KEEPING else [(8, 1), (8, 1)]
    return tuple(
        Block(layer, width, stride, residual, choices=CHOICES.get(layer, {})) for width, stride in shapes
    )


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 7, 33])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("layer", sorted(BUILT_IN))
def test_every_layer_trains_at_any_size(layer: str, residual: bool, size: int, dimensions: int) -> None:
    chain = blocks(layer, residual=residual)
    architecture = Architecture(Stem(8), chain, parts=Parts(dimensions))
    network = Network(architecture, classes=10, mean=[0.5] * 3, std=[0.25] * 3)
    logits = network(torch.rand(2, 3, *[size] * dimensions))
    assert logits.shape == (2, 10)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("layer", sorted(set(BUILT_IN) - KEEPING))
def test_every_layer_halves_the_size_at_stride_two_rounding_up(layer: str) -> None:
    output = LAYERS[layer].build(4, 8, stride=2)(torch.rand(2, 4, 9, 8))
    assert output.shape == (2, 8, 5, 4)


@pytest.mark.parametrize("layer", sorted(BUILT_IN))
def test_every_layer_says_where_it_comes_from_or_what_it_is(layer: str) -> None:
    assert len(BUILT_IN[layer].__doc__ or "") > 40


@pytest.mark.parametrize("layer", sorted(BUILT_IN))
def test_no_layer_changes_its_input(layer: str) -> None:
    # a residual connection adds it afterwards
    features = torch.randn(2, 8, 6, 6)
    before = features.clone()
    LAYERS[layer].build(8, 8, choices=CHOICES.get(layer, {}))(features)
    torch.testing.assert_close(features, before, rtol=0, atol=0)


def convolutions(layer: str, width: int, kernel: int) -> tuple[int, int]:
    """Weights and multiplications of a layer's convolutions, norms left out."""
    weights = sum(
        weight.numel()
        for weight in LAYERS[layer].build(width, width, choices={"kernel": kernel}).parameters()
        if weight.ndim > 1
    )
    with_layer, without = (
        measure_costs(Architecture(Stem(width), chain), input_shape=(3, 8, 8), classes=10).macs
        for chain in ((Block(layer, width, choices={"kernel": kernel}),), ())
    )
    return weights, with_layer - without


def test_depthwise_separable_needs_the_published_part_of_a_standard_convolution() -> None:
    # Howard et al. 2017, section 3.1, for every width and kernel of the default space
    space = instantiate(compose_config("space=resconv").space, _convert_="all")
    widths = {
        option
        for name, choice in space.decisions.items()
        if name.endswith(".width") and name != "head.width"
        for option in choice.options
    }
    assert widths == {16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128}
    for width, kernel in itertools.product(widths, space.decisions["stage1.block1.kernel"].options):
        separable, standard = (convolutions(layer, width, kernel) for layer in ("dwsep", "conv"))
        for ours, theirs in zip(separable, standard, strict=True):
            assert ours / theirs == pytest.approx(1 / width + 1 / kernel**2, rel=1e-12)


def test_inverted_bottleneck_without_expansion_has_no_first_convolution() -> None:
    with_expansion, without = (
        LAYERS["mbconv"].build(8, 8, choices={"expansion": expansion}) for expansion in (2, 1)
    )
    assert len(with_expansion) - len(without) == 3
    assert without[0].groups == 8


def test_squeeze_excite_weighs_whole_channels() -> None:
    torch.manual_seed(0)
    layer = LAYERS["mbconv"].build(8, 8, choices={"squeeze_excite": True, "expansion": 2})
    squeeze = next(module for module in layer if hasattr(module, "scale"))
    features = torch.rand(2, 16, 4, 4) + 0.1
    ratio = squeeze(features) / features
    torch.testing.assert_close(ratio, ratio[..., :1, :1].expand_as(ratio))
    assert ratio.flatten(2)[..., 0].unique().numel() > 1


class Shift(nn.Module):
    """Takes no stride and no parts."""

    def __init__(self, in_channels: int, out_channels: int, amount: int, scale: float = 1.0) -> None:
        super().__init__()
        self.mix = nn.Conv2d(in_channels, out_channels, 1)
        self.amount, self.scale = amount, scale

    def forward(self, features: Tensor) -> Tensor:
        mixed: Tensor = self.mix(features.roll(self.amount, dims=-1)) * self.scale
        return mixed


class TestLayersFromElsewhere:
    def test_parameters_become_choices(self) -> None:
        layer = register_layer("shift", Shift)
        assert dict(layer.choices) == {"amount": None, "scale": 1.0}
        assert not layer.takes_stride

    def test_layer_without_stride_shrinks_by_a_pool(self) -> None:
        register_layer("shift", Shift)
        network = Network(
            Architecture(Stem(4), (Block("shift", 6, 2, choices={"amount": 1}),)),
            classes=3,
            mean=[0.5],
            std=[0.5],
        )
        assert network.blocks(torch.rand(1, 4, 7, 7)).shape == (1, 6, 4, 4)

    def test_settled_choices_are_kept_in_the_architecture(self) -> None:
        register_layer("shift", functools.partial(Shift, amount=2))
        block = Architecture(Stem(4), (Block("shift", 4),)).canonical().blocks[0]
        assert dict(block.choices) == {"amount": 2, "scale": 1.0}

    def test_module_of_torch_is_a_layer(self) -> None:
        register_layer("pointwise", functools.partial(nn.Conv2d, kernel_size=1))
        architecture = Architecture(Stem(4), (Block("pointwise", 8),))
        network = Network(architecture, classes=2, mean=[0.5], std=[0.5])
        assert network(torch.rand(2, 1, 5, 5)).shape == (2, 2)

    def test_module_that_takes_no_channels_is_refused(self) -> None:
        with pytest.raises(
            InputError, match=r"space\.layers\.odd: ReLU must take in_channels and out_channels"
        ):
            register_layer("odd", nn.ReLU)

    def test_module_that_was_made_already_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"space\.layers\.odd.*_partial_: true"):
            register_layer("odd", Shift(1, 1, 1))

    def test_our_own_words_are_taken(self) -> None:
        with pytest.raises(InputError, match="'conv' is a layer of nas_optuna"):
            register_layer("conv", Shift)

    def test_missing_value_is_named(self) -> None:
        register_layer("shift", Shift)
        with pytest.raises(ValueError, match="layer 'shift' needs a value for 'amount'"):
            Architecture(Stem(4), (Block("shift", 4),)).canonical()


def kinds(module: nn.Module) -> list[str]:
    return [
        type(found).__name__.removesuffix("2d") for found in module.modules() if not list(found.children())
    ]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("conv", "Conv BatchNorm"),
        ("dwsep", "Conv BatchNorm ReLU Conv BatchNorm"),
        ("mbconv", "Conv BatchNorm ReLU Conv BatchNorm ReLU Conv BatchNorm"),
        ("bottleneck", "Conv BatchNorm ReLU Conv BatchNorm ReLU Conv BatchNorm"),
        ("convnext", "Conv BatchNorm Conv ReLU Conv"),
        ("reduction", "ReLU Conv BatchNorm ReLU Conv BatchNorm AvgPool Conv"),
    ],
)
def test_layer_is_made_of_what_its_paper_says(layer: str, expected: str) -> None:
    assert kinds(LAYERS[layer].build(8, 8, stride=2)) == expected.split()


@pytest.mark.parametrize("layer", sorted(BUILT_IN))
def test_activation_follows_where_the_layer_does_not_end_linear(layer: str) -> None:
    linear = {"mbconv", "convnext", "maxpool", "avgpool", "identity", "cell", "reduction"}
    block = Block(layer, 8, choices=CHOICES.get(layer, {}))
    network = Network(Architecture(Stem(8), (block,)), classes=2, mean=[0.5], std=[0.5])
    assert (len(network.blocks[0]) == 1) is (layer in linear)


def test_squeeze_excite_scales_by_a_sigmoid_of_the_means() -> None:
    torch.manual_seed(0)
    layer = LAYERS["mbconv"].build(8, 8, choices={"squeeze_excite": True, "expansion": 2})
    squeeze: Any = next(module for module in layer if hasattr(module, "scale"))
    features = torch.randn(2, 16, 4, 4)
    down, up = squeeze.scale[0], squeeze.scale[2]
    means = features.mean(dim=(2, 3))
    hidden = torch.relu(means @ down.weight.flatten(1).T + down.bias)
    expected = features * torch.sigmoid(hidden @ up.weight.flatten(1).T + up.bias)[:, :, None, None]
    torch.testing.assert_close(squeeze(features), expected)


def test_settled_choice_that_cannot_be_saved_is_refused() -> None:
    with pytest.raises(InputError, match=r"space\.layers\.pair\.kernel_size: \[3, 3\] must be a number"):
        register_layer("pair", functools.partial(nn.Conv2d, kernel_size=[3, 3]))


def test_layer_without_stride_that_shrinks_is_a_layer_after_a_pool() -> None:
    register_layer("shift", functools.partial(Shift, amount=1))
    plain, pooled = (
        Architecture(Stem(4), (Block("shift", 4, 2, downsampling=how),)) for how in ("stride", "maxpool")
    )
    assert plain.hash == pooled.hash
