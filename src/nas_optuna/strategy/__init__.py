"""The second of the three parts of neural architecture search: how to walk the space."""

from nas_optuna.strategy.auto import choose_sampler
from nas_optuna.strategy.description import Describe, Description
from nas_optuna.strategy.evolution import EvolutionSampler
from nas_optuna.strategy.gate import GatedSampler
from nas_optuna.strategy.local import LocalSearchSampler
from nas_optuna.strategy.predictor import PredictorSampler
from nas_optuna.strategy.sampler import PointSampler

# every sampler, for tests to run over
SAMPLERS = (EvolutionSampler, LocalSearchSampler, PredictorSampler)

__all__ = [
    "SAMPLERS",
    "Describe",
    "Description",
    "EvolutionSampler",
    "GatedSampler",
    "LocalSearchSampler",
    "PointSampler",
    "PredictorSampler",
    "choose_sampler",
]
