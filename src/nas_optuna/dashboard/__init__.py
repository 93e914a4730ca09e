"""optuna-dashboard as the window of a study: a note, figures, and the command that opens it."""

from nas_optuna.dashboard.fresh import Fresh

__all__ = ["Fresh"]
