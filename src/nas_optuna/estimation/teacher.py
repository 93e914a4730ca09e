"""Performance estimation: a trained network whose probabilities others learn from."""

from __future__ import annotations

import functools
import hashlib
import io
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_optuna.data import EvaluationLoader, LabelledData, SplitName, evaluation_batch_size
from nas_optuna.errors import InputError
from nas_optuna.files import write_file
from nas_optuna.space import load

FOLDER = "teacher"


class Teacher:
    """A trained network, asked once for each example.

    It sees the examples as they are: what a network learns from a crop or a flip is what the teacher says of
    the whole. Its logits are kept in the data's ``cache_dir`` and shared by all who ask.

    Args:
        network: A folder with a network that a search saved, or any module from examples as floats (images in
            [0, 1]) to logits (N, classes).

    Raises:
        InputError: There is no network in the folder, or it is no module.
    """

    def __init__(self, network: str | nn.Module) -> None:
        if isinstance(network, str):
            network = load(network)
        if not isinstance(network, nn.Module):
            raise InputError(
                f"estimation.teacher: {network!r} must be the folder of a saved network, or a "
                "torch.nn.Module."
            )
        self._network = network.eval()
        self._logits: dict[str, Tensor] = {}

    def check(self, data: LabelledData) -> None:
        """Try it on two examples.

        Raises:
            InputError: It can't look at them, or has other classes.
        """
        inputs = torch.zeros((2, *data.input_shape))
        try:
            with torch.inference_mode():
                shape = tuple(self._network(inputs).shape)
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"estimation.teacher: it can't judge examples of {data.input_shape} ({reason}). Take one "
                "that was trained on such data."
            ) from error
        classes = getattr(self._network, "classes", None)
        if shape != (2, len(data.classes)) or classes not in (None, data.classes):
            raise InputError(
                f"estimation.teacher: its answer to two examples has the shape {shape}, its classes are "
                f"{classes or 'unknown'}; the data has {len(data.classes)} classes: {data.classes}. Take one "
                "that was trained on this data."
            )

    def logits(self, data: LabelledData, name: SplitName, device: torch.device) -> Tensor:
        """What it says of a split, (N, classes), in the order of the split."""
        key = f"{self.digest}-{data.fingerprint}-{name}"
        if key not in self._logits:
            self._logits[key] = self._find(data, name, key, device)
        return self._logits[key].to(device)

    def _find(self, data: LabelledData, name: SplitName, key: str, device: torch.device) -> Tensor:
        path = None if data.cache_dir is None else data.cache_dir / FOLDER / f"{key}.npy"
        if path is not None and path.is_file():
            return torch.from_numpy(np.load(path, allow_pickle=False))
        logits = self._ask(data, name, device)
        if path is not None:
            file = io.BytesIO()
            np.save(file, logits.numpy())
            write_file(path, file.getvalue())
        return logits

    def _ask(self, data: LabelledData, name: SplitName, device: torch.device) -> Tensor:
        split = data.split(name, device)
        batches = EvaluationLoader(
            split, batch_size=evaluation_batch_size(device, data.input_shape), device=device
        )
        network = self._network.to(device)
        with torch.inference_mode():
            answers = [network(inputs).float().cpu() for inputs, _ in batches]
        self._network.cpu()
        return torch.cat(answers).clone()

    @functools.cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that change with the network's weights."""
        digest = hashlib.sha256(type(self._network).__qualname__.encode())
        for name, tensor in self._network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]


def make_teacher(teacher: Any, loss: str) -> Teacher | None:
    """The teacher that a loss needs.

    Raises:
        InputError: One is given and not needed, or the other way round.
    """
    if (teacher is None) != (loss == "cross_entropy"):
        raise InputError(
            f"estimation.teacher: {teacher!r} does not go with estimation.loss={loss}: kl and distillation "
            "need a teacher, cross_entropy takes none."
        )
    return None if teacher is None else Teacher(teacher)
