"""What a trial shows of itself in a dashboard: its network and its learning curve, as files of Optuna's."""

from nas_optuna.artifacts.curve import draw_curve, tabulate_curve
from nas_optuna.artifacts.store import ARTIFACTS, Store, attach
from nas_optuna.artifacts.trial import TrialArtifacts, make_artifacts

__all__ = [
    "ARTIFACTS",
    "Store",
    "TrialArtifacts",
    "attach",
    "draw_curve",
    "make_artifacts",
    "tabulate_curve",
]
