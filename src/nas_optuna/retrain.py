"""The command that trains networks of a finished study to the end, alone or with a teacher."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.trial import FrozenTrial

from nas_optuna.configuration import build, plain
from nas_optuna.cores import tune_process
from nas_optuna.errors import InputError, NothingFound, check_number, check_one_of
from nas_optuna.estimation import Fidelity, Table, Training
from nas_optuna.interrupt import EXIT_CODE, Interrupt
from nas_optuna.reopen import Reopened, overrides_of, reopen
from nas_optuna.results import (
    FINAL,
    TESTS,
    FinalTrainingFailed,
    FullTraining,
    Interrupted,
    Lines,
    Trained,
    count_test,
    describe,
    differences,
    tabulate,
)
from nas_optuna.space import WEIGHTS
from nas_optuna.storages import settle
from nas_optuna.study_dir import study_dir_of

TRAINED = "trained"  # the folder, and what the study's user attributes begin with
LARGEST = "largest"


@dataclass(frozen=True)
class TrainSettings:
    """Which networks are trained, and how; None for what the study says.

    Attributes:
        trial, rank, front: Which; at most one of them. ``front`` is ``all``.
        seeds: Trainings of each network.
        epochs: Of a training.
        data_share: Part of the images that one epoch visits.
        teacher: ``largest``, or the folder of a saved network.
    """

    trial: int | None
    rank: int | None
    front: str | None
    seeds: int
    epochs: int | None
    data_share: float | None
    teacher: str | None

    def __post_init__(self) -> None:
        if sum(choice is not None for choice in (self.trial, self.rank, self.front)) > 1:
            raise InputError(
                f"trial={self.trial}, rank={self.rank}, front={self.front}: give one of them; null is none."
            )
        if self.front is not None:
            check_one_of("front", self.front, ("all",))
        check_number("seeds", self.seeds, whole=True, at_least=1)
        if self.epochs is not None:
            check_number("epochs", self.epochs, whole=True, at_least=1)
        if self.data_share is not None:
            check_number("data_share", self.data_share, above=0, at_most=1)
        if self.teacher is not None and (not isinstance(self.teacher, str) or not self.teacher):
            raise InputError(f"teacher: {self.teacher!r} must be largest, or the folder of a saved network.")


def retrain(config: DictConfig) -> float:
    """Train networks of a study, test each once, save and report them; go on where an earlier run stopped.

    Args:
        config: The composed configuration of ``train.yaml``.

    Returns:
        The test accuracy of the first network that was asked for.

    Raises:
        InputError: The request is wrong. Nothing was trained.
        NothingFound: No network was trained to the end.
        SystemExit: The user interrupted. What is known was reported.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tune_process()
    names = tuple(TrainSettings.__annotations__)
    settings = TrainSettings(**{name: config[name] for name in names})
    reopened = reopen(
        study_dir_of(config),
        storage=config.storage,
        study_name=config.study_name,
        allow=_allowed(config),
        overrides=overrides_of(config),
    )
    with Interrupt() as interrupt, Lines() as lines:
        run = Retraining(reopened, settings, interrupt, lines)
        run.train()
        run.report()
    if interrupt.requested:
        raise SystemExit(EXIT_CODE)
    if not run.done:
        raise NothingFound
    return run.done[0].accuracy


def _allowed(config: DictConfig) -> list[Any]:
    allow = plain(config, "allow") or []
    return list(allow) if isinstance(allow, list) else [allow]


