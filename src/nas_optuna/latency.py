"""Latency of networks, measured on the spot: each network once a study, one at a time on a machine."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_optuna.cores import processor
from nas_optuna.errors import InputError, check_number, check_one_of
from nas_optuna.estimation import Estimator, Objectives
from nas_optuna.export.onnx_file import INPUT, OUTPUT, need, open_session, to_onnx
from nas_optuna.files import one_at_a_time, write_if_possible
from nas_optuna.space import Architecture, Network
from nas_optuna.space.latency import FORMS as TORCH_FORMS
from nas_optuna.space.latency import Latency, check_device, measure_latency

LATENCY = "latency"  # the objective, the limit, and a trial's user attribute
LATENCY_FILE = "latency.json"  # in a study's folder
DIGITS = 4  # of the milliseconds that are kept: more would be noise


def _onnx(network: nn.Module, inputs: Tensor, threads: int) -> Callable[[Tensor], Any]:
    session = open_session(to_onnx(network, input_shape=tuple(inputs.shape[1:])), threads=threads)
    fed = {INPUT: inputs.contiguous().numpy()}
    return lambda _: session.run([OUTPUT], fed)


FORMS = TORCH_FORMS | {"onnx": _onnx}


@dataclass(frozen=True)
class LatencySettings:
    """How a latency is measured.

    Attributes:
        form: What computes the network: torch as it is (``eager``), the program that ``torch.export`` makes
            (``exported``), or onnxruntime (``onnx``), which has the CPU alone.
        device: ``cpu``, ``cuda`` or ``mps``.
        threads: CPU threads; None for torch's choice.
        batch_size: Inputs at once.
        seconds: At most so long, for a network whose times spread.
        measure: Measures on a device elsewhere, instead of all that; see ``LatencyMeter``.

    Raises:
        InputError: A value is none of these, or this machine lacks the device or the extra ``onnx``.
    """

    form: str = "exported"
    device: str = "cpu"
    threads: int | None = 1
    batch_size: int = 1
    seconds: float = 2.0
    measure: Callable[..., float] | None = None

    def __post_init__(self) -> None:
        check_one_of("objective.latency.form", self.form, tuple(FORMS))
        check_device("objective.latency.device", self.device)
        if self.threads is not None:
            check_number("objective.latency.threads", self.threads, whole=True, at_least=1)
        check_number("objective.latency.batch_size", self.batch_size, whole=True, at_least=1)
        check_number("objective.latency.seconds", self.seconds, above=0)
        if self.form == "onnx" and self.measure is None:
            _check_onnx(self.device)
        if self.measure is not None and not callable(self.measure):
            raise InputError(
                f"objective.latency.measure: {self.measure!r} must be callable: name a class, or a "
                "function with _partial_: true."
            )

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> LatencySettings:
        """From the configuration's ``objective.latency``."""
        unknown = [name for name in values if name not in cls.__annotations__]
        if unknown:
            raise InputError(
                f"objective.latency.{unknown[0]} is unknown; known: {', '.join(cls.__annotations__)}."
            )
        return cls(**values)

    def describe(self) -> str:
        """What a latency depends on beside the network."""
        if self.measure is not None:
            return "elsewhere"
        where = processor() if self.device == "cpu" else f"{self.device} {_accelerator(self.device)}"
        return f"{self.form}, {self.batch_size} input(s), {where}, {self.threads or 'all'} thread(s)"


