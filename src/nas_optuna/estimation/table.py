"""Performance estimation by looking networks up in a published table instead of training them."""

from __future__ import annotations

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import optuna
import torch

from nas_optuna.data import LabelledData
from nas_optuna.errors import InputError, check_one_of
from nas_optuna.estimation.checkpoint import Checkpoint
from nas_optuna.estimation.execution import Executions
from nas_optuna.estimation.inheritance import Parent
from nas_optuna.estimation.scale import FULL, Scale
from nas_optuna.estimation.timing import Stopwatch
from nas_optuna.estimation.training import Fidelity
from nas_optuna.space import Architecture

DATA_SETS = {"cifar10": "c10", "cifar100": "c100", "imagenet16": "in16"}


class Listener(Protocol):
    """Hears of each judged epoch of a training."""

    def judged(self, epoch: int, accuracy: float, *, is_last: bool) -> bool:
        """Whether the training shall stop."""


@dataclass(frozen=True)
class Row:
    """What a table knows of a network.

    Attributes:
        curve: Validation accuracies by epoch, before the last one.
        seeds: Validation accuracy after the last epoch, one for each training there was.
        test: Mean test accuracy.
    """

    curve: Mapping[int, float]
    seeds: Sequence[float]
    test: float


class Rows(ABC):
    """The rows of a table by the network's key."""

    epochs: int  # of a whole training

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    @abstractmethod
    def key(self, architecture: Architecture) -> str | None:
        """The key of a network in its canonical form; None where the table can't hold it."""


