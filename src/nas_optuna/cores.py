"""How a machine is divided among workers, and how a process uses its part."""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import multiprocessing
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from nas_optuna.errors import InputError, check_number

# of malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
# of Python's collector: objects made until the youngest are looked at, and how often the older ones
_RARELY = (50_000, 20, 50)

MOST_WORKERS = 8  # that ``auto`` starts on CPU cores: more learn less from one another
MOST_ON_A_GPU = 4  # a small network leaves most of a GPU idle, four of them hardly any


def count_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_workers(asked: object) -> None:
    """Raise an ``InputError`` unless ``workers`` is ``auto`` or a positive number."""
    if asked == "auto":
        return
    if not isinstance(asked, int) or isinstance(asked, bool):
        raise InputError(f"workers: {asked!r} must be auto or a whole number, at least 1.")
    check_number("workers", asked, whole=True, at_least=1)


def count_workers(
    asked: object, *, device: torch.device, n_trials: int | None, needed: Callable[[], int] = lambda: 0
) -> int:
    """How many workers ``workers=auto|N`` means.

    ``auto`` is one for each core of a machine without GPUs, up to eight: two processes of one thread
    train more networks than one of two threads. On GPUs it is as many as fit on each, up to four, and
    no more than there are cores to drive them. In a process that was itself started to do one job of
    many it is one.

    Args:
        asked: The value of ``workers``, checked.
        device: What networks are trained on.
        n_trials: No more workers than networks.
        needed: Tells the bytes of a GPU's memory that a worker needs; asked only where it matters.
    """
    if isinstance(asked, int):
        return asked
    if multiprocessing.current_process().name != "MainProcess" or device.type == "mps":
        return 1
    count = _count_on_gpus(needed()) if device.type == "cuda" else min(count_cores(), MOST_WORKERS)
    return max(1, min(count, n_trials or count))


def _count_on_gpus(needed: int) -> int:
    gpus = torch.cuda.device_count()
    # what a GPU has, not what is free: asking that makes this process a user of each
    smallest = min(torch.cuda.get_device_properties(index).total_memory for index in range(gpus))
    on_each = min(MOST_ON_A_GPU, count_cores() // gpus, smallest // max(1, needed))
    return gpus * max(1, on_each)


def threads_of_each(workers: int) -> int:
    """CPU threads of one of so many workers."""
    return max(1, count_cores() // workers)


def tune_process() -> None:
    """Let this process run trainings at its best; for good, so only a program of ours may ask.

    A training step frees its activations and asks for as much again. GNU's C library gives large
    pieces back to the system each time, which then has to clear every page anew: on small images
    that is a fifth to a third of a step on a CPU. Other C libraries are left as they are.

    Python's collector looks for cycles among all objects now and then, which takes up to a quarter of
    a second: what exists by now is left out, and as a trial is collected at its end, it is looked at
    rarely before.
    """
    gc.freeze()
    gc.set_threshold(*_RARELY)
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(_M_MMAP_MAX, 0)


@functools.cache
def leave_out_lasting() -> None:
    """Let Python's collector skip what a first trial leaves behind: modules, caches, names of files."""
    gc.freeze()
    # not at the end: only what is collected closes its database
    atexit.register(gc.unfreeze)


def processor() -> str:
    """The name of this machine's CPU."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
