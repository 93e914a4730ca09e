"""Data: what one training sees, as the LightningDataModule that a Trainer asks."""

from __future__ import annotations

import math
from dataclasses import replace

import pytorch_lightning as pl
import torch

from nas_optuna.data.labelled import LabelledData, Split, SplitName
from nas_optuna.data.loader import EvaluationLoader, Groups, TrainingLoader

# numbers in the inputs of a batch without gradients: what fits a CPU's caches, or fills a GPU
EVALUATED_ON_CPU, EVALUATED_ELSEWHERE = 3 * 2**16, 2**26


def evaluation_batch_size(device: torch.device, input_shape: tuple[int, ...]) -> int:
    """Inputs in a batch without gradients, 32 to 1,024."""
    most = EVALUATED_ON_CPU if device.type == "cpu" else EVALUATED_ELSEWHERE
    return min(1024, max(32, most // math.prod(input_shape)))


class TrainingData(pl.LightningDataModule):
    """Feeds one training from a data set that many trainings share.

    Loaders give groups of batches, see ``Groups``. Everything is kept on the device
    where it fits there, and read from the host's memory, or from files, in the background where it
    does not.

    Args:
        data: The data set, prepared.
        device: The device that trains.
        batch_size: Images in a training batch.
        data_share: Part of the training images that one epoch visits.
        seed: Seed of shuffling and augmentation.
        with_validation: Train on train and validation together, as the final training does.
        numbered: Training batches have the numbers of their examples in place of labels.

    Attributes:
        training: Loader of the training batches.
        labels: Of the training examples, by number.
    """

    def __init__(
        self,
        data: LabelledData,
        *,
        device: torch.device,
        batch_size: int,
        data_share: float,
        seed: int,
        with_validation: bool = False,
        numbered: bool = False,
    ) -> None:
        super().__init__()
        self._data = data
        self._device = device
        split = self._split("train")
        if with_validation:
            split = split + self._split("validation")
        self.labels = split.labels
        if numbered:
            split = replace(split, labels=torch.arange(len(split), device=split.labels.device))
        # the same one for all epochs: it knows which images it has not shown yet
        self.training = TrainingLoader(
            split,
            batch_size=batch_size,
            data_share=data_share,
            augmentation=data.augmentation,
            seed=seed,
            device=device,
        )

    def train_dataloader(self) -> Groups:
        return Groups(self.training)

    def test_dataloader(self) -> Groups:
        batches = self.judging("test")
        return Groups(batches, size=len(batches))

    def transfer_batch_to_device(self, batch: object, device: torch.device, dataloader_idx: int) -> object:
        """Nothing to do: batches come on the device."""
        return batch

    def judging(self, name: SplitName, *, limit: int | None = None) -> EvaluationLoader:
        """Batches of a split without augmentation; only so many images of it if ``limit`` is given."""
        split = self._split(name)
        return EvaluationLoader(
            split,
            batch_size=evaluation_batch_size(self._device, split.inputs.shape[1:]),
            limit=limit,
            device=self._device,
        )

    def _split(self, name: SplitName) -> Split:
        return self._data.split(name, self._device)
