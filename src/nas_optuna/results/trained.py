"""Results: networks of a study that were trained to the end on request, as they are shown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 160  # characters of a line where the output is no terminal


@dataclass(frozen=True)
class Trained:
    """One training that ran to its end.

    Attributes:
        number: Of the network's trial.
        index: Which of the network's seeds, from 0.
        taught: Whether it had a teacher.
        accuracy: On the test split.
        params, macs: Costs of the network.
        epochs, data_share: Length of the training.
        folder: Where the network is saved.
    """

    number: int
    index: int
    taught: bool
    accuracy: float
    params: int
    macs: int
    epochs: int
    data_share: float
    folder: Path


class Lines:
    """Says what a few trainings do: lines that stay, and on a terminal the running epoch."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        if not self.console.is_terminal:
            self.console.width = PLAIN_WIDTH
        self._status: Status | None = None
        self._running = ""

    def __enter__(self) -> Lines:
        if self.console.is_terminal:
            self._status = self.console.status("")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(Text(text))

    def running(self, what: str) -> None:
        """A training begins."""
        self._running = what
        self._update("")

    def epoch(self, epoch: int, accuracy: float | None, epochs: int) -> None:
        """An epoch of it ended."""
        self._update(f"  epoch {epoch}/{epochs}")

    def _update(self, state: str) -> None:
        if self._status is not None:
            self._status.update(Text(self._running + state))


def tabulate(trained: Sequence[Trained], networks: Mapping[int, str]) -> Table:
    """A row for each network, teacher and length.

    Args:
        trained: Trainings, those of one row anywhere among them.
        networks: A network in a line, by the number of its trial.
    """
    view = Table(box=None, pad_edge=False)
    words = ("teacher", "network")
    for name in (
        "trial",
        "MACs",
        "parameters",
        "epochs",
        "images",
        "seeds",
        "teacher",
        "test accuracy",
        "network",
    ):
        view.add_column(name, justify="left" if name in words else "right", overflow="fold")
    for rows in _grouped(trained):
        first = rows[0]
        view.add_row(
            str(first.number),
            f"{first.macs:,}",
            f"{first.params:,}",
            str(first.epochs),
            f"{first.data_share:.1%}",
            str(len(rows)),
            "yes" if first.taught else "no",
            mean_and_error([row.accuracy for row in rows]),
            Text(networks[first.number]),
        )
    return view


def differences(taught: Sequence[Trained], plain: Sequence[Trained]) -> Iterator[str]:
    """What the teacher gained, in a line for each network that was trained with the same seeds without it."""
    alone = {(row.number, row.index): row.accuracy for row in plain}
    for rows in _grouped(taught):
        pairs = [
            (row.accuracy, alone[row.number, row.index]) for row in rows if (row.number, row.index) in alone
        ]
        if pairs:
            told, untold = zip(*pairs, strict=True)
            gains = [one - other for one, other in pairs]
            yield (
                f"trial {rows[0].number}: {mean_and_error(told)} with the teacher, {mean_and_error(untold)} "
                f"without, {mean_and_error(gains, sign='+')} over {len(pairs)} seed(s)"
            )


def mean_and_error(values: Sequence[float], *, sign: str = "") -> str:
    """Mean, and of several values its standard error."""
    mean = f"{statistics.mean(values):{sign}.4f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {statistics.stdev(values) / math.sqrt(len(values)):.4f}"


def _grouped(trained: Sequence[Trained]) -> list[list[Trained]]:
    groups: dict[tuple[object, ...], list[Trained]] = {}
    for row in trained:
        groups.setdefault((row.number, row.taught, row.epochs, row.data_share), []).append(row)
    return list(groups.values())
