"""Performance estimation: how a device computes a network: memory format, precision, threads, compilation."""

from __future__ import annotations

import copy
import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_optuna.errors import InputError, check_number, check_one_of
from nas_optuna.files import write_file

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
MemoryFormat = Literal["channels_last", "contiguous"]

_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}

MARGIN = 1.1  # by which something else must beat the default: near ties would be decided by chance
TIMED_STEPS = 3
PROBE_IMAGES = 32  # of a batch: enough to rank, cheap enough for every network
SHORT_SECONDS = 5.0  # a training in which nothing could be gained that the measurement does not cost
# a compilation takes this long or longer; what it may save is rarely more than a fifth
COMPILATION_SECONDS, COMPILATION_GAIN = 30.0, 0.2


@dataclass(frozen=True)
class Execution:
    """How a device computes a network.

    Attributes:
        precision: ``32-true``, ``bf16-mixed`` (bfloat16 where torch's autocast holds it to be safe) or
            ``16-mixed`` (float16 likewise, with the loss scaled).
        memory_format: ``channels_last`` or ``contiguous`` (channels first).
        threads: CPU threads; None for as many as the process has.
        compile: Whether ``torch.compile`` makes kernels for the network.

    Raises:
        InputError: A value is none of these.
    """

    precision: Precision = "32-true"
    memory_format: MemoryFormat = "channels_last"
    threads: int | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        check_one_of("estimation.execution.precision", self.precision, get_args(Precision))
        check_one_of("estimation.execution.memory_format", self.memory_format, get_args(MemoryFormat))
        if self.threads is not None:
            check_number("estimation.execution.threads", self.threads, whole=True, at_least=1)
        if not isinstance(self.compile, bool):
            raise InputError(f"estimation.execution.compile: {self.compile!r} must be true or false.")

    def check(self, device: torch.device) -> None:
        """Raise an ``InputError`` where a device can't compute so."""
        if self.precision == "16-mixed" and device.type != "cuda":
            raise InputError(
                f"estimation.execution: 16-mixed needs a CUDA device, this is {device.type}; use bf16-mixed, "
                "32-true or auto."
            )

    def __str__(self) -> str:
        words: list[str] = [self.precision, self.memory_format]
        words += [f"threads={self.threads}"] if self.threads else []
        words += ["compiled"] if self.compile else []
        return " ".join(words)

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Where forward passes run. One for each step: it keeps the weights it has converted."""
        if self.precision == "32-true":
            return nullcontext()
        return torch.autocast(device.type, _DTYPES[self.precision])

    def scaler(self, device: torch.device) -> torch.amp.GradScaler | None:
        """Scales the loss where float16's range needs it."""
        return torch.amp.GradScaler(device.type) if self.precision == "16-mixed" else None

    def arrange(self, network: nn.Module) -> nn.Module:
        """The network with its weights in the memory format."""
        return network.to(memory_format=_FORMATS[self.memory_format])

    def lay_out(self, inputs: Tensor) -> Tensor:
        """A batch in the memory format; series have one only."""
        return inputs.contiguous(memory_format=_FORMATS[self.memory_format]) if inputs.ndim == 4 else inputs

    @contextmanager
    def limited_threads(self) -> Iterator[None]:
        """What runs inside uses ``threads`` CPU threads."""
        before = torch.get_num_threads()
        torch.set_num_threads(min(before, self.threads or before))
        try:
            yield
        finally:
            torch.set_num_threads(before)


def parse_execution(value: object) -> Execution | None:
    """What ``estimation.execution`` says; None for ``auto``.

    Args:
        value: ``auto``, a precision, or a mapping of the attributes of ``Execution``.

    Raises:
        InputError: It is none of these.
    """
    if value == "auto":
        return None
    if isinstance(value, str):
        check_one_of("estimation.execution", value, ("auto", *get_args(Precision)))
        return Execution(precision=cast("Precision", value))
    if not isinstance(value, Mapping):
        raise InputError(
            f"estimation.execution: {value!r} must be auto, a precision such as bf16-mixed, or a mapping of "
            f"{', '.join(Execution.__annotations__)}."
        )
    for name in value:
        check_one_of("estimation.execution", name, tuple(Execution.__annotations__))
    return Execution(**value)


