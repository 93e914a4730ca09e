from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_images
from torchvision import datasets

from nas_optuna.data import Digits, ImageData, TorchvisionData

COUNT = 60


def write_fashion_mnist(root: Path) -> None:
    """A few images in the IDX files that torchvision downloads."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        images = np.arange(COUNT * 28 * 28, dtype=np.uint64).astype(np.uint8)
        labels = np.arange(COUNT, dtype=np.uint8) % 10
        headers = {
            f"{prefix}-images-idx3-ubyte": struct.pack(">4i", 2051, COUNT, 28, 28) + images.tobytes(),
            f"{prefix}-labels-idx1-ubyte": struct.pack(">2i", 2049, COUNT) + labels.tobytes(),
        }
        for name, content in headers.items():
            (raw / name).write_bytes(content)
            (raw / f"{name}.gz").write_bytes(gzip.compress(content))


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few images in the files that torchvision downloads; their checksums become the known ones."""
    folder = root / datasets.CIFAR10.base_folder
    folder.mkdir(parents=True)

    def write(name: str, content: dict[str, object]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    pixels = (np.arange(COUNT * 3072) % 251).astype(np.uint8).reshape(COUNT, 3072)
    labels = [index % 10 for index in range(COUNT)]
    batches = [write(name, {"data": pixels, "labels": labels}) for name in ("data_batch_1", "test_batch")]
    names = write("batches.meta", {"label_names": [f"class{index}" for index in range(10)]})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", batches[:1])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", batches[1:])
    monkeypatch.setattr(
        datasets.CIFAR10, "meta", {"filename": names[0], "key": "label_names", "md5": names[1]}
    )


def prepared(name: str, root: Path, image_size: int, channels: int) -> TorchvisionData:
    data = TorchvisionData(
        name=name, root=str(root), image_size=image_size, channels=channels, validation_share=0.2
    )
    data.prepare()
    return data


def check(data: ImageData, *, shape: tuple[int, int, int], train: int, validation: int, test: int) -> None:
    assert data.input_shape == shape
    assert (len(data.split("train")), len(data.split("validation")), len(data.split("test"))) == (
        train,
        validation,
        test,
    )
    assert data.split("test").inputs.dtype == torch.uint8
    assert data.split("test").labels.dtype == torch.int64


def test_digits(digits: Digits) -> None:
    check(digits, shape=(1, 8, 8), train=1150, validation=288, test=359)
    assert digits.classes == tuple("0123456789")


def test_digits_use_the_whole_range_of_a_byte(digits: Digits) -> None:
    images = digits.split("train").inputs
    assert (int(images.min()), int(images.max())) == (0, 255)


def test_splits_are_stratified(digits: Digits) -> None:
    for name in ("train", "validation", "test"):
        counts = torch.bincount(digits.split(name).labels)
        assert counts.max() - counts.min() < 0.15 * counts.float().mean()


def test_normalization_is_that_of_the_training_images(digits: Digits) -> None:
    mean, std = digits.normalization
    pixels = digits.split("train").inputs.double() / 255
    assert mean == pytest.approx([pixels.mean().item()])
    assert std == pytest.approx([pixels.std(correction=0).item()])


def test_fingerprint_changes_with_the_division() -> None:
    fingerprints = set()
    for split_seed in (0, 1, 0):
        data = Digits(split_seed=split_seed)
        data.prepare()
        fingerprints.add(data.fingerprint)
    assert len(fingerprints) == 2


def test_fashion_mnist_from_its_own_files(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path)
    data = prepared("FashionMNIST", tmp_path, 28, 1)
    check(data, shape=(1, 28, 28), train=48, validation=12, test=60)
    assert data.classes[0] == "T-shirt/top"


def test_cifar10_from_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch)
    data = prepared("CIFAR10", tmp_path, 32, 3)
    check(data, shape=(3, 32, 32), train=48, validation=12, test=60)
    # the first image of a file is red, then green, then blue planes
    first = torch.from_numpy((np.arange(3072) % 251).astype(np.uint8)).view(3, 32, 32)
    assert torch.equal(data.split("test").inputs[0], first)


def test_cifar10_from_a_folder_of_images(tmp_path: Path) -> None:
    make_images(tmp_path / "train", count=20)
    make_images(tmp_path / "test", count=5)
    data = prepared("CIFAR10", tmp_path, 32, 3)
    check(data, shape=(3, 32, 32), train=32, validation=8, test=10)
    assert data.classes == ("left", "right")
