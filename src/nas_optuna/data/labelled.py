"""Data: labelled examples in memory, in three splits that are kept apart."""

from __future__ import annotations

import functools
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import Generator, Tensor

from nas_optuna.data import cache
from nas_optuna.errors import InputError, check_number

SplitName = Literal["train", "validation", "test"]
Indices = NDArray[np.int64]


JOINED_IN_MEMORY = 2**30  # bytes that train and validation together may take once more
SAMPLED = 2**29  # bytes of inputs whose mean and deviation stand for all
SHARED = 2**23  # bytes from which on processes map a split rather than hold one each
CHUNK = 4096  # examples


class Inputs(Protocol):
    """Inputs (N, C, ...) that are read when they are asked for by a tensor of indices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all of them."""

    def __getitem__(self, indices: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Joined:
    """Two sets of inputs, one after the other, without a copy."""

    first: Tensor | Inputs
    second: Tensor | Inputs

    @property
    def shape(self) -> tuple[int, ...]:
        """Of both together."""
        return (self.first.shape[0] + self.second.shape[0], *self.first.shape[1:])

    def __getitem__(self, indices: Tensor) -> Tensor:
        border = self.first.shape[0]
        inside = indices < border
        first, second = self.first[indices[inside]], self.second[indices[~inside] - border]
        joined = torch.empty((len(indices), *self.shape[1:]), dtype=first.dtype)
        joined[inside], joined[~inside] = first, second
        return joined


@dataclass(frozen=True)
class Split:
    """Examples and their labels (N,) as int64, on one device.

    Attributes:
        inputs: Images (N, C, H, W) as uint8, or series (N, C, L) as float32; where they fit neither
            into memory nor on disk, something that reads those asked for.
        labels: The class of each.
    """

    inputs: Tensor | Inputs
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> int:
        """Bytes of the inputs, as they are on a device."""
        itemsize = self.inputs.itemsize if isinstance(self.inputs, Tensor) else 1
        return math.prod(self.inputs.shape) * itemsize

    def to(self, device: torch.device) -> Split:
        """The same split on another device; itself where it does not fit there."""
        if not isinstance(self.inputs, Tensor) or not _fits(self.size, device):
            return self
        return Split(self.inputs.to(device), self.labels.to(device))

    def chunks(self, *, most: int | None = None) -> Iterator[Tensor]:
        """All inputs, a few thousand at a time; of more than ``most`` bytes an even sample."""
        step = 1 if most is None else -(-self.size // most)
        for indices in torch.arange(0, len(self), step, device=self.labels.device).split(CHUNK):
            yield self.inputs[indices]

    def __add__(self, other: Split) -> Split:
        labels = torch.cat([self.labels, other.labels.to(self.labels.device)])
        first, second = self.inputs, other.inputs
        if isinstance(first, Tensor) and isinstance(second, Tensor):
            if first.device != second.device:  # the larger one did not fit
                first, second, labels = first.cpu(), second.cpu(), labels.cpu()
            elif first.device.type != "cpu" or self.size + other.size <= JOINED_IN_MEMORY:
                return Split(torch.cat([first, second]), labels)
        return Split(Joined(first, second), labels)


def _fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes leave room for training beside them."""
    if device.type == "cuda":
        return size < torch.cuda.mem_get_info(device)[0] / 2
    if device.type == "mps":
        return size < torch.mps.recommended_max_memory() / 4
    return True


class LabelledData(ABC):
    """A data set. A subclass says how to check it and how to read one split.

    The test split is read by whoever asks for it by name, and only the final evaluation does:
    search, planning and normalisation use train and validation.

    Attributes:
        classes: Their names, in the order of the labels.
        cache_dir: Where decoded examples are kept between runs and shared between processes; None
            for nowhere. Set it before ``prepare``.

    Args:
        augment: Changes a batch of training inputs, with a generator on their device.
        validation_share: Part of the training examples that validation takes, where the data set
            does not come with a validation split.
        split_seed: Seed of that division. It is apart from the search's seed, so that studies with
            different seeds judge networks on the same examples.
    """

    classes: tuple[str, ...]
    cache_dir: Path | None = None

    def __init__(
        self,
        *,
        augment: Callable[[Tensor, Generator], Tensor],
        validation_share: float = 0.1,
        split_seed: int = 0,
    ) -> None:
        check_number("data.validation_share", validation_share, above=0, below=1)
        check_number("data.split_seed", split_seed, whole=True, at_least=0, at_most=2**32 - 1)
        self.augmentation = augment
        self.validation_share = validation_share
        self.split_seed = split_seed
        self._splits: dict[tuple[SplitName, torch.device], Split] = {}
        self._files: dict[SplitName, Path] = {}

    def __getstate__(self) -> dict[str, Any]:
        # another process maps or reads for itself
        return {**self.__dict__, "_splits": {}}

    @abstractmethod
    def prepare(self) -> None:
        """Find the data, check it, set ``classes``. Runs once, before anything else.

        Raises:
            InputError: Something is missing, empty or unreadable.
        """

    @abstractmethod
    def read(self, name: SplitName) -> Split:
        """Read one split into memory, on the CPU, all inputs of one shape."""

    @functools.cached_property
    @abstractmethod
    def normalization(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over the training split, as networks see it."""

    def expect(self) -> tuple[tuple[int, ...], int | None]:
        """Shape of an input and number of classes (None if unknown), without reading all the data.

        Raises:
            InputError: They can't be told, because the data is missing or unreadable.
        """
        self.prepare()
        return self.input_shape, len(self.classes)

    def split(self, name: SplitName, device: torch.device | None = None) -> Split:
        """One split on a device, read once and kept."""
        device = device or torch.device("cpu")
        if (name, device) not in self._splits:
            on_cpu = device == torch.device("cpu")
            self._splits[name, device] = self._open(name) if on_cpu else self.split(name).to(device)
        return self._splits[name, device]

    def share(self) -> None:
        """Let other processes map what search reads: a copy of this object, pickled, holds no examples.

        Large splits go to ``cache_dir``; where it is None, or full, each process reads its own.
        """
        for name in ("train", "validation"):
            split = self.split(name)
            if name in self._files or self.cache_dir is None or not isinstance(split.inputs, Tensor):
                continue
            folder = self.cache_dir / f"{self.fingerprint}-{name}"
            if split.size < SHARED or not cache.has_room(folder, split.size):
                continue
            if cache.find(folder) is None:
                cache.write_arrays(folder, split.inputs.numpy(), split.labels.numpy())
            self._files[name] = folder
            del self._splits[name, torch.device("cpu")]

    def _open(self, name: SplitName) -> Split:
        return Split(*cache.read(self._files[name])) if name in self._files else self.read(name)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Channels, then height and width, or length."""
        return tuple(self.split("train").inputs.shape[1:])

    @functools.cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when the classes, sizes or division of the data do."""
        digest = hashlib.sha256(repr((self.classes, self.input_shape)).encode())
        for name in ("train", "validation"):
            split = self.split(name)
            digest.update(split.labels.numpy().tobytes())
            for inputs in split.chunks():
                digest.update(self.digest(inputs))
        return digest.hexdigest()[:12]

    def digest(self, inputs: Tensor) -> bytes:
        """Bytes that change when the inputs, some of a split, do."""
        return inputs.numpy().tobytes()


def divide(labels: NDArray[np.int64], share: float, *, seed: int, key: str) -> tuple[Indices, Indices]:
    """Divide examples into two parts with the same mixture of classes.

    Args:
        labels: (N,) class of each example.
        share: Size of the second part, between 0 and 1.
        seed: Seed of the division.
        key: Name of the share in the configuration, for the error message.

    Returns:
        Indices of the first and the second part, each shuffled.

    Raises:
        InputError: A class has too few images to be in both parts.
    """
    counts = np.bincount(labels)
    smallest = int(counts.min())
    size = max(round(share * len(labels)), len(counts))
    if smallest < 2 or size > len(labels) - len(counts):
        raise InputError(
            f"a class has {smallest} example(s), too few to divide by {key}={share}. Add some to it."
        )
    first, second = train_test_split(
        np.arange(len(labels)), test_size=size, stratify=labels, random_state=seed
    )
    parts = [np.bincount(labels[part], minlength=len(counts)) for part in (first, second)]
    if min(part.min() for part in parts) == 0:
        raise InputError(
            f"a class has {smallest} example(s), too few to be in both parts of a division by {key}={share}. "
            "Add some to it, or give a larger share."
        )
    return first, second
