"""The second of the three parts of neural architecture search: how to walk the space."""

from nas_optuna.strategy.evolution import EvolutionSampler
from nas_optuna.strategy.local import LocalSearchSampler
from nas_optuna.strategy.predictor import PredictorSampler

__all__ = ["EvolutionSampler", "LocalSearchSampler", "PredictorSampler"]