class LatencyMeter:
    """Measures networks with random weights, in evaluation mode: a latency needs no training.

    What it found it keeps in a file, so that an equal network is measured once, whichever worker
    asks and however often the study goes on. Only one measurement takes place on a machine at a time.

    A ``measure`` of the user's own is called with the network, a ``torch.nn.Module`` in evaluation mode
    on the CPU, and ``input_shape``, without the batch axis; it returns milliseconds.

    Args:
        settings: How to measure.
        input_shape: Of the data: channels, then height and width, or length.
        classes: How many the data has.
        path: The file; None for memory alone.
    """

    def __init__(
        self,
        settings: LatencySettings,
        *,
        input_shape: tuple[int, ...],
        classes: int,
        path: Path | None = None,
    ) -> None:
        self._settings = settings
        self._input_shape, self._classes = input_shape, classes
        self._path = path
        self._setting = settings.describe()
        self._known: dict[str, float] = {}

    def __call__(self, architecture: Architecture) -> float:
        """Milliseconds that a network takes."""
        key = f"{architecture.hash} {self._setting}"
        if key not in self._known:
            with one_at_a_time(LATENCY):
                # another process may just have measured it
                self._known = self._read() | self._known
                if key not in self._known:
                    self._known[key] = self._measure(architecture)
                    self._write()
        return self._known[key]

    def check(self, architecture: Architecture) -> None:
        """Measure one network.

        Raises:
            InputError: That does not work.
        """
        try:
            self(architecture)
        except InputError:
            raise
        except Exception as error:  # whatever a layer, an exporter or a device raises
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            if self._settings.measure is not None:
                raise InputError(
                    f"objective.latency.measure: called with a network and "
                    f"input_shape={self._input_shape} it failed ({reason})."
                ) from error
            raise InputError(
                f"objective.latency: the network {architecture} can't be measured ({reason}). Take another "
                "objective.latency.form, or other layers."
            ) from error

    def save(self) -> None:
        """Write what was measured before the study's folder was there."""
        with one_at_a_time(LATENCY):
            self._known = self._read() | self._known
            self._write()

    def time(self, architecture: Architecture, *, form: str | None = None) -> Latency:
        """One measurement with all its figures, on this machine.

        Args:
            architecture: The network.
            form: Another one than the settings say; None for that.
        """
        settings = self._settings
        return measure_latency(
            self._build(architecture),
            input_shape=self._input_shape,
            batch_size=settings.batch_size,
            device=settings.device,
            threads=settings.threads,
            form=form or settings.form,
            forms=FORMS,
            seconds=settings.seconds,
        )

    def _measure(self, architecture: Architecture) -> float:
        if self._settings.measure is None:
            milliseconds = self.time(architecture).milliseconds
        else:
            network = self._build(architecture)
            milliseconds = _check(self._settings.measure(network, input_shape=self._input_shape))
        return float(f"{milliseconds:.{DIGITS}g}")

    def _build(self, architecture: Architecture) -> Network:
        channels = self._input_shape[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = Network(
                architecture, classes=self._classes, mean=[0.5] * channels, std=[0.25] * channels
            )
        return network.eval()

    def _read(self) -> dict[str, float]:
        if self._path is None or not self._path.is_file():
            return {}
        known: dict[str, float] = json.loads(self._path.read_text())
        return known

    def _write(self) -> None:
        if self._path is not None and self._path.parent.is_dir():
            write_if_possible(self._path, (json.dumps(self._known, indent=1) + "\n").encode())


def make_meter(
    objectives: Objectives,
    estimation: Estimator,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    folder: Path | None = None,
) -> LatencyMeter | None:
    """What measures latency, where it is asked for and the estimation does not know it; else None.

    Args:
        objectives: Ask for it, as an objective or a limit.
        estimation: A table may know it.
        input_shape: Of the data: channels, then height and width, or length.
        classes: How many the data has.
        folder: Where the study remembers; None for nowhere.
    """
    asked = LATENCY in (*objectives.names, *objectives.limits)
    if not asked or LATENCY in estimation.measures:
        return None
    return LatencyMeter(
        LatencySettings.read(objectives.latency),
        input_shape=input_shape,
        classes=classes,
        path=None if folder is None else folder / LATENCY_FILE,
    )


def _check_onnx(device: str) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        need(package)
    if device != "cpu":
        raise InputError(
            f"objective.latency.device: onnxruntime computes on the cpu here, not on {device!r}: use cpu, or "
            "objective.latency.form=exported."
        )


def _check(milliseconds: Any) -> float:
    try:
        value = float(milliseconds)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(
            f"objective.latency.measure: it returned {milliseconds!r}, which must be milliseconds, above 0."
        )
    return value


def _accelerator(device: str) -> str:
    is_cuda = torch.device(device).type == "cuda"
    return torch.cuda.get_device_name(device) if is_cuda else platform.machine()
