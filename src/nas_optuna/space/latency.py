"""Search space: how long a network takes on the device at hand, as it is and as it is exported."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas_optuna.errors import InputError, check_number, check_one_of

FORMS = ("eager", "exported")


@dataclass(frozen=True)
class Latency:
    """Time of one batch, in seconds.

    Attributes:
        median: Half of the repeats took less.
        low, high: A quarter of the repeats took less, and more: the spread.
        repeats: Timed batches.
        batch_size, threads, device, form: How it was measured.
    """

    median: float
    low: float
    high: float
    repeats: int
    batch_size: int
    threads: int
    device: str
    form: str

    def __str__(self) -> str:
        return f"{self.median * 1e3:.2f} ms ({self.low * 1e3:.2f} to {self.high * 1e3:.2f})"


def measure_latency(
    network: nn.Module,
    *,
    input_shape: tuple[int, ...],
    batch_size: int = 1,
    device: str = "cpu",
    threads: int | None = None,
    form: str = "eager",
    warm_up: int = 10,
    seconds: float = 0.5,
    repeats: int = 20,
) -> Latency:
    """Time a network without gradients, on random inputs.

    Only one measurement at a time, on a machine that does nothing else, says something.

    Args:
        network: Is put into evaluation mode and moved to the device.
        input_shape: Without the batch axis.
        batch_size: Inputs at once.
        device: ``cpu``, ``cuda``, ``mps``.
        threads: Of the CPU; None for torch's choice.
        form: ``eager``, or ``exported``: the program that ``torch.export`` makes.
        warm_up: Batches before the first timed one.
        seconds: Goes on timing at least so long ...
        repeats: ... and at least so many batches.

    Raises:
        InputError: A number is out of its range, or the device is missing.
    """
    check_number("batch_size", batch_size, whole=True, at_least=1)
    check_number("warm_up", warm_up, whole=True, at_least=0)
    check_number("repeats", repeats, whole=True, at_least=2)
    check_one_of("form", form, FORMS)
    if threads is not None:
        check_number("threads", threads, whole=True, at_least=1)
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(torch.device(device).type):
        raise InputError(f"device: this machine, or this torch, has no {device!r}; use cpu.")
    inputs = torch.rand(batch_size, *input_shape, device=device)
    if inputs.ndim == 4:
        inputs = inputs.to(memory_format=torch.channels_last)
        network = network.to(memory_format=torch.channels_last)
    network = network.to(device).eval()
    with _threads(threads), torch.no_grad():
        run: Callable[[Tensor], Any] = network
        if form == "exported":
            run = torch.export.export(network, (inputs,)).module()
        for _ in range(warm_up):
            run(inputs)
        _wait(device)
        times: list[float] = []
        ends = time.perf_counter() + seconds
        while len(times) < repeats or time.perf_counter() < ends:
            started = time.perf_counter()
            run(inputs)
            _wait(device)
            times.append(time.perf_counter() - started)
        low, median, high = statistics.quantiles(times, n=4)
        return Latency(median, low, high, len(times), batch_size, torch.get_num_threads(), device, form)


def _wait(device: str) -> None:
    kind = torch.device(device).type
    if kind in ("cuda", "mps"):
        getattr(torch, kind).synchronize()


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
