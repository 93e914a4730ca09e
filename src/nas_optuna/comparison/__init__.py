"""Did the search beat luck? Groups of searches held against one another, seed by seed."""

from nas_optuna.comparison.contrasts import Comparison, Contrast
from nas_optuna.comparison.difference import Difference, compare_seeds
from nas_optuna.comparison.groups import Group, make_groups
from nas_optuna.comparison.hypervolume import hypervolume
from nas_optuna.comparison.output import compare
from nas_optuna.comparison.run import Run, read_run

__all__ = [
    "Comparison",
    "Contrast",
    "Difference",
    "Group",
    "Run",
    "compare",
    "compare_seeds",
    "hypervolume",
    "make_groups",
    "read_run",
]
