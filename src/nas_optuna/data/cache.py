"""Data: decoded splits on disk, mapped into memory, so that the processes of a machine hold them once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

INPUTS, LABELS = "inputs.npy", "labels.npy"
SPARE_DISK = 1.2  # a cache is written where so many times its size is free


def find(folder: Path) -> Path | None:
    """The folder, if it holds a split."""
    return folder if (folder / INPUTS).is_file() and (folder / LABELS).is_file() else None


def has_room(folder: Path, size: int) -> bool:
    """Whether the disk that ``folder`` is on takes ``size`` bytes and more."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free > SPARE_DISK * size


def write(
    folder: Path,
    *,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    labels: NDArray[np.int64],
    fill: Callable[[NDArray[Any]], None],
) -> None:
    """Write a split as a whole: a crash leaves nothing that ``find`` finds.

    Args:
        folder: Where; made with its parents.
        shape, dtype: Of all inputs together.
        labels: (N,) class of each.
        fill: Writes the inputs into the array on disk that it is given.
    """
    with _whole_folder(folder) as temporary:
        inputs = np.lib.format.open_memmap(temporary / INPUTS, mode="w+", dtype=dtype, shape=shape)
        fill(inputs)
        inputs.flush()
        np.save(temporary / LABELS, labels)


def write_arrays(folder: Path, inputs: NDArray[Any], labels: NDArray[np.int64]) -> None:
    """Write a split that is in memory."""
    write(
        folder,
        shape=inputs.shape,
        dtype=inputs.dtype,
        labels=labels,
        fill=lambda array: np.copyto(array, inputs),
    )


def read(folder: Path) -> tuple[Tensor, Tensor]:
    """Inputs and labels. The inputs are mapped: read from disk when used, and shared by all who map them."""
    # copy-on-write: torch wants memory that may be written to, and what is written stays private
    inputs = np.load(folder / INPUTS, mmap_mode="c", allow_pickle=False)
    return torch.from_numpy(inputs), torch.from_numpy(np.load(folder / LABELS, allow_pickle=False))


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:16]}-"))
    try:
        yield temporary
        try:
            temporary.rename(folder)
        except OSError:
            if find(folder) is None:  # another process was no faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