def describe_device(device: torch.device) -> str:
    """Name of the hardware, and how many threads of it this process has."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"{platform.machine()} {torch.get_num_threads()} thread(s)"
    return device.type


class Executions:
    """What was chosen for each network on each device, remembered in a file that processes share.

    Args:
        path: A JSON file, made when something is chosen; None to remember in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}

    def find(self, key: str) -> Execution | None:
        """The choice under a key, by this process or another one."""
        if key not in self._known:
            self._known |= self._read()
        known = self._known.get(key)
        return Execution(**known) if known else None

    def remember(self, key: str, execution: Execution) -> None:
        """Keep a choice. Of two processes that write at once, one is forgotten and measured again."""
        self._known = {**self._read(), **self._known, key: asdict(execution)}
        if self._path is not None:
            write_file(self._path, (json.dumps(self._known, indent=1) + "\n").encode())

    def _read(self) -> dict[str, dict[str, Any]]:
        if self._path is None or not self._path.is_file():
            return {}
        known: dict[str, dict[str, Any]] = json.loads(self._path.read_text())
        return known


def choose_execution(
    network: nn.Module, inputs: Tensor, labels: Tensor, *, device: torch.device, steps: int
) -> Execution:
    """The fastest way to train a network, by timing a few steps of each on a copy.

    One decision after the other: memory format, precision, threads, and compilation where the
    training is so long that it can repay itself. A default yields only to what is faster by a
    tenth. A training of a few seconds is not worth the measurement.

    Args:
        network: On the CPU or the device; stays as it is.
        inputs, labels: A training batch, on the device.
        device: Where it will be trained.
        steps: How many steps the training has.
    """
    inputs, labels = inputs[:PROBE_IMAGES], labels[:PROBE_IMAGES]

    def seconds(execution: Execution) -> float:
        return _time_steps(network, inputs, labels, device=device, execution=execution)

    best = Execution()
    if _first_seconds(network, inputs, labels, device=device) * steps < SHORT_SECONDS:
        return best
    best_seconds = seconds(best)
    for alternatives in _alternatives(device, images=inputs.ndim == 4):
        for change in alternatives:
            other = replace(best, **change)
            other_seconds = seconds(other)
            if other_seconds * MARGIN < best_seconds:
                best, best_seconds = other, other_seconds
    if best_seconds * steps * COMPILATION_GAIN > COMPILATION_SECONDS:
        compiled = replace(best, compile=True)
        if seconds(compiled) * MARGIN < best_seconds:
            best = compiled
    return best


def _alternatives(device: torch.device, *, images: bool) -> list[list[dict[str, Any]]]:
    """For each decision what there is beside the default."""
    formats: list[dict[str, Any]] = [{"memory_format": "contiguous"}] if images else []
    precisions: list[dict[str, Any]] = []
    if device.type == "cpu":
        precisions = [{"precision": "bf16-mixed"}]
    if device.type == "cuda":
        precisions = [{"precision": "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"}]
    available = torch.get_num_threads()
    fewer = {available // 2, 1} - {available, 0} if device.type == "cpu" else set()
    threads: list[dict[str, Any]] = [{"threads": count} for count in sorted(fewer, reverse=True)]
    return [formats, precisions, threads]


def _time_steps(
    network: nn.Module, inputs: Tensor, labels: Tensor, *, device: torch.device, execution: Execution
) -> float:
    """Seconds of a forward and backward pass; infinite where the device can't do it that way."""
    try:
        with execution.limited_threads():
            step = _make_step(network, inputs, labels, device=device, execution=execution)
            step()
            return min(_seconds(step, device) for _ in range(TIMED_STEPS))
    except (RuntimeError, NotImplementedError) as error:
        if execution == Execution() or "out of memory" in str(error):
            raise
        return math.inf


def _first_seconds(network: nn.Module, inputs: Tensor, labels: Tensor, *, device: torch.device) -> float:
    """Seconds of the very first step, which is slower than those that follow."""
    return _seconds(_make_step(network, inputs, labels, device=device, execution=Execution()), device)


def _make_step(
    network: nn.Module, inputs: Tensor, labels: Tensor, *, device: torch.device, execution: Execution
) -> Callable[[], None]:
    module = execution.arrange(copy.deepcopy(network).to(device))
    inputs = execution.lay_out(inputs)
    forward = torch.compile(module) if execution.compile else module

    def step() -> None:
        with execution.autocast(device):
            loss = F.cross_entropy(forward(inputs), labels)
        loss.backward()
        module.zero_grad()

    return step


def _seconds(step: Callable[[], None], device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    step()
    synchronize(device)
    return time.perf_counter() - started


def synchronize(device: torch.device) -> None:
    """Wait for everything that a device was asked to do."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()
