"""Export: a network as an ONNX file that carries its classes and preprocessing, and what such a file says."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from nas_optuna.errors import InputError
from nas_optuna.export.description import Description

DESCRIPTION_KEY, DIGEST_KEY = "nas_optuna", "nas_optuna_digest"
INPUT, OUTPUT = "inputs", "logits"


def need(name: str) -> ModuleType:
    """Import a package of the extra ``onnx``.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise InputError(
            f"onnx: the package {package} is missing; install it with pip install 'nas-optuna[onnx]'."
        ) from error


def to_onnx(network: nn.Module, *, input_shape: tuple[int, ...]) -> bytes:
    """An ONNX model of a network in evaluation mode, for batches of any size.

    Args:
        network: Is moved to the CPU and put into evaluation mode.
        input_shape: Without the batch axis.

    Returns:
        The file's contents: one input ``inputs`` (N, ...), one output ``logits`` (N, classes), both float32.

    Raises:
        InputError: A package of the extra ``onnx`` is missing, or the network can't be written.
    """
    for package in ("onnx", "onnxscript"):
        need(package)
    network = network.cpu().eval()
    # contiguous, so that the graph does not depend on the memory format at hand
    example = torch.rand(2, *input_shape)
    try:
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    except Exception as error:  # whatever a layer from elsewhere makes the exporter raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"format: the network can't be written as ONNX ({reason}); take format=torch_export or python."
        ) from error
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def sign(content: bytes, description: Description) -> bytes:
    """Put the description into an ONNX file, and a digest by which a change of the network is noticed."""
    onnx = need("onnx")
    model = onnx.load_model_from_string(content)
    del model.metadata_props[:]
    values = {DESCRIPTION_KEY: description.to_json(), DIGEST_KEY: _digest(model, description)}
    for key, value in values.items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name = "nas-optuna"
    signed: bytes = model.SerializeToString()
    return signed


def read_description(path: Path) -> Description:
    """The description in an ONNX file of ours.

    Raises:
        InputError: The file is no ONNX file, not one of ours, or was changed.
    """
    onnx = need("onnx")
    try:
        model = onnx.load_model(str(path))
        known = {entry.key: entry.value for entry in model.metadata_props}
        if DESCRIPTION_KEY not in known:
            raise ValueError("it was not exported by nas-optuna")
        description = Description.from_json(known[DESCRIPTION_KEY])
        if known.get(DIGEST_KEY) != _digest(model, description):
            raise ValueError("it was changed after it was exported")
    except InputError:
        raise
    except Exception as error:  # protobuf and onnx raise what they like
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"model: {str(path)!r} can't be used ({reason}). Export the network again."
        ) from error
    return description


def _digest(model: Any, description: Description) -> str:
    """Changes when a weight, an operation or the description does, and not with the version of protobuf."""
    onnx = need("onnx")
    digest = hashlib.sha256(description.to_json().encode())
    for tensor in sorted(model.graph.initializer, key=lambda tensor: tensor.name):
        array = onnx.numpy_helper.to_array(tensor)
        digest.update(f"{tensor.name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    for node in model.graph.node:
        digest.update(f"{node.domain}.{node.op_type}({list(node.input)})->{list(node.output)}".encode())
        for attribute in sorted(node.attribute, key=lambda attribute: attribute.name):
            value = onnx.helper.get_attribute_value(attribute)
            if isinstance(value, onnx.TensorProto):
                value = onnx.numpy_helper.to_array(value).tolist()
            digest.update(f"{attribute.name}={value!r}".encode())
    return digest.hexdigest()


class OnnxModel:
    """An ONNX file of ours, run by onnxruntime on the CPU.

    Args:
        path: The file.
        threads: Of the CPU; None for onnxruntime's choice.

    Attributes:
        description: What travels with it.

    Raises:
        InputError: onnxruntime is missing, or the file can't be used.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self.description = read_description(path)
        self._session = open_session(path.read_bytes(), threads=threads)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Inputs (N, ...) as float32 to logits (N, classes)."""
        return torch.from_numpy(self._session.run([OUTPUT], {INPUT: inputs.contiguous().numpy()})[0])


def open_session(content: bytes, *, threads: int | None = None) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU.

    Args:
        content: Of an ONNX file.
        threads: None for onnxruntime's choice.

    Raises:
        InputError: onnxruntime is missing.
    """
    runtime = need("onnxruntime")
    options = runtime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
