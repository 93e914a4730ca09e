"""What is left when a search ends: the best networks, the winner trained and tested, a summary."""

from nas_optuna.results.display import Display
from nas_optuna.results.final import Finals, FinalSettings, FinalTrainingFailed, Interrupted, describe, front
from nas_optuna.results.saved import load, save, to_json, write_file
from nas_optuna.results.summary import dashboard_command, summarize, table

__all__ = [
    "Display",
    "FinalSettings",
    "FinalTrainingFailed",
    "Finals",
    "Interrupted",
    "dashboard_command",
    "describe",
    "front",
    "load",
    "save",
    "summarize",
    "table",
    "to_json",
    "write_file",
]
