"""Data: batches cut from tensors, from memory or read ahead in the background."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Generator, Tensor

from nas_optuna.data.augmentation import to_float
from nas_optuna.data.labelled import Split

Batch = tuple[Tensor, Tensor]

STEPS_OF_A_GROUP = 32
BATCHES_AHEAD = 4
# numbers in the inputs that are augmented at once, each for itself: enough to repay the way to a
# kernel, on a CPU few enough to stay in its caches
AUGMENTED_ON_CPU, AUGMENTED_ELSEWHERE = 2**18, 2**24


class Groups:
    """Batches in groups: what Lightning does around a step, it then does once for many.

    On networks of small images that is a seventh of the time. A group is read while it is worked
    on, so it holds one batch at a time.

    Args:
        batches: A loader of this module.
        size: Batches in a group.

    Attributes:
        batches: The loader.
    """

    def __init__(self, batches: TrainingLoader | EvaluationLoader, *, size: int = STEPS_OF_A_GROUP) -> None:
        self.batches = batches
        self._size = size

    def __len__(self) -> int:
        return -(-len(self.batches) // self._size)

    def __iter__(self) -> Iterator[Iterator[Batch]]:
        batches = iter(self.batches)
        for _ in range(len(self)):
            yield itertools.islice(batches, self._size)


class TrainingLoader:
    """Endless shuffled passes over a split, cut into epochs of any length.

    An epoch that visits a share of the images goes on where the last one stopped, and the images
    are shuffled anew when all have been seen. So a short epoch costs less without ever repeating
    an image early, which a fixed subset would.

    Args:
        split: Images and labels, on the device that trains or in the host's memory.
        batch_size: Images in a batch; fewer only where the split is smaller.
        data_share: Part of the images that one epoch visits, above 0 and up to 1.
        augmentation: Random changes to each batch, made on the device.
        seed: Seed of shuffling and augmentation.
        device: Where batches are wanted; None for where the split is.

    Attributes:
        batch_size: Images in a batch, in the end.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        data_share: float,
        augmentation: Callable[[Tensor, Generator], Tensor],
        seed: int,
        device: torch.device | None = None,
    ) -> None:
        self._split = split
        self.batch_size = min(batch_size, len(split))
        self._steps = steps_per_epoch(len(split), batch_size=batch_size, data_share=data_share)
        self._augmentation = augmentation
        self._device = device or split.labels.device
        self._shuffling = Generator(device=split.labels.device).manual_seed(seed)
        self._changing = Generator(device=self._device).manual_seed(seed)
        self._order = torch.empty(0, dtype=torch.int64, device=split.labels.device)

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[Batch]:
        chosen = (torch.cat([self._next_indices() for _ in range(count)]) for count in self._counts())
        for inputs, labels in _take(self._split, chosen, device=self._device):
            changed = self._augmentation(inputs, self._changing).split(self.batch_size)
            for batch in zip(changed, labels.split(self.batch_size), strict=True):
                yield to_float(batch[0]), batch[1]

    def state(self) -> dict[str, Tensor]:
        """What the next epochs depend on, between two of them."""
        return {
            "order": self._order.cpu().clone(),
            "shuffling": self._shuffling.get_state(),
            "changing": self._changing.get_state(),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what ``state`` gave."""
        self._order = state["order"].to(self._order.device)
        self._shuffling.set_state(state["shuffling"])
        self._changing.set_state(state["changing"])

    def _counts(self) -> Iterator[int]:
        """How many batches are augmented at once, until the epoch is over."""
        most = AUGMENTED_ON_CPU if self._device.type == "cpu" else AUGMENTED_ELSEWHERE
        numbers = self.batch_size * math.prod(self._split.inputs.shape[1:])
        for start in range(0, self._steps, step := max(1, most // numbers)):
            yield min(step, self._steps - start)

    def _next_indices(self) -> Tensor:
        if len(self._order) < self.batch_size:
            self._order = torch.randperm(
                len(self._split), device=self._split.labels.device, generator=self._shuffling
            )
        chosen, self._order = self._order[: self.batch_size], self._order[self.batch_size :]
        return chosen


class EvaluationLoader:
    """Every image of a split once, in order, unchanged.

    Args:
        split: Images and labels, on the device that judges or in the host's memory.
        batch_size: Images in a batch.
        limit: Visit so many images only, spread evenly over the split, which may be sorted by class.
        device: Where batches are wanted; None for where the split is.
    """

    def __init__(
        self, split: Split, *, batch_size: int, limit: int | None = None, device: torch.device | None = None
    ) -> None:
        self._split = split
        self._chosen = torch.arange(len(split), device=split.labels.device)
        if limit is not None and limit < len(split):
            self._chosen = self._chosen[:limit] * len(split) // limit
        self.batch_size = batch_size
        self._device = device or split.labels.device

    def __len__(self) -> int:
        return -(-len(self._chosen) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for inputs, labels in _take(self._split, self._chosen.split(self.batch_size), device=self._device):
            yield to_float(inputs), labels


def _take(split: Split, chosen: Iterable[Tensor], *, device: torch.device) -> Iterator[Batch]:
    """Batches of a split on a device. What has to be read or moved is, while the last batch is worked on."""
    if isinstance(split.inputs, Tensor) and split.labels.device == device:
        for indices in chosen:
            yield split.inputs[indices], split.labels[indices]
        return
    pinned = device.type == "cuda"

    def load(indices: Tensor) -> Batch:
        inputs, labels = split.inputs[indices], split.labels[indices]
        return (inputs.pin_memory(), labels.pin_memory()) if pinned else (inputs, labels)

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as reader:
        waiting: deque[Future[Batch]] = deque()
        try:
            for indices in chosen:
                waiting.append(reader.submit(load, indices))
                if len(waiting) > BATCHES_AHEAD:
                    yield _move(waiting.popleft().result(), device)
            while waiting:
                yield _move(waiting.popleft().result(), device)
        finally:
            for future in waiting:
                future.cancel()


def _move(batch: Batch, device: torch.device) -> Batch:
    inputs, labels = batch
    return inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def steps_per_epoch(images: int, *, batch_size: int, data_share: float) -> int:
    """Optimiser steps of an epoch that visits ``data_share`` of ``images``; at least one."""
    return max(1, int(data_share * images) // min(batch_size, images))
