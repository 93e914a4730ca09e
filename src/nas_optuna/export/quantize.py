"""Export: post-training quantization of an ONNX file to 8-bit integers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from nas_optuna.export.description import Description
from nas_optuna.export.onnx_file import INPUT, need, sign


def quantize(content: bytes, description: Description, calibration: Iterable[Tensor]) -> bytes:
    """The same network with weights and activations of 8 bits (Jacob et al. 2018, section 2).

    Batch norms are folded into convolutions first; weights have a scale for each output channel
    (Krishnamoorthi 2018, section 3.1.3), activations one for each tensor, from the smallest and the
    largest value that the calibration inputs lead to.

    Args:
        content: Of an ONNX file with 32-bit floats.
        description: What travels with it.
        calibration: Batches of training inputs (N, ...) as the network takes them; some hundred will do.

    Returns:
        The contents of the new file. It takes and gives floats, as before.

    Raises:
        InputError: A package of the extra ``onnx`` is missing.
    """
    quantization = need("onnxruntime.quantization")
    preparation = need("onnxruntime.quantization.shape_inference")
    registry = need("onnxruntime.quantization.registry")
    # a batch norm without a convolution before it has no scale for each channel to be rounded by
    kinds = [kind for kind in registry.QDQRegistry if kind != "BatchNormalization"]
    batches = iter(calibration)

    class Reader:
        """What onnxruntime asks for batches; it goes by the method, not by the class."""

        def get_next(self) -> dict[str, Any] | None:
            batch = next(batches, None)
            return None if batch is None else {INPUT: batch.contiguous().numpy()}

    with tempfile.TemporaryDirectory() as name:
        given, prepared, quantized = (
            str(Path(name) / f"{step}.onnx") for step in ("given", "prepared", "int8")
        )
        Path(given).write_bytes(content)
        preparation.quant_pre_process(given, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            quantized,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=kinds,
        )
        return sign(Path(quantized).read_bytes(), description)