class MacroRows(Rows):
    """NAS-Bench-Macro (Su et al. 2021): a JSON file of digits, one for each layer, to accuracies.

    It holds test accuracies alone: one seed's is what a search sees, the mean is its truth.
    """

    epochs = 50
    stages: ClassVar = {64: 2, 128: 3, 256: 3}  # layers by width
    layers: ClassVar[Mapping[tuple[str, object], str]] = {
        ("identity", None): "0",
        ("mbconv", 3): "1",
        ("mbconv", 6): "2",
    }

    def __init__(self, table: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        for key, row in table.items():
            seeds = [accuracy / 100 for accuracy in row["test_acc"]]
            self.rows[key] = Row({}, seeds, float(np.mean(seeds)))

    def key(self, architecture: Architecture) -> str | None:
        digits = dict.fromkeys(self.stages, "")
        for block in architecture.blocks:
            digit = self.layers.get((block.layer, dict(block.choices).get("expansion")))
            if digit is None or block.width not in digits:
                return None
            digits[block.width] += digit
        # identities do nothing, and are left out of a canonical form
        return "".join(digits[width].ljust(depth, "0") for width, depth in self.stages.items())


class CellRows(Rows):
    """NAS-Bench-201 (Dong and Yang 2020): a CSV file with a row for each cell.

    Columns: ``ops``, a digit for each edge in the order 0-1, 0-2, 1-2, 0-3, 1-3, 2-3 (0 none, 1 skip,
    2 convolution 1 x 1, 3 convolution 3 x 3, 4 average pool 3 x 3), and for a data set ``c10``,
    ``c100`` or ``in16``: ``_val12``, ``_val200_s0`` to ``_s2`` and ``_test200``, in per cent.
    """

    epochs = 200
    operations = ("none", "skip", "conv1x1", "conv3x3", "avgpool3x3")

    def __init__(self, table: Sequence[Mapping[str, str]], data_set: str) -> None:
        super().__init__()
        for row in table:
            seeds = [row[f"{data_set}_val200_s{seed}"] for seed in range(3)]
            self.rows[row["ops"]] = Row(
                {12: float(row[f"{data_set}_val12"]) / 100},
                [float(accuracy) / 100 for accuracy in seeds if accuracy],
                float(row[f"{data_set}_test200"]) / 100,
            )

    def key(self, architecture: Architecture) -> str | None:
        cells = {str(block["operations"]) for block in architecture.blocks if block.layer == "cell"}
        if not cells:  # a mere skip is left out of a canonical form
            return "000100"
        if len(cells) > 1:
            return None
        return "".join(str(self.operations.index(name)) for name in cells.pop().split(","))


@dataclass(frozen=True)
class LookedUp:
    """What a table says of a training, as a training would say it."""

    curve: list[float] = field(default_factory=list)
    test_accuracy: float | None = None
    execution: str = "table"
    stopped: str | None = None
    diverged: bool = False
    network: None = None
    confusion: None = None


class Table:
    """Looks networks up in a file. Everything else of a search stays as it is.

    A training's seed decides which of the table's trainings is looked up, so that a search sees as
    much noise as one that trains.

    Args:
        table: The file: NAS-Bench-Macro's JSON, or NAS-Bench-201 as CSV; see ``CellRows``.
        dataset: ``cifar10``, ``cifar100`` or ``imagenet16``, where the table has more than one.
        latencies: A CSV file with NAS-Bench-201's latencies by row, for the objective ``latency``, whose
            columns are named ``lat_<device>_ms``; None for none.
        latency_device: The device among its columns.
        pruner: Stops networks after fewer epochs, where the table knows what they have by then.
        epochs, data_share, validation_images, rung_images: Set by the search to what the table has.

    Raises:
        InputError: A file is missing or of another kind.
    """

    data_share = 1.0
    validation_images = rung_images = None
    torch_device = torch.device("cpu")
    scale = FULL

    def __init__(
        self,
        *,
        table: str,
        dataset: str = "cifar10",
        latencies: str | None = None,
        latency_device: str = "raspi4",
        pruner: optuna.pruners.BasePruner,
        epochs: int | None = None,
        data_share: float | None = None,
        validation_images: int | None = None,
        rung_images: int | None = None,
    ) -> None:
        if not isinstance(pruner, optuna.pruners.BasePruner):
            raise InputError(f"estimation.pruner: {pruner!r} must be an optuna.pruners.BasePruner.")
        check_one_of("estimation.dataset", dataset, tuple(DATA_SETS))
        self.pruner = pruner
        self.executions = Executions()
        self._rows = _read(Path(table), DATA_SETS[dataset])
        if epochs not in (None, self._rows.epochs):
            raise InputError(
                f"estimation.epochs: {epochs!r} must be {self._rows.epochs}, which the table has."
            )
        self.epochs = self._rows.epochs
        self._latencies = (
            _read_latencies(Path(latencies), latency_device, list(self._rows.rows)) if latencies else None
        )

    @property
    def measures(self) -> tuple[str, ...]:
        """What it knows of a network beside accuracy and costs."""
        return () if self._latencies is None else ("latency",)

    @property
    def rows(self) -> Mapping[str, Row]:
        """All that the table knows, by key."""
        return self._rows.rows

    def device_bytes(self, data: LabelledData) -> int:
        """Memory that one process takes on a GPU."""
        return 0

    def key(self, architecture: Architecture) -> str:
        """Where the table holds a network.

        Raises:
            InputError: It does not.
        """
        key = self._rows.key(architecture.canonical())
        if key not in self._rows.rows:
            raise InputError(
                f"space: the table does not hold {architecture}: take the space that it was made for."
            )
        return str(key)

    def measure(self, architecture: Architecture) -> dict[str, float]:
        """What is known of a network beside its costs: its ``latency`` in milliseconds."""
        return {} if self._latencies is None else {"latency": self._latencies[self.key(architecture)]}

    def fit(
        self,
        architecture: Architecture,
        data: LabelledData,
        *,
        fidelity: Fidelity,
        seed: int,
        scale: Scale = FULL,
        callbacks: Sequence[Listener] = (),
        stop: Callable[[], str | None] = lambda: None,
        stopwatch: Stopwatch | None = None,
        with_validation: bool = False,
        test: bool = False,
        checkpoint: Checkpoint | None = None,
        parent: Parent | None = None,
    ) -> LookedUp:
        """What training the network with this seed gave; see ``Training.fit`` for the arguments."""
        row = self._rows.rows[self.key(architecture)]
        if test:
            return LookedUp(test_accuracy=row.test)
        reason = stop()
        if reason:
            return LookedUp(stopped=reason)
        drawn = row.seeds[int(np.random.default_rng(seed).integers(len(row.seeds)))]
        curve: list[float] = []
        for epoch, accuracy in [*sorted(row.curve.items()), (self.epochs, drawn)]:
            curve.append(accuracy)
            heard = [callback.judged(epoch, accuracy, is_last=epoch == self.epochs) for callback in callbacks]
            if any(heard):
                break
        return LookedUp(curve)


def _read(path: Path, data_set: str) -> Rows:
    wrong = "must be the JSON file of NAS-Bench-Macro, or a CSV file of NAS-Bench-201"
    try:
        if path.suffix == ".json":
            return MacroRows(json.loads(path.read_text()))
        with path.open(newline="") as file:
            return CellRows(list(csv.DictReader(file)), data_set)
    except OSError as error:
        raise InputError(
            f"estimation.table: {str(path)!r} can't be read ({error.strerror}); it {wrong}."
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"estimation.table: {str(path)!r} {wrong} ({type(error).__name__}: {error})."
        ) from error


def _read_latencies(path: Path, device: str, keys: Sequence[str]) -> dict[str, float]:
    """Milliseconds by key; the file's rows are in the table's order."""
    column = f"lat_{device}_ms"
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {key: float(row[column]) for key, row in zip(keys, rows, strict=True)}
    except OSError as error:
        raise InputError(f"estimation.latencies: {str(path)!r} can't be read ({error.strerror}).") from error
    except KeyError as error:
        known = [name[4:-3] for name in rows[0] if name.startswith("lat_")]
        raise InputError(
            f"estimation.latency_device: {device!r} is unknown; known: {', '.join(known)}."
        ) from error
    except ValueError as error:
        raise InputError(
            f"estimation.latencies: {str(path)!r} must have a row for each of the table's, with numbers."
        ) from error
