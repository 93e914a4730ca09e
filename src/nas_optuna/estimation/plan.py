"""Performance estimation: how long a training may be, so that the search fits the time given."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import optuna

from nas_optuna.data import LabelledData, steps_per_epoch
from nas_optuna.errors import InputError, check_number
from nas_optuna.estimation.extrapolation import choose_rungs
from nas_optuna.estimation.scale import FULL, Scale
from nas_optuna.estimation.speed import Speed, time_steps
from nas_optuna.estimation.table import Table
from nas_optuna.estimation.training import Fidelity, Training, is_out_of_memory
from nas_optuna.space import Architecture

DEFAULT_EPOCHS = 20
TIMED_NETWORKS = 5
DRAWN_NETWORKS = 200  # to find these
FEWEST_VALIDATION_IMAGES = 500  # that judge an epoch on the way
VALIDATION_TIME = 0.05  # of a training
STEPS_OF_SMALL_DATA = 600  # that a training may have, whatever max_epochs says ...
MOST_EPOCHS_OF_SMALL_DATA = 100  # ... within so many epochs
CROWDED = 1.25  # a step's time beside other workers, which share caches and clock rate, over that alone
START_SECONDS = 4.0  # until worker processes have imported what they need
OVERHEAD = 1.1  # of a whole training over its bare steps


@dataclass(frozen=True)
class PlanSettings:
    """How a timeout is divided.

    Attributes:
        full_trainings: Unpruned trainings that shall fit into the search ...
        passes: ... if each can see all images so often: networks that have hardly learned can't be told
            apart, and a few trained better are worth more. No effect where epochs are set.
        fewest_trainings: However little time there is, no fewer than these.
        search_share: Part of the timeout that the search takes.
        finalists_share: Part that comparing the best few takes; the final training has the rest.
        min_epochs: An epoch visits a part of the images rather than letting epochs fall below this.
        max_epochs: More epochs than this are not planned, however much time there is; unless the data
            is so small that they have few steps.
    """

    full_trainings: int
    passes: float
    fewest_trainings: int
    search_share: float
    finalists_share: float
    min_epochs: int
    max_epochs: int

    def __post_init__(self) -> None:
        check_number("plan.full_trainings", self.full_trainings, whole=True, at_least=1)
        check_number("plan.passes", self.passes, at_least=0)
        check_number(
            "plan.fewest_trainings",
            self.fewest_trainings,
            whole=True,
            at_least=1,
            at_most=self.full_trainings,
        )
        check_number("plan.search_share", self.search_share, above=0, below=1)
        check_number("plan.finalists_share", self.finalists_share, at_least=0, below=1 - self.search_share)
        check_number("plan.min_epochs", self.min_epochs, whole=True, at_least=1)
        check_number("plan.max_epochs", self.max_epochs, whole=True, at_least=self.min_epochs)

    @property
    def final_share(self) -> float:
        """Part of the timeout that the final training has."""
        return 1 - self.search_share - self.finalists_share


@dataclass(frozen=True)
class Plan:
    """The length of every training of a study.

    Attributes:
        fidelity: Epochs, share of the images and validation images.
        trial_seconds: Seconds that an unpruned training of a typical network takes in a trial; None where
            nothing was timed.
        full_seconds: The same where neither images nor networks are made smaller for trials.
    """

    fidelity: Fidelity
    trial_seconds: float | None = None
    full_seconds: float | None = None


def make_plan(
    training: Training | Table,
    space: Callable[[optuna.trial.BaseTrial], Architecture],
    data: LabelledData,
    *,
    settings: PlanSettings,
    timeout: float | None,
    workers: int = 1,
    spent: float = 0.0,
    fits: Callable[[Architecture], bool] = lambda architecture: True,
) -> Plan:
    """Decide what the configuration left open: by timing where there is a timeout, else by default.

    Args:
        training: Its numbers that are set stay as they are.
        space: Networks to time are drawn from it.
        data: What they are timed on.
        settings: How the timeout is divided.
        timeout: Seconds for the whole search.
        workers: So many networks are trained at a time.
        spent: Seconds of the timeout that are gone.
        fits: Whether a network keeps to the limits: others are not trained.

    Raises:
        InputError: The timeout is too short for a single training.
    """
    if isinstance(training, Table):
        return Plan(Fidelity(training.epochs))
    is_open = training.epochs is None or training.data_share is None
    if timeout is None or not is_open:
        return Plan(
            Fidelity(
                training.epochs or DEFAULT_EPOCHS,
                training.data_share or 1.0,
                training.validation_images,
                training.rung_images,
            )
        )
    networks = _typical_networks(space, fits)
    speed = _typical_speed(training, networks, data, training.scale)
    if workers > 1:
        speed = Speed(speed.training * CROWDED, speed.validation * CROWDED)
    images, validation_images = len(data.split("train")), len(data.split("validation"))
    left = timeout * settings.search_share - spent - (START_SECONDS if workers > 1 else 0.0)
    seconds = workers * max(0.0, left)
    affordable = seconds / max(1e-9, settings.passes * images * speed.training * OVERHEAD)
    seconds /= min(settings.full_trainings, max(settings.fewest_trainings, affordable))
    fidelity = _fit(
        seconds,
        speed,
        images=images,
        validation_images=validation_images,
        given=training,
        settings=settings,
    )
    trial_seconds = _seconds(fidelity, speed, images=images, validation_images=validation_images)
    if trial_seconds > left:
        needed = (trial_seconds + timeout * settings.search_share - left) / settings.search_share
        raise InputError(
            f"timeout: {timeout:g} s is too short: the shortest training of this space takes about "
            f"{trial_seconds:.0f} s here. Give at least {needed * 2:.0f} s, or a smaller space."
        )
    full_seconds = trial_seconds
    if training.scale != FULL:
        speed = _typical_speed(training, networks, data, FULL)
        full_seconds = _seconds(fidelity, speed, images=images, validation_images=validation_images)
    return Plan(fidelity, trial_seconds, full_seconds)


def plan_final(
    training: Training,
    architecture: Architecture,
    data: LabelledData,
    *,
    seconds: float,
    settings: PlanSettings,
) -> Fidelity:
    """The longest final training of one network that fits into ``seconds``."""
    speed = time_steps(training, architecture, data)
    images = len(data.split("train")) + len(data.split("validation"))
    passes = seconds / (images * speed.training * OVERHEAD)
    most = 2 * _most_epochs(images, training, settings)
    epochs = int(min(most, max(settings.min_epochs, passes)))
    return Fidelity(epochs, data_share=min(1.0, max(passes / epochs, training.batch_size / images)))


def _typical_networks(
    space: Callable[[optuna.trial.BaseTrial], Architecture], fits: Callable[[Architecture], bool]
) -> list[Architecture]:
    """Random networks, within the limits as far as these are found."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = (space(study.ask()) for _ in range(DRAWN_NETWORKS))
    fitting = list(itertools.islice(filter(fits, drawn), TIMED_NETWORKS))
    return fitting or [space(study.ask()) for _ in range(TIMED_NETWORKS)]


