"""Weights of a search's networks on disk, with which later ones begin."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import safetensors.torch
from optuna.trial import FrozenTrial, TrialState
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from nas_optuna.estimation import Estimator, Objectives, Parent, Table, likeness
from nas_optuna.files import write_if_possible
from nas_optuna.space import Architecture, Network, Space
from nas_optuna.study import is_feasible

FOLDER = "weights"  # in a study's own
HASH = "hash"  # of a file's network
MOST = 20  # networks whose weights are kept
LEAST_LIKENESS = 0.5  # for a network to begin with a relative's weights


@dataclass(frozen=True)
class Relative:
    """A trained network that another one can begin with.

    Attributes:
        parent: Its weights.
        likeness: See ``likeness``.
    """

    parent: Parent
    likeness: float


class Heirs:
    """Finds each network its nearest trained relative, and keeps the weights of the best.

    Args:
        folder: Of the weights, a file for each trial; made when one is written.
        space: What trials say.
        objectives: What is asked of them.
        channels, classes: Of the data.
        training: How they are trained.
    """

    def __init__(
        self,
        folder: Path,
        *,
        space: Space,
        objectives: Objectives,
        training: Estimator,
        channels: int,
        classes: int,
    ) -> None:
        self._folder = folder
        self._space = space
        self._objectives = objectives
        self._scale = training.scale
        self._channels, self._classes = channels, classes

    def relative_of(self, architecture: Architecture, study: optuna.Study) -> Relative | None:
        """The trained network that is most like another one, the more accurate of equals.

        None where the nearest is less than half alike: then little would come from it.
        """
        ranked = sorted(self._candidates(architecture, study), key=lambda found: found[:2], reverse=True)
        for share, _, trial, candidate in ranked:
            weights = self._read(trial.number, candidate)
            if share >= LEAST_LIKENESS and weights is not None:
                return Relative(Parent(candidate, weights, trial.number), share)
        return None

    def keep(self, number: int, network: nn.Module | None) -> None:
        """Write the weights of a trial's network."""
        assert isinstance(network, Network)  # what is looked up in a table has none, and no heirs
        tensors = {name: weight.detach().cpu().contiguous() for name, weight in network.state_dict().items()}
        of = {HASH: network.architecture.hash}
        write_if_possible(self._path(number), safetensors.torch.save(tensors, metadata=of))

    def tidy(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
        """Remove all but the weights of the best: the most accurate, or those on the Pareto front.

        Args:
            study: Whose weights they are.
            trials: All of the study's, as they were read last.
        """
        kept = [trials[number] for number in self._numbers() if number < len(trials)]
        complete = [trial for trial in kept if trial.state == TrialState.COMPLETE and is_feasible(trial)]
        going = [trial for trial in kept if trial.state.is_finished() and trial not in complete]
        for trial in [*going, *self._by_worth(complete, study)[MOST:]]:
            self._path(trial.number).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all: the search is over."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _candidates(
        self, architecture: Architecture, study: optuna.Study
    ) -> Iterator[tuple[float, float, FrozenTrial, Architecture]]:
        trials = study.get_trials(deepcopy=False)
        child = self._scale.network(architecture)
        for number in self._numbers():
            if number < len(trials) and trials[number].state == TrialState.COMPLETE:
                trial = trials[number]
                candidate = self._scale.network(self._space.at(trial.params).canonical())
                share = likeness(child, candidate, channels=self._channels, classes=self._classes)
                yield share, self._objectives.accuracy(trial), trial, candidate

    def _by_worth(self, trials: Sequence[FrozenTrial], study: optuna.Study) -> list[FrozenTrial]:
        on_front = {trial.number for trial in study.best_trials} if len(study.directions) > 1 else set()
        return sorted(
            trials,
            key=lambda trial: (trial.number in on_front, self._objectives.accuracy(trial)),
            reverse=True,
        )

    def _read(self, number: int, architecture: Architecture) -> dict[str, Tensor] | None:
        try:
            with safe_open(self._path(number), framework="pt") as file:
                # a study that was deleted may have left its files
                if file.metadata().get(HASH) != architecture.hash:
                    return None
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):  # another worker has removed it meanwhile, or it is damaged
            return None

    def _numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob("*.safetensors") if path.stem.isdecimal())

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.safetensors"


def make_heirs(
    study_dir: str | Path,
    space: Space,
    objectives: Objectives,
    training: Estimator,
    *,
    input_shape: Sequence[int],
    classes: int,
) -> Heirs | None:
    """What lets networks begin with others' weights; None where ``estimation.inherit`` is false."""
    if isinstance(training, Table) or not training.inherit:
        return None
    return Heirs(
        Path(study_dir) / FOLDER,
        space=space,
        objectives=objectives,
        training=training,
        channels=input_shape[0],
        classes=classes,
    )
