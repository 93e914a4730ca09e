"""Search space: what a depthwise-separable convolution spares against a standard one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas_optuna.space.architecture import Block
from nas_optuna.space.parts import Parts

KERNEL = 3  # of a block that does not say


@dataclass(frozen=True)
class Saved:
    """What a standard convolution of the same kernel, channels and size would take more.

    Attributes:
        params, macs: How many more.
        standard_params, standard_macs: What it would take, its norm included, a projection left out.
    """

    params: int
    macs: int
    standard_params: int
    standard_macs: int

    def __add__(self, other: Saved) -> Saved:
        return Saved(
            self.params + other.params,
            self.macs + other.macs,
            self.standard_params + other.standard_params,
            self.standard_macs + other.standard_macs,
        )


def saved_by(block: Block, in_channels: int, output_shape: tuple[int, ...], parts: Parts) -> Saved | None:
    """What a depthwise-separable block spares (Howard et al. 2017, MobileNets, section 3.1).

    A standard convolution has a weight for each pair of channels and each place of its kernel; depthwise,
    then pointwise, there is one for each channel and place, then one for each pair, and a norm between
    the two. Where few channels meet a small kernel the difference is negative: nothing is saved.

    Args:
        block: Any block.
        in_channels: Of its input.
        output_shape: Channels and size of what it gives on.
        parts: Say how many axes its kernel has.

    Returns:
        None where the block is of another layer.
    """
    if block.layer != "dwsep":
        return None
    out_channels, places = block.width, math.prod(output_shape[1:])
    window = int(dict(block.choices).get("kernel", KERNEL)) ** parts.dimensions
    standard = window * in_channels * out_channels
    separable = window * in_channels + in_channels * out_channels
    norm = 2  # parameters of a channel: scale and shift
    return Saved(
        params=standard - separable - norm * in_channels,
        macs=(standard - separable) * places,
        standard_params=standard + norm * out_channels,
        standard_macs=standard * places,
    )
