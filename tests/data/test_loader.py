from __future__ import annotations

import pytest
import torch

from nas_optuna.data import Augmentation, EvaluationLoader, Split, TrainingLoader


def numbered(count: int) -> Split:
    """Images whose label is their own index."""
    return Split(torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.arange(count))


def loader(count: int, *, batch_size: int = 10, data_share: float = 1.0, seed: int = 0) -> TrainingLoader:
    return TrainingLoader(
        numbered(count), batch_size=batch_size, data_share=data_share, augmentation=Augmentation(), seed=seed
    )


def epoch(training: TrainingLoader) -> list[int]:
    return [int(label) for _, labels in training for label in labels]


def test_epoch_visits_every_image_once_in_a_new_order() -> None:
    training = loader(40)
    first, second = epoch(training), epoch(training)
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second


def test_short_epochs_repeat_no_image_before_all_were_seen() -> None:
    training = loader(40, data_share=0.25)
    seen = [epoch(training) for _ in range(4)]
    assert [len(images) for images in seen] == [10, 10, 10, 10]
    assert sorted(label for images in seen for label in images) == list(range(40))


def test_seed_decides_the_order() -> None:
    assert epoch(loader(40, seed=1)) == epoch(loader(40, seed=1)) != epoch(loader(40, seed=2))


@pytest.mark.parametrize("count", [3, 10, 19])
def test_batches_are_full_whatever_the_size_of_the_split(count: int) -> None:
    training = loader(count)
    sizes = [len(labels) for _, labels in training]
    assert sizes == [min(10, count)] * len(training)
    assert len(training) == 1


def test_evaluation_visits_every_image_once_in_order() -> None:
    evaluation = EvaluationLoader(numbered(25), batch_size=10)
    assert torch.cat([labels for _, labels in evaluation]).tolist() == list(range(25))
    assert len(evaluation) == 3


def test_limited_evaluation_is_spread_over_the_split() -> None:
    evaluation = EvaluationLoader(numbered(25), batch_size=2, limit=5)
    assert torch.cat([labels for _, labels in evaluation]).tolist() == [0, 5, 10, 15, 20]
    assert len(evaluation) == 3


def test_bytes_become_the_unit_range() -> None:
    split = Split(
        torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1), torch.zeros(2, dtype=torch.int64)
    )
    images, _ = next(iter(EvaluationLoader(split, batch_size=2)))
    assert images.flatten().tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("side", "calls"), [(2, 1), (512, 4)])
def test_small_inputs_are_augmented_many_batches_at_a_time(side: int, calls: int) -> None:
    asked: list[int] = []

    def watch(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        asked.append(len(inputs))
        return inputs

    split = Split(torch.zeros(8, 1, side, side, dtype=torch.uint8), torch.arange(8))
    training = TrainingLoader(split, batch_size=2, data_share=1.0, augmentation=watch, seed=0)
    batches = list(training)
    assert [len(labels) for _, labels in batches] == [2, 2, 2, 2]
    assert sorted(int(label) for _, labels in batches for label in labels) == list(range(8))
    assert len(asked) == calls
