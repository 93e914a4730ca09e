"""What becomes of a trained network: files that other tools read, and predictions."""

from nas_optuna.export.description import Description, describe
from nas_optuna.export.formats import FORMATS, export
from nas_optuna.export.model import Model, Prediction, open_model, predict
from nas_optuna.export.onnx_file import OnnxModel, open_session, to_onnx
from nas_optuna.export.program import ProgramModel

__all__ = [
    "FORMATS",
    "Description",
    "Model",
    "OnnxModel",
    "Prediction",
    "ProgramModel",
    "describe",
    "export",
    "open_model",
    "open_session",
    "predict",
    "to_onnx",
]
