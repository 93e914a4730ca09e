"""Search space: from an architecture to a trainable module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas_optuna.space.architecture import Architecture, Block
from nas_optuna.space.layers import LAYERS, Convolution


class Normalize(nn.Module):
    """Shift and scale each channel: images (N, C, H, W) with values in [0, 1] to mean 0, deviation 1."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class Residual(nn.Module):
    """Adds the input to a layer's output; a 1 x 1 projection makes the shapes agree where they differ."""

    def __init__(self, layer: nn.Module, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.layer = layer
        same_shape = in_channels == out_channels and stride == 1
        self.shortcut = nn.Identity() if same_shape else Convolution(in_channels, out_channels, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = self.layer(features) + self.shortcut(features)
        return output


class Network(nn.Module):
    """An image classifier: images (N, C, H, W) with values in [0, 1] to logits (N, classes).

    Normalisation is the first step of the network, so a saved network needs no preprocessing but
    resizing. Any height and width from 1 x 1 up will do: no block shrinks an image below that.

    Attributes:
        architecture: What it was built from.
        input_shape: Channels, height, width of the images it was trained on; set when it is loaded.
        classes: Names of the classes in the order of the logits; set when it is loaded.
    """

    input_shape: tuple[int, ...]
    classes: tuple[str, ...]

    def __init__(
        self, architecture: Architecture, *, classes: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.architecture = architecture
        stem = architecture.stem
        self.normalize = Normalize(mean, std)
        self.stem = nn.Sequential(
            Convolution(len(mean), stem.width, stem.kernel, stem.stride), nn.ReLU(inplace=True)
        )
        widths = [stem.width, *(block.width for block in architecture.blocks)]
        self.blocks = nn.Sequential(*map(_build_block, architecture.blocks, widths))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.blocks(self.stem(self.normalize(images)))
        # unlike a pooling module's, the gradient of a mean is summed in one order on every device
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


def _build_block(block: Block, in_channels: int) -> nn.Module:
    layer = LAYERS[block.layer](in_channels, block.width, block.kernel, block.stride)
    if block.residual:
        layer = Residual(layer, in_channels, block.width, block.stride)
    return nn.Sequential(layer, nn.ReLU(inplace=True))
