"""Export: a trained network as files that other tools read, each checked against the network."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from nas_optuna.errors import InputError, check_one_of
from nas_optuna.export.description import Description, describe
from nas_optuna.export.onnx_file import OnnxModel, sign, to_onnx
from nas_optuna.export.program import ProgramModel, to_program
from nas_optuna.export.source import to_source
from nas_optuna.files import write_file
from nas_optuna.space import WEIGHTS, Network

FORMATS = ("onnx", "torch_export", "python")
TOLERANCE = 1e-4  # of a logit, relative to the largest one where that is above 1
CHECKED_BATCHES = (1, 3)

ONNX_FILE, PROGRAM_FILE, SOURCE_FILE = "network.onnx", "network.pt2", "network.py"

Logits = Callable[[Tensor], Tensor]


def export(network: Network, folder: Path, *, kind: str, inputs: Tensor | None = None) -> Path:
    """Write a network, and check that what was written says the same as the network.

    Args:
        network: Loaded by ``nas_optuna.load``, or trained and given ``input_shape`` and ``classes``.
        folder: Created where it is missing.
        kind: ``onnx``, ``torch_export`` or ``python``.
        inputs: Real ones (N, ...) as the network takes them, to be compared beside random ones.

    Returns:
        The file; beside the one of ``python`` lie its weights.

    Raises:
        InputError: The format is unknown, an extra is missing, or the network can't be written in it.
    """
    check_one_of("format", kind, FORMATS)
    description = describe(network)
    # a copy in the plain memory format, which archives of weights ask for
    network = copy.deepcopy(network).cpu().to(memory_format=torch.contiguous_format).eval()
    write = {"onnx": _write_onnx, "torch_export": _write_program, "python": _write_source}[kind]
    path, logits = write(network, description, folder)
    difference = compare(network, logits, description, inputs=inputs)
    if not difference <= TOLERANCE:
        raise InputError(
            f"format: {str(path)!r} differs from the network by {difference:.1e} in its logits, more than "
            f"{TOLERANCE:.0e}. Don't use it; take another format."
        )
    return path


def compare(
    network: Network, logits: Logits, description: Description, *, inputs: Tensor | None = None
) -> float:
    """The largest difference between two ways to the logits, relative to the largest logit if above 1.

    Args:
        network: One way.
        logits: The other.
        description: Says the shape of the random inputs, of which there are batches of one and of three.
        inputs: A batch of others.
    """
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(size, *description.input_shape, generator=generator) for size in CHECKED_BATCHES]
    differences = []
    for batch in [*batches, *([] if inputs is None else [inputs])]:
        with torch.no_grad():
            expected, found = network(batch), logits(batch)
        differences.append(float((expected - found).abs().max()) / max(1.0, float(expected.abs().max())))
    # what is no number is worse than any
    return max(differences, key=lambda difference: (math.isnan(difference), difference))


def _write_onnx(network: Network, description: Description, folder: Path) -> tuple[Path, Logits]:
    path = folder / ONNX_FILE
    write_file(path, sign(to_onnx(network, input_shape=description.input_shape), description))
    return path, OnnxModel(path)


def _write_program(network: Network, description: Description, folder: Path) -> tuple[Path, Logits]:
    path = folder / PROGRAM_FILE
    write_file(path, to_program(network, description))
    return path, ProgramModel(path)


def _write_source(network: Network, description: Description, folder: Path) -> tuple[Path, Logits]:
    path = folder / SOURCE_FILE
    source = to_source(network, description, name=path.stem)
    weights = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    write_file(folder / WEIGHTS, safetensors.torch.save(weights))
    write_file(path, source.encode())
    names: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    exec(compile(source, str(path), "exec"), names)
    written: Logits = names["load"]()
    return path, written
