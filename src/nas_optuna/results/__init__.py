"""What is left when a search ends: the best networks, the winner trained and tested, a summary."""

from nas_optuna.results.display import Display
from nas_optuna.results.final import FINAL, Finals, FinalSettings, describe, front, ranking
from nas_optuna.results.race import Race, leader, plan_race
from nas_optuna.results.summary import (
    as_typed,
    count_executions,
    dashboard_command,
    group_of,
    summarize,
    table,
)
from nas_optuna.results.through import TESTS, FinalTrainingFailed, FullTraining, Interrupted, count_test
from nas_optuna.results.timing import Timing
from nas_optuna.results.trained import Lines, Trained, differences, tabulate

__all__ = [
    "FINAL",
    "TESTS",
    "Display",
    "FinalSettings",
    "FinalTrainingFailed",
    "Finals",
    "FullTraining",
    "Interrupted",
    "Lines",
    "Race",
    "Timing",
    "Trained",
    "as_typed",
    "count_executions",
    "count_test",
    "dashboard_command",
    "describe",
    "differences",
    "front",
    "group_of",
    "leader",
    "plan_race",
    "ranking",
    "summarize",
    "table",
    "tabulate",
]
