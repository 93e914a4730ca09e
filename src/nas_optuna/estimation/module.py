"""Performance estimation: how one network is trained and judged, as a LightningModule."""

from __future__ import annotations

from dataclasses import dataclass

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from nas_optuna.data.loader import Batch
from nas_optuna.errors import check_number


@dataclass(frozen=True)
class Recipe:
    """Settings of the optimiser and the loss.

    Attributes:
        learning_rate: Peak of the one-cycle schedule.
        warmup: Part of the training in which the learning rate rises to its peak, 0 to 1.
        momentum: Nesterov momentum of SGD.
        weight_decay: Decay of convolution and linear weights; norms and biases have none.
        label_smoothing: Probability mass moved from the true class to all classes, 0 to 1
            (Szegedy et al. 2016, section 7).
    """

    learning_rate: float
    warmup: float
    momentum: float
    weight_decay: float
    label_smoothing: float

    def __post_init__(self) -> None:
        check_number("estimation.learning_rate", self.learning_rate, above=0)
        check_number("estimation.weight_decay", self.weight_decay, at_least=0)
        for name in ("warmup", "momentum", "label_smoothing"):
            check_number(f"estimation.{name}", getattr(self, name), at_least=0, below=1)


class Classifier(pl.LightningModule):
    """Trains a network with SGD and one-cycle, and keeps its validation accuracy by epoch.

    Nothing in a step waits for the device: losses and hits add up there and are read once an epoch.

    Attributes:
        curve: Validation accuracy after each epoch, 0 to 1.
        diverged: The training loss or the network's output became NaN or infinite.
    """

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.curve: list[float] = []
        self.test_accuracy: float | None = None
        self.diverged = False
        self._loss: Tensor | float = 0.0
        self._hits: Tensor | float = 0.0
        self._images = 0

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels, label_smoothing=self.recipe.label_smoothing)
        self._loss = self._loss + loss.detach()
        return loss

    def on_train_epoch_end(self) -> None:
        # after the last step, and after the validation of this epoch
        if not bool(torch.as_tensor(self._loss).isfinite()):
            self._stop_diverged()
        self._loss = 0.0

    def on_validation_epoch_start(self) -> None:
        self._hits, self._images = 0.0, 0

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        images, labels = batch
        logits = self(images)
        # NaN logits have no largest entry: they hit nothing
        hits = (logits.argmax(dim=1) == labels) & logits.isfinite().all(dim=1)
        self._hits = self._hits + hits.sum()
        self._images += len(labels)

    def on_validation_epoch_end(self) -> None:
        if not bool(torch.as_tensor(self._loss).isfinite()):
            self._stop_diverged()
        self.curve.append(float(self._hits) / self._images)
        self.log("accuracy", self.curve[-1])

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self.validation_step(batch, batch_index)

    def on_test_epoch_end(self) -> None:
        self.test_accuracy = float(self._hits) / self._images

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        decayed = [parameter for parameter in self.network.parameters() if parameter.ndim > 1]
        free = [parameter for parameter in self.network.parameters() if parameter.ndim <= 1]
        optimizer = torch.optim.SGD(
            [
                {"params": decayed, "weight_decay": self.recipe.weight_decay},
                {"params": free, "weight_decay": 0.0},
            ],
            lr=self.recipe.learning_rate,
            momentum=self.recipe.momentum,
            nesterov=self.recipe.momentum > 0,
        )
        total = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: one_cycle(step, total=total, warmup=self.recipe.warmup)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _stop_diverged(self) -> None:
        self.diverged = True
        self.trainer.should_stop = True


def one_cycle(step: int, *, total: int, warmup: float) -> float:
    """Learning rate as a part of its peak: a straight rise, then a straight fall towards zero.

    After Smith 2018 (super-convergence). torch's ``OneCycleLR`` divides by zero on trainings of a
    few steps, which low fidelities are.

    Args:
        step: Steps done, from 0.
        total: Steps of the whole training.
        warmup: Part of it in which the rate rises.
    """
    peak = warmup * total
    if step < peak:
        return (step + 1) / (peak + 1)
    return max(0.0, (total - step) / max(1.0, total - peak))
