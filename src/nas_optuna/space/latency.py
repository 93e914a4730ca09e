"""Search space: how long a network takes on the device at hand, as it is and as it is exported."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_optuna.errors import InputError, check_number, check_one_of

# what else a machine does only adds to a batch's time, and not to each: a low quantile hardly moves
LOW, MEDIAN, HIGH = 0.05, 0.5, 0.9
LEAST_SECONDS = 0.2  # of timing: shorter ones fall into one mood of the machine
PRECISION = 0.02  # half of the 95 % interval of the low quantile, as a part of it
GROWTH = 1.2  # of the number of batches between two looks at the precision

# from a network on its device, a batch and the CPU threads to what computes such a batch
Form = Callable[[nn.Module, Tensor, int], Callable[[Tensor], Any]]


def _eager(network: nn.Module, inputs: Tensor, threads: int) -> Callable[[Tensor], Any]:
    return network


def _exported(network: nn.Module, inputs: Tensor, threads: int) -> Callable[[Tensor], Any]:
    return torch.export.export(network, (inputs,)).module()


FORMS: dict[str, Form] = {"eager": _eager, "exported": _exported}


@dataclass(frozen=True)
class Latency:
    """Time of one batch, in seconds.

    Attributes:
        low: One in twenty of the repeats took less: what counts.
        median, high: Half of them took less, and nine tenths: how disturbed they were.
        repeats: Timed batches.
        batch_size, threads, device, form: How it was measured.
    """

    low: float
    median: float
    high: float
    repeats: int
    batch_size: int
    threads: int
    device: str
    form: str

    @property
    def milliseconds(self) -> float:
        """What counts."""
        return self.low * 1e3

    def __str__(self) -> str:
        return (
            f"{self.milliseconds:.3g} ms (median {self.median * 1e3:.3g}, nine tenths below "
            f"{self.high * 1e3:.3g})"
        )


def measure_latency(
    network: nn.Module,
    *,
    input_shape: tuple[int, ...],
    batch_size: int = 1,
    device: str = "cpu",
    threads: int | None = None,
    form: str = "eager",
    forms: Mapping[str, Form] = FORMS,
    warm_up: int = 10,
    seconds: float = 2.0,
    repeats: int = 20,
) -> Latency:
    """Time a network without gradients, on random inputs, until its time is known to 2 %.

    Two measurements at the same time disturb one another more than any training does.

    Args:
        network: Is put into evaluation mode and moved to the device.
        input_shape: Without the batch axis.
        batch_size: Inputs at once.
        device: ``cpu``, ``cuda``, ``mps``.
        threads: Of the CPU; None for torch's choice.
        form: ``eager``, or ``exported``: the program that ``torch.export`` makes; or another of ``forms``.
        forms: What each form makes of a network.
        warm_up: Batches before the first timed one.
        seconds: Ends the timing where it does not become precise, ...
        repeats: ... after at least so many batches.

    Raises:
        InputError: A number is out of its range, or the device is missing.
    """
    check_number("batch_size", batch_size, whole=True, at_least=1)
    check_number("warm_up", warm_up, whole=True, at_least=0)
    check_number("repeats", repeats, whole=True, at_least=2)
    check_one_of("form", form, tuple(forms))
    if threads is not None:
        check_number("threads", threads, whole=True, at_least=1)
    check_device("device", device)
    inputs = torch.rand(batch_size, *input_shape, device=device)
    if inputs.ndim == 4:
        inputs = inputs.to(memory_format=torch.channels_last)
        network = network.to(memory_format=torch.channels_last)
    network = network.to(device).eval()
    with _threads(threads), torch.no_grad():
        used = torch.get_num_threads()
        run = forms[form](network, inputs, used)

        def seconds_of_one() -> float:
            started = time.perf_counter()
            run(inputs)
            _wait(device)
            return time.perf_counter() - started

        for _ in range(warm_up):
            seconds_of_one()
        times = _repeat(seconds_of_one, seconds=seconds, repeats=repeats)
    low, median, high = (float(value) for value in np.quantile(times, (LOW, MEDIAN, HIGH)))
    return Latency(low, median, high, len(times), batch_size, used, device, form)


def check_device(key: str, device: str) -> None:
    """Raise an ``InputError`` that names ``key`` where this machine or this torch lacks the device."""
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(str(device).partition(":")[0]):
        raise InputError(f"{key}: this machine, or this torch, has no {device!r}; use cpu.")


def _repeat(seconds_of_one: Callable[[], float], *, seconds: float, repeats: int) -> list[float]:
    times: list[float] = []
    started = time.perf_counter()
    enough = repeats
    while True:
        times.append(seconds_of_one())
        elapsed = time.perf_counter() - started
        if len(times) < enough and (elapsed < seconds or len(times) < repeats):
            continue
        if elapsed >= seconds or (elapsed >= LEAST_SECONDS and _half_width(times) <= PRECISION):
            return times
        enough = max(enough, math.ceil(GROWTH * len(times)))


def _half_width(times: Sequence[float]) -> float:
    """Half of the low quantile's 95 % interval, as a part of it, by order statistics alone."""
    ordered, count = np.sort(times), len(times)
    spread = 1.96 * math.sqrt(count * LOW * (1 - LOW))
    first = max(0, math.floor(count * LOW - spread))
    last = min(count - 1, math.ceil(count * LOW + spread))
    return float((ordered[last] - ordered[first]) / 2 / np.quantile(ordered, LOW))


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
