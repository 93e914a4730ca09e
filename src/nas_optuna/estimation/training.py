"""Performance estimation by training: from an architecture to its accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import optuna
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.memory import is_oom_error

from nas_optuna.data import LabelledData, SplitName, TrainingData
from nas_optuna.data.loader import Batch
from nas_optuna.errors import InputError, check_number, check_one_of
from nas_optuna.estimation.checkpoint import Checkpoint, Keeper, begin_after
from nas_optuna.estimation.execution import (
    Execution,
    Executions,
    Probe,
    describe_device,
    parse_execution,
)
from nas_optuna.estimation.extrapolation import choose_rungs
from nas_optuna.estimation.inheritance import Parent, inherit
from nas_optuna.estimation.losses import Criterion, Loss
from nas_optuna.estimation.module import Classifier, Recipe
from nas_optuna.estimation.replicas import SMALLEST_PART
from nas_optuna.estimation.scale import FULL, Scale, parse_scale
from nas_optuna.estimation.teacher import make_teacher
from nas_optuna.estimation.timing import Stopwatch
from nas_optuna.estimation.trainer import make_trainer
from nas_optuna.space import Architecture, Network, measure_costs

# multiplications and additions of a training in which nothing could be gained that measuring does not
# cost: seconds on one CPU core. Not timed, so that a short training is the same on every machine
SHORT = 5e11
# of a GPU's memory: a process alone; and numbers kept for a number of the input, where the largest of 25
# networks kept 173 in resconv, 430 in plain and 1,049 in mobile
PROCESS_BYTES, ACTIVATIONS = 2**30, 1000


@dataclass(frozen=True)
class Fidelity:
    """How long a training is.

    Attributes:
        epochs: Epochs.
        data_share: Part of the training images that one epoch visits.
        validation_images: Validation images that judge each epoch but the last, which is judged on
            all; None for all.
        rung_images: More of them for the epochs at which pruners of curves decide (``choose_rungs``): what
            a few images say of two networks is mostly chance. None for no more.
    """

    epochs: int
    data_share: float = 1.0
    validation_images: int | None = None
    rung_images: int | None = None

    def judged_on(self, epoch: int) -> int | None:
        """How many validation images judge an epoch, counted from 1; None for all."""
        if self.validation_images is None or epoch >= self.epochs:
            return None
        is_rung = epoch in choose_rungs(range(1, self.epochs + 1))
        return max(self.validation_images, self.rung_images or 0) if is_rung else self.validation_images


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a network is too large for its device."""
    return is_oom_error(error) or isinstance(error, MemoryError) or "out of memory" in str(error)


