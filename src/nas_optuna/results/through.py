"""Results: one network trained on all but the test images, tested once, saved; goes on after a crash."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import optuna

from nas_optuna.data import LabelledData
from nas_optuna.estimation import Checkpoint, EpochCallback, Estimator, Fidelity
from nas_optuna.interrupt import Interrupt
from nas_optuna.space import Architecture, save
from nas_optuna.study import derive_seed

ATTEMPTS = 3  # at a training, where one diverges
CHECKPOINT = "checkpoint.pt"  # beside the network's files, until it is trained
TESTS = "tests"  # a study's user attribute


class Interrupted(Exception):
    """The user asked to stop."""


class FinalTrainingFailed(Exception):
    """A network could not be trained to the end."""


class Shows(Protocol):
    """Shows what goes on."""

    def say(self, text: str) -> None:
        """Print a line that stays."""

    def running(self, what: str) -> None:
        """A training begins."""

    def epoch(self, epoch: int, accuracy: float | None, epochs: int) -> None:
        """An epoch of it ended."""


@dataclass(frozen=True)
class Through:
    """A network that was trained and tested.

    Attributes:
        accuracy: On the test split.
        seed: Of the training.
        confusion: See ``Classifier``; None where a table was asked.
        checkpoint: To be removed once all this is kept.
    """

    accuracy: float
    seed: int
    confusion: list[list[int]] | None
    checkpoint: Checkpoint


class FullTraining:
    """Trains networks with nothing held back but the test images.

    Args:
        data: What they learn.
        training: How.
        display: What the user sees.
        interrupt: Says when to stop.
        seed: The search's seed.
    """

    def __init__(
        self, *, data: LabelledData, training: Estimator, display: Shows, interrupt: Interrupt, seed: int
    ) -> None:
        self._data = data
        self._training = training
        self._display = display
        self._interrupt = interrupt
        self._seed = seed

    def train(
        self, number: int, architecture: Architecture, length: Fidelity, *, folder: Path, index: int = 0
    ) -> Through:
        """Train a network on train and validation, test it once, save it.

        A training of the same arguments that did not end goes on after its last whole epoch.

        Args:
            number: Of the network's trial.
            architecture: The network.
            length: How long.
            folder: Where it is saved.
            index: Which of its seeds, from 0.

        Raises:
            Interrupted: The user asked to stop.
            FinalTrainingFailed: Every attempt diverged, or one raised an error.
        """
        checkpoint = Checkpoint(folder / CHECKPOINT, say=self._display.say)
        for attempt in range(ATTEMPTS):
            self._display.running(str(architecture))
            # no trial and no comparison had this one
            seed = derive_seed(self._seed, number, 1000 + ATTEMPTS * index + attempt)
            module = self.fit(architecture, length, seed, checkpoint=checkpoint)
            if module.test_accuracy is not None:
                break
        else:
            raise FinalTrainingFailed(
                f"the final training diverged {ATTEMPTS} times: search again under another study_name with "
                f"an estimation.learning_rate below the one it had."
            )
        if module.network is not None:  # a table has none
            save(folder, module.network, input_shape=self._data.input_shape, classes=self._data.classes)
        return Through(module.test_accuracy, seed, module.confusion, checkpoint)

    def fit(
        self, architecture: Architecture, length: Fidelity, seed: int, *, checkpoint: Checkpoint | None = None
    ) -> Any:
        """Train and judge on validation; with a checkpoint train on both, and test.

        Raises:
            Interrupted: The user asked to stop.
            FinalTrainingFailed: It raised an error.
        """
        epoch = EpochCallback(lambda number, accuracy: self._display.epoch(number, accuracy, length.epochs))
        is_final = checkpoint is not None
        try:
            module = self._training.fit(
                architecture,
                self._data,
                fidelity=length,
                seed=seed,
                callbacks=[epoch],
                stop=lambda: "interrupted" if self._interrupt.requested else None,
                with_validation=is_final,
                test=is_final,
                checkpoint=checkpoint,
            )
        except Exception as error:  # what was found is reported all the same
            raise FinalTrainingFailed(
                f"training again failed with {type(error).__name__}: {error}"
            ) from error
        if module.stopped:
            raise Interrupted
        return module


def count_test(study: optuna.Study) -> int:
    """How often networks of a study were tested, now once more."""
    tests = int(study.user_attrs.get(TESTS, 0)) + 1
    study.set_user_attr(TESTS, tests)
    return tests
