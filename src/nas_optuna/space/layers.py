"""Search space: the layers a block can choose from, each one small module.

A layer is any module that takes ``in_channels`` and ``out_channels``. It may take ``stride`` (a
block that shrinks its input pools before a layer that does not) and ``parts``, from which it makes
convolutions, norms and activations as the network has chosen them. Its further parameters are its
choices: a space asks for those it lists, the others keep their defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from nas_optuna.space.cells import Cell, Reduction
from nas_optuna.space.parts import Parts

if TYPE_CHECKING:
    from nas_optuna.space.architecture import Block

Scalar = bool | int | float | str


class Convolution(nn.Sequential):
    """Standard convolution: every output channel looks at every input channel, k x k pixels wide."""

    def __init__(
        self, in_channels: int, out_channels: int, *, parts: Parts, stride: int = 1, kernel: int = 3
    ) -> None:
        super().__init__(*parts.normed_convolution(in_channels, out_channels, kernel, stride))


class DepthwiseSeparable(nn.Sequential):
    """Depthwise convolution (k x k within each channel), then pointwise (1 x 1 across channels).

    Against a standard convolution it needs 1 / out_channels + 1 / k^2 of the multiplications
    (Howard et al. 2017, MobileNets, section 3.1).
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, parts: Parts, stride: int = 1, kernel: int = 3
    ) -> None:
        super().__init__(
            *parts.normed_convolution(in_channels, in_channels, kernel, stride, groups=in_channels),
            parts.nonlinearity(),
            *parts.normed_convolution(in_channels, out_channels),
        )


class GroupedConvolution(nn.Sequential):
    """Convolution within groups of channels: 1 / groups of the multiplications (Xie et al. 2017, ResNeXt)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        parts: Parts,
        stride: int = 1,
        kernel: int = 3,
        groups: int = 4,
    ) -> None:
        super().__init__(*parts.normed_convolution(in_channels, out_channels, kernel, stride, groups=groups))

    @staticmethod
    def check(in_channels: int, out_channels: int, *, groups: int, **_: Scalar) -> str | None:
        """Why these channels can't be grouped so, if they can't."""
        wrong = [channels for channels in (in_channels, out_channels) if channels % groups]
        return f"{wrong[0]} channels can't be divided into {groups} equal groups" if wrong else None

    @staticmethod
    def canonical(block: Block, in_channels: int) -> Block:
        """A single group is a standard convolution."""
        if block["groups"] > 1:
            return block
        return replace(block, layer="conv", choices=(("kernel", block["kernel"]),))


class SqueezeExcite(nn.Module):
    """Scales each channel by what all channels hold on average (Hu et al. 2018, section 3)."""

    def __init__(self, channels: int, squeezed: int, *, parts: Parts) -> None:
        super().__init__()
        self.scale = nn.Sequential(
            parts.convolution(channels, squeezed, bias=True),
            parts.nonlinearity(),
            parts.convolution(squeezed, channels, bias=True),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        axes = tuple(range(2, features.ndim))
        scaled: Tensor = features * self.scale(features.mean(dim=axes, keepdim=True))
        return scaled


class InvertedBottleneck(nn.Sequential):
    """Pointwise expansion, depthwise k x k, linear pointwise projection (Sandler et al. 2018, MobileNetV2).

    With ``squeeze_excite``, channels are weighed after the depthwise convolution, through a quarter
    of the input's channels (Tan and Le 2019, EfficientNet).
    """

    activation_after = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        parts: Parts,
        stride: int = 1,
        kernel: int = 3,
        expansion: int = 6,
        squeeze_excite: bool = False,
    ) -> None:
        inner = in_channels * expansion
        modules: list[nn.Module] = []
        if expansion > 1:
            modules += [*parts.normed_convolution(in_channels, inner), parts.nonlinearity()]
        modules += [
            *parts.normed_convolution(inner, inner, kernel, stride, groups=inner),
            parts.nonlinearity(),
        ]
        if squeeze_excite:
            modules.append(SqueezeExcite(inner, max(1, in_channels // 4), parts=parts))
        super().__init__(*modules, *parts.normed_convolution(inner, out_channels))


class Bottleneck(nn.Sequential):
    """1 x 1 to fewer channels, k x k among them, 1 x 1 back (He et al. 2016, section 4.1).

    The k x k convolution carries the stride, as later versions of ResNet have it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        parts: Parts,
        stride: int = 1,
        kernel: int = 3,
        reduction: int = 4,
    ) -> None:
        inner = max(1, out_channels // reduction)
        super().__init__(
            *parts.normed_convolution(in_channels, inner),
            parts.nonlinearity(),
            *parts.normed_convolution(inner, inner, kernel, stride),
            parts.nonlinearity(),
            *parts.normed_convolution(inner, out_channels),
        )


class ConvNeXt(nn.Sequential):
    """Large depthwise kernel, norm, pointwise expansion and projection around an activation.

    Liu et al. 2022, section 2.5 and 2.6; the norm is the network's.
    """

    activation_after = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        parts: Parts,
        stride: int = 1,
        kernel: int = 7,
        expansion: int = 4,
    ) -> None:
        inner = in_channels * expansion
        super().__init__(
            *parts.normed_convolution(in_channels, in_channels, kernel, stride, groups=in_channels),
            parts.convolution(in_channels, inner, bias=True),
            parts.nonlinearity(),
            parts.convolution(inner, out_channels, bias=True),
        )


