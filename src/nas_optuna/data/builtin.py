"""Data: sets that come with a library, or that torchvision knows how to fetch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from nas_optuna.data.folder import ImageFolder, find_split_folders
from nas_optuna.data.images import ImageData
from nas_optuna.data.labelled import Split, SplitName, divide
from nas_optuna.errors import InputError, check_number


class Digits(ImageData):
    """1,797 handwritten digits of 8 x 8 grey pixels that scikit-learn carries (UCI optdigits)."""

    def __init__(
        self,
        *,
        augmentation: Mapping[str, Any] | None = None,
        validation_share: float = 0.2,
        test_share: float = 0.2,
        split_seed: int = 0,
    ) -> None:
        super().__init__(augmentation=augmentation, validation_share=validation_share, split_seed=split_seed)
        check_number("data.test_share", test_share, above=0, below=1)
        self._test_share = test_share
        self._indices: dict[SplitName, NDArray[np.int64]] = {}

    def prepare(self) -> None:
        self._digits = load_digits()
        self.classes = tuple(map(str, self._digits.target_names))
        labels = self._digits.target
        rest, test = divide(labels, self._test_share, seed=self.split_seed, key="data.test_share")
        train, validation = divide(
            labels[rest], self.validation_share, seed=self.split_seed, key="data.validation_share"
        )
        self._indices = {"train": rest[train], "validation": rest[validation], "test": test}

    def read(self, name: SplitName) -> Split:
        indices = self._indices[name]
        # the scanner counted 0 to 16 set pixels in each cell
        images = np.round(self._digits.images[indices] * (255 / 16)).astype(np.uint8)
        return Split(torch.from_numpy(images)[:, None], torch.from_numpy(self._digits.target[indices]))


class TorchvisionData(ImageData):
    """A data set of torchvision's with a train and a test split, downloaded to ``root`` if need be.

    ``root`` may also be a folder of ``train/class/*`` and ``test/class/*`` images; it is then read
    as ``ImageFolder`` reads it.

    Args:
        name: Class name in ``torchvision.datasets``, ``CIFAR10`` or ``FashionMNIST`` for instance.
        root: Where the files are, or go.
        image_size: Side of the images in pixels; used to read a folder.
        channels: 3 for RGB, 1 for grey; used to read a folder.
        options: See ``ImageData``.
    """

    def __init__(
        self,
        *,
        name: str,
        root: str,
        image_size: int,
        channels: int,
        augmentation: Mapping[str, Any] | None = None,
        validation_share: float = 0.1,
        split_seed: int = 0,
    ) -> None:
        super().__init__(augmentation=augmentation, validation_share=validation_share, split_seed=split_seed)
        self._name = name
        self._root = Path(root).expanduser()
        self._folder = ImageFolder(
            root=root,
            image_size=image_size,
            channels=channels,
            validation_share=validation_share,
            split_seed=split_seed,
        )
        self._reads_folder = False

    def expect(self) -> tuple[tuple[int, ...], int | None]:
        shape, classes = self._folder.expect()
        return shape, classes if "test" in find_split_folders(self._root) else None

    def prepare(self) -> None:
        self._reads_folder = "test" in find_split_folders(self._root)
        if self._reads_folder:
            self._folder.cache_dir = self.cache_dir
            self._folder.prepare()
            self.classes = self._folder.classes
            return
        self._fetch(train=False)
        self.classes = tuple(self._training.classes)
        labels = np.asarray(self._training.targets)
        train, validation = divide(
            labels, self.validation_share, seed=self.split_seed, key="data.validation_share"
        )
        self._indices: dict[SplitName, NDArray[np.int64]] = {"train": train, "validation": validation}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_training"}

    @functools.cached_property
    def _training(self) -> Any:
        return self._fetch(train=True)

    def read(self, name: SplitName) -> Split:
        if self._reads_folder:
            split = self._folder.read(name)
            self._files |= self._folder.files
            return split
        if name == "test":
            test = self._fetch(train=False)
            return _to_split(test.data, test.targets)
        indices = self._indices[name]
        return _to_split(
            np.asarray(self._training.data)[indices], np.asarray(self._training.targets)[indices]
        )

    def _fetch(self, *, train: bool) -> Any:
        # imports torchvision's models as well, which takes a second that other data sets need not wait for
        from torchvision import datasets

        factory = getattr(datasets, self._name, None)
        if factory is None:
            raise InputError(f"data.name: {self._name!r} is no data set of torchvision; CIFAR10 is one.")
        try:
            return factory(str(self._root), train=train, download=True)
        except TypeError as error:
            raise InputError(f"data.name: {self._name!r} has no train and test split to ask for.") from error
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"data.root: {self._name} is not in {str(self._root)!r} and can't be downloaded ({reason}). "
                "Point data.root at a copy of it, or at a folder of train/class/* and test/class/* images, "
                "or run +experiment=digits, which needs no download."
            ) from error


def _to_split(pixels: Any, labels: Any) -> Split:
    """Images (N, H, W) or (N, H, W, C) as torchvision keeps them."""
    images = torch.as_tensor(np.asarray(pixels))
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
    return Split(images, torch.as_tensor(np.asarray(labels), dtype=torch.int64))
