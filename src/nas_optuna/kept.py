"""Trainings that did not come to their end: their states on disk, and who takes them up."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.estimation import Checkpoint, CurvePruner, Estimator, Table
from nas_optuna.study import origins, unqueued

CHECKPOINTS = "checkpoints"  # a folder in a study's own
SECONDS = 5.0  # between two writes: a shorter epoch is sooner trained again than kept


class Kept:
    """The states of a study's unfinished trainings, a file for each trial.

    A training that was stopped by a pruner is taken up by a later trial where that has become worth more
    than a fresh network (promotion: Li et al. 2020, section 3.2), one that was cut off by the trial that
    tries its network again. The file goes from one trial to the other, by renaming, so of several processes
    one has it.

    Args:
        folder: Of the files; made when one is written.
        most: Stopped trainings that are kept, those that came furthest; 0 for no file at all.
    """

    def __init__(self, folder: Path, *, most: int) -> None:
        self._folder = folder
        self._most = most

    def checkpoint(self, number: int) -> Checkpoint | None:
        """Where a trial's training is kept; None for nowhere."""
        return Checkpoint(self._path(number), seconds=SECONDS) if self._most else None

    def stopped(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Of a study's trials those whose training can be taken up."""
        return [trial for trial in self._with_file(trials) if _may_go_on(trial)]

    def claim(self, number: int) -> bool:
        """Make sure that no other process takes a stopped training up; whether it was there."""
        return _rename(self._path(number), self._path(number, "claimed"))

    def hand_over(self, origin: int, number: int) -> bool:
        """Let a trial have the state of an earlier one; whether it was there."""
        claimed, plain = self._path(origin, "claimed"), self._path(origin)
        return _rename(claimed, self._path(number)) or _rename(plain, self._path(number))

    def tidy(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
        """Remove what nobody will take up: of stopped trainings all but the furthest and best.

        Args:
            study: Its pruner says whether these are taken up.
            trials: All of the study's, as they were read last.
        """
        stopped = self.stopped(trials)
        stopped.sort(key=lambda trial: max(trial.intermediate_values.items(), default=(0, 0.0)))
        for trial in stopped[: -self._most or None] if may_promote(study) else stopped:
            self._path(trial.number).unlink(missing_ok=True)
        unfinished = [trial for trial in trials if not trial.state.is_finished()]
        # somebody is about to queue these
        lost = unqueued(trials)
        cut_off = {origin.number for trial in [*unfinished, *lost] for origin in origins(trials, trial)}
        cut_off |= {trial.number for trial in lost}
        for trial in self._with_file(trials):
            is_lost = trial.state == TrialState.FAIL and trial.number not in cut_off
            if trial.state == TrialState.COMPLETE or is_lost:
                self._path(trial.number).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all: the search is over."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, number: int, name: str = "trial") -> Path:
        return self._folder / f"{name}-{number}.pt"

    def _with_file(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        names = [re.fullmatch(r"trial-(\d+)\.pt", path.name) for path in self._folder.glob("trial-*.pt")]
        numbers = sorted(int(name[1]) for name in names if name)
        # others were begun since, or a study that was deleted has left them
        return [trials[number] for number in numbers if number < len(trials)]


def make_kept(study_dir: str | Path, most: int, estimation: Estimator) -> Kept | None:
    """What keeps the trainings of a study; None where there are none, because a table knows all."""
    return None if isinstance(estimation, Table) else Kept(Path(study_dir) / CHECKPOINTS, most=most)


def may_promote(study: optuna.Study) -> bool:
    """Whether the study's pruner says what is to be taken up."""
    return isinstance(study.pruner, CurvePruner) and len(study.directions) == 1


def _may_go_on(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.PRUNED and not {"stopped", "untrained"} & trial.user_attrs.keys()


def _rename(before: Path, after: Path) -> bool:
    try:
        before.replace(after)
    except FileNotFoundError:
        return False
    return True
