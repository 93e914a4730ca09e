"""Performance estimation: how a device computes a network: format, precision, threads, parts, compilation."""

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
from nas_optuna.estimation.convolutions import DepthwiseConvolution, ThinningConvolution
from nas_optuna.estimation.replicas import Replicas, Team, draws_numbers
from nas_optuna.files import write_if_possible

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
MemoryFormat = Literal["channels_last", "contiguous"]

_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}

EXECUTIONS_FILE = "execution.json"  # in a study's folder
MARGIN = 1.1  # by which something else must beat the default: near ties would be decided by chance
TIMED_STEPS = 2
PROBE_IMAGES = 32  # of a batch: enough to rank, cheap enough for every network
# finding out takes a compilation and using it two more, for both sizes of the images: a minute in all; what
# it may save of a training is next to nothing on a CPU, whose convolutions stay as they are
COMPILATION_SECONDS, COMPILATION_GAIN, COMPILATION_GAIN_ON_CPU = 60.0, 0.2, 0.05


@dataclass(frozen=True)
class Execution:
    """How a device computes a network.

    Attributes:
        precision: ``32-true``, ``bf16-mixed`` (bfloat16 where torch's autocast holds it to be safe; on
            a CPU not in depthwise convolutions, which its kernels slow down) or ``16-mixed`` (float16
            likewise, with the loss scaled).
        memory_format: ``channels_last`` or ``contiguous`` (channels first).
        threads: CPU threads; None for as many as the process has.
        parts: Into how many a batch is cut, to be computed side by side, each part by its share of the CPU
            threads. Batch norms then normalise each part by its own statistics.
        compile: Whether ``torch.compile`` makes kernels for the network.

    Raises:
        InputError: A value is none of these.
    """

    precision: Precision = "32-true"
    memory_format: MemoryFormat = "channels_last"
    threads: int | None = None
    compile: bool = False
    parts: int = 1

    def __post_init__(self) -> None:
        check_one_of("estimation.execution.precision", self.precision, get_args(Precision))
        check_one_of("estimation.execution.memory_format", self.memory_format, get_args(MemoryFormat))
        if self.threads is not None:
            check_number("estimation.execution.threads", self.threads, whole=True, at_least=1)
        if not isinstance(self.compile, bool):
            raise InputError(f"estimation.execution.compile: {self.compile!r} must be true or false.")
        check_number("estimation.execution.parts", self.parts, whole=True, at_least=1)
        if self.compile and self.parts > 1:
            raise InputError(
                f"estimation.execution: {self.parts} parts run no compiled kernels; set compile=false or "
                "parts=1."
            )

    def check(self, device: torch.device) -> None:
        """Raise an ``InputError`` where a device can't compute so."""
        if self.precision == "16-mixed" and device.type != "cuda":
            raise InputError(
                f"estimation.execution: 16-mixed needs a CUDA device, this is {device.type}; use bf16-mixed, "
                "32-true or auto."
            )
        if self.parts > 1 and device.type != "cpu":
            raise InputError(
                f"estimation.execution: {self.parts} parts are for the threads of a CPU, this is "
                f"{device.type}; use parts=1 or auto."
            )

    def __str__(self) -> str:
        words: list[str] = [self.precision, self.memory_format]
        words += [f"threads={self.threads}"] if self.threads else []
        words += ["compiled"] if self.compile else []
        words += [f"parts={self.parts}"] if self.parts > 1 else []
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
        """The network, its weights in the memory format, its convolutions those that are fast and safe."""
        for module in network.modules():
            if type(module) is not nn.Conv2d:
                continue
            if self.precision == "bf16-mixed" and 1 < module.groups == module.in_channels:
                module.__class__ = DepthwiseConvolution
            elif ThinningConvolution.is_needed_for(module):
                module.__class__ = ThinningConvolution
        return network.to(memory_format=_FORMATS[self.memory_format])

    def lay_out(self, inputs: Tensor) -> Tensor:
        """A batch in the memory format; series have one only."""
        return inputs.contiguous(memory_format=_FORMATS[self.memory_format]) if inputs.ndim == 4 else inputs

    def team(self) -> Team | None:
        """Who computes the parts of a batch, sharing the threads there are; None for a whole one."""
        return Team(self.parts) if self.parts > 1 else None

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


@dataclass(frozen=True)
class Choice:
    """What was found fastest for a network on a device.

    Attributes:
        execution: Without compilation.
        seconds: Of a step so.
        compiled_seconds: Of a step with compiled kernels, or what is no slower; None where never tried.
    """

    execution: Execution
    seconds: float
    compiled_seconds: float | None = None

    def over(self, steps: int) -> Execution:
        """For a training of so many steps: compiled where what that saves repays it."""
        saved = 0.0 if self.compiled_seconds is None else self.seconds - self.compiled_seconds
        return _compiled(self.execution) if saved * steps > COMPILATION_SECONDS else self.execution

    def may_gain_by_compilation(self, steps: int, device: torch.device) -> bool:
        """Whether that is unknown, and a training of so many steps so long that it is worth finding out."""
        gain = COMPILATION_GAIN_ON_CPU if device.type == "cpu" else COMPILATION_GAIN
        return self.compiled_seconds is None and gain * self.seconds * steps > COMPILATION_SECONDS


