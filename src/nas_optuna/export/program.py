"""Export: a network as a ``torch.export`` program that carries its classes and preprocessing."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from nas_optuna.errors import InputError
from nas_optuna.export.description import Description
from nas_optuna.space import Network

DESCRIPTION_FILE = "nas_optuna.json"
# everything else that such an archive may hold is code, or unpickled when it is loaded
_ALLOWED = re.compile(
    r"data/weights/[\w.]+|data/constants/\w+_config\.json|data/sample_inputs/model\.pt|models/model\.json"
    rf"|extra/{re.escape(DESCRIPTION_FILE)}|archive_format|archive_version|byteorder|\.data/\w+"
)
_NOT_PART_OF_IT = (f"extra/{DESCRIPTION_FILE}", ".data/serialization_id")


def to_program(network: Network, description: Description) -> bytes:
    """A ``torch.export`` archive (pt2) of a network in evaluation mode, for batches of any size.

    Raises:
        InputError: The network can't be exported.
    """
    example = torch.rand(2, *description.input_shape)
    try:
        program = torch.export.export(
            network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False
        )
    except Exception as error:  # whatever a layer from elsewhere makes it raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"format: the network can't be exported by torch.export ({reason}).") from error
    plain, signed = io.BytesIO(), io.BytesIO()
    torch.export.save(program, plain)
    digest = _digest(plain, description)
    extra = json.dumps({"description": description.to_json(), "digest": digest})
    torch.export.save(program, signed, extra_files={DESCRIPTION_FILE: extra})
    return signed.getvalue()


class ProgramModel:
    """A ``torch.export`` archive of ours, on the CPU.

    An archive that holds pickled objects is refused: loading it would run whatever code they name.

    Args:
        path: The file.

    Attributes:
        description: What travels with it.

    Raises:
        InputError: The file can't be used.
    """

    def __init__(self, path: Path) -> None:
        try:
            content = io.BytesIO(path.read_bytes())
            self.description = _check(content)
            content.seek(0)
            self._module = torch.export.load(content).module()
        except Exception as error:  # zipfile, json and torch raise what they like
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"model: {str(path)!r} can't be used ({reason}). Export the network again."
            ) from error

    def __call__(self, inputs: Tensor) -> Tensor:
        """Inputs (N, ...) as float32 to logits (N, classes)."""
        with torch.no_grad():
            logits: Tensor = self._module(inputs)
        return logits


def _check(content: io.BytesIO) -> Description:
    with zipfile.ZipFile(content) as archive:
        names = archive.namelist()
        found = [name for name in names if name.endswith(f"/extra/{DESCRIPTION_FILE}")]
        if len(found) != 1:
            raise ValueError("it was not exported by nas-optuna")
        known = json.loads(archive.read(found[0]))
        for name in names:
            if not _ALLOWED.fullmatch(name.partition("/")[2]):
                raise ValueError(f"it holds {name!r}, which is no part of a network's weights or graph")
        configurations = [archive.read(name) for name in names if name.endswith("_config.json")]
        if any('"use_pickle": true' in json.dumps(json.loads(text)) for text in configurations):
            raise ValueError("it holds pickled objects")
    description = Description.from_json(known["description"])
    if known["digest"] != _digest(content, description):
        raise ValueError("it was changed after it was exported")
    return description


def _digest(content: io.BytesIO, description: Description) -> str:
    digest = hashlib.sha256(description.to_json().encode())
    with zipfile.ZipFile(content) as archive:
        for name in sorted(archive.namelist()):
            inner = name.partition("/")[2]
            if inner not in _NOT_PART_OF_IT:
                digest.update(inner.encode())
                digest.update(hashlib.sha256(archive.read(name)).digest())
    return digest.hexdigest()
