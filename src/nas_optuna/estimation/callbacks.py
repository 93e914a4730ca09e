"""Performance estimation: what listens to a training: the pruner and the display."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Protocol

import optuna
import pytorch_lightning as pl

from nas_optuna.estimation.curves import LearningCurve
from nas_optuna.estimation.module import Classifier
from nas_optuna.estimation.timing import Stopwatch


class TakesCurve(Protocol):
    """A ``LearningCurve``."""

    def report(self, value: float, step: int, *, loss: float | None = None) -> None:
        """Add a value, and the loss that came with it."""

    def should_prune(self) -> bool:
        """Whether the training shall stop."""


class PruningCallback(pl.Callback):
    """Reports each epoch's validation accuracy to the trial and stops where its pruner says so.

    With the accuracy goes the validation loss, at the epochs at which pruners of curves decide.

    It does not raise inside a hook: the training ends in order, and the caller asks ``pruned``.

    Args:
        trial: One of a study with one objective, or its ``LearningCurve``.
        may_prune: Whether its pruner is asked: that reads the trial from the storage, in vain where nothing
            prunes.
        stopwatch: Told what the time goes into.

    Attributes:
        pruned: Whether the pruner said so.
        curve: What was reported, by epoch.
    """

    def __init__(
        self,
        trial: optuna.Trial | TakesCurve,
        *,
        may_prune: bool = True,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self._trial = LearningCurve(trial) if isinstance(trial, optuna.Trial) else trial
        self._stopwatch = stopwatch or Stopwatch()
        self._may_prune = may_prune
        self.pruned = False
        self.curve: dict[int, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        # of a training that is taken up: the trial shows the whole curve
        skipped = pl_module.epochs - len(pl_module.curve)
        for epoch, (accuracy, loss) in enumerate(
            zip(pl_module.curve, pl_module.losses, strict=True), start=skipped + 1
        ):
            self._report(accuracy, epoch, loss)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        if trainer.should_stop or not trainer.is_global_zero:
            return
        epoch = trainer.current_epoch + 1
        loss = pl_module.losses[-1]
        if self.judged(epoch, pl_module.curve[-1], is_last=epoch == trainer.max_epochs, loss=loss):
            trainer.should_stop = True

    def judged(self, epoch: int, accuracy: float, *, is_last: bool, loss: float | None = None) -> bool:
        """Report an epoch's accuracy, and the validation loss if known; whether the training shall stop."""
        with self._stopwatch.span("report"):
            self._report(accuracy, epoch, loss)
            self.pruned = not is_last and self._may_prune and self._trial.should_prune()
        return self.pruned

    def _report(self, accuracy: float, epoch: int, loss: float | None) -> None:
        self.curve[epoch] = accuracy
        # at 1, 2, 4, 8 and so on pruners of curves decide; at other epochs a loss would be written in vain
        is_rung = epoch.bit_count() == 1
        self._trial.report(accuracy, epoch, loss=loss if is_rung else None)


class EpochCallback(pl.Callback):
    """Tells a function the number of each finished epoch and its validation accuracy, if any.

    Args:
        on_epoch: Called with the epoch, from 1, and the accuracy (None where nothing validates).
    """

    def __init__(self, on_epoch: Callable[[int, float | None], None]) -> None:
        self._on_epoch = on_epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        self._on_epoch(trainer.current_epoch + 1, pl_module.curve[-1] if pl_module.curve else None)

    def judged(self, epoch: int, accuracy: float, *, is_last: bool) -> bool:
        """Tell of an epoch; never stops a training."""
        self._on_epoch(epoch, accuracy)
        return False


class KeepSignals(pl.Callback):
    """Leaves SIGTERM to whoever asked for it before.

    Lightning takes it while it trains, and ends the process in the middle of an epoch, with exit code 0.
    """

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)
