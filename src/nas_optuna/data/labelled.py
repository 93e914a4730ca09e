"""Data: labelled examples in memory, in three splits that are kept apart."""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import Generator, Tensor

from nas_optuna.errors import InputError, check_number

SplitName = Literal["train", "validation", "test"]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Examples and their labels (N,) as int64, on one device.

    Attributes:
        inputs: Images (N, C, H, W) as uint8, or series (N, C, L) as float32.
        labels: The class of each.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """The same split on another device."""
        return Split(self.inputs.to(device), self.labels.to(device))

    def __add__(self, other: Split) -> Split:
        return Split(torch.cat([self.inputs, other.inputs]), torch.cat([self.labels, other.labels]))


class LabelledData(ABC):
    """A data set. A subclass says how to check it and how to read one split.

    The test split is read by whoever asks for it by name, and only the final evaluation does:
    search, planning and normalisation use train and validation.

    Args:
        augment: Changes a batch of training inputs, with a generator on their device.
        validation_share: Part of the training examples that validation takes, where the data set
            does not come with a validation split.
        split_seed: Seed of that division. It is apart from the search's seed, so that studies with
            different seeds judge networks on the same examples.
    """

    classes: tuple[str, ...]

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
            self._splits[name, device] = self.read(name) if on_cpu else self.split(name).to(device)
        return self._splits[name, device]

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
            digest.update(self.digest(split.inputs))
        return digest.hexdigest()[:12]

    def digest(self, inputs: Tensor) -> bytes:
        """Bytes that change when the inputs do."""
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
