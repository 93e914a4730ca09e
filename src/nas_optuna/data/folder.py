"""Data: a folder of class folders, in any format that Pillow reads."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nas_optuna.data import cache
from nas_optuna.data.decode import read_image
from nas_optuna.data.images import ImageData
from nas_optuna.data.labelled import CHUNK, Split, SplitName, divide
from nas_optuna.errors import InputError, check_number

_Result = TypeVar("_Result")

_SPLIT_LIKE = re.compile(r"(.*_)?(train|training|valid|val|validation|test|testing)", re.IGNORECASE)
_SMALL_FILE = 32_768  # bytes
CACHE_FORMAT = 1  # counts up when files are decoded differently


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
        self._keys: dict[SplitName, str] = {}

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
        # a broken file is found now, not after hours of search; no network sees the images
        if self._cached("test") is None and self._write("test") is None:
            for _ in self._decode_all(listings["test"]):
                pass

    @property
    def files(self) -> dict[SplitName, Path]:
        """Where splits that were read lie decoded."""
        return dict(self._files)

    def read(self, name: SplitName) -> Split:
        """One split, decoded once for all runs and processes where there is a ``cache_dir``.

        Where the pixels fit neither on its disk nor into free memory, files are decoded when a
        batch needs them.
        """
        listing = self._listings[name]
        labels = torch.from_numpy(listing.labels)
        shape = self._shape(name)
        folder = self._cached(name) or self._write(name)
        if folder is not None:
            self._files[name] = folder
            return Split(*cache.read(folder))
        if math.prod(shape) > psutil.virtual_memory().available / 2:
            return Split(Files(shape, listing.paths, self._decode), labels)
        return Split(torch.cat([torch.from_numpy(chunk) for chunk in self._decode_all(listing)]), labels)

    def _cached(self, name: SplitName) -> Path | None:
        """The folder of the cache that holds a split, if it is there."""
        return cache.find(self.cache_dir / self._key(name)) if self.cache_dir is not None else None

    def _shape(self, name: SplitName) -> tuple[int, ...]:
        return (len(self._listings[name].paths), len(self._mode), self._image_size, self._image_size)

    def _write(self, name: SplitName) -> Path | None:
        shape = self._shape(name)
        if self.cache_dir is None or not cache.has_room(self.cache_dir, math.prod(shape)):
            return None
        folder, listing = self.cache_dir / self._key(name), self._listings[name]

        def fill(pixels: NDArray[np.uint8]) -> None:
            done = 0
            for chunk in self._decode_all(listing):
                pixels[done : done + len(chunk)] = chunk
                done += len(chunk)

        try:
            cache.write(folder, shape=shape, dtype=np.dtype(np.uint8), labels=listing.labels, fill=fill)
        except OSError:  # not allowed to write there, or full by now
            return None
        return folder

    def _key(self, name: SplitName) -> str:
        """Changes when a file's contents or label do, or how it is decoded."""
        if name not in self._keys:
            listing = self._listings[name]
            digest = hashlib.sha256(
                repr((CACHE_FORMAT, PIL.__version__, self._image_size, self._mode)).encode()
            )
            digest.update(listing.labels.tobytes())
            for content in _in_parallel(_digest_file, listing.paths):
                digest.update(content)
            self._keys[name] = f"{digest.hexdigest()[:32]}-{name}"
        return self._keys[name]

    def _decode_all(self, listing: _Listing) -> Iterator[NDArray[np.uint8]]:
        """Pixels (N, C, H, W), some thousand files at a time."""
        for start in range(0, len(listing.paths), CHUNK):
            yield np.stack(_in_parallel(self._decode, listing.paths[start : start + CHUNK]))

    def _decode(self, path: Path) -> NDArray[np.uint8]:
        """Pixels (C, H, W) of one file."""
        side = self._image_size
        try:
            return read_image(path, height=side, width=side, mode=self._mode)
        except Exception as error:  # Pillow's plugins raise whatever their parsers do
            raise InputError(
                f"data.root: can't read the image {str(path)!r} ({error}). Repair or remove it."
            ) from error

    def _divide(self, listing: _Listing, share: float, key: str) -> tuple[_Listing, _Listing]:
        first, second = divide(listing.labels, share, seed=self.split_seed, key=key)
        return listing.take(first), listing.take(second)


@dataclass(frozen=True)
class Files:
    """Images (N, C, H, W) that are decoded when they are asked for.

    Attributes:
        shape: Of all of them.
        paths: Of each.
        decode: From a path to pixels (C, H, W).
    """

    shape: tuple[int, ...]
    paths: tuple[Path, ...]
    decode: Callable[[Path], NDArray[np.uint8]]

    def __getitem__(self, indices: Tensor) -> Tensor:
        chosen = [self.paths[index] for index in indices.tolist()]
        return torch.from_numpy(np.stack(_in_parallel(self.decode, chosen)))


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


def _digest_file(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise InputError(
            f"data.root: can't read the image {str(path)!r} ({error.strerror}). Repair or remove it."
        ) from error


def _in_parallel(function: Callable[[Path], _Result], paths: Sequence[Path]) -> list[_Result]:
    # Pillow lets go of the interpreter lock only while it decodes: for small files, threads
    # spend more time on handing the lock around than they gain
    sample = paths[:: max(1, len(paths) // 32)]
    if sum(path.stat().st_size for path in sample if path.exists()) < _SMALL_FILE * len(sample):
        return list(map(function, paths))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, paths))