class Retraining:
    """One run of the command. Building it checks the request; nothing is trained yet.

    Args:
        reopened: The study.
        settings: What is asked.
        interrupt: Says when to stop.
        lines: What the user sees.

    Attributes:
        done: What was asked for and is trained, in this run or an earlier one.
    """

    def __init__(
        self, reopened: Reopened, settings: TrainSettings, interrupt: Interrupt, lines: Lines
    ) -> None:
        if isinstance(reopened.training, Table):
            raise InputError(
                "study_dir: this study looked its networks up in a table and trained none: there is no data "
                "to train them on."
            )
        self._reopened = reopened
        self._settings = settings
        self._interrupt = interrupt
        self._lines = lines
        self._training: Training = reopened.training
        self._study = reopened.study
        self._trials = self._choose()
        self._default = self._default_length()
        self._length = Fidelity(
            settings.epochs or self._default.epochs, settings.data_share or self._default.data_share
        )
        self._teacher: Trained | None = None
        self.done: list[Trained] = []

    def train(self) -> None:
        """Train all that is not trained yet."""
        try:
            training = self._taught() if self._settings.teacher is not None else self._training
            # all first seeds, then all second ones: an interrupted comparison is still a fair one
            for index in range(self._settings.seeds):
                for trial in self._trials:
                    self._add(trial, index, training)
        except Interrupted:
            self._lines.say("stopped; the same command goes on after the last whole epoch")
        except FinalTrainingFailed as error:
            self._lines.say(f"there is no teacher: {error}")

    def report(self) -> None:
        """Print what is known."""
        taught = [trained for trained in self.done if trained.taught]
        alone = [self._find(trained.number, trained.index, self._length) for trained in taught]
        plain = [trained for trained in alone if trained is not None]
        rows = [*([self._teacher] if self._teacher else []), *plain, *self.done]
        trials = self._study.get_trials(deepcopy=False)
        networks = {row.number: str(self._reopened.architecture(trials[row.number])) for row in rows}
        if rows:
            self._lines.console.print(tabulate(rows, networks))
        for line in differences(taught, plain):
            self._lines.say(line)
        for trained in rows:
            self._lines.say(f"trial {trained.number}: {trained.folder}")
        tests = self._study.user_attrs.get(TESTS, 0)
        self._lines.say(f"the test images have judged networks of this study {tests} time(s)")

    def _choose(self) -> list[FrozenTrial]:
        settings, reopened = self._settings, self._reopened
        best = reopened.front()[0]
        if settings.trial is not None:
            chosen = [reopened.trial(settings.trial)]
        elif settings.front is not None and len(reopened.objectives.names) > 1:
            chosen = reopened.front()
        else:
            chosen = [reopened.ranked(1 if settings.rank is None else settings.rank)]
        if settings.teacher != LARGEST:
            return chosen
        others = [trial for trial in chosen if trial.user_attrs["hash"] != best.user_attrs["hash"]]
        if not others:
            raise InputError(
                f"teacher: {LARGEST} is trial {best.number}, the network that shall learn from it. Ask for "
                "another one with trial=... or rank=..., or for front=all."
            )
        return others

    def _default_length(self) -> Fidelity:
        """That of the search's final training; where there was none, what the configuration says."""
        test = self._study.user_attrs.get(FINAL, {}).get("test")
        if test is not None:
            return Fidelity(test["epochs"], test["data_share"])
        final = self._reopened.config.final
        return Fidelity(final.epochs or 2 * self._reopened.fidelity.epochs, final.data_share or 1.0)

    def _taught(self) -> Training:
        """The study's training, with the teacher that was asked for; that one is trained if need be."""
        folder = str(self._settings.teacher)
        if folder == LARGEST:
            best = self._reopened.front()[0]
            self._teacher = self._find(best.number, 0, self._default) or self._train(
                best, 0, self._training, self._default
            )
            folder = str(self._teacher.folder)
        training: Training = build(self._reopened.config, "estimation", teacher=folder, loss="distillation")
        training.executions = self._training.executions
        training.check(self._reopened.data)
        self._lines.say(f"teacher: {folder}")
        return training

    def _add(self, trial: FrozenTrial, index: int, training: Training) -> None:
        teacher = self._digest(training)
        try:
            found = self._find(trial.number, index, self._length, teacher=teacher)
            self.done.append(found or self._train(trial, index, training, self._length))
        except FinalTrainingFailed as error:  # others may do better
            self._lines.say(str(error))

    def _digest(self, training: Training) -> str | None:
        """Says which teacher this command gives."""
        # a study may have had a teacher of its own, which is part of its way to train
        if training is self._training or training.teacher is None:
            return None
        return training.teacher.digest

    def _find(
        self, number: int, index: int, length: Fidelity, *, teacher: str | None = None
    ) -> Trained | None:
        """The result of a training that an earlier run, or the search, ended."""
        name = _name(number, index, taught=teacher is not None)
        kept = self._study.user_attrs.get(f"{TRAINED}:{name}")
        if kept and kept["request"] == _request(number, index, length, teacher):
            return self._read(kept["test"], self._folder(name), index, taught=teacher is not None)
        final = self._study.user_attrs.get(FINAL, {}).get("test")
        asked = {"number": number, "epochs": length.epochs, "data_share": length.data_share}
        if final and teacher is None and index == 0 and all(final[key] == asked[key] for key in asked):
            return self._read(final, self._reopened.folder / FINAL, 0, taught=False)
        return None

    @staticmethod
    def _read(test: dict[str, Any], folder: Path, index: int, *, taught: bool) -> Trained | None:
        if not (folder / WEIGHTS).is_file():
            return None
        names = ("number", "accuracy", "params", "macs", "epochs", "data_share")
        return Trained(**{name: test[name] for name in names}, index=index, taught=taught, folder=folder)

    def _folder(self, name: str) -> Path:
        return self._reopened.folder / TRAINED / name

    def _train(self, trial: FrozenTrial, index: int, training: Training, length: Fidelity) -> Trained:
        """Train a network, test it once, keep all that."""
        teacher = self._digest(training)
        name = _name(trial.number, index, taught=teacher is not None)
        words = f"seed {index + 1}, with the teacher" if teacher else f"seed {index + 1}"
        self._lines.say(f"training trial {trial.number}, {words}: {describe(length)}")
        full = FullTraining(
            data=self._reopened.data,
            training=training,
            display=self._lines,
            interrupt=self._interrupt,
            seed=self._reopened.seed,
        )
        architecture, folder = self._reopened.architecture(trial), self._folder(name)
        through = full.train(trial.number, architecture, length, folder=folder, index=index)
        trained = Trained(
            number=trial.number,
            index=index,
            taught=teacher is not None,
            accuracy=through.accuracy,
            params=trial.user_attrs["params"],
            macs=trial.user_attrs["macs"],
            epochs=length.epochs,
            data_share=length.data_share,
            folder=folder,
        )
        test = {key: value for key, value in asdict(trained).items() if key != "folder"}
        test |= {"seed": through.seed, "tests_of_this_study": count_test(self._study)}
        request = _request(trial.number, index, length, teacher)
        self._study.set_user_attr(f"{TRAINED}:{name}", {"request": request, "test": test})
        settle(str(self._reopened.config.storage))
        through.checkpoint.remove()
        return trained


def _name(number: int, index: int, *, taught: bool) -> str:
    """Of a training, and its folder."""
    seed = f"-seed-{index + 1}" if index else ""
    return f"trial-{number}{seed}{'-distilled' if taught else ''}"


def _request(number: int, index: int, length: Fidelity, teacher: str | None) -> dict[str, Any]:
    """What a training's result follows from, beside the study."""
    return {
        "number": number,
        "index": index,
        "epochs": length.epochs,
        "data_share": length.data_share,
        "teacher": teacher,
    }
