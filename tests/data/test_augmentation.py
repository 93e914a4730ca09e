from __future__ import annotations

import pytest
import torch
from torch import Generator

from nas_optuna.data import Augmentation
from nas_optuna.errors import InputError


def generator() -> Generator:
    return Generator().manual_seed(0)


def numbered(count: int, size: int) -> torch.Tensor:
    """Images whose pixels all differ."""
    return torch.arange(count * size * size, dtype=torch.int64).view(count, 1, size, size)


def test_nothing_asked_changes_nothing() -> None:
    images = numbered(4, 5)
    assert torch.equal(Augmentation()(images, generator()), images)


def test_flip_mirrors_some_images_and_keeps_the_others() -> None:
    images = numbered(64, 5)
    changed = Augmentation(flip=0.5)(images, generator())
    flipped = [torch.equal(after, before.flip(-1)) for before, after in zip(images, changed, strict=True)]
    kept = [torch.equal(after, before) for before, after in zip(images, changed, strict=True)]
    assert all(one != other for one, other in zip(flipped, kept, strict=True))
    assert 16 < sum(flipped) < 48


def test_crop_shifts_each_image_within_its_mirrored_border() -> None:
    images = numbered(32, 6)
    changed = Augmentation(crop=2)(images, generator())
    padded = torch.nn.functional.pad(images.double(), (2, 2, 2, 2), mode="reflect").long()
    shifts = set()
    for before, after in zip(padded, changed, strict=True):
        windows = {(y, x): before[:, y : y + 6, x : x + 6] for y in range(5) for x in range(5)}
        found = [shift for shift, window in windows.items() if torch.equal(window, after)]
        assert found
        shifts.add(found[0])
    assert len(shifts) > 5


def test_cutout_blanks_a_square() -> None:
    changed = Augmentation(cutout=3)(torch.ones(32, 2, 9, 9), generator())
    blanked = (changed == 0).sum(dim=(1, 2, 3))
    assert blanked.max() == 2 * 3 * 3
    assert blanked.min() > 0


def test_same_seed_same_images() -> None:
    augmentation = Augmentation(crop=2, flip=0.5, cutout=3)
    images = torch.rand(16, 3, 8, 8)
    assert torch.equal(augmentation(images, generator()), augmentation(images, generator()))


def test_images_of_one_pixel_survive() -> None:
    images = torch.rand(4, 1, 1, 1)
    assert torch.equal(Augmentation(crop=2, flip=1.0)(images, generator()), images)


@pytest.mark.parametrize("wrong", [{"crop": -1}, {"flip": 1.5}, {"cutout": 0.5}])
def test_impossible_setting_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"data.augmentation.{next(iter(wrong))}"):
        Augmentation(**wrong)
