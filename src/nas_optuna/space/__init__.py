"""The first of the three parts of neural architecture search: which networks can be said."""

from nas_optuna.space.architecture import Architecture, Block, Stem
from nas_optuna.space.cost import Costs, measure_costs
from nas_optuna.space.layers import LAYERS
from nas_optuna.space.network import Network
from nas_optuna.space.resconv import ResConv

__all__ = ["LAYERS", "Architecture", "Block", "Costs", "Network", "ResConv", "Stem", "measure_costs"]
