"""Performance estimation: losses, from one class or from another network's probabilities for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from nas_optuna.errors import check_number, check_one_of

LOSSES = ("cross_entropy", "kl", "distillation")

Loss = Callable[[Tensor, Tensor], Tensor]


def entropy(probabilities: Tensor) -> Tensor:
    """Mean entropy in nats of distributions (N, C)."""
    return -probabilities.xlogy(probabilities).sum(dim=1).mean()


def cross_entropy(logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy in nats, which is the targets' entropy plus ``kl_divergence``.

    Args:
        logits: (N, C).
        targets: Classes (N,), or their probabilities (N, C).
        label_smoothing: Probability mass moved from the targets to all classes alike, 0 to 1
            (Szegedy et al. 2016, section 7).
    """
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)


def kl_divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence in nats of the logits' distributions from the targets'.

    Args:
        logits: (N, C).
        targets: Probabilities (N, C).
    """
    return F.kl_div(logits.log_softmax(dim=1), targets, reduction="batchmean")


def distillation(
    logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float, weight: float
) -> Tensor:
    """What a small network learns of a large one (Hinton et al. 2015, section 2).

    ``weight`` of the divergence from the teacher's probabilities, both softened by the temperature, and the
    rest of cross entropy with the labels. Gradients of softened probabilities shrink with the square of the
    temperature, by which the first is multiplied.

    Args:
        logits, teacher_logits: (N, C).
        labels: Classes (N,).
        temperature: Divides logits; above 0.
        weight: 0 for the labels alone, 1 for the teacher alone.
    """
    softened = (teacher_logits / temperature).softmax(dim=1)
    told = temperature**2 * kl_divergence(logits / temperature, softened)
    return weight * told + (1.0 - weight) * cross_entropy(logits, labels)


@dataclass(frozen=True)
class Criterion:
    """What a training minimises.

    Attributes:
        loss: ``cross_entropy`` with the labels; ``kl``: divergence from the teacher's probabilities;
            ``distillation``: both.
        temperature: Softens the probabilities of teacher and network, above 0.
        weight: Of the teacher in ``distillation``, 0 to 1.
        label_smoothing: Of ``cross_entropy``.
    """

    loss: str
    temperature: float
    weight: float
    label_smoothing: float

    def __post_init__(self) -> None:
        check_one_of("estimation.loss", self.loss, LOSSES)
        check_number("estimation.temperature", self.temperature, above=0)
        check_number("estimation.teacher_weight", self.weight, at_least=0, at_most=1)
        check_number("estimation.label_smoothing", self.label_smoothing, at_least=0, below=1)

    def from_labels(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss where classes (N,) are all that is known."""
        return cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def from_teacher(self, labels: Tensor, teacher_logits: Tensor) -> Loss:
        """The loss of logits (N, C) where targets are numbers (N,) of examples.

        Args:
            labels: Of all examples.
            teacher_logits: The teacher's, of all examples.
        """
        weight = 1.0 if self.loss == "kl" else self.weight

        def loss(logits: Tensor, examples: Tensor) -> Tensor:
            return distillation(
                logits,
                teacher_logits[examples],
                labels[examples],
                temperature=self.temperature,
                weight=weight,
            )

        return loss
