"""What networks learn from: labelled examples in memory, with a test split that search never sees."""

from nas_optuna.data.augmentation import Augmentation, to_float
from nas_optuna.data.builtin import Digits, TorchvisionData
from nas_optuna.data.folder import ImageFolder
from nas_optuna.data.images import ImageData
from nas_optuna.data.labelled import LabelledData, Split, SplitName
from nas_optuna.data.loader import Batch, EvaluationLoader, Groups, TrainingLoader, steps_per_epoch
from nas_optuna.data.module import TrainingData, evaluation_batch_size
from nas_optuna.data.nothing import NoData
from nas_optuna.data.series import TimeSeries

__all__ = [
    "Augmentation",
    "Batch",
    "Digits",
    "EvaluationLoader",
    "Groups",
    "ImageData",
    "ImageFolder",
    "LabelledData",
    "NoData",
    "Split",
    "SplitName",
    "TimeSeries",
    "TorchvisionData",
    "TrainingData",
    "TrainingLoader",
    "evaluation_batch_size",
    "steps_per_epoch",
    "to_float",
]
