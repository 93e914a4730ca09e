"""The artifacts of a trial, while it runs: later Optuna takes none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import optuna

from nas_optuna.artifacts.curve import draw_curve, tabulate_curve
from nas_optuna.artifacts.store import ARTIFACTS, Store, attach
from nas_optuna.space import Architecture
from nas_optuna.space.diagram import draw

DIAGRAM, CURVE_PICTURE, CURVE_TABLE = "network.svg", "curve.svg", "curve.csv"
SHARE = 0.007  # of a process's time that goes into artifacts, at most, ...
CREDIT = 0.4  # ... beside so many seconds at its beginning
MOST = 10_000  # trials of a study that have them: some 150 megabytes


class TrialArtifacts:
    """Gives trained trials a diagram of their network and their learning curve.

    Where trials are so short that this would take more than ``SHARE`` of the time, it is left out for some
    of them; a network that is better than all before has it always.

    Args:
        study_dir: Its folder ``artifacts`` takes the files.
        input_shape: Of the data: channels, then height and width, or length.
        classes: How many the data has.
        say: Hears once if it can't be done, which ends no trial.
    """

    def __init__(
        self, study_dir: str | Path, *, input_shape: tuple[int, ...], classes: int, say: Callable[[str], None]
    ) -> None:
        self._store = Store(Path(study_dir) / ARTIFACTS)
        self._shape, self._classes = input_shape, classes
        self._say = say
        self._has_said = False
        self._since = time.monotonic()
        self._spent = 0.0
        self._best = float("-inf")

    def show(self, trial: optuna.Trial, architecture: Architecture, curve: Mapping[int, float]) -> None:
        """Attach them to a running trial.

        Args:
            trial: The trial.
            architecture: Its network.
            curve: Its accuracies by epoch.
        """
        last = curve[max(curve)] if curve else float("-inf")
        is_best, self._best = last > self._best, max(last, self._best)
        started = time.monotonic()
        allowed = CREDIT + SHARE * (started - self._since)
        if trial.number >= MOST or (self._spent > allowed and not is_best):
            return
        try:
            attach(self._store, self._files(trial.number, architecture, curve), trial)
        except Exception as error:  # a picture less is no reason to end a training: a full disk, a busy study
            if not self._has_said:
                reason = (str(error).splitlines() or [""])[0]
                self._say(f"a trial's diagram and curve can't be kept ({type(error).__name__}: {reason})")
            self._has_said = True
        self._spent += time.monotonic() - started

    def _files(self, number: int, architecture: Architecture, curve: Mapping[int, float]) -> dict[str, str]:
        files = {DIAGRAM: draw(architecture, input_shape=self._shape, classes=self._classes)}
        if curve:
            last = curve[max(curve)]
            title = f"trial {number}: validation accuracy {last:.4f} after epoch {max(curve)}"
            files |= {CURVE_PICTURE: draw_curve(curve, title=title), CURVE_TABLE: tabulate_curve(curve)}
        return files


def make_artifacts(
    study_dir: str | Path,
    wanted: bool,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    say: Callable[[str], None],
) -> TrialArtifacts | None:
    """What shows the trials of a study; None where nobody wants it."""
    return TrialArtifacts(study_dir, input_shape=input_shape, classes=classes, say=say) if wanted else None
