"""Data: random changes to a batch of training images, made on the device the images are on."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from nas_optuna.errors import check_number


class Augmentation:
    """Crop, flip and cutout, drawn for each image of a batch on its own.

    Args:
        crop: Largest shift in pixels, up, down, left and right; the border is mirrored in.
        flip: Probability of a left-right flip.
        cutout: Side in pixels of a square that is blanked (DeVries and Taylor 2017), 0 for none.
    """

    def __init__(self, *, crop: int = 0, flip: float = 0.0, cutout: int = 0) -> None:
        check_number("data.augmentation.crop", crop, whole=True, at_least=0)
        check_number("data.augmentation.flip", flip, at_least=0, at_most=1)
        check_number("data.augmentation.cutout", cutout, whole=True, at_least=0)
        self.crop, self.flip, self.cutout = crop, flip, cutout

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Change a batch (N, C, H, W); the generator must live on the images' device."""
        if self.crop or self.flip:
            images = self._shift_and_flip(images, generator)
        if self.cutout:
            images = self._cut_out(images, generator)
        return images

    def _shift_and_flip(self, images: Tensor, generator: Generator) -> Tensor:
        count, channels, height, width = images.shape
        device = images.device
        # one gather does both: rows and columns (N, H) and (N, W) to read for each image
        rows = torch.arange(height, device=device).expand(count, -1)
        columns = torch.arange(width, device=device).expand(count, -1)
        if self.flip:
            flipped = torch.rand(count, 1, device=device, generator=generator) < self.flip
            columns = torch.where(flipped, columns.flip(1), columns)
        if self.crop:
            shifts = torch.randint(
                -self.crop, self.crop + 1, (2, count, 1), device=device, generator=generator
            )
            rows, columns = mirror(rows + shifts[0], height), mirror(columns + shifts[1], width)
        pixels = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, -1)
        return images.flatten(2).gather(2, pixels.expand(-1, channels, -1)).view(images.shape)

    def _cut_out(self, images: Tensor, generator: Generator) -> Tensor:
        count, _, height, width = images.shape
        device = images.device
        top = torch.randint(height, (count, 1), device=device, generator=generator) - self.cutout // 2
        left = torch.randint(width, (count, 1), device=device, generator=generator) - self.cutout // 2
        rows = torch.arange(height, device=device) - top
        columns = torch.arange(width, device=device) - left
        inside_rows = (rows >= 0) & (rows < self.cutout)
        inside_columns = (columns >= 0) & (columns < self.cutout)
        hole = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
        return images.masked_fill(hole, 0)


def mirror(index: Tensor, size: int) -> Tensor:
    """Reflect positions beyond the border back inside: -1 becomes 1, ``size`` becomes ``size - 2``."""
    if size == 1:
        return torch.zeros_like(index)
    period = 2 * (size - 1)
    index = index.remainder(period)
    return torch.where(index < size, index, period - index)


def to_float(inputs: Tensor) -> Tensor:
    """Bytes to floats in [0, 1], laid out channels last, which convolutions on CPU and GPU prefer.

    Series, which are floats already, stay as they are.
    """
    if inputs.is_floating_point():
        return inputs
    # in two passes: a CPU changes type and layout at once in twice the time
    return inputs.to(torch.float32).mul_(1 / 255).contiguous(memory_format=torch.channels_last)
