"""Search space: what every layer of a network is made of, in one or two dimensions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

ACTIVATIONS = ("relu", "silu", "gelu", "hardswish")
NORMS = ("batch", "group", "layer")
GROUP_SIZE = 8  # channels that a group norm takes together, at least

_IN_PLACE = {"relu": nn.ReLU, "silu": nn.SiLU, "hardswish": nn.Hardswish}
_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}
_BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
_MAX_POOLS: dict[int, type[nn.Module]] = {1: nn.MaxPool1d, 2: nn.MaxPool2d}
_AVERAGE_POOLS: dict[int, type[nn.Module]] = {1: nn.AvgPool1d, 2: nn.AvgPool2d}


@dataclass(frozen=True)
class Parts:
    """Decisions that hold for a whole network, and the modules that follow from them.

    Attributes:
        dimensions: 2 for images (N, C, H, W), 1 for series (N, C, L).
        activation: ``relu``, ``silu`` (Elfwing et al. 2018), ``gelu`` (Hendrycks and Gimpel 2016) or
            ``hardswish`` (Howard et al. 2019, MobileNetV3).
        norm: ``batch`` (Ioffe and Szegedy 2015), ``group`` (Wu and He 2018) with groups of at
            least eight channels, or ``layer``: one group.
    """

    dimensions: int = 2
    activation: str = "relu"
    norm: str = "batch"

    def convolution(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        bias: bool = False,
    ) -> nn.Module:
        """A convolution that keeps the size at stride 1 and divides it, rounding up, by any other."""
        return _CONVOLUTIONS[self.dimensions](
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=bias
        )

    def normalization(self, channels: int) -> nn.Module:
        """The norm of so many channels."""
        if self.norm == "batch":
            return _BATCH_NORMS[self.dimensions](channels)
        return nn.GroupNorm(channels // self._group_size(channels), channels)

    def nonlinearity(self, *, in_place: bool = True) -> nn.Module:
        """The activation; in place only where nothing else reads its input."""
        if self.activation == "gelu":
            return nn.GELU()
        return _IN_PLACE[self.activation](inplace=in_place)

    def normed_convolution(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, *, groups: int = 1
    ) -> list[nn.Module]:
        """A convolution without bias, and its norm."""
        return [
            self.convolution(in_channels, out_channels, kernel, stride, groups=groups),
            self.normalization(out_channels),
        ]

    def max_pool(self, kernel: int, stride: int) -> nn.Module:
        """The largest value of each window; sizes as those of ``convolution``."""
        return _MAX_POOLS[self.dimensions](kernel, stride, kernel // 2)

    def average_pool(self, kernel: int, stride: int) -> nn.Module:
        """The mean of each window, the border left out of it; sizes as those of ``convolution``."""
        return _AVERAGE_POOLS[self.dimensions](kernel, stride, kernel // 2, count_include_pad=False)

    def downsampling(self, kind: str, stride: int) -> nn.Module:
        """``maxpool`` or ``avgpool`` over windows that do not overlap; the size is rounded up."""
        pools = _MAX_POOLS if kind == "maxpool" else _AVERAGE_POOLS
        return pools[self.dimensions](stride, stride, ceil_mode=True)

    def _group_size(self, channels: int) -> int:
        if self.norm == "layer":
            return channels
        return next(size for size in range(min(GROUP_SIZE, channels), channels + 1) if channels % size == 0)
