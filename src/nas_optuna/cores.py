"""How a machine is divided among workers."""

from __future__ import annotations

import multiprocessing
import os

import torch

from nas_optuna.errors import InputError, check_number

MOST_WORKERS = 8  # that ``auto`` starts on CPU cores: more learn less from one another


def count_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_workers(asked: object, *, device: torch.device, n_trials: int | None) -> int:
    """How many workers ``workers=auto|N`` means.

    ``auto`` is one for each GPU, and one for each core of a machine without, up to eight: two
    processes of one thread train more networks than one of two threads. In a process that was
    itself started to do one job of many it is one.

    Args:
        asked: The value of ``workers``.
        device: What networks are trained on.
        n_trials: No more workers than networks.

    Raises:
        InputError: It is neither ``auto`` nor a positive number.
    """
    if asked != "auto":
        if not isinstance(asked, int) or isinstance(asked, bool):
            raise InputError(f"workers: {asked!r} must be auto or a whole number, at least 1.")
        check_number("workers", asked, whole=True, at_least=1)
        return asked
    if multiprocessing.current_process().name != "MainProcess" or device.type == "mps":
        return 1
    count = torch.cuda.device_count() if device.type == "cuda" else min(count_cores(), MOST_WORKERS)
    return max(1, min(count, n_trials or count))


def threads_of_each(workers: int) -> int:
    """CPU threads of one of so many workers."""
    return max(1, count_cores() // workers)
