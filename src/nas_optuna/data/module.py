"""Data: what one training sees, as the LightningDataModule that a Trainer asks."""

from __future__ import annotations

import pytorch_lightning as pl
import torch

from nas_optuna.data.labelled import LabelledData, Split, SplitName
from nas_optuna.data.loader import EvaluationLoader, TrainingLoader


def evaluation_batch_size(device: torch.device) -> int:
    """Images in a batch without gradients: what fits a CPU's caches, or fills a GPU."""
    return 128 if device.type == "cpu" else 1024


class TrainingData(pl.LightningDataModule):
    """Feeds one training from a data set that many trainings share.

    Args:
        data: The data set, prepared.
        batch_size: Images in a training batch.
        data_share: Part of the training images that one epoch visits.
        seed: Seed of shuffling and augmentation.
        validation_images: How many validation images judge an epoch; None for all. The last epoch,
            whose accuracy is the network's value, is judged on all of them in any case.
        with_validation: Train on train and validation together, as the final training does.
    """

    def __init__(
        self,
        data: LabelledData,
        *,
        batch_size: int,
        data_share: float,
        seed: int,
        validation_images: int | None = None,
        with_validation: bool = False,
    ) -> None:
        super().__init__()
        self._data = data
        self._batch_size = batch_size
        self._data_share = data_share
        self._seed = seed
        self._validation_images = validation_images
        self._with_validation = with_validation
        self._training_loader: TrainingLoader | None = None

    def train_dataloader(self) -> TrainingLoader:
        if self._training_loader is None:
            split = self._split("train")
            if self._with_validation:
                split = split + self._split("validation")
            self._training_loader = TrainingLoader(
                split,
                batch_size=self._batch_size,
                data_share=self._data_share,
                augmentation=self._data.augmentation,
                seed=self._seed,
            )
        # the same one for all epochs: it knows which images it has not shown yet
        return self._training_loader

    def val_dataloader(self) -> EvaluationLoader | list[EvaluationLoader]:
        if self._with_validation:
            return []
        is_last = self.trainer is not None and self.trainer.current_epoch + 1 == self.trainer.max_epochs
        return self._evaluation_loader("validation", limit=None if is_last else self._validation_images)

    def test_dataloader(self) -> EvaluationLoader:
        return self._evaluation_loader("test")

    def _evaluation_loader(self, name: SplitName, *, limit: int | None = None) -> EvaluationLoader:
        split = self._split(name)
        return EvaluationLoader(split, batch_size=evaluation_batch_size(split.inputs.device), limit=limit)

    def _split(self, name: SplitName) -> Split:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        return self._data.split(name, device)
