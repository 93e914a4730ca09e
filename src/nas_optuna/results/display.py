"""Results: what a search shows while it runs, as a live view or as plain lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nas_optuna.attributes import CURVE
from nas_optuna.estimation import Objectives
from nas_optuna.study import Budget, is_counted, is_feasible

PLAIN_WIDTH = 160  # characters of a line where the output is no terminal


class Display:
    """Follows one search: a live view on a terminal, one line for each finished trial elsewhere.

    Args:
        budget: Shown as "trial k of n" and as the time left.
        objectives: Say what the values of a trial mean.
        elapsed: Seconds that earlier runs of the study took.
    """

    def __init__(self, *, budget: Budget, objectives: Objectives, elapsed: float) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        if not self.console.is_terminal:
            self.console.width = PLAIN_WIDTH
        self._budget = budget
        self._objectives = objectives
        self._started = time.monotonic() - elapsed
        self._live: Live | None = None
        self._trained = self._pruned = self._failed = 0
        self._best_accuracy = 0.0
        self._best = "-"
        self._phase = "search"
        self._running: dict[int, str] = {}
        self._lines: dict[int, str] = {}

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self._view, console=self.console, refresh_per_second=4, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(Text(text))

    def phase(self, name: str) -> None:
        """Name what begins now: comparison of the best, final training."""
        self._phase = name
        self._running.clear()
        self._lines.clear()
        if self._live is None:
            self.say(f"{_clock(self.elapsed)}  {name}")

    def running(self, what: str, *, worker: int = 0) -> None:
        """Name the training that a worker begins now."""
        self._running[worker] = what
        self._lines[worker] = ""

    def epoch(self, epoch: int, accuracy: float | None, epochs: int, *, worker: int = 0) -> None:
        """An epoch of a worker's training ended."""
        judged = "" if accuracy is None else f", accuracy {accuracy:.3f}"
        self._lines[worker] = f"epoch {epoch}/{epochs}{judged}"

    def resume(self, trials: Sequence[FrozenTrial], *, without: int | None = None) -> None:
        """Count what earlier runs and other processes found, but for the trial of a number."""
        self._trained = self._pruned = self._failed = 0
        for trial in trials:
            if trial.number != without:
                self._count(trial)

    def ended(self, trial: FrozenTrial) -> None:
        """A trial ended."""
        self._count(trial)
        total = f"/{self._budget.n_trials}" if self._budget.n_trials else ""
        self.say(f"{_clock(self.elapsed)}  trial {self._trained}{total}  {self._describe(trial)}")

    @property
    def elapsed(self) -> float:
        """Seconds of the whole search so far, earlier runs included."""
        return time.monotonic() - self._started

    def _count(self, trial: FrozenTrial) -> None:
        self._trained += is_counted(trial) and trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        self._pruned += trial.state == TrialState.PRUNED
        self._failed += trial.state == TrialState.FAIL
        if trial.state != TrialState.COMPLETE or not is_feasible(trial):
            return
        accuracy = self._objectives.accuracy(trial)
        if accuracy > self._best_accuracy:
            self._best_accuracy = accuracy
            self._best = f"accuracy {accuracy:.3f} (trial {trial.number})"

    def _describe(self, trial: FrozenTrial) -> str:
        network = trial.user_attrs.get("network", "")
        cost = f"{trial.user_attrs['macs'] / 1e6:.2f}M MACs" if "macs" in trial.user_attrs else ""
        if "latency" in trial.user_attrs:
            cost += f"  {trial.user_attrs['latency']:.3g} ms"
        if trial.state == TrialState.PRUNED:
            reported = trial.intermediate_values or trial.user_attrs.get(CURVE, {})
            epoch, accuracy = max(
                ((int(step), value) for step, value in reported.items()), default=(None, 0.0)
            )
            last = "" if epoch is None else f" {accuracy:.3f} at epoch {epoch}"
            outcome = f"{trial.user_attrs.get('stopped', 'pruned')}{last}"
        elif trial.state == TrialState.FAIL:
            outcome = trial.user_attrs.get("stopped") or f"failed: {trial.user_attrs.get('error', 'unknown')}"
        elif not is_feasible(trial):
            outcome = f"infeasible: {trial.user_attrs['infeasible']}"
        else:
            reused = f" (as trial {trial.user_attrs['reused']})" if "reused" in trial.user_attrs else ""
            outcome = f"accuracy {self._objectives.accuracy(trial):.3f}{reused}"
        return f"{outcome:<28} best {self._best}  {cost}  {network}"

    def _view(self) -> Table:
        total = f" of {self._budget.n_trials}" if self._budget.n_trials else ""
        left = (
            f", {_clock(max(0.0, self._budget.timeout - self.elapsed))} left" if self._budget.timeout else ""
        )
        view = Table.grid(padding=(0, 2))
        view.add_column(style="bold")
        view.add_column()
        view.add_row(
            self._phase, Text(f"trial {self._trained + 1}{total}  ·  {_clock(self.elapsed)} elapsed{left}")
        )
        view.add_row("best", Text(self._best))
        for worker, running in sorted(self._running.items()):
            view.add_row("" if worker else "now", Text(f"{running}  {self._lines[worker]}"))
        view.add_row("stopped", Text(f"{self._pruned} pruned, {self._failed} failed"))
        return view


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
