from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import optuna
import pytest
import torch
import torch.nn.functional as F
from conftest import make_training
from torch import nn

from nas_optuna.data import Batch, Digits
from nas_optuna.data.augmentation import to_float
from nas_optuna.errors import InputError
from nas_optuna.estimation import Classifier, Fidelity
from nas_optuna.estimation.module import one_cycle
from nas_optuna.space import Architecture, Block, Stem

ARCHITECTURE = Architecture(Stem(8), (Block("conv", 16, 2, residual=True), Block("dwsep", 16)))


def test_network_learns(digits: Digits) -> None:
    module = make_training().fit(ARCHITECTURE, digits, fidelity=Fidelity(5), seed=0)
    assert len(module.curve) == 5
    assert module.curve[-1] > 0.8


def test_last_epoch_is_judged_on_all_validation_images(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[int] = []
    accuracy = Classifier._accuracy

    def count(self: Classifier, batches: Iterable[Batch], **options: Any) -> float:
        batches = list(batches)
        judged.append(sum(len(labels) for _, labels in batches))
        return accuracy(self, batches, **options)

    monkeypatch.setattr(Classifier, "_accuracy", count)
    length = Fidelity(3, data_share=0.2, validation_images=50)
    make_training().fit(ARCHITECTURE, digits, fidelity=length, seed=0)
    assert judged == [50, 50, len(digits.split("validation"))]


@pytest.mark.parametrize(
    ("length", "judged"),
    [
        (Fidelity(6), [None] * 6),
        (Fidelity(6, validation_images=50), [50] * 5 + [None]),
        (Fidelity(6, validation_images=50, rung_images=200), [200, 200, 50, 200, 50, None]),
        (Fidelity(6, validation_images=300, rung_images=200), [300] * 5 + [None]),
    ],
)
def test_epochs_at_which_pruners_decide_may_be_judged_on_more_images(
    length: Fidelity, judged: list[int | None]
) -> None:
    assert [length.judged_on(epoch) for epoch in range(1, 7)] == judged


def test_short_epochs_of_a_training_repeat_no_image(digits: Digits) -> None:
    seen: list[torch.Tensor] = []

    def watch(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        seen.append(inputs)
        return inputs

    data = Digits()
    data.prepare()
    data.augmentation = watch
    make_training().fit(ARCHITECTURE, data, fidelity=Fidelity(3, data_share=0.3), seed=0)
    images = torch.cat(seen).flatten(1)
    distinct = len(torch.unique(digits.split("train").inputs.flatten(1), dim=0))
    assert len(images) - len(torch.unique(images, dim=0)) <= len(digits.split("train")) - distinct


def test_same_seed_gives_the_same_weights(digits: Digits) -> None:
    first, second, other = (
        make_training().fit(ARCHITECTURE, digits, fidelity=Fidelity(1), seed=seed) for seed in (3, 3, 4)
    )
    assert first.curve == second.curve
    for one, two in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(first.network.head.linear.weight, other.network.head.linear.weight)


def test_losses_are_the_cross_entropy_of_what_judged(digits: Digits) -> None:
    module = make_training(small_share=0.0).fit(ARCHITECTURE, digits, fidelity=Fidelity(2), seed=0)
    split = digits.split("validation")
    module.network.eval()
    with torch.inference_mode():
        logits = module.network(to_float(split.inputs))
    assert len(module.losses) == len(module.curve) == 2
    assert module.losses[-1] == pytest.approx(float(F.cross_entropy(logits, split.labels)), rel=1e-4)


def test_training_leaves_the_global_random_state_alone(digits: Digits) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    make_training().fit(ARCHITECTURE, digits, fidelity=Fidelity(1, data_share=0.1), seed=0)
    assert torch.equal(torch.rand(1), expected)


def test_divergence_is_noticed_and_stops_the_training(digits: Digits) -> None:
    module = make_training(learning_rate=1e12).fit(ARCHITECTURE, digits, fidelity=Fidelity(20), seed=0)
    assert module.diverged
    assert len(module.curve) < 20


def test_stopping_ends_within_a_step_and_never_tests(digits: Digits) -> None:
    reasons = iter([None, None, "enough"])  # asked a fourth time, it would raise
    module = make_training().fit(
        ARCHITECTURE,
        digits,
        fidelity=Fidelity(5),
        seed=0,
        stop=lambda: next(reasons),
        with_validation=True,
        test=True,
    )
    assert module.stopped == "enough"
    assert module.test_accuracy is None


def test_final_training_sees_train_and_validation_and_tests(digits: Digits) -> None:
    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 64

    module = make_training().fit(
        ARCHITECTURE,
        digits,
        fidelity=Fidelity(1),
        seed=0,
        stop=count,
        with_validation=True,
        test=True,
    )
    everything = len(digits.split("train")) + len(digits.split("validation"))
    assert everything - 64 < seen <= everything
    assert module.curve == []
    assert module.test_accuracy is not None


def test_norms_and_biases_are_not_decayed() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    recipe = make_training(weight_decay=0.01).recipe
    module = Classifier(network, recipe, steps=10)
    decayed, free = module.configure_optimizers()[0].param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.01, 0.0)
    assert {parameter.ndim for parameter in decayed["params"]} == {2, 4}
    assert {parameter.ndim for parameter in free["params"]} == {1}
    assert decayed["nesterov"]


@pytest.mark.parametrize("total", [1, 2, 4, 100])
def test_one_cycle_rises_once_and_falls_once(total: int) -> None:
    rates = [one_cycle(step, total=total, warmup=0.25) for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates)
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert one_cycle(total, total=total, warmup=0.25) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"data_share": 1.5},
        {"validation_images": 0},
        {"rung_images": 0},
        {"batch_size": 1},
        {"learning_rate": "fast"},
        {"momentum": 1.0},
        {"device": "tpu"},
        {"execution": "8"},
        {"pruner": optuna.samplers.RandomSampler()},
    ],
)
def test_impossible_setting_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"estimation.{next(iter(wrong))}"):
        make_training(**wrong)


@pytest.mark.parametrize(("steps", "momentum"), [(1000, 0.3), (10, 0.5), (2, 0.9)])
def test_norms_of_a_short_training_remember_its_end_only(digits: Digits, steps: int, momentum: float) -> None:
    training = make_training(norm_momentum=0.3)
    module = Classifier(training.build(ARCHITECTURE, digits, seed=0), training.recipe, steps=steps)
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms
    assert {norm.momentum for norm in norms} == {momentum}
