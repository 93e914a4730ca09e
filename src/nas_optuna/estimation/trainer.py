"""Lightning's trainer, with nothing on that a training does not use."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

import pytorch_lightning as pl
import torch

from nas_optuna.estimation.callbacks import KeepSignals

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
# Lightning's own use of torch, which a user can do nothing about
warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)


def make_trainer(device: torch.device, epochs: int, callbacks: Sequence[pl.Callback]) -> pl.Trainer:
    """A trainer on one device that writes, logs, prints and validates nothing of its own accord."""
    return _Trainer(
        accelerator=device.type,
        devices=1,
        max_epochs=epochs,
        callbacks=[KeepSignals(), *callbacks],
        # only CUDA has kernels that differ from run to run by default
        deterministic="warn" if device.type == "cuda" else None,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


class _Trainer(pl.Trainer):
    """Lightning's, but a SIGTERM does not end it: whoever asked for the signal before stops it in order."""

    @property
    def received_sigterm(self) -> bool:
        """Whether to end the process between two batches: no."""
        return False
