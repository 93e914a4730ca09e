"""What is left when a search ends: the best networks, the winner trained and tested, a summary."""

from nas_optuna.results.display import Display
from nas_optuna.results.final import Finals, FinalSettings, FinalTrainingFailed, Interrupted, describe, front
from nas_optuna.results.summary import dashboard_command, summarize, table
from nas_optuna.results.timing import Timing

__all__ = [
    "Display",
    "FinalSettings",
    "FinalTrainingFailed",
    "Finals",
    "Interrupted",
    "Timing",
    "dashboard_command",
    "describe",
    "front",
    "summarize",
    "table",
]
