"""Performance estimation: what a search asks."""

from __future__ import annotations

from nas_optuna.estimation.table import Table
from nas_optuna.estimation.training import Training

# what searches ask of what a network is worth
Estimator = Training | Table
