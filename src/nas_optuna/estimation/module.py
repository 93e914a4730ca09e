"""Performance estimation: how one network is trained and judged, as a LightningModule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_optuna.data.loader import Batch
from nas_optuna.errors import check_number, check_one_of
from nas_optuna.estimation.averaging import WeightAverage, is_averaged
from nas_optuna.estimation.confusion import Confusion
from nas_optuna.estimation.execution import Execution
from nas_optuna.estimation.losses import Loss, cross_entropy
from nas_optuna.estimation.optimizer import Muon, is_matrix
from nas_optuna.estimation.replicas import SMALLEST_PART, Replicas, Team, draws_numbers, infer
from nas_optuna.estimation.timing import Stopwatch

OPTIMIZERS = ("muon", "sgd")
FEW_STEPS_NORM_MOMENTUM = 0.9
SMALLEST_SIDE = 20  # pixels: where classes can still be told apart


@dataclass(frozen=True)
class Recipe:
    """Settings of the optimiser and the loss.

    Attributes:
        optimizer: ``muon`` for the weights between the stem and the head that are matrices, and SGD
            for the others; or ``sgd`` for all.
        learning_rate: SGD's, at the peak of the one-cycle schedule.
        muon_learning_rate: Muon's, at the peak.
        warmup: Part of the training in which the learning rate rises to its peak, 0 to 1.
        momentum: Nesterov momentum of SGD.
        muon_momentum: Nesterov momentum of Muon.
        weight_decay: SGD's decay of convolution and linear weights; norms and biases have none.
        norm_momentum: Weight of each batch in the statistics that batch norms keep for judging, 0 to 1.
            The last fifth of a training outweighs the rest in any case: statistics of weights long gone
            would misjudge a network of a few steps.
        small_share: Part of the training, its beginning, that sees smaller images, 0 to 1: a step on
            them costs a third, and teaches nearly as much (progressive resizing, Howard 2018).
        small_scale: Their side as a part of the full one; images whose side would fall below
            20 pixels stay as they are, and series do.
        averaged_share: Part of the training, 0 to 1, over which the weights are averaged that judge an epoch,
            up to its end: no more than the epoch and half of the training so far; 0 for its last weights
            alone. The last epoch is judged by its last weights, which the network keeps.
        resolution: Part of the images' side that counts as the full one.
    """

    optimizer: str
    learning_rate: float
    muon_learning_rate: float
    warmup: float
    momentum: float
    muon_momentum: float
    weight_decay: float
    norm_momentum: float
    small_share: float
    small_scale: float
    averaged_share: float = 0.0
    resolution: float = 1.0

    def __post_init__(self) -> None:
        check_one_of("estimation.optimizer", self.optimizer, OPTIMIZERS)
        for name in ("learning_rate", "muon_learning_rate"):
            check_number(f"estimation.{name}", getattr(self, name), above=0)
        check_number("estimation.weight_decay", self.weight_decay, at_least=0)
        for name in ("warmup", "momentum", "muon_momentum"):
            check_number(f"estimation.{name}", getattr(self, name), at_least=0, below=1)
        check_number("estimation.norm_momentum", self.norm_momentum, above=0, at_most=1)
        check_number("estimation.small_share", self.small_share, at_least=0, at_most=1)
        check_number("estimation.small_scale", self.small_scale, above=0, at_most=1)
        check_number("estimation.averaged_share", self.averaged_share, at_least=0, at_most=1)

    def set_norms(self, network: nn.Module, *, steps: int) -> None:
        """Let the batch norms of a network follow its weights over a training of so many steps."""
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = max(self.norm_momentum, min(FEW_STEPS_NORM_MOMENTUM, 5 / steps))

    def resize(self, inputs: Tensor, *, progress: float) -> Tensor:
        """A batch at the size that belongs to a moment of the training.

        Args:
            inputs: (N, C, H, W), or (N, C, L), which stays as it is.
            progress: Part of the training that is done.
        """
        if inputs.ndim != 4:
            return inputs
        size = [max(1, round(side * self.resolution)) for side in inputs.shape[2:]]
        small = [round(side * self.small_scale) for side in size]
        if progress < self.small_share and min(small) >= SMALLEST_SIDE:
            size = small
        if size == list(inputs.shape[2:]):
            return inputs
        return F.interpolate(inputs, size=size, mode="bilinear", antialias=False)


class Classifier(pl.LightningModule):
    """Trains a network under a one-cycle schedule, and keeps its validation accuracy by epoch.

    Nothing in a step waits for the device: losses and hits add up there and are read once an epoch.
    What Lightning calls a batch is a group of batches here, see ``nas_optuna.data.Groups``, and the
    optimisation is ours: a step of a small network takes less time than Lightning's way to it.

    Args:
        network: What is trained.
        recipe: How.
        steps: Steps of the whole training, which the schedule spans.
        execution: How the device computes. A network that draws random numbers is computed as one part, a
            batch in no more parts than it has pairs of images.
        judging: From an epoch, counted from 1, to the batches that judge it; None to judge none.
        loss: From logits (N, C) and what training batches hold beside inputs to what is minimised.
        stop: Asked before every step; returns why to stop, or None.
        stopwatch: Told what the time goes into.

    Attributes:
        losses: Cross entropy of the same validation images, for each value of ``curve``.
        curve: Validation accuracy after each epoch that was not skipped, 0 to 1; see
            ``Recipe.averaged_share``.
        epochs: How many ended, those skipped included, without diverging.
        test_accuracy: Of the test split; None before it was tested.
        confusion: Test examples by their class, a row for each, and by the class they are taken for; None
            before the test, or where ``Confusion`` has none.
        diverged: The training loss or the network's output became NaN or infinite.
        stopped: What ``stop`` answered.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        steps: int,
        execution: Execution | None = None,
        judging: Callable[[int], Iterable[Batch]] | None = None,
        loss: Loss = cross_entropy,
        stop: Callable[[], str | None] = lambda: None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.recipe = recipe
        self.execution = execution or Execution()
        self.network = self.execution.arrange(network)
        recipe.set_norms(network, steps=steps)
        self._forward = torch.compile(self.network) if self.execution.compile else self.network
        self.curve: list[float] = []
        self.losses: list[float] = []
        self.epochs = 0
        self.test_accuracy: float | None = None
        self.confusion: list[list[int]] | None = None
        self.diverged = False
        self.stopped: str | None = None
        self._judging = judging
        self._criterion = loss
        self._stop = stop
        self._stopwatch = stopwatch or Stopwatch()
        self._steps, self._step = steps, 0
        self._scaler: torch.amp.GradScaler | None = None
        self._loss: Tensor | float = 0.0
        self._team: Team | None = None
        self._replicas: Replicas | None = None
        self._average = WeightAverage()

    def forward(self, inputs: Tensor) -> Tensor:
        return self._compute(self._forward, inputs)

    def _compute(self, forward: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        # on the way it is judged on images of the size that it has learned from, not of the one to come
        is_judged = not self.network.training and self._step < self._steps
        inputs = self.recipe.resize(inputs, progress=(self._step - is_judged) / self._steps)
        with self.execution.autocast(self.device):
            logits = forward(self.execution.lay_out(inputs))
        return logits.float()

    def infer(self, inputs: Tensor) -> Tensor:
        """Logits (N, C) of a network in evaluation mode, computed in parts where the execution says so."""
        self._team = self._team or self.execution.team()
        return infer(self, inputs, self._team) if self._team else self(inputs)

    @property
    def progress(self) -> float:
        """Part of the training that is done, 0 to 1."""
        return self._step / self._steps

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        recipe = self.recipe
        matrices = self._matrices() if recipe.optimizer == "muon" else []
        chosen = set(map(id, matrices))
        others = [weight for weight in self.network.parameters() if id(weight) not in chosen]
        sgd = torch.optim.SGD(
            [
                {"params": [w for w in others if w.ndim > 1], "weight_decay": recipe.weight_decay},
                {"params": [w for w in others if w.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
            # one kernel for all weights; MPS has none
            fused=self.device.type in ("cpu", "cuda"),
        )
        if not matrices:
            return [sgd]
        return [sgd, Muon(matrices, lr=recipe.muon_learning_rate, momentum=recipe.muon_momentum)]

    def on_fit_start(self) -> None:
        self._scaler = self.execution.scaler(self.device)

    def state(self) -> dict[str, Any]:
        """What the rest of the training depends on, after an epoch: tensors and plain values."""
        return {
            "network": dict(self.network.state_dict()),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers()],
            "scaler": self._scaler.state_dict() if self._scaler else None,
            "step": self._step,
            "epochs": self.epochs,
            "curve": list(self.curve),
            "losses": list(self.losses),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` gave, optimisers apart."""
        self.network.load_state_dict(state["network"])
        self._step, self.epochs, self.curve = state["step"], state["epochs"], list(state["curve"])
        # an earlier version kept none
        self.losses = list(state.get("losses", [math.nan] * len(self.curve)))

    def restore_optimizers(self, state: dict[str, Any]) -> None:
        """Likewise, once there are optimisers."""
        for optimizer, known in zip(self._optimizers(), state["optimizers"], strict=True):
            optimizer.load_state_dict(known)
        if self._scaler:
            self._scaler.load_state_dict(state["scaler"])

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        optimizers = self.optimizers(use_pl_optimizer=False)
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def training_step(self, group: Iterator[Batch], index: int) -> None:
        descend = self.descent(self._optimizers())
        while (batch := self._next(group)) is not None:
            self._stopwatch.start("step")
            descend(batch)
            self._take_in_weights()
            self._stopwatch.stop()
            self.stopped = self.stopped or self._stop()
            if self.stopped:
                self.trainer.should_stop = True
                return
        if index + 1 == self.trainer.num_training_batches:
            self._end_epoch()

    def descent(self, optimizers: list[torch.optim.Optimizer] | None = None) -> Callable[[Batch], None]:
        """A function that makes one step on a batch.

        Args:
            optimizers: Made by ``configure_optimizers``; None to make them now.
        """
        optimizers = optimizers or self.configure_optimizers()
        peaks = [self.recipe.learning_rate, self.recipe.muon_learning_rate]
        scaler, weights = self._scaler, list(self.network.parameters())

        def descend(batch: Batch) -> None:
            factor = one_cycle(self._step, total=self._steps, warmup=self.recipe.warmup)
            loss = self._backward(batch)
            for optimizer, peak in zip(optimizers, peaks, strict=False):
                for parameters in optimizer.param_groups:
                    parameters["lr"] = peak * factor
                if scaler:
                    scaler.step(optimizer)
                else:
                    optimizer.step()
            if scaler:
                scaler.update()
            for weight in weights:  # each optimiser's own way takes ten times as long
                weight.grad = None
            self._step += 1
            self._loss = self._loss + loss

        return descend

    def _backward(self, batch: Batch) -> Tensor:
        """Add a batch's gradients to the weights; its loss, without its graph."""
        if self.execution.parts > 1 and self._replicas is None:
            self._replicate(batch)
        if self._replicas is not None:
            return self._replicas.backward(self._loss_of, *batch)
        loss = self.loss(batch)
        (self._scaler.scale(loss) if self._scaler else loss).backward()
        return loss.detach()

    def _take_in_weights(self) -> None:
        """After a step, where its weights shall judge the epoch together with others."""
        if self._judging is None or self._is_last_epoch():
            return
        assert self.trainer.max_epochs is not None
        left = -self._step % (self._steps // self.trainer.max_epochs)
        # at the very beginning they learn too fast for the first ones to tell anything
        window = min(round(self.recipe.averaged_share * self._steps), (self._step + left) // 2)
        if is_averaged(left, window):
            self._average.add(self._replicas.networks if self._replicas else [self.network])

    def _replicate(self, batch: Batch) -> None:
        # all batches of a training are of one size, which few images make smaller than what was asked for
        most = 1 if draws_numbers(self.network, batch[0]) else max(1, len(batch[0]) // SMALLEST_PART)
        if most < self.execution.parts:
            self.execution, self._team = replace(self.execution, parts=most), None
        self._team = self._team or self.execution.team()
        if self._team is not None:
            self._replicas = Replicas(self.network, self._team)

    def skip(self, epochs: int, *, of: int) -> None:
        """Go on as if so many epochs of a training of ``of`` epochs had been."""
        self.epochs, self._step = epochs, self._steps * epochs // of

    def skip_to_end(self) -> None:
        """Go on as if the training were almost over; for measuring."""
        self._step = max(self._step, self._steps - 1)

    def loss(self, batch: Batch) -> Tensor:
        """What a step on a batch lowers."""
        return self._loss_of(self._forward, *batch)

    def _loss_of(self, forward: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        return self._criterion(self._compute(forward, inputs), targets)

    def test_step(self, group: Iterator[Batch], index: int) -> None:
        # of all batches
        confusion = Confusion()
        self.test_accuracy = self._accuracy(group, told=confusion.add)
        self.confusion = confusion.rows()

    def _end_epoch(self) -> None:
        """Read the loss, and judge the network; Lightning's validation takes longer than a small network."""
        # the device ends its steps here
        with self._stopwatch.span("step"):
            self.diverged = not torch.as_tensor(self._loss).isfinite()
            self._loss = 0.0
        if self.diverged:
            self.trainer.should_stop = True
            return
        self.epochs += 1
        if self._replicas is not None:
            self._replicas.merge()
        if self._judging is not None:
            with self._stopwatch.span("validation"):
                self._judge(self._judging)

    def _judge(self, judging: Callable[[int], Iterable[Batch]]) -> None:
        losses: list[Tensor] = []
        counts: list[int] = []

        def lose(logits: Tensor, labels: Tensor) -> None:
            losses.append(F.cross_entropy(logits, labels, reduction="sum"))
            counts.append(len(labels))

        # nothing was averaged for the last one
        with self._average.in_place(self.network), torch.inference_mode():
            self.network.eval()
            self.curve.append(self._accuracy(judging(self.trainer.current_epoch + 1), told=lose))
            self.losses.append(float(torch.stack(losses).sum()) / sum(counts))
            self.network.train()

    def _is_last_epoch(self) -> bool:
        return self.trainer.current_epoch + 1 == self.trainer.max_epochs

    def _accuracy(
        self, batches: Iterable[Batch], *, told: Callable[[Tensor, Tensor], None] | None = None
    ) -> float:
        hits, count = torch.zeros((), dtype=torch.int64, device=self.device), 0
        for inputs, labels in batches:
            logits = self.infer(inputs)
            # NaN logits have no largest entry: they hit nothing
            hits += ((logits.argmax(dim=1) == labels) & logits.isfinite().all(dim=1)).sum()
            count += len(labels)
            if told is not None:
                told(logits, labels)
        return int(hits) / count

    def _matrices(self) -> list[nn.Parameter]:
        """The weights that Muon moves: all matrices but those next to the images and the classes."""
        weights = [weight for weight in self.network.parameters() if weight.ndim > 1]
        return [weight for weight in weights[1:-1] if is_matrix(weight)]

    def _next(self, group: Iterator[Batch]) -> Batch | None:
        with self._stopwatch.span("data"):
            return next(group, None)


def one_cycle(step: int, *, total: int, warmup: float) -> float:
    """Learning rate as a part of its peak: a straight rise, then a straight fall towards zero.

    After Smith 2018 (super-convergence). torch's ``OneCycleLR`` divides by zero on trainings of a
    few steps, which low fidelities are.

    Args:
        step: Steps done, from 0.
        total: Steps of the whole training.
        warmup: Part of it in which the rate rises.
    """
    peak = warmup * total
    if step < peak:
        return (step + 1) / (peak + 1)
    return max(0.0, (total - step) / max(1.0, total - peak))
