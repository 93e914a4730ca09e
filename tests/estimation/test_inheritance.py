"""A network that begins with the weights of a trained relative."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas_optuna.estimation import Parent, inherit, likeness
from nas_optuna.space import Architecture, Block, Network, Stem


def chain(*blocks: Block, stem: int = 8) -> Architecture:
    return Architecture(stem=Stem(width=stem), blocks=blocks).canonical()


def conv(width: int, **changes: Any) -> Block:
    choices = {"kernel": changes.pop("kernel", 3)}
    return Block(changes.pop("layer", "conv"), width, choices=choices, **changes)


def trained(architecture: Architecture) -> Network:
    """A network whose norms have seen something, in evaluation mode."""
    torch.manual_seed(0)
    network = Network(architecture, classes=4, mean=[0.5] * 3, std=[0.2] * 3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for weight in (module.weight, module.running_var):
                nn.init.uniform_(weight, 0.5, 1.5)
            for weight in (module.bias, module.running_mean):
                nn.init.normal_(weight)
    return network.eval()


def child_of(network: Network, architecture: Architecture, **options: Any) -> Network:
    torch.manual_seed(1)
    child = Network(architecture, classes=4, mean=[0.5] * 3, std=[0.2] * 3)
    inherit(child, Parent(network.architecture, network.state_dict(), number=0), seed=0, **options)
    return child.eval()


def images() -> Tensor:
    return torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(2))


SMALL = chain(conv(8, residual=True), conv(12, stride=2), conv(12, residual=True))
PRESERVING = {
    "the same": SMALL,
    "wider": chain(conv(8, residual=True), conv(20, stride=2), conv(20, residual=True)),
    "wider stem": chain(conv(16, residual=True), conv(12, stride=2), conv(12, residual=True), stem=16),
    "deeper": chain(conv(8, residual=True), conv(12, stride=2), *[conv(12, residual=True)] * 3),
    "larger kernels": chain(
        conv(8, residual=True, kernel=5), conv(12, stride=2, kernel=7), conv(12, residual=True)
    ),
    "all of it": chain(
        *[conv(24, residual=True, kernel=5)] * 2, conv(18, stride=2), *[conv(18, residual=True)] * 2, stem=24
    ),
}


@pytest.mark.parametrize("architecture", PRESERVING.values(), ids=PRESERVING)
def test_a_larger_network_computes_what_its_parent_did(architecture: Architecture) -> None:
    parent = trained(SMALL)
    child = child_of(parent, architecture, noise=0.0)
    torch.testing.assert_close(child(images()), parent(images()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("layer", "choices"),
    [
        ("dwsep", {"kernel": 3}),
        ("mbconv", {"kernel": 3, "expansion": 2}),
        ("mbconv", {"kernel": 5, "expansion": 3, "squeeze_excite": True}),
        ("bottleneck", {"kernel": 3, "reduction": 2}),
        ("convnext", {"kernel": 5, "expansion": 2}),
        ("maxpool", {"kernel": 3}),
    ],
)
def test_every_layer_is_widened_so(layer: str, choices: dict[str, Any]) -> None:
    def network(width: int) -> Architecture:
        block = Block(layer, width, choices=choices)
        return chain(replace(block, stride=2), replace(block, residual=True), stem=8)

    parent = trained(network(16))
    torch.testing.assert_close(
        child_of(parent, network(32), noise=0.0)(images()), parent(images()), rtol=1e-4, atol=1e-4
    )


def test_copies_of_a_channel_are_told_apart() -> None:
    parent = trained(SMALL)
    child = child_of(parent, PRESERVING["wider"])
    weight = child.state_dict()["blocks.1.0.0.weight"]
    assert not torch.equal(weight[:8], weight[12:])
    torch.testing.assert_close(weight[:8], weight[12:], rtol=0.0, atol=0.2)


def test_a_narrower_network_has_the_first_channels() -> None:
    parent = trained(PRESERVING["wider"])
    child = child_of(parent, SMALL)
    ours, theirs = child.state_dict(), parent.state_dict()
    assert torch.equal(ours["blocks.1.0.0.weight"], theirs["blocks.1.0.0.weight"][:12])
    assert torch.equal(ours["head.linear.weight"], theirs["head.linear.weight"][:, :12])


def test_another_layer_keeps_its_own_weights() -> None:
    other = chain(conv(8, residual=True), conv(12, stride=2, layer="dwsep"), conv(12, residual=True))
    torch.manual_seed(1)
    fresh = Network(other, classes=4, mean=[0.5] * 3, std=[0.2] * 3).state_dict()
    ours = child_of(trained(SMALL), other).state_dict()
    assert torch.equal(ours["blocks.1.0.0.weight"], fresh["blocks.1.0.0.weight"])
    assert not torch.equal(ours["blocks.2.0.layer.0.weight"], fresh["blocks.2.0.layer.0.weight"])


def test_the_data_of_a_network_stays_its_own() -> None:
    parent = trained(SMALL)
    child = Network(SMALL, classes=4, mean=[0.1] * 3, std=[0.3] * 3)
    inherit(child, Parent(SMALL, parent.state_dict(), number=0), seed=0)
    assert child.normalize.mean.flatten().tolist() == pytest.approx([0.1] * 3)


def test_likeness_falls_with_what_differs() -> None:
    def alike(child: Architecture, parent: Architecture = SMALL) -> float:
        return likeness(child, parent, channels=3, classes=4)

    other = chain(*[conv(8, layer="dwsep")] * 3)
    twice = chain(conv(16, residual=True), conv(24, stride=2), conv(24, residual=True), stem=16)
    assert alike(SMALL) == 1.0
    assert alike(other) < alike(twice) < alike(PRESERVING["wider"]) < 1.0
    assert alike(twice) == pytest.approx(0.5, abs=0.02)
    assert alike(SMALL, twice) == pytest.approx(0.5, abs=0.02)
