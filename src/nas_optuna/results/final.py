"""Results: from the best few trials to one network, trained on all but the test images, tested once."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.data import LabelledData
from nas_optuna.errors import check_number
from nas_optuna.estimation import Estimator, Fidelity, Objectives, Table
from nas_optuna.interrupt import Interrupt
from nas_optuna.results.display import Display
from nas_optuna.results.race import Race, leader
from nas_optuna.results.through import FullTraining, count_test
from nas_optuna.space import WEIGHTS, Architecture
from nas_optuna.study import derive_seed, is_feasible

FINAL, BEGUN = "final", "final_begun"  # the study's user attributes


@dataclass(frozen=True)
class FinalSettings:
    """What happens after the search; None where the plan decides.

    Attributes:
        finalists: How many of the best networks are trained again and compared.
        seeds: Fresh seeds for each of them: no fewer, and no more.
        epochs: Epochs of the final training.
        data_share: Part of the images that one of these epochs visits.
    """

    finalists: int
    seeds: int | None
    epochs: int | None
    data_share: float | None

    def __post_init__(self) -> None:
        check_number("final.finalists", self.finalists, whole=True, at_least=1)
        if self.seeds is not None:
            check_number("final.seeds", self.seeds, whole=True, at_least=1)
        if self.epochs is not None:
            check_number("final.epochs", self.epochs, whole=True, at_least=1)
        if self.data_share is not None:
            check_number("final.data_share", self.data_share, above=0, at_most=1)


def front(study: optuna.Study, objectives: Objectives) -> list[FrozenTrial]:
    """The networks that no other one beats in every objective, within the limits, most accurate first.

    With one objective: all finished networks within the limits.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trials = study.best_trials if len(objectives.names) > 1 else complete
    # limits may have become tighter since the trial ran
    fitting = [trial for trial in trials if is_feasible(trial) and _fits(trial, objectives)]
    # of equal ones that with the most trainings behind it, else the first
    fitting.sort(key=lambda trial: (trial.user_attrs.get("trainings", 1), -trial.number))
    distinct = {trial.user_attrs["hash"]: trial for trial in fitting}
    return sorted(distinct.values(), key=objectives.accuracy, reverse=True)


def ranking(study: optuna.Study, objectives: Objectives) -> list[FrozenTrial]:
    """The front, first those that were compared with fresh seeds, by their means; the winner leads."""
    attributes = study.user_attrs
    number = attributes.get(FINAL, {}).get("test", {}).get("number")

    def key(trial: FrozenTrial) -> tuple[bool, bool, float]:
        fresh = attributes.get(f"fresh:{trial.number}")
        known = statistics.mean(fresh) if fresh else objectives.accuracy(trial)
        return trial.number == number, bool(fresh), known

    return sorted(front(study, objectives), key=key, reverse=True)


