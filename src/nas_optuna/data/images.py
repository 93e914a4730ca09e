"""Data: sets of labelled images."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nas_optuna.data.augmentation import Augmentation
from nas_optuna.data.labelled import SAMPLED, LabelledData


class ImageData(LabelledData):
    """A set of images (N, C, H, W), kept as uint8; networks see them as floats in [0, 1].

    Args:
        augmentation: Random changes to training images: ``crop``, ``flip``, ``cutout``.
        options: See ``LabelledData``.
    """

    def __init__(
        self,
        *,
        augmentation: Mapping[str, Any] | None = None,
        validation_share: float = 0.1,
        split_seed: int = 0,
    ) -> None:
        super().__init__(
            augment=Augmentation(**(augmentation or {})),
            validation_share=validation_share,
            split_seed=split_seed,
        )

    @functools.cached_property
    def normalization(self) -> tuple[list[float], list[float]]:
        levels = torch.arange(256, dtype=torch.float64) / 255
        counts = torch.zeros(self.input_shape[0], 256, dtype=torch.int64)
        for images in self.split("train").chunks(most=SAMPLED):
            for channel in range(len(counts)):
                counts[channel] += torch.bincount(images[:, channel].flatten(), minlength=256)
        weights = counts.double() / counts.sum(dim=1, keepdim=True)
        mean = weights @ levels
        variance = weights @ levels.square() - mean.square()
        # an empty channel would divide by zero
        return mean.tolist(), variance.clamp(min=1e-6).sqrt().tolist()

    def digest(self, inputs: Tensor) -> bytes:
        """Mean brightness of each image: decoders of another version may differ in a pixel."""
        return inputs.float().mean(dim=(1, 2, 3)).round(decimals=2).numpy().tobytes()
