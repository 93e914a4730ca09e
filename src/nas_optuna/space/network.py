"""Search space: from an architecture to a trainable module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas_optuna.space.architecture import Architecture, Block, Head, Stem
from nas_optuna.space.parts import Parts
from nas_optuna.space.registry import find_layer


class Normalize(nn.Module):
    """Shift and scale each channel of (N, C, ...) to mean 0 and deviation 1.

    Args:
        mean, std: Of each channel, as the network is given it.
        dimensions: Axes after the channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, dimensions: int = 2) -> None:
        super().__init__()
        shape = (1, -1, *[1] * dimensions)
        self.register_buffer("mean", torch.tensor(mean).view(shape))
        self.register_buffer("std", torch.tensor(std).view(shape))

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean) / self.std


class Residual(nn.Module):
    """Adds the input to a layer's output; a 1 x 1 projection makes the shapes agree where they differ.

    Args:
        layer: What the input is added to.
        in_channels, out_channels, stride: Of the layer.
        parts: What the projection is made of.
    """

    def __init__(
        self, layer: nn.Module, in_channels: int, out_channels: int, stride: int, *, parts: Parts
    ) -> None:
        super().__init__()
        self.layer = layer
        same_shape = in_channels == out_channels and stride == 1
        self.shortcut = (
            nn.Identity()
            if same_shape
            else nn.Sequential(*parts.normed_convolution(in_channels, out_channels, 1, stride))
        )

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = self.layer(features) + self.shortcut(features)
        return output


class Classifier(nn.Module):
    """Features (N, C, ...) to logits (N, classes): head, average over all places, linear layer."""

    def __init__(self, head: Head, in_channels: int, classes: int, *, parts: Parts) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        if head.width:
            modules = [*parts.normed_convolution(in_channels, head.width), parts.nonlinearity()]
        elif head.norm:
            modules = [parts.normalization(in_channels), parts.nonlinearity()]
        self.features = nn.Sequential(*modules)
        self.linear = nn.Linear(head.width or in_channels, classes)

    def forward(self, features: Tensor) -> Tensor:
        features = self.features(features)
        # unlike a pooling module's, the gradient of a mean is summed in one order on every device
        logits: Tensor = self.linear(features.mean(dim=tuple(range(2, features.ndim))))
        return logits


class Network(nn.Module):
    """A classifier: images (N, C, H, W) in [0, 1], or series (N, C, L), to logits (N, classes).

    Normalisation is the first step of the network, so a saved network needs no preprocessing but
    resizing. Any size from one pixel up will do: no block of ours shrinks its input below that.

    Attributes:
        architecture: What it was built from.
        input_shape: Channels, then height and width, or length, of the data it was trained on; set
            when it is loaded.
        classes: Names of the classes in the order of the logits; set when it is loaded.
    """

    input_shape: tuple[int, ...]
    classes: tuple[str, ...]

    def __init__(
        self, architecture: Architecture, *, classes: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.architecture = architecture
        parts = architecture.parts
        self.normalize = Normalize(mean, std, dimensions=parts.dimensions)
        self.stem = build_stem(architecture.stem, len(mean), parts=parts)
        widths = [architecture.stem.width, *(block.width for block in architecture.blocks)]
        self.blocks = nn.Sequential(
            *(
                build_block(block, width, parts=parts)
                for block, width in zip(architecture.blocks, widths, strict=False)
            )
        )
        self.head = Classifier(architecture.head, widths[-1], classes, parts=parts)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(self.normalize(images))))
        return logits


def build_stem(stem: Stem, in_channels: int, *, parts: Parts) -> nn.Module:
    """Convolution, norm, and the activation where it follows."""
    modules = parts.normed_convolution(in_channels, stem.width, stem.kernel, stem.stride)
    return nn.Sequential(*modules, *([parts.nonlinearity()] if stem.activated else []))


def build_block(block: Block, in_channels: int, *, parts: Parts) -> nn.Module:
    """Downsampling by a pool if asked for, the layer, what makes it residual, the activation."""
    layer = find_layer(block.layer)
    pools = block.stride > 1 and (block.downsampling != "stride" or not layer.takes_stride)
    stride = 1 if pools else block.stride
    module = layer.build(in_channels, block.width, stride=stride, choices=dict(block.choices), parts=parts)
    if block.residual and layer.takes_residual:
        module = Residual(module, in_channels, block.width, stride, parts=parts)
    before = []
    if pools:
        kind = "avgpool" if block.downsampling == "avgpool" else "maxpool"
        before = [parts.downsampling(kind, block.stride)]
    after = [parts.nonlinearity()] if layer.activation_after else []
    return nn.Sequential(*before, module, *after)
