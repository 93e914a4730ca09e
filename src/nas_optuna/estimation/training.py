"""Performance estimation by training: from an architecture to its accuracy."""

from __future__ import annotations

import logging
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import optuna
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.memory import is_oom_error

from nas_optuna.data import LabelledData, TrainingData, evaluation_batch_size
from nas_optuna.errors import InputError, check_number, check_one_of
from nas_optuna.estimation.callbacks import StepTimer
from nas_optuna.estimation.module import Classifier, Recipe
from nas_optuna.space import Architecture, Network

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
# Lightning's own use of torch, which a user can do nothing about
warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)


@dataclass(frozen=True)
class Fidelity:
    """How long a training is.

    Attributes:
        epochs: Epochs.
        data_share: Part of the training images that one epoch visits.
        validation_images: Validation images that judge each epoch but the last, which is judged on
            all; None for all.
    """

    epochs: int
    data_share: float = 1.0
    validation_images: int | None = None


@dataclass(frozen=True)
class Speed:
    """Seconds that one image takes, in a training step and in a validation batch."""

    training: float
    validation: float


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a network is too large for its device."""
    return is_oom_error(error) or isinstance(error, MemoryError) or "out of memory" in str(error)


class Training:
    """Trains a network and judges it on validation images.

    Args:
        epochs, data_share, validation_images: See ``Fidelity``; None where the plan decides.
        batch_size: Images in a step.
        learning_rate, warmup, momentum, weight_decay, label_smoothing: See ``Recipe``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: As Lightning's Trainer spells it: ``32-true``, ``bf16-mixed``, ``16-mixed``.
        pruner: Stops hopeless networks early. Any ``optuna.pruners.BasePruner``.

    Raises:
        InputError: A number is out of its range.
    """

    def __init__(
        self,
        *,
        epochs: int | None,
        data_share: float | None,
        validation_images: int | None,
        batch_size: int,
        learning_rate: float,
        warmup: float,
        momentum: float,
        weight_decay: float,
        label_smoothing: float,
        device: str,
        precision: Precision,
        pruner: optuna.pruners.BasePruner,
    ) -> None:
        if not isinstance(pruner, optuna.pruners.BasePruner):
            raise InputError(f"estimation.pruner: {pruner!r} must be an optuna.pruners.BasePruner.")
        if epochs is not None:
            check_number("estimation.epochs", epochs, whole=True, at_least=1)
        if data_share is not None:
            check_number("estimation.data_share", data_share, above=0, at_most=1)
        if validation_images is not None:
            check_number("estimation.validation_images", validation_images, whole=True, at_least=1)
        check_number("estimation.batch_size", batch_size, whole=True, at_least=2)
        check_one_of("estimation.device", device, ("auto", "cpu", "cuda", "mps"))
        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not available.get(device, True):
            raise InputError(
                f"estimation.device: this machine, or this torch, has no {device!r}; use auto or cpu."
            )
        check_one_of("estimation.precision", precision, get_args(Precision))
        self.epochs, self.data_share, self.validation_images = epochs, data_share, validation_images
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.pruner = pruner
        self.recipe = Recipe(
            learning_rate=learning_rate,
            warmup=warmup,
            momentum=momentum,
            weight_decay=weight_decay,
            label_smoothing=label_smoothing,
        )

    def fit(
        self,
        architecture: Architecture,
        data: LabelledData,
        *,
        fidelity: Fidelity,
        seed: int,
        callbacks: Sequence[pl.Callback] = (),
        with_validation: bool = False,
        test: bool = False,
    ) -> Classifier:
        """Build and train one network; the same arguments give the same weights on the same machine.

        Args:
            architecture: The network.
            data: What it learns.
            fidelity: How long.
            seed: Decides its initial weights, the order of the images and their augmentation.
            callbacks: Listeners, which may stop it.
            with_validation: Train on train and validation together; then nothing judges the epochs.
            test: If the training runs to its end, read the test split and judge the network on it.
        """
        module = Classifier(self.build(architecture, data, seed=seed), self.recipe)
        feed = TrainingData(
            data,
            batch_size=self.batch_size,
            data_share=fidelity.data_share,
            validation_images=fidelity.validation_images,
            seed=seed,
            with_validation=with_validation,
        )
        trainer = self._trainer(fidelity.epochs, callbacks, validation_batches=0 if with_validation else None)
        trainer.fit(module, datamodule=feed)
        if test and not trainer.should_stop:
            trainer.test(module, datamodule=feed, verbose=False)
        return module

    def build(self, architecture: Architecture, data: LabelledData, *, seed: int) -> Network:
        """The untrained network, with weights drawn from ``seed`` and the data's normalisation."""
        mean, std = data.normalization
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Network(architecture, classes=len(data.classes), mean=mean, std=std)
        return network.to(memory_format=torch.channels_last)

    def time_steps(self, architecture: Architecture, data: LabelledData, *, steps: int = 4) -> Speed:
        """Train a few steps for their time alone. Takes about a second.

        Args:
            architecture: The network.
            data: What it learns.
            steps: Timed steps; two more go before them to warm up.
        """
        timer = StepTimer()
        images = len(data.split("train"))
        batch = min(self.batch_size, images)
        feed = TrainingData(data, batch_size=batch, data_share=1.0, seed=0)
        trainer = self._trainer(1, [timer], training_batches=steps + 2, validation_batches=2)
        trainer.fit(Classifier(self.build(architecture, data, seed=0), self.recipe), datamodule=feed)
        judged = min(evaluation_batch_size(trainer.strategy.root_device), len(data.split("validation")))
        return Speed(
            training=statistics.median(timer.training[2:] or timer.training) / batch,
            validation=min(timer.validation) / judged,
        )

    def _trainer(
        self,
        epochs: int,
        callbacks: Sequence[pl.Callback],
        *,
        training_batches: int | None = None,
        validation_batches: int | None = None,
    ) -> pl.Trainer:
        on_cuda = self.device == "cuda" or (self.device == "auto" and torch.cuda.is_available())
        return pl.Trainer(
            accelerator=self.device,
            devices=1,
            precision=self.precision,
            max_epochs=epochs,
            callbacks=list(callbacks),
            # only CUDA has kernels that differ from run to run by default
            deterministic="warn" if on_cuda else None,
            num_sanity_val_steps=0,
            # the last epoch's validation differs from the others'
            reload_dataloaders_every_n_epochs=1,
            limit_train_batches=training_batches,
            limit_val_batches=validation_batches,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
