"""A table of networks that takes as long over one as training it would: many workers on few cores."""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nas_optuna.data import LabelledData
from nas_optuna.estimation import Table
from nas_optuna.space import Architecture, measure_costs

SHAPE, CLASSES = (3, 32, 32), 10  # of the networks in the table
TYPICAL_MACS = 8.5e7  # of a network of NAS-Bench-Macro, on average
LOOK_SECONDS = 0.5  # between two looks for a reason to stop


@dataclass(frozen=True)
class Training:
    """What one simulated training took, in seconds.

    Attributes:
        ended: When it ended, as ``time.monotonic`` counts.
        gap: From the end of this worker's training before it to its begin: to tell, to ask, to claim; None
            for its first one.
        slept: The training itself.
        reports: Each of its reports, the pruner's answer included.
    """

    ended: float
    gap: float | None
    slept: float
    reports: Sequence[float]


@dataclass
class Records:
    """What the workers of one process did."""

    trainings: list[Training] = field(default_factory=list)
    of_thread: threading.local = field(default_factory=threading.local)


RECORDS = Records()


class SlowTable(Table):
    """Looks networks up, and lets each of ``reports`` epochs take its time.

    Args:
        seconds: A whole training of a network with ``TYPICAL_MACS``; others take longer or shorter with
            their MACs.
        reports: Epochs of a training, each of which is reported.
        table: See ``Table``.
    """

    def __init__(self, *, seconds: float, reports: int, **table: Any) -> None:
        super().__init__(**table)
        self._seconds = seconds
        self._reports = reports

    def fit(
        self,
        architecture: Architecture,
        data: LabelledData,
        *,
        stop: Callable[[], str | None] = lambda: None,
        callbacks: Sequence[Any] = (),
        **rest: Any,
    ) -> Any:
        """See ``Table.fit``."""
        found = super().fit(architecture, data, stop=stop, **rest)
        if not found.curve:
            return found
        begun, before = time.monotonic(), getattr(RECORDS.of_thread, "ended", None)
        pause = self._seconds / self._reports * _macs(architecture.canonical()) / TYPICAL_MACS
        curve: list[float] = []
        reports: list[float] = []
        slept = 0.0
        for index in range(1, self._reports + 1):
            slept += _sleep(pause, stop)
            is_last = index == self._reports
            # it learns as networks do: much at the beginning
            share = 1.0 if is_last else 1 - math.exp(-4 * index / self._reports)
            curve.append(found.curve[-1] * share)
            epoch = round(self.epochs * index / self._reports)
            asked = time.monotonic()
            heard = [callback.judged(epoch, curve[-1], is_last=is_last) for callback in callbacks]
            reports.append(time.monotonic() - asked)
            if any(heard):
                break
        RECORDS.of_thread.ended = time.monotonic()
        gap = None if before is None else begun - before
        RECORDS.trainings.append(Training(RECORDS.of_thread.ended, gap, slept, reports))
        found.curve[:] = curve
        return found


@functools.cache
def _macs(architecture: Architecture) -> int:
    return measure_costs(architecture, input_shape=SHAPE, classes=CLASSES).macs


def _sleep(seconds: float, stop: Callable[[], str | None]) -> float:
    """Wait as a training of so many seconds would, which looks for a reason to stop now and then.

    Nobody is stopped here: it is the look that costs.
    """
    began = time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_SECONDS))
        stop()
    return time.monotonic() - began