class Finals:
    """Compares the best few and trains the winner.

    Args:
        study, objectives, data, training, display, interrupt: Parts of the search.
        seed: The search's seed; every training here gets one of its own that no trial had.
        fidelity: Length of a comparison's training: the search's.
        folder: Where the winner is saved.
    """

    def __init__(
        self,
        *,
        study: optuna.Study,
        objectives: Objectives,
        data: LabelledData,
        training: Estimator,
        display: Display,
        interrupt: Interrupt,
        seed: int,
        fidelity: Fidelity,
        folder: Path,
    ) -> None:
        self._study = study
        self._training = training
        self._display = display
        self._seed = seed
        self._fidelity = fidelity
        self._folder = folder
        self._full = FullTraining(
            data=data, training=training, display=display, interrupt=interrupt, seed=seed
        )

    def choose(
        self, candidates: list[tuple[FrozenTrial, Architecture]], *, race: Race
    ) -> tuple[FrozenTrial, Architecture]:
        """The candidate that does best with fresh seeds: the accuracy it was chosen for owes part to luck.

        Args:
            candidates: The best of the search with their networks.
            race: How often they are trained.

        Raises:
            Interrupted: The user asked to stop.
        """
        if len(candidates) == 1:
            return candidates[0]
        self._display.phase(f"comparing the best {len(candidates)} with fresh seeds: {race}")
        networks = {trial.number: (trial, architecture) for trial, architecture in candidates}
        fresh = {number: self.fresh(trial) for number, (trial, _) in networks.items()}
        while (number := race.next(fresh)) is not None:
            fresh[number] = self._train_again(*networks[number])
        for number, accuracies in fresh.items():
            mean = statistics.mean(accuracies)
            self._display.say(f"      trial {number}: mean accuracy {mean:.4f} of {len(accuracies)} seed(s)")
        return networks[leader(fresh)]

    def fresh(self, trial: FrozenTrial) -> list[float]:
        """Validation accuracies of a trial's network with fresh seeds, as far as measured."""
        return list(self._study.user_attrs.get(f"fresh:{trial.number}", []))

    def _train_again(self, trial: FrozenTrial, architecture: Architecture) -> list[float]:
        known = self.fresh(trial)
        index = 1 + len(known)
        self._display.running(f"trial {trial.number}, fresh seed {index}")
        seed = derive_seed(self._seed, trial.number, index)
        curve = self._full.fit(architecture, self._fidelity, seed).curve
        self._study.set_user_attr(f"fresh:{trial.number}", [*known, curve[-1]])
        return self.fresh(trial)

    def train(
        self,
        trial: FrozenTrial,
        architecture: Architecture,
        *,
        request: dict[str, Any],
        fidelity: Callable[[], Fidelity],
    ) -> dict[str, Any]:
        """Train the winner on train and validation, test it once, save it.

        Args:
            trial: The winner.
            architecture: Its network.
            request: What the training's length follows from. A network that was trained on the
                same request before is not trained or tested again.
            fidelity: Works the length out.

        Returns:
            ``accuracy`` on the test split, ``params``, ``macs``, ``epochs``, and how it was made.

        Raises:
            Interrupted: The user asked to stop.
            FinalTrainingFailed: Every attempt diverged.
        """
        request = {"number": trial.number, **request}
        known = self._study.user_attrs.get(FINAL)
        if known and known["request"] == request and self._is_saved():
            return dict(known["test"])
        length = self._length(request, fidelity)
        self._display.phase(f"final training of trial {trial.number}: {describe(length)}")
        trained = self._full.train(trial.number, architecture, length, folder=self._folder)
        test = {
            "accuracy": trained.accuracy,
            "params": trial.user_attrs["params"],
            "macs": trial.user_attrs["macs"],
            "epochs": length.epochs,
            "data_share": length.data_share,
            "number": trial.number,
            "seed": trained.seed,
            "tests_of_this_study": count_test(self._study),
        }
        found = {"request": request, "test": test, "confusion": trained.confusion}
        self._study.set_user_attr(FINAL, found)
        trained.checkpoint.remove()
        return test

    def _length(self, request: dict[str, Any], fidelity: Callable[[], Fidelity]) -> Fidelity:
        """Worked out once: a training that goes on after a crash has the length that it began with."""
        begun = self._study.user_attrs.get(BEGUN)
        if begun is None or begun["request"] != request:
            length = fidelity()
            begun = {"request": request, "epochs": length.epochs, "data_share": length.data_share}
            self._study.set_user_attr(BEGUN, begun)
        return Fidelity(begun["epochs"], begun["data_share"])

    def _is_saved(self) -> bool:
        return isinstance(self._training, Table) or (self._folder / WEIGHTS).is_file()


def describe(fidelity: Fidelity) -> str:
    """A training's length in words."""
    share = "" if fidelity.data_share == 1 else f" of {fidelity.data_share:.1%} of the images"
    return f"{fidelity.epochs} epochs{share}"


def _fits(trial: FrozenTrial, objectives: Objectives) -> bool:
    return all(trial.user_attrs[name] <= limit for name, limit in objectives.limits.items())
