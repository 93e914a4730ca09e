"""Performance estimation: what listens to a training: the pruner, the clock, the display."""

from __future__ import annotations

import time
from collections.abc import Callable

import optuna
import pytorch_lightning as pl
import torch

from nas_optuna.estimation.module import Classifier


class PruningCallback(pl.Callback):
    """Reports each epoch's validation accuracy to the trial and stops where its pruner says so.

    It does not raise inside a hook: the training ends in order, and the caller asks ``pruned``.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial
        self.pruned = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        if trainer.should_stop or not trainer.is_global_zero:
            return
        epoch = trainer.current_epoch + 1
        self._trial.report(pl_module.curve[-1], epoch)
        is_last = epoch == trainer.max_epochs
        if not is_last and self._trial.should_prune():
            self.pruned = trainer.should_stop = True


class StopCallback(pl.Callback):
    """Asks after every step whether to stop, and stops before the next one.

    Args:
        reason: Returns why to stop, or None.
    """

    def __init__(self, reason: Callable[[], str | None]) -> None:
        self._reason = reason
        self.stopped: str | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        self.stopped = self.stopped or self._reason()
        if self.stopped:
            trainer.should_stop = True


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


class StepTimer(pl.Callback):
    """Seconds of each training step and validation batch, the device's work included."""

    def __init__(self) -> None:
        self.training: list[float] = []
        self.validation: list[float] = []
        self._started = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, *args: object) -> None:
        self._started = _now(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        self.training.append(_now(trainer) - self._started)

    def on_validation_batch_start(self, trainer: pl.Trainer, *args: object) -> None:
        self._started = _now(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        self.validation.append(_now(trainer) - self._started)


def _now(trainer: pl.Trainer) -> float:
    device = trainer.strategy.root_device
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()
    return time.perf_counter()