class Training:
    """Trains a network and judges it on validation images.

    Args:
        epochs, data_share, validation_images: See ``Fidelity``; None where the plan decides.
        rung_images: See ``Fidelity``.
        batch_size: Images in a step.
        optimizer, learning_rate, muon_learning_rate, warmup, momentum, muon_momentum, weight_decay,
            norm_momentum, small_share, small_scale, averaged_share: See ``Recipe``.
        loss, temperature, teacher_weight, label_smoothing: See ``Criterion``.
        teacher: See ``Teacher``; None where ``loss`` is ``cross_entropy``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        execution: How the device computes: ``auto`` for what a few timed steps of each network show
            to be fastest, a precision, or a mapping of the attributes of ``Execution``.
        pruner: Stops hopeless networks early. Any ``optuna.pruners.BasePruner``.
        fidelity: How much smaller trials are than the trainings that decide: a mapping of the attributes
            of ``Scale``; None for no smaller.
        inherit: Whether a trial's network begins with the weights of its nearest trained relative.
        inherit_skips: Part of its training that it then skips, the beginning, 0 to 1.

    Attributes:
        scale: What ``fidelity`` says.
        executions: What ``auto`` chose. Replace it by one with a file to share choices.
        measures: What it knows of a network beside accuracy and costs: nothing.
        teacher: Whom networks learn from; None where from labels alone.

    Raises:
        InputError: A number is out of its range.
    """

    def __init__(
        self,
        *,
        epochs: int | None,
        data_share: float | None,
        validation_images: int | None,
        batch_size: int,
        optimizer: str,
        learning_rate: float,
        muon_learning_rate: float,
        warmup: float,
        momentum: float,
        muon_momentum: float,
        weight_decay: float,
        norm_momentum: float,
        small_share: float,
        small_scale: float,
        loss: str,
        teacher: Any,
        temperature: float,
        teacher_weight: float,
        label_smoothing: float,
        device: str,
        execution: Any,
        pruner: optuna.pruners.BasePruner,
        fidelity: Any = None,
        inherit: bool = False,
        inherit_skips: float = 0.5,
        averaged_share: float = 0.0,
        rung_images: int | None = None,
    ) -> None:
        if not isinstance(pruner, optuna.pruners.BasePruner):
            raise InputError(f"estimation.pruner: {pruner!r} must be an optuna.pruners.BasePruner.")
        if epochs is not None:
            check_number("estimation.epochs", epochs, whole=True, at_least=1)
        if data_share is not None:
            check_number("estimation.data_share", data_share, above=0, at_most=1)
        if validation_images is not None:
            check_number("estimation.validation_images", validation_images, whole=True, at_least=1)
        if rung_images is not None:
            check_number("estimation.rung_images", rung_images, whole=True, at_least=1)
        check_number("estimation.batch_size", batch_size, whole=True, at_least=2)
        check_one_of("estimation.inherit", inherit, (False, True))
        check_number("estimation.inherit_skips", inherit_skips, at_least=0, below=1)
        check_one_of("estimation.device", device, ("auto", "cpu", "cuda", "mps"))
        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not available.get(device, True):
            raise InputError(
                f"estimation.device: this machine, or this torch, has no {device!r}; use auto or cpu."
            )
        self.epochs, self.data_share = epochs, data_share
        self.validation_images, self.rung_images = validation_images, rung_images
        self.batch_size = batch_size
        self.device = device
        self.pruner = pruner
        self.scale = parse_scale(fidelity)
        self.inherit, self.inherit_skips = inherit, inherit_skips
        self.executions = Executions()
        self.recipe = Recipe(
            optimizer=optimizer,
            learning_rate=learning_rate,
            muon_learning_rate=muon_learning_rate,
            warmup=warmup,
            momentum=momentum,
            muon_momentum=muon_momentum,
            weight_decay=weight_decay,
            norm_momentum=norm_momentum,
            small_share=small_share,
            small_scale=small_scale,
            averaged_share=averaged_share,
        )
        self._criterion = Criterion(loss, temperature, teacher_weight, label_smoothing)
        self.teacher = make_teacher(teacher, loss)
        self._execution = parse_execution(execution)
        if self._execution is not None:
            self._execution.check(self.torch_device)
            most = max(1, batch_size // SMALLEST_PART)
            check_number("estimation.execution.parts", self._execution.parts, at_most=most)

    @property
    def torch_device(self) -> torch.device:
        """Where networks are trained."""
        if self.device != "auto":
            return torch.device(self.device, 0) if self.device == "cuda" else torch.device(self.device)
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")

    def device_bytes(self, data: LabelledData) -> int:
        """Memory that one process takes on a GPU, roughly: itself, the data, the activations of a batch."""
        inputs = sum(data.split(name).size for name in ("train", "validation"))
        activations = 4 * ACTIVATIONS * self.batch_size * math.prod(data.input_shape)
        return PROCESS_BYTES + inputs + activations

    measures: tuple[str, ...] = ()

    def measure(self, architecture: Architecture) -> dict[str, float]:
        """What is known of a network beside its costs: nothing."""
        return {}

    def fit(
        self,
        architecture: Architecture,
        data: LabelledData,
        *,
        fidelity: Fidelity,
        seed: int,
        scale: Scale = FULL,
        callbacks: Sequence[pl.Callback] = (),
        stop: Callable[[], str | None] = lambda: None,
        stopwatch: Stopwatch | None = None,
        with_validation: bool = False,
        test: bool = False,
        checkpoint: Checkpoint | None = None,
        parent: Parent | None = None,
    ) -> Classifier:
        """Build and train one network; the same arguments give the same weights on the same machine.

        That holds where ``execution`` is not left to be measured, or was measured before: another
        precision rounds otherwise, and parts of a batch are normalised each for itself.

        Args:
            architecture: The network.
            data: What it learns.
            fidelity: How long.
            seed: Decides its initial weights, the order of the images and their augmentation.
            scale: How much smaller than ``architecture`` and ``data`` what is trained shall be.
            callbacks: Listeners.
            stop: Asked before every step; a training stops for the reason that it returns.
            stopwatch: Told what the time goes into.
            with_validation: Train on train and validation together; then nothing judges the epochs.
            test: If the training runs to its end, read the test split and judge the network on it.
            checkpoint: Where the state is kept after each epoch, and a training goes on that was left
                there, computed as it was; callbacks then hear of the epochs that are left. None to
                keep none.
            parent: A trained relative whose weights it begins with, as far as they overlap; it then skips the
                part ``inherit_skips`` of the training. None to begin anew.
        """
        stopwatch = stopwatch or Stopwatch()
        architecture, recipe = scale.network(architecture), replace(self.recipe, resolution=scale.resolution)
        with stopwatch.span("build"):
            network = self.build(architecture, data, seed=seed)
            feed = self.feed(
                data,
                fidelity,
                seed=seed,
                with_validation=with_validation,
                numbered=self.teacher is not None,
            )
            loss = self._loss(data, feed, with_validation=with_validation)
            keeper, state = None, None
            if checkpoint is not None:
                request = self._request(
                    network, data, recipe, fidelity=fidelity, seed=seed, with_validation=with_validation
                )
                state = checkpoint.read(request)
                keeper = Keeper(checkpoint, request, feed.training, state)
        steps = fidelity.epochs * len(feed.training)
        with stopwatch.span("choose"):
            execution = (
                Execution(**state["execution"])
                if state
                else self.execution_of(architecture, data, steps=steps, scale=scale, network=network)
            )

        def judging(epoch: int) -> Iterable[Batch]:
            return feed.judging("validation", limit=fidelity.judged_on(epoch))

        with stopwatch.span("build"):
            module = Classifier(
                network,
                recipe,
                steps=steps,
                execution=execution,
                judging=None if with_validation else judging,
                loss=loss,
                stop=stop,
                stopwatch=stopwatch,
            )
            trainer = make_trainer(
                self.torch_device, fidelity.epochs, [*callbacks, keeper] if keeper else callbacks
            )
            if keeper:
                keeper.restore(trainer, module)
            if parent is not None and not state:
                inherit(network, parent, seed=seed)
                begin_after(trainer, module, epochs=int(self.inherit_skips * fidelity.epochs))
        with execution.limited_threads():
            trainer.fit(module, datamodule=feed)
            if test and not trainer.should_stop:
                trainer.test(module, datamodule=feed, verbose=False)
        return module

    def _request(
        self,
        network: Network,
        data: LabelledData,
        recipe: Recipe,
        *,
        fidelity: Fidelity,
        seed: int,
        with_validation: bool,
    ) -> dict[str, Any]:
        """All that a training's result follows from, but for the code."""
        shapes = [(name, list(weight.shape)) for name, weight in network.state_dict().items()]
        return {
            "architecture": network.architecture.to_dict(),
            "weights": shapes,
            "seed": seed,
            "fidelity": asdict(fidelity),
            "with_validation": with_validation,
            "recipe": asdict(recipe),
            "batch_size": self.batch_size,
            "loss": asdict(self._criterion),
            "teacher": self.teacher.digest if self.teacher is not None else None,
            "execution": str(self._execution or "auto"),
            "device": self.torch_device.type,
            "data": data.fingerprint,
            "augmentation": _describe(data.augmentation),
        }

    def check(self, data: LabelledData) -> None:
        """Try what a training needs beside the data.

        Raises:
            InputError: The teacher does not go with the data, or a scale does not.
        """
        self.scale.check(data.input_shape)
        if self.teacher is not None:
            self.teacher.check(data)

    def _loss(self, data: LabelledData, feed: TrainingData, *, with_validation: bool) -> Loss:
        if self.teacher is None:
            return self._criterion.from_labels
        names: list[SplitName] = ["train", "validation"] if with_validation else ["train"]
        device = self.torch_device
        told = torch.cat([self.teacher.logits(data, name, device) for name in names])
        return self._criterion.from_teacher(feed.labels.to(device), told)

    def build(self, architecture: Architecture, data: LabelledData, *, seed: int) -> Network:
        """The untrained network, with weights drawn from ``seed`` and the data's normalisation."""
        mean, std = data.normalization
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Network(architecture, classes=len(data.classes), mean=mean, std=std)

    def execution_of(
        self,
        architecture: Architecture,
        data: LabelledData,
        *,
        steps: int,
        scale: Scale = FULL,
        network: Network | None = None,
    ) -> Execution:
        """How the device shall compute a network: as told, as chosen before, or by timing a few steps.

        A short training is not worth the measurement, a long one may be worth a compilation.

        Args:
            architecture: The network, with the widths that it is trained with.
            data: A few of its inputs are used.
            steps: Of its training.
            scale: Of its inputs.
            network: The network built, if it is; stays as it is.
        """
        if self._execution is not None:
            return self._execution
        key = self._key(architecture, scale)
        choice = self.executions.find(key)
        if choice is None and self._is_short(architecture, data, steps, scale):
            return Execution()
        if choice is None or choice.may_gain_by_compilation(steps, self.torch_device):
            probe = self._probe(architecture, data, scale, network)
            choice = choice or probe.choose()
            if choice.may_gain_by_compilation(steps, self.torch_device):
                choice = probe.compile(choice)
            self.executions.remember(key, choice)
        return choice.over(steps)

    def _is_short(
        self, architecture: Architecture, data: LabelledData, steps: int, scale: Scale = FULL
    ) -> bool:
        shape = scale.shape(data.input_shape)
        costs = measure_costs(architecture, input_shape=shape, classes=len(data.classes))
        # two for a MAC; a backward pass takes twice a forward one
        return 6.0 * costs.macs * self.batch_size * steps < SHORT

    def uncompiled_execution(self, architecture: Architecture, data: LabelledData, scale: Scale) -> Execution:
        """The same for a training of any length; compiling a network to time it would take longest."""
        if self._execution is not None:
            return self._execution
        key = self._key(architecture, scale)
        choice = self.executions.find(key)
        if choice is None:
            choice = self._probe(architecture, data, scale).choose()
            self.executions.remember(key, choice)
        return choice.execution

    def _key(self, architecture: Architecture, scale: Scale) -> str:
        size = f" at {scale.resolution:g}" if scale.resolution < 1 else ""
        return f"{architecture.hash} {describe_device(self.torch_device)}{size}"

    def _probe(
        self, architecture: Architecture, data: LabelledData, scale: Scale, network: Network | None = None
    ) -> Probe:
        inputs, labels = next(iter(self.feed(data, Fidelity(1), seed=0).training))
        inputs = replace(self.recipe, resolution=scale.resolution).resize(inputs, progress=1.0)
        network = network or self.build(architecture, data, seed=0)
        return Probe(network, inputs, labels, device=self.torch_device)

    def feed(
        self,
        data: LabelledData,
        fidelity: Fidelity,
        *,
        seed: int,
        with_validation: bool = False,
        numbered: bool = False,
    ) -> TrainingData:
        """The data as a training reads it; see ``fit``, and ``TrainingData`` for ``numbered``."""
        return TrainingData(
            data,
            device=self.torch_device,
            batch_size=self.batch_size,
            data_share=fidelity.data_share,
            seed=seed,
            with_validation=with_validation,
            numbered=numbered,
        )


def _describe(function: object) -> str:
    """A callable in words that are the same in another process."""
    kind = function if hasattr(function, "__qualname__") else type(function)
    attributes = getattr(function, "__dict__", {}).items()
    numbers = {name: value for name, value in attributes if isinstance(value, int | float)}
    return f"{kind.__module__}.{kind.__qualname__} {numbers}"
