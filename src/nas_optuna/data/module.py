"""Data: what one training sees, as the LightningDataModule that a Trainer asks."""

from __future__ import annotations

import pytorch_lightning as pl
import torch

from nas_optuna.data.images import ImageData, Split, SplitName
from nas_optuna.data.loader import EvaluationLoader, TrainingLoader

EVALUATION_BATCH_SIZE = 512


class TrainingData(pl.LightningDataModule):
    """Feeds one training from a data set that many trainings share.

    Args:
        data: The data set, prepared.
        batch_size: Images in a training batch.
        data_share: Part of the training images that one epoch visits.
        seed: Seed of shuffling and augmentation.
        validation_images: How many validation images judge an epoch; None for all.
        with_validation: Train on train and validation together, as the final training does.
    """

    def __init__(
        self,
        data: ImageData,
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

    def train_dataloader(self) -> TrainingLoader:
        split = self._split("train")
        if self._with_validation:
            split = split + self._split("validation")
        return TrainingLoader(
            split,
            batch_size=self._batch_size,
            data_share=self._data_share,
            augmentation=self._data.augmentation,
            seed=self._seed,
        )

    def val_dataloader(self) -> EvaluationLoader | list[EvaluationLoader]:
        if self._with_validation:
            return []
        return EvaluationLoader(
            self._split("validation"), batch_size=EVALUATION_BATCH_SIZE, limit=self._validation_images
        )

    def test_dataloader(self) -> EvaluationLoader:
        return EvaluationLoader(self._split("test"), batch_size=EVALUATION_BATCH_SIZE)

    def _split(self, name: SplitName) -> Split:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        return self._data.split(name, device)
