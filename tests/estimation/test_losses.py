from __future__ import annotations

import pytest
import torch
from torch import nn

from nas_optuna.estimation import Criterion, cross_entropy, distillation, entropy, kl_divergence

EPSILON = torch.finfo(torch.float64).eps


@pytest.mark.parametrize("batch", [1, 7, 256])
@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_cross_entropy_is_entropy_and_divergence(batch: int, classes: int, temperature: float) -> None:
    random = torch.Generator().manual_seed(batch * classes)
    logits, teacher = (
        3 * torch.randn(batch, classes, dtype=torch.float64, generator=random) / temperature for _ in range(2)
    )
    targets = teacher.softmax(dim=1)
    whole = cross_entropy(logits, targets)
    parts = entropy(targets) + kl_divergence(logits, targets)
    assert abs(whole - parts) <= 8 * EPSILON * whole


def test_divergence_from_itself_is_none() -> None:
    logits = torch.randn(5, 4, dtype=torch.float64)
    assert abs(kl_divergence(logits, logits.softmax(dim=1))) < 1e-15


def test_certain_targets_have_no_entropy() -> None:
    assert entropy(torch.eye(3)) == 0


def test_label_smoothing_moves_mass_to_all_classes() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    for smoothing in (0.0, 0.2):
        loss = Criterion("cross_entropy", 1.0, 0.0, smoothing).from_labels(logits, labels)
        target = nn.functional.one_hot(labels, 3) * (1 - smoothing) + smoothing / 3
        torch.testing.assert_close(loss, -(target * logits.log_softmax(dim=1)).sum(dim=1).mean())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_is_between_labels_and_teacher(temperature: float) -> None:
    random = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 6, 3, generator=random)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    only_labels, both, only_teacher = (
        distillation(logits, teacher, labels, temperature=temperature, weight=weight)
        for weight in (0.0, 0.25, 1.0)
    )
    torch.testing.assert_close(only_labels, cross_entropy(logits, labels))
    torch.testing.assert_close(both, 0.75 * only_labels + 0.25 * only_teacher)
    softened = (teacher / temperature).softmax(dim=1)
    torch.testing.assert_close(only_teacher, temperature**2 * kl_divergence(logits / temperature, softened))


def test_teachers_gradient_keeps_its_size_as_it_is_softened() -> None:
    """Hinton et al. 2015, section 2: the reason for the square of the temperature."""
    random = torch.Generator().manual_seed(0)
    teacher = torch.randn(50, 10, generator=random)
    sizes = []
    for temperature in (20.0, 40.0):
        logits = torch.randn(50, 10, generator=torch.Generator().manual_seed(1)).requires_grad_()
        distillation(
            logits, teacher, torch.zeros(50, dtype=torch.int64), temperature=temperature, weight=1.0
        ).backward()
        assert logits.grad is not None
        sizes.append(float(logits.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_teacher_is_asked_by_number() -> None:
    teacher, labels = torch.randn(5, 3), torch.tensor([2, 0, 1, 1, 0])
    logits, examples = torch.randn(2, 3), torch.tensor([3, 0])
    criterion = Criterion("distillation", 2.0, 0.3, 0.0)
    expected = distillation(logits, teacher[[3, 0]], torch.tensor([1, 2]), temperature=2.0, weight=0.3)
    torch.testing.assert_close(criterion.from_teacher(labels, teacher)(logits, examples), expected)


def test_kl_listens_to_the_teacher_alone() -> None:
    teacher, logits, examples = torch.randn(4, 3), torch.randn(4, 3), torch.arange(4)
    losses = [
        Criterion("kl", 2.0, 0.5, 0.0).from_teacher(labels, teacher)(logits, examples)
        for labels in (torch.zeros(4, dtype=torch.int64), torch.full((4,), 2))
    ]
    torch.testing.assert_close(*losses)
