"""Performance estimation: the state of a training on disk, from which it goes on after a crash."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from nas_optuna.data.loader import TrainingLoader
from nas_optuna.estimation.module import Classifier
from nas_optuna.files import write_file

HEAD = b"nas_optuna checkpoint 1\n"
DIGEST_BYTES = 32

State = dict[str, Any]
Request = Mapping[str, Any]


class _UnusableError(Exception):
    """Why a file is not the state that was looked for."""


class Checkpoint:
    """The state of one training after its last whole epoch, in a file that is whole after a crash.

    ``Training.fit`` writes it after an epoch, also the one at which a pruner stops the training, and
    goes on from what it finds there. It stays until it is removed: the caller does that once it has
    kept what the training gave, a diverged training does it itself.

    The file holds tensors and plain values, which torch reads without running code, and their digest.

    Args:
        path: The file.
        say: Told in one line what is done with a file that is found.
        seconds: Between two writes, unless the training is stopped; 0 to write after each epoch.
    """

    def __init__(
        self, path: Path, *, say: Callable[[str], None] = lambda text: None, seconds: float = 0.0
    ) -> None:
        self.path = path
        self.say = say
        self._seconds = seconds
        self._written = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the last write is long enough ago."""
        return time.monotonic() - self._written >= self._seconds

    def read(self, request: Request) -> State | None:
        """The state of this very training; what is damaged or of another one is removed.

        Args:
            request: All that the training's result follows from, as plain values by name.
        """
        if not self.path.is_file():
            return None
        try:
            return _unpack(self.path.read_bytes(), request)
        except _UnusableError as error:
            self.say(f"{self.path} is not used: {error}. The training begins anew.")
            self.remove()
            return None

    def write(self, request: Request, state: State) -> None:
        """Replace what is there; where that fails, as on a full disk, the training goes on without."""
        file = io.BytesIO()
        torch.save({"request": _to_text(request), "state": state}, file)
        body = file.getvalue()
        self._written = time.monotonic()
        try:
            write_file(self.path, HEAD + hashlib.sha256(body).digest() + body)
        except OSError as error:
            self.say(f"{self.path} can't be written ({error.strerror}): the training is not kept for now")

    def remove(self) -> None:
        """The training is over, and what it gave is kept."""
        self.path.unlink(missing_ok=True)


class Keeper(pl.Callback):
    """Writes a training's checkpoint after each whole epoch, and sets a training to where one was left.

    It comes after the callbacks that report an epoch, so that no epoch is kept and not reported.

    Args:
        checkpoint: Where the state is kept.
        request: See ``Checkpoint.read``.
        loader: Of the training batches.
        state: What the checkpoint held; None to begin at the beginning.
    """

    def __init__(
        self, checkpoint: Checkpoint, request: Request, loader: TrainingLoader, state: State | None
    ) -> None:
        self._checkpoint = checkpoint
        self._request = request
        self._loader = loader
        self._state = state

    def restore(self, trainer: pl.Trainer, module: Classifier) -> None:
        """Set network, curve, data and epoch; the optimisers are set when there are any."""
        if self._state is None:
            return
        module.restore(self._state["module"])
        self._loader.restore(self._state["loader"])
        self._checkpoint.say(f"the training goes on after epoch {module.epochs} of {trainer.max_epochs}")
        _skip(trainer, epochs=module.epochs)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        if self._state is not None:
            pl_module.restore_optimizers(self._state["module"])
            self._state = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        if pl_module.diverged:
            self._checkpoint.remove()
        # not where it was stopped within an epoch
        elif pl_module.epochs == trainer.current_epoch + 1 and (
            trainer.should_stop or self._checkpoint.is_due
        ):
            state = {
                "module": pl_module.state(),
                "loader": self._loader.state(),
                "execution": vars(pl_module.execution),
            }
            self._checkpoint.write(self._request, state)


def begin_after(trainer: pl.Trainer, module: Classifier, *, epochs: int) -> None:
    """Let a training begin where its schedule is after so many epochs."""
    assert trainer.max_epochs is not None
    module.skip(epochs, of=trainer.max_epochs)
    _skip(trainer, epochs=epochs)


def _skip(trainer: pl.Trainer, *, epochs: int) -> None:
    progress = trainer.fit_loop.epoch_progress.current
    for name in ("processed", "completed"):
        setattr(progress, name, epochs)


def _unpack(content: bytes, request: Request) -> State:
    digest, body = content[len(HEAD) :][:DIGEST_BYTES], content[len(HEAD) + DIGEST_BYTES :]
    if not content.startswith(HEAD) or hashlib.sha256(body).digest() != digest:
        raise _UnusableError("it is damaged")
    try:
        kept: State = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _UnusableError("it holds more than tensors and plain values") from error
    before, now = json.loads(kept["request"]), json.loads(_to_text(request))
    other = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if other:
        raise _UnusableError(f"it is of a training with other {', '.join(other)}")
    state: State = kept["state"]
    return state


def _to_text(request: Request) -> str:
    return json.dumps(request, sort_keys=True)
