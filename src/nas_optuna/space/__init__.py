"""The first of the three parts of neural architecture search: which networks can be said."""

from nas_optuna.space.architecture import Architecture, Block, Head, Stem
from nas_optuna.space.base import Size, Space
from nas_optuna.space.choice import Choice
from nas_optuna.space.cost import Costs, LayerCosts, measure_costs
from nas_optuna.space.nasbench import NasBench201, NasBenchMacro
from nas_optuna.space.network import Network
from nas_optuna.space.parts import Parts
from nas_optuna.space.registry import LAYERS, register_layer
from nas_optuna.space.saved import WEIGHTS, load, save
from nas_optuna.space.seeds import resolve_seeds
from nas_optuna.space.stages import Stages

__all__ = [
    "LAYERS",
    "WEIGHTS",
    "Architecture",
    "Block",
    "Choice",
    "Costs",
    "Head",
    "LayerCosts",
    "NasBench201",
    "NasBenchMacro",
    "Network",
    "Parts",
    "Size",
    "Space",
    "Stages",
    "Stem",
    "load",
    "measure_costs",
    "register_layer",
    "resolve_seeds",
    "save",
]
