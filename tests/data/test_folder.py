from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_images
from PIL import Image

from nas_optuna.data import ImageFolder
from nas_optuna.errors import InputError


def folder(root: Path, **settings: object) -> ImageFolder:
    data = ImageFolder(root=str(root), **({"image_size": 8} | settings))
    data.prepare()
    return data


def save(root: Path, name: str, image: Image.Image, **options: object) -> None:
    """One image beside enough others to make a data set."""
    make_images(root, count=10)
    image.save(root / "left" / name, **options)


def pixel(root: Path, name: str) -> list[int]:
    """The middle pixel of one file, as read."""
    data = folder(root)
    return data._decode(root / "left" / name)[:, 4, 4].tolist()


def test_mixed_modes_formats_and_sizes_become_one_tensor(image_folder: Path) -> None:
    split = folder(image_folder).split("train")
    assert split.inputs.dtype == torch.uint8
    assert split.inputs.shape[1:] == (3, 8, 8)


def test_division_is_stratified_disjoint_and_seeded(image_folder: Path) -> None:
    data, again, other = folder(image_folder), folder(image_folder), folder(image_folder, split_seed=1)
    paths = {name: set(listing.paths) for name, listing in data._listings.items()}
    assert sum(map(len, paths.values())) == 40 == len(set.union(*paths.values()))
    for name in ("train", "validation", "test"):
        labels = data._listings[name].labels
        assert abs(int(np.diff(np.bincount(labels))[0])) <= 1
        assert again._listings[name].paths == data._listings[name].paths
    assert set(other._listings["test"].paths) != paths["test"]


@pytest.mark.parametrize("validation", ["validation", "val", "valid"])
def test_split_folders_are_kept_apart(tmp_path: Path, validation: str) -> None:
    for name, count in (("train", 12), (validation, 6), ("test", 4)):
        make_images(tmp_path / name, count=count)
    data = folder(tmp_path)
    assert {name: len(data.split(name)) for name in ("train", "validation", "test")} == {
        "train": 24,
        "validation": 12,
        "test": 8,
    }


def test_transparent_pixels_are_white(tmp_path: Path) -> None:
    save(tmp_path, "clear.png", Image.new("RGBA", (9, 9), (200, 0, 0, 0)))
    assert pixel(tmp_path, "clear.png") == [255, 255, 255]


def test_transparent_palette_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (9, 9), 0)
    image.putpalette([200, 0, 0])
    save(tmp_path, "clear.png", image, transparency=0)
    assert pixel(tmp_path, "clear.png") == [255, 255, 255]


def test_sixteen_bits_are_scaled_not_cut_off(tmp_path: Path) -> None:
    save(tmp_path, "deep.png", Image.fromarray(np.full((9, 9), 0x8000, dtype=np.uint16)))
    assert pixel(tmp_path, "deep.png") == [128, 128, 128]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    save(tmp_path, "ink.tiff", Image.new("CMYK", (9, 9), (0, 255, 255, 0)))
    assert pixel(tmp_path, "ink.tiff") == [255, 0, 0]


@pytest.mark.parametrize("mode", ["1", "P"])
def test_few_colours_are_scaled_as_smoothly_as_many(tmp_path: Path, mode: str) -> None:
    lines = np.full((512, 512), 255, dtype=np.uint8)
    lines[::32] = lines[1::32] = lines[2::32] = 0
    image = Image.fromarray(lines)
    save(tmp_path, "grey.png", image)
    image.convert(mode).save(tmp_path / "left" / "few.png")
    data = folder(tmp_path, image_size=32)
    few, grey = (data._decode(tmp_path / "left" / name).astype(int) for name in ("few.png", "grey.png"))
    assert abs(few - grey).max() <= 2
    assert grey.std() > 5


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    save(tmp_path, "turned.png", Image.fromarray(pixels), exif=exif)
    turned = folder(tmp_path)._decode(tmp_path / "left" / "turned.png")
    assert turned[:, 0].max() == 0
    assert turned[:, -1].min() == 255


def test_grey_data_has_one_channel(image_folder: Path) -> None:
    assert folder(image_folder, channels=1).input_shape == (1, 8, 8)


def test_other_files_and_hidden_folders_are_ignored(image_folder: Path) -> None:
    (image_folder / "left" / "notes.txt").write_text("not an image")
    (image_folder / ".cache").mkdir()
    data = folder(image_folder)
    assert data.classes == ("left", "right")
    assert sum(len(listing.paths) for listing in data._listings.values()) == 40


def test_unreadable_test_image_is_named_at_once(image_folder: Path) -> None:
    test = folder(image_folder)._listings["test"].paths[0]
    test.write_bytes(test.read_bytes()[:30])
    with pytest.raises(InputError, match=test.name):
        folder(image_folder)


def test_class_of_the_test_images_must_be_known(tmp_path: Path) -> None:
    make_images(tmp_path / "train", count=10)
    make_images(tmp_path / "test", count=4, classes=("left", "right", "middle"))
    with pytest.raises(InputError, match="middle"):
        folder(tmp_path)


@pytest.mark.parametrize("count", [1, 2])
def test_class_too_small_to_divide_is_refused(tmp_path: Path, count: int) -> None:
    make_images(tmp_path, count=40)
    make_images(tmp_path, count=count, classes=("rare",))
    with pytest.raises(InputError, match=rf"a class has {count} example\(s\)"):
        folder(tmp_path)


def test_splits_of_other_names_are_not_taken_for_classes(tmp_path: Path) -> None:
    for name in ("Training", "Testing"):
        make_images(tmp_path / name, count=10)
    with pytest.raises(InputError, match=r"Testing, Training .* look like splits"):
        folder(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"image_size": 0}, {"channels": 2}, {"test_share": 1.0}, {"validation_share": 0}]
)
def test_impossible_setting_is_named(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"data.{next(iter(wrong))}"):
        folder(tmp_path, **wrong)