class Executions:
    """What was chosen for each network on each device, remembered in a file that processes share.

    Args:
        path: A JSON file, made when something is chosen; None to remember in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}

    def find(self, key: str) -> Choice | None:
        """The choice under a key, by this process or another one."""
        if key not in self._known:
            self._known |= self._read()
        if key not in self._known:
            return None
        known = self._known[key]
        return Choice(Execution(**known["execution"]), known["seconds"], known["compiled_seconds"])

    def remember(self, key: str, choice: Choice) -> None:
        """Keep a choice. Of two processes that write at once, one is forgotten and measured again."""
        self._known = {**self._read(), **self._known, key: asdict(choice)}
        if self._path is not None:
            write_if_possible(self._path, (json.dumps(self._known, indent=1) + "\n").encode())

    def _read(self) -> dict[str, dict[str, Any]]:
        if self._path is None or not self._path.is_file():
            return {}
        known: dict[str, dict[str, Any]] = json.loads(self._path.read_text())
        return known


class Probe:
    """Times training steps of a copy of a network: forward and backward on a part of a batch.

    Args:
        network: On the CPU or the device; stays as it is.
        inputs, labels: A training batch, on the device.
        device: Where it will be trained.
    """

    def __init__(self, network: nn.Module, inputs: Tensor, labels: Tensor, *, device: torch.device) -> None:
        self._network = network
        self._device = device
        self._inputs, self._labels = inputs, labels

    def choose(self) -> Choice:
        """The fastest execution without compilation.

        One decision after the other: precision, memory format, threads, parts. A default yields only to
        what is faster by a tenth.
        """
        best = Choice(Execution(), self.seconds(Execution()))
        for alternatives in _alternatives(self._device, images=self._inputs.ndim == 4):
            for change in alternatives:
                other = replace(best.execution, **change)
                seconds = self.seconds(other)
                if seconds * MARGIN < best.seconds:
                    best = Choice(other, seconds)
        return self._in_parts(best)

    def _in_parts(self, best: Choice) -> Choice:
        """The same with as many parts as make it faster: 2, 4 and so on, a thread at least for each."""
        with best.execution.limited_threads():
            most = min(torch.get_num_threads(), len(self._inputs) // PROBE_IMAGES)
        if self._device.type != "cpu" or most < 2 or draws_numbers(self._network, self._inputs):
            return best
        parts = 2
        while parts <= most:
            # both see as many images: a kernel's threads wait for one another less on larger batches
            images = parts * PROBE_IMAGES
            other = replace(best.execution, parts=parts)
            whole, seconds = self.seconds(best.execution, images=images), self.seconds(other, images=images)
            if seconds * MARGIN >= whole:
                break
            best, parts = Choice(other, seconds), 2 * parts
        return best

    def compile(self, choice: Choice) -> Choice:
        """The same choice, knowing how long a step takes with compiled kernels; takes a minute."""
        seconds = self.seconds(_compiled(choice.execution))
        return replace(choice, compiled_seconds=min(seconds, choice.seconds))

    def seconds(self, execution: Execution, *, images: int = PROBE_IMAGES) -> float:
        """Of a step on a whole batch, from one on some images; infinite where the device can't do it so."""
        inputs, labels = self._inputs[:images], self._labels[:images]
        try:
            with execution.limited_threads():
                step = self._make_step(execution, inputs, labels)
                step()
                seconds = min(self._time(step) for _ in range(TIMED_STEPS))
                return seconds * len(self._labels) / len(labels)
        except RuntimeError as error:  # what torch raises where a device has no kernel for it
            if execution == Execution() or "out of memory" in str(error):
                raise
            return math.inf

    def _make_step(self, execution: Execution, inputs: Tensor, labels: Tensor) -> Callable[[], None]:
        network = execution.arrange(copy.deepcopy(self._network).to(self._device))
        team = execution.team()
        replicas = Replicas(network, team) if team else None
        forward = torch.compile(network) if execution.compile else network

        def loss(forward: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
            with execution.autocast(self._device):
                return F.cross_entropy(forward(execution.lay_out(inputs)), labels)

        def step() -> None:
            if replicas:
                replicas.backward(loss, inputs, labels)
            else:
                loss(forward, inputs, labels).backward()
            network.zero_grad()

        return step

    def _time(self, step: Callable[[], None]) -> float:
        synchronize(self._device)
        started = time.perf_counter()
        step()
        synchronize(self._device)
        return time.perf_counter() - started


def _compiled(execution: Execution) -> Execution:
    """The same with compiled kernels, which run one batch after the other."""
    return replace(execution, compile=True, parts=1)


def _alternatives(device: torch.device, *, images: bool) -> list[list[dict[str, Any]]]:
    """For each decision what there is beside the default."""
    precisions: list[dict[str, Any]] = []
    if device.type == "cpu":
        precisions = [{"precision": "bf16-mixed"}]
    if device.type == "cuda":
        # older ones compute in bfloat16 as well, but slowly
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        precisions = [{"precision": "bf16-mixed" if has_bf16 else "16-mixed"}]
    formats: list[dict[str, Any]] = [{"memory_format": "contiguous"}] if images else []
    available = torch.get_num_threads()
    fewer = {available // 2, 1} - {available, 0} if device.type == "cpu" else set()
    threads: list[dict[str, Any]] = [{"threads": count} for count in sorted(fewer, reverse=True)]
    return [precisions, formats, threads]


def synchronize(device: torch.device) -> None:
    """Wait for everything that a device was asked to do."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()
