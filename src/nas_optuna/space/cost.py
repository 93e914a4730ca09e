"""Search space: what a network costs, known without training it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas_optuna.space.architecture import Architecture
from nas_optuna.space.network import Network


@dataclass(frozen=True)
class Costs:
    """Price of one network.

    Attributes:
        macs: Multiply-accumulate operations of convolutions and linear layers for one image.
        params: Trainable parameters.
    """

    macs: int
    params: int


def measure_costs(architecture: Architecture, *, input_shape: tuple[int, int, int], classes: int) -> Costs:
    """Count the costs on the meta device: shapes flow through the real modules, numbers do not.

    Args:
        architecture: The network.
        input_shape: Channels, height, width.
        classes: Length of the logits.
    """
    channels = input_shape[0]
    with torch.device("meta"):
        network = Network(architecture, classes=classes, mean=[0.0] * channels, std=[1.0] * channels).eval()
        macs = _count_macs(network, torch.empty(1, *input_shape))
    return Costs(macs=macs, params=sum(parameter.numel() for parameter in network.parameters()))


def _count_macs(network: nn.Module, images: Tensor) -> int:
    total = 0

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        weight = module.get_parameter("weight")
        # each output value is a sum over one filter: all of the weight's axes but the first
        total += output.numel() * weight[0].numel()

    counted = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    handles = [module.register_forward_hook(count) for module in counted]
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    return total
