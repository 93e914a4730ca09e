"""Data: batches cut from tensors, without workers, copies or decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from nas_optuna.data.augmentation import to_float
from nas_optuna.data.labelled import Split

Batch = tuple[Tensor, Tensor]


class TrainingLoader:
    """Endless shuffled passes over a split, cut into epochs of any length.

    An epoch that visits a share of the images goes on where the last one stopped, and the images
    are shuffled anew when all have been seen. So a short epoch costs less without ever repeating
    an image early, which a fixed subset would.

    Args:
        split: Images and labels, on the device that trains.
        batch_size: Images in a batch; fewer only where the split is smaller.
        data_share: Part of the images that one epoch visits, above 0 and up to 1.
        augmentation: Random changes to each batch.
        seed: Seed of shuffling and augmentation.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        data_share: float,
        augmentation: Callable[[Tensor, Generator], Tensor],
        seed: int,
    ) -> None:
        self._split = split
        self._batch_size = min(batch_size, len(split))
        self._steps = steps_per_epoch(len(split), batch_size=batch_size, data_share=data_share)
        self._augmentation = augmentation
        self._generator = Generator(device=split.inputs.device).manual_seed(seed)
        self._order = torch.empty(0, dtype=torch.int64, device=split.inputs.device)

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self._steps):
            chosen = self._next_indices()
            images = self._augmentation(self._split.inputs[chosen], self._generator)
            yield to_float(images), self._split.labels[chosen]

    def _next_indices(self) -> Tensor:
        if len(self._order) < self._batch_size:
            device = self._split.inputs.device
            self._order = torch.randperm(len(self._split), device=device, generator=self._generator)
        chosen, self._order = self._order[: self._batch_size], self._order[self._batch_size :]
        return chosen


class EvaluationLoader:
    """Every image of a split once, in order, unchanged.

    Args:
        split: Images and labels, on the device that judges.
        batch_size: Images in a batch.
        limit: Visit so many images only, spread evenly over the split, which may be sorted by class.
    """

    def __init__(self, split: Split, *, batch_size: int, limit: int | None = None) -> None:
        self._images, self._labels = split.inputs, split.labels
        if limit is not None and limit < len(split):
            chosen = torch.arange(limit, device=split.labels.device) * len(split) // limit
            self._images, self._labels = split.inputs[chosen], split.labels[chosen]
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self._labels) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self._labels), self._batch_size):
            chosen = slice(start, start + self._batch_size)
            yield to_float(self._images[chosen]), self._labels[chosen]


def steps_per_epoch(images: int, *, batch_size: int, data_share: float) -> int:
    """Optimiser steps of an epoch that visits ``data_share`` of ``images``; at least one."""
    return max(1, int(data_share * images) // min(batch_size, images))
