"""Export: open any of the files that a search leaves, and ask it for the classes of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from nas_optuna.data.decode import read_image
from nas_optuna.errors import InputError
from nas_optuna.export.description import Description, describe
from nas_optuna.export.onnx_file import OnnxModel
from nas_optuna.export.program import ProgramModel
from nas_optuna.space import Network, load

BATCH = 64


class Model(Protocol):
    """Anything that tells logits (N, classes) from inputs (N, ...)."""

    description: Description

    def __call__(self, inputs: Tensor) -> Tensor:
        """Float32 inputs to float32 logits."""


@dataclass
class NetworkModel:
    """A network of ours.

    Attributes:
        network: In evaluation mode, on the CPU.
        description: What travels with it.
    """

    network: Network
    description: Description

    def __call__(self, inputs: Tensor) -> Tensor:
        """Float32 inputs to float32 logits."""
        with torch.no_grad():
            logits: Tensor = self.network(inputs)
        return logits


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        path: The image file.
        classes: Names, the most probable first.
        probabilities: Of each.
    """

    path: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


def open_model(path: str | Path, *, threads: int | None = None) -> Model:
    """Open a saved or exported network.

    Args:
        path: A study's folder, its ``final`` folder, an ONNX file or a ``torch.export`` archive.
        threads: CPU threads of onnxruntime; None for its choice.

    Raises:
        InputError: There is none, or it can't be used.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        network = load(path)
        return NetworkModel(network, describe(network))
    if not path.is_file():
        raise InputError(
            f"model: no file or folder {str(path)!r}. Give a study's folder or an exported file."
        )
    if path.suffix == ".onnx":
        return OnnxModel(path, threads=threads)
    if path.suffix == ".pt2":
        return ProgramModel(path)
    cure = f"run it: python {path} IMAGES" if path.suffix == ".py" else "give a study's folder, .onnx or .pt2"
    raise InputError(f"model: {str(path)!r} is none of the files that can be opened here; {cure}.")


def predict(model: Model, paths: Sequence[Path], *, top: int = 1) -> Iterator[Prediction | InputError]:
    """The classes of image files, in their order; an error in the place of each that can't be read.

    Args:
        model: From ``open_model``.
        paths: Image files.
        top: How many classes are told of each.

    Raises:
        InputError: The model does not see images.
    """
    description = model.description
    if description.mode is None:
        raise InputError(
            f"model: its inputs are {description.input_shape}, not grey or RGB images; call it from Python, "
            "with nas_optuna.load."
        )
    for start in range(0, len(paths), BATCH):
        chunk = paths[start : start + BATCH]
        images = [_read(path, description) for path in chunk]
        readable = [image for image in images if isinstance(image, Tensor)]
        probabilities = iter(model(torch.stack(readable)).softmax(dim=1) if readable else ())
        for path, image in zip(chunk, images, strict=True):
            yield (
                image if isinstance(image, InputError) else _tell(path, next(probabilities), description, top)
            )


def _read(path: Path, description: Description) -> Tensor | InputError:
    """The image as the network takes it (C, H, W), or why there is none."""
    _, height, width = description.input_shape
    assert description.mode is not None
    try:
        pixels = read_image(path, height=height, width=width, mode=description.mode)
    except Exception as error:  # Pillow's plugins raise whatever their parsers do
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return InputError(f"can't read the image {str(path)!r} ({reason}). Leave it out, or repair it.")
    return torch.from_numpy(pixels.copy()).float() / 255


def _tell(path: Path, probabilities: Tensor, description: Description, top: int) -> Prediction:
    values, indices = probabilities.topk(min(top, len(description.classes)))
    names = tuple(description.classes[index] for index in indices.tolist())
    return Prediction(path, names, tuple(values.tolist()))
