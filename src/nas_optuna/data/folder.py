"""Data: a folder of class folders, in any format that Pillow reads."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nas_optuna.data.images import ImageData
from nas_optuna.data.labelled import Split, SplitName, divide
from nas_optuna.errors import InputError, check_number

_Result = TypeVar("_Result")

_SPLIT_LIKE = re.compile(r"(.*_)?(train|training|valid|val|validation|test|testing)", re.IGNORECASE)
_SMALL_FILE = 32_768  # bytes


@dataclass(frozen=True)
class _Listing:
    """Image files and the index of each one's class."""

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]

    def take(self, indices: NDArray[np.int64]) -> _Listing:
        return _Listing(tuple(self.paths[index] for index in indices), self.labels[indices])


class ImageFolder(ImageData):
    """Images sorted into folders, one a class: ``root/class/*`` or ``root/train/class/*``.

    Beside ``train/`` there may be ``validation/`` (or ``val/``) and ``test/``; what is missing is
    taken from the training images, stratified by class and seeded. Images may differ in size,
    mode and format: each is turned upright, laid on white where it is transparent, converted to RGB
    (or grey), scaled until it covers the square and cut to it.

    Args:
        root: The folder.
        image_size: Side of the square, in pixels.
        channels: 3 for RGB, 1 for grey.
        test_share: Part of all images that is kept for the test, where there is no ``test/``.
        options: See ``ImageData``.
    """

    def __init__(
        self,
        *,
        root: str,
        image_size: int,
        channels: int = 3,
        augmentation: Mapping[str, Any] | None = None,
        validation_share: float = 0.1,
        test_share: float = 0.2,
        split_seed: int = 0,
    ) -> None:
        super().__init__(augmentation=augmentation, validation_share=validation_share, split_seed=split_seed)
        check_number("data.image_size", image_size, whole=True, at_least=1)
        check_number("data.test_share", test_share, above=0, below=1)
        if channels not in (1, 3):
            raise InputError(f"data.channels: {channels!r} must be 1 (grey) or 3 (RGB).")
        self._root = Path(root).expanduser()
        self._image_size = image_size
        self._mode = "RGB" if channels == 3 else "L"
        self._test_share = test_share
        self._listings: dict[SplitName, _Listing] = {}

    def expect(self) -> tuple[tuple[int, ...], int | None]:
        shape = (len(self._mode), self._image_size, self._image_size)
        if not self._root.is_dir():
            return shape, None
        return shape, len(_list_classes(find_split_folders(self._root).get("train", self._root)))

    def prepare(self) -> None:
        if not self._root.is_dir():
            raise InputError(
                f"data.root: no folder {str(self._root)!r}. Point data.root at a folder of class folders."
            )
        folders = find_split_folders(self._root)
        self.classes = _list_classes(folders.get("train", self._root))
        listings = {name: _list_images(folder, self.classes) for name, folder in folders.items()}
        if "test" not in listings:
            listings["train"], listings["test"] = self._divide(
                listings["train"], self._test_share, "data.test_share"
            )
        if "validation" not in listings:
            share = self.validation_share
            listings["train"], listings["validation"] = self._divide(
                listings["train"], share, "data.validation_share"
            )
        self._listings = listings
        # decoded and let go of at once: a broken file is found now, not after hours of search
        _in_parallel(self._check, listings["test"].paths)

    def read(self, name: SplitName) -> Split:
        listing = self._listings[name]
        pixels = np.stack(_in_parallel(self._decode, listing.paths))
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        return Split(images, torch.from_numpy(listing.labels))

    def _check(self, path: Path) -> None:
        self._decode(path)

    def _decode(self, path: Path) -> NDArray[np.uint8]:
        """Pixels (H, W, C) of one file."""
        try:
            with Image.open(path) as image:
                # lets JPEG decode large photos at a fraction of their size
                image.draft(None, (self._image_size, self._image_size))
                square = ImageOps.fit(_flatten(ImageOps.exif_transpose(image)), (self._image_size,) * 2)
                pixels = np.asarray(square.convert(self._mode))
        except Exception as error:  # Pillow's plugins raise whatever their parsers do
            raise InputError(
                f"data.root: can't read the image {str(path)!r} ({error}). Repair or remove it."
            ) from error
        return pixels.reshape(self._image_size, self._image_size, -1)

    def _divide(self, listing: _Listing, share: float, key: str) -> tuple[_Listing, _Listing]:
        first, second = divide(listing.labels, share, seed=self.split_seed, key=key)
        return listing.take(first), listing.take(second)


def find_split_folders(root: Path) -> dict[SplitName, Path]:
    """The folder of each split that has one; ``root`` itself where it holds the classes.

    Raises:
        InputError: All folders are named like splits, but none ``train``.
    """
    if not (root / "train").is_dir():
        folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []
        if folders and all(map(_SPLIT_LIKE.fullmatch, folders)):
            raise InputError(
                f"data.root: the folders {', '.join(folders)} in {str(root)!r} look like splits, but none is "
                "named 'train'. Name them train, validation and test."
            )
        return {"train": root}
    names: dict[SplitName, tuple[str, ...]] = {
        "train": ("train",),
        "validation": ("validation", "val", "valid"),
        "test": ("test",),
    }
    found = {
        split: [root / name for name in spellings if (root / name).is_dir()]
        for split, spellings in names.items()
    }
    return {split: folders[0] for split, folders in found.items() if folders}


def _list_classes(folder: Path) -> tuple[str, ...]:
    names = sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    if not names:
        raise InputError(
            f"data.root: {str(folder)!r} holds no class folders. Sort the images into one folder a class."
        )
    if len(names) == 1:
        raise InputError(
            f"data.root: {str(folder)!r} holds a single class, {names[0]!r}. A classifier needs at least two."
        )
    return tuple(names)


def _list_images(folder: Path, classes: Sequence[str]) -> _Listing:
    extra = {
        entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    } - set(classes)
    if extra:
        raise InputError(
            f"data.root: {str(folder / min(extra))!r} is a class that the training images don't have."
        )
    suffixes = set(Image.registered_extensions())
    paths, labels = [], []
    for label, name in enumerate(classes):
        files = sorted(path for path in (folder / name).rglob("*") if path.suffix.lower() in suffixes)
        if not files:
            raise InputError(
                f"data.root: the class folder {str(folder / name)!r} holds no images. Add some or remove it."
            )
        paths += files
        labels += [label] * len(files)
    return _Listing(tuple(paths), np.array(labels, dtype=np.int64))


def _flatten(image: Image.Image) -> Image.Image:
    """Lay transparent images on white and bring 16 bits down to 8."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode in ("1", "P"):
        # neither can hold the shades between two pixels, which scaling makes
        return image.convert("RGB")
    if image.mode.startswith("I"):
        # Pillow would cut values above 255 off
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    return image


def _in_parallel(function: Callable[[Path], _Result], paths: Sequence[Path]) -> list[_Result]:
    # Pillow lets go of the interpreter lock only while it decodes: for small files, threads
    # spend more time on handing the lock around than they gain
    sample = paths[:: max(1, len(paths) // 32)]
    if sum(path.stat().st_size for path in sample if path.exists()) < _SMALL_FILE * len(sample):
        return list(map(function, paths))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, paths))
