"""What people write today: an Optuna objective around a LightningModule, PIL transforms and a DataLoader.

The benchmarks compare this with nas_optuna. It is written as the tutorials of Optuna, Lightning and
torchvision teach it, with nothing slowed down on purpose: the same search space and networks, images
decoded once and kept in memory as PIL images, transforms per image, a DataLoader with as many
processes as serve it best, SGD with one-cycle, the median pruner.
"""

from __future__ import annotations

import logging
import time
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from nas_optuna.space import Architecture, Network

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="pytorch_lightning")
warnings.filterwarnings("ignore", module="torch")


class InMemory(Dataset):  # type: ignore[type-arg]
    """PIL images and labels of a folder, decoded once, transformed one by one."""

    def __init__(self, folder: Path, transform: Any) -> None:
        files = ImageFolder(str(folder)).samples
        self.images = [Image.open(path).convert("RGB") for path, _ in files]
        for image in self.images:
            image.load()
        self.labels = [label for _, label in files]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


AUGMENTED = transforms.Compose(
    [
        transforms.RandomCrop(32, padding=4, padding_mode="reflect"),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
    ]
)


class Images:
    """Loaders of training images and of validation images, which are every tenth.

    Args:
        root: Folder of `train/class/*`.
        processes: Of each DataLoader.
        batch_size: Of training.
        limit: Train on so many images, spread evenly; None for all.
    """

    def __init__(self, root: Path, *, processes: int, batch_size: int, limit: int | None = None) -> None:
        augmented = InMemory(root / "train", AUGMENTED)
        plain = InMemory.__new__(InMemory)
        plain.images, plain.labels = augmented.images, augmented.labels
        plain.transform = transforms.ToTensor()
        train = [index for index in range(len(plain)) if index % 10]
        if limit is not None:
            train = train[:: max(1, len(train) // limit)][:limit]
        self.train = self._loader(Subset(augmented, train), processes, batch_size, shuffle=True)
        validation = Subset(plain, range(0, len(plain), 10))
        self.validation = self._loader(validation, processes, 128, shuffle=False)

    @staticmethod
    def _loader(dataset: Any, processes: int, batch_size: int, *, shuffle: bool) -> Any:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            shuffle=shuffle,
            num_workers=processes,
            persistent_workers=processes > 0,
            drop_last=shuffle,
        )


class Module(pl.LightningModule):
    """The tutorial's module: loss and accuracy logged, SGD and OneCycleLR."""

    def __init__(self, architecture: Architecture, *, learning_rate: float) -> None:
        super().__init__()
        self.network = Network(architecture, classes=10, mean=MEAN, std=STD)
        self.learning_rate = learning_rate

    def training_step(self, batch: Any, index: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.network(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        images, labels = batch
        accuracy = (self.network(images).argmax(dim=1) == labels).float().mean()
        self.log("val_accuracy", accuracy, batch_size=len(labels))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(
            self.parameters(), lr=self.learning_rate, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Report(pl.Callback):
    """Each epoch's accuracy to the trial; stops where its pruner says so, or the time is over."""

    def __init__(self, trial: optuna.Trial | None, deadline: float | None) -> None:
        self.trial, self.deadline = trial, deadline
        self.pruned = False
        self.curve: list[float] = []

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.curve.append(float(trainer.callback_metrics["val_accuracy"]))
        if self.trial is not None:
            self.trial.report(self.curve[-1], trainer.current_epoch)
            self.pruned = self.trial.should_prune()
        trainer.should_stop = trainer.should_stop or self.pruned

    def on_train_batch_end(self, trainer: pl.Trainer, *rest: Any) -> None:
        if self.deadline is not None and time.time() > self.deadline:
            trainer.should_stop = True


def train(
    architecture: Architecture,
    images: Images,
    *,
    epochs: int,
    learning_rate: float = 0.15,
    trial: optuna.Trial | None = None,
    deadline: float | None = None,
    data_share: float = 1.0,
) -> tuple[Module, Report]:
    """Train one network as a hand-written objective does."""
    module, report = Module(architecture, learning_rate=learning_rate), Report(trial, deadline)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        callbacks=[report],
        limit_train_batches=data_share,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, images.train, images.validation)
    return module, report