class Identity(nn.Sequential):
    """Nothing; where the shapes differ, the 1 x 1 convolution that makes them agree. Never residual."""

    activation_after = False
    takes_residual = False

    def __init__(self, in_channels: int, out_channels: int, *, parts: Parts, stride: int = 1) -> None:
        same = in_channels == out_channels and stride == 1
        super().__init__(*([] if same else parts.normed_convolution(in_channels, out_channels, 1, stride)))

    @staticmethod
    def canonical(block: Block, in_channels: int) -> Block | None:
        """Dropped where it does nothing."""
        if block.stride == 1 and block.width == in_channels:
            return None
        return replace(block, residual=False)


class _Pool(nn.Sequential):
    activation_after = False

    def __init__(self, pool: nn.Module, in_channels: int, out_channels: int, parts: Parts) -> None:
        same = in_channels == out_channels
        super().__init__(pool, *([] if same else parts.normed_convolution(in_channels, out_channels)))

    @staticmethod
    def canonical(block: Block, in_channels: int) -> Block | None:
        """A window of one pixel is no pool, but it may leave pixels out."""
        leaves_out = block.stride > 1 and block.downsampling == "stride" and block.width == in_channels
        if block["kernel"] > 1 or leaves_out or block.residual:
            return block
        return Identity.canonical(replace(block, layer="identity", choices=()), in_channels)


class MaxPool(_Pool):
    """The largest value of each k x k window; a pointwise convolution where the channels differ."""

    def __init__(
        self, in_channels: int, out_channels: int, *, parts: Parts, stride: int = 1, kernel: int = 3
    ) -> None:
        super().__init__(parts.max_pool(kernel, stride), in_channels, out_channels, parts)


class AveragePool(_Pool):
    """The mean of each k x k window; a pointwise convolution where the channels differ."""

    def __init__(
        self, in_channels: int, out_channels: int, *, parts: Parts, stride: int = 1, kernel: int = 3
    ) -> None:
        super().__init__(parts.average_pool(kernel, stride), in_channels, out_channels, parts)


BUILT_IN: dict[str, Callable[..., nn.Module]] = {
    "conv": Convolution,
    "dwsep": DepthwiseSeparable,
    "groupconv": GroupedConvolution,
    "mbconv": InvertedBottleneck,
    "bottleneck": Bottleneck,
    "convnext": ConvNeXt,
    "maxpool": MaxPool,
    "avgpool": AveragePool,
    "identity": Identity,
    "cell": Cell,
    "reduction": Reduction,
}
