"""Search space: the layers a block can choose from."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def _convolution(
    in_channels: int, out_channels: int, kernel: int, stride: int, groups: int = 1
) -> list[nn.Module]:
    """A convolution that keeps the size at stride 1, halves it (rounding up) at stride 2, and its norm."""
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]


class Convolution(nn.Sequential):
    """Standard convolution: every output channel looks at every input channel, k x k pixels wide."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__(*_convolution(in_channels, out_channels, kernel, stride))


class DepthwiseSeparable(nn.Sequential):
    """Depthwise convolution (k x k within each channel), then pointwise (1 x 1 across channels).

    Against a standard convolution it needs 1 / out_channels + 1 / k^2 of the multiplications
    (Howard et al. 2017, MobileNets, section 3.1).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__(
            *_convolution(in_channels, in_channels, kernel, stride, groups=in_channels),
            nn.ReLU(inplace=True),
            *_convolution(in_channels, out_channels, 1, 1),
        )


LayerBuilder = Callable[[int, int, int, int], nn.Module]

LAYERS: dict[str, LayerBuilder] = {"conv": Convolution, "dwsep": DepthwiseSeparable}