def _typical_speed(
    training: Training, networks: Sequence[Architecture], data: LabelledData, scale: Scale
) -> Speed:
    speeds = []
    for network in networks:
        try:
            speeds.append(time_steps(training, network, data, scale))
        except Exception as error:  # whatever a device raises when its memory is full
            if not is_out_of_memory(error):
                raise
    if not speeds:
        raise InputError(
            f"estimation.batch_size: none of {len(networks)} networks of this space fits into the memory "
            f"with {training.batch_size} images a step. Take fewer, or a smaller space."
        )
    # the mean, not the median: what counts is the sum over all trainings
    return Speed(
        training=statistics.mean(speed.training for speed in speeds),
        validation=statistics.mean(speed.validation for speed in speeds),
    )


def _fit(
    seconds: float,
    speed: Speed,
    *,
    images: int,
    validation_images: int,
    given: Training,
    settings: PlanSettings,
) -> Fidelity:
    """The longest training that takes at most ``seconds``, given what is set already."""
    # the last epoch is judged on all validation images
    seconds -= validation_images * speed.validation * OVERHEAD
    affordable = int(VALIDATION_TIME * seconds / (speed.validation * (given.epochs or settings.min_epochs)))
    judged = given.validation_images or min(validation_images, max(FEWEST_VALIDATION_IMAGES, affordable))
    validating = judged * speed.validation * OVERHEAD
    one_pass = images * speed.training * OVERHEAD
    if given.epochs is not None:
        epochs = given.epochs
    else:
        passes = seconds / ((given.data_share or 1.0) * one_pass + validating)
        most = _most_epochs(images, given, settings)
        epochs = int(min(most, max(settings.min_epochs, passes)))
    rungs = len(choose_rungs(range(1, epochs + 1))) - 1
    more = rungs * max(0, min(given.rung_images or 0, validation_images) - judged)
    seconds -= more * speed.validation * OVERHEAD
    share = given.data_share or max(0.0, seconds / epochs - validating) / one_pass
    # at least a few steps an epoch, or there is nothing to judge
    fewest = min(1.0, 4 * given.batch_size / images)
    return Fidelity(epochs, round(min(1.0, max(fewest, share)), 4), judged, given.rung_images)


def _most_epochs(images: int, training: Training, settings: PlanSettings) -> int:
    steps = steps_per_epoch(images, batch_size=training.batch_size, data_share=1.0)
    return max(settings.max_epochs, min(MOST_EPOCHS_OF_SMALL_DATA, STEPS_OF_SMALL_DATA // steps))


def _seconds(fidelity: Fidelity, speed: Speed, *, images: int, validation_images: int) -> float:
    training = fidelity.data_share * images * fidelity.epochs
    judges = (fidelity.judged_on(epoch) or validation_images for epoch in range(1, fidelity.epochs + 1))
    validation = sum(min(count, validation_images) for count in judges)
    return (training * speed.training + validation * speed.validation) * OVERHEAD
