"""The third of the three parts of neural architecture search: what a network is worth."""

from nas_optuna.estimation.callbacks import EpochCallback, PruningCallback
from nas_optuna.estimation.checkpoint import Checkpoint
from nas_optuna.estimation.curves import LearningCurve, read_curve
from nas_optuna.estimation.execution import EXECUTIONS_FILE, Choice, Execution, Executions, Probe
from nas_optuna.estimation.inheritance import Parent, inherit, likeness
from nas_optuna.estimation.losses import Criterion, cross_entropy, distillation, entropy, kl_divergence
from nas_optuna.estimation.module import Classifier, Recipe
from nas_optuna.estimation.objectives import COSTS, Objectives
from nas_optuna.estimation.plan import DEFAULT_EPOCHS, Plan, PlanSettings, make_plan, plan_final
from nas_optuna.estimation.proxies import PROXIES, measure_proxies
from nas_optuna.estimation.pruners import CurvePruner, ParetoPruner, SuccessiveHalvingPruner, may_prune
from nas_optuna.estimation.scale import FULL, Scale
from nas_optuna.estimation.speed import Speed, time_steps
from nas_optuna.estimation.table import LookedUp, Table
from nas_optuna.estimation.teacher import Teacher
from nas_optuna.estimation.timing import OTHER, SPANS, Stopwatch
from nas_optuna.estimation.training import Fidelity, Training, is_out_of_memory

# what searches ask of what a network is worth
Estimator = Training | Table

__all__ = [
    "COSTS",
    "DEFAULT_EPOCHS",
    "EXECUTIONS_FILE",
    "FULL",
    "OTHER",
    "PROXIES",
    "SPANS",
    "Checkpoint",
    "Choice",
    "Classifier",
    "Criterion",
    "CurvePruner",
    "EpochCallback",
    "Estimator",
    "Execution",
    "Executions",
    "Fidelity",
    "LearningCurve",
    "LookedUp",
    "Objectives",
    "Parent",
    "ParetoPruner",
    "Plan",
    "PlanSettings",
    "Probe",
    "PruningCallback",
    "Recipe",
    "Scale",
    "Speed",
    "Stopwatch",
    "SuccessiveHalvingPruner",
    "Table",
    "Teacher",
    "Training",
    "cross_entropy",
    "distillation",
    "entropy",
    "inherit",
    "is_out_of_memory",
    "kl_divergence",
    "likeness",
    "make_plan",
    "may_prune",
    "measure_proxies",
    "plan_final",
    "read_curve",
    "time_steps",
]
