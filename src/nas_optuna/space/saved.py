"""Search space: a trained network on disk, as weights and a description that need no pickle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from nas_optuna.errors import InputError
from nas_optuna.files import to_json, write_file
from nas_optuna.space.architecture import Architecture
from nas_optuna.space.network import Network

WEIGHTS, DESCRIPTION = "weights.safetensors", "architecture.json"
FORMAT = 1


def save(folder: Path, network: Network, *, input_shape: tuple[int, ...], classes: tuple[str, ...]) -> None:
    """Write a network to a folder as ``weights.safetensors`` and ``architecture.json``.

    Args:
        folder: Created where it is missing.
        network: The trained network.
        input_shape: Channels, then height and width, or length, of what it was trained on.
        classes: Names of the classes, in the order of the logits.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    weights = safetensors.torch.save(tensors)
    description = {
        "format": FORMAT,
        "architecture": network.architecture.to_dict(),
        "summary": str(network.architecture),
        "input_shape": list(input_shape),
        "classes": list(classes),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_file(folder / WEIGHTS, weights)
    write_file(folder / DESCRIPTION, to_json(description))


def load(path: str | Path) -> Network:
    """Load a network that a search saved.

    The network is in evaluation mode on the CPU. It takes images (N, C, H, W) as floats in [0, 1], or
    series (N, C, L) as they are, normalises them itself and returns logits (N, classes). It carries
    ``input_shape`` (without the batch axis) and ``classes`` (names in the order of the logits).

    A network with a layer of your own needs ``nas_optuna.space.register_layer`` before.

    Args:
        path: The ``final`` folder of a study, or the study's folder.

    Raises:
        InputError: There is no network in the folder, or it can't be read.
    """
    folder = Path(path).expanduser()
    if not (folder / DESCRIPTION).is_file() and (folder / "final").is_dir():
        folder = folder / "final"
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        if description["format"] != FORMAT:
            raise ValueError(f"its format is {description['format']!r}, this version reads {FORMAT}")
        network = Network(
            Architecture.from_dict(description["architecture"]),
            classes=len(description["classes"]),
            mean=[0.0] * description["input_shape"][0],
            std=[1.0] * description["input_shape"][0],
        )
        weights = (folder / WEIGHTS).read_bytes()
        digest = hashlib.sha256(weights).hexdigest()
        # an earlier version did not write it
        if description.get("sha256", digest) != digest:
            raise ValueError(f"{WEIGHTS} was changed after it was saved")
        network.load_state_dict(safetensors.torch.load(weights))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else error
        raise InputError(
            f"no network can be loaded from {str(path)!r} ({reason}). "
            "Give the folder final/ of a finished study."
        ) from error
    network.input_shape = tuple(description["input_shape"])
    network.classes = tuple(description["classes"])
    return network.to(memory_format=torch.channels_last).eval()
