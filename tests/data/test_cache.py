"""Decoded images on disk: made once, mapped by all, never stale, never half there."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_images

from nas_optuna.data import Augmentation, Digits, ImageFolder, Split, TrainingLoader, cache
from nas_optuna.data.folder import Files
from nas_optuna.data.labelled import Joined


def open_folder(root: Path, cache_dir: Path | None) -> ImageFolder:
    data = ImageFolder(root=str(root), image_size=8)
    data.cache_dir = cache_dir
    data.prepare()
    return data


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_images(tmp_path / "images", count=20)
    return tmp_path / "images"


def refuse(*arguments: Any) -> None:
    raise AssertionError("decoded again")


def test_files_are_decoded_once_for_all_runs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_folder(root, tmp_path / "cache")
    splits = {name: first.split(name) for name in ("train", "validation", "test")}
    monkeypatch.setattr(ImageFolder, "_decode", refuse)
    second = open_folder(root, tmp_path / "cache")
    for name, split in splits.items():
        assert torch.equal(second.split(name).inputs, split.inputs)
        assert torch.equal(second.split(name).labels, split.labels)


def test_cached_images_are_those_of_the_files(root: Path, tmp_path: Path) -> None:
    cached, fresh = open_folder(root, tmp_path / "cache"), open_folder(root, None)
    assert torch.equal(cached.split("train").inputs, fresh.split("train").inputs)
    assert cached.fingerprint == fresh.fingerprint


def test_changed_file_of_the_same_name_and_size_is_decoded_anew(root: Path, tmp_path: Path) -> None:
    before = open_folder(root, tmp_path / "cache")
    listing = before._listings["train"]
    bitmap = next(path for path in listing.paths if path.suffix == ".png")
    before.split("train")
    bitmap.write_bytes(bitmap.with_name(bitmap.name).read_bytes()[:-1] + b"\x00")
    after = open_folder(root, tmp_path / "cache")
    assert after._key("train") != before._key("train")


def test_other_size_is_decoded_anew(root: Path, tmp_path: Path) -> None:
    open_folder(root, tmp_path / "cache").split("train")
    other = ImageFolder(root=str(root), image_size=4)
    other.cache_dir = tmp_path / "cache"
    other.prepare()
    assert other.split("train").inputs.shape[1:] == (3, 4, 4)


def test_crash_while_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    def fill(array: Any) -> None:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        cache.write(
            tmp_path / "split", shape=(2, 1), dtype=np.dtype("u1"), labels=np.zeros(2, np.int64), fill=fill
        )
    assert list(tmp_path.iterdir()) == []


def test_two_processes_may_write_the_same_split(tmp_path: Path) -> None:
    inputs, labels = np.arange(6, dtype=np.uint8).reshape(3, 2), np.array([0, 1, 0])

    def fill(array: Any) -> None:
        cache.write_arrays(tmp_path / "split", inputs, labels)  # the other one, just before
        array[:] = inputs

    cache.write(tmp_path / "split", shape=(3, 2), dtype=inputs.dtype, labels=labels, fill=fill)
    read = cache.read(tmp_path / "split")
    assert read[0].numpy().tolist() == inputs.tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["split"]


def test_what_a_process_writes_to_a_mapped_split_stays_private(tmp_path: Path) -> None:
    cache.write_arrays(tmp_path / "split", np.zeros((2, 2), np.uint8), np.array([0, 1]))
    cache.read(tmp_path / "split")[0].fill_(7)
    assert cache.read(tmp_path / "split")[0].sum() == 0


def test_folder_that_may_not_be_written_to_is_done_without(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    data = open_folder(root, tmp_path / "file" / "cache")
    assert len(data.split("train")) > 0


def test_shared_data_is_pickled_without_its_examples(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {name: digits.split(name) for name in ("train", "validation")}
    fingerprint = digits.fingerprint
    monkeypatch.setattr("nas_optuna.data.labelled.SHARED", 0)
    data = Digits()
    data.cache_dir = tmp_path
    data.prepare()
    data.share()
    monkeypatch.setattr(Digits, "read", refuse)
    copy = pickle.loads(pickle.dumps(data))
    for name, split in known.items():
        assert torch.equal(copy.split(name).inputs, split.inputs)
    assert copy.fingerprint == fingerprint


def test_test_images_are_not_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_optuna.data.labelled.SHARED", 0)
    data = Digits()
    data.cache_dir = tmp_path
    data.prepare()
    data.share()
    assert {path.name.split("-")[-1] for path in tmp_path.iterdir()} == {"train", "validation"}


@pytest.fixture
def streamed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageFolder:
    """A folder whose pixels fit neither into memory nor on the disk."""
    monkeypatch.setattr(cache, "has_room", lambda *_: False)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 0})())
    return open_folder(root, tmp_path / "cache")


def test_images_that_fit_nowhere_are_read_when_needed(streamed: ImageFolder, root: Path) -> None:
    memory = open_folder(root, None)
    assert isinstance(streamed.split("train").inputs, Files)
    assert streamed.normalization == memory.normalization
    assert streamed.fingerprint == memory.fingerprint


def test_streamed_batches_are_those_from_memory(streamed: ImageFolder, root: Path) -> None:
    def batches(split: Split) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return list(
            TrainingLoader(
                split, batch_size=4, data_share=1.0, augmentation=Augmentation(crop=1, flip=0.5), seed=3
            )
        )

    split = streamed.split("train")
    in_memory = Split(split.inputs[torch.arange(len(split))], split.labels)
    read, known = batches(split), batches(in_memory)
    assert len(read) == len(known) > 1
    for (inputs, labels), (expected, expected_labels) in zip(read, known, strict=True):
        assert torch.equal(inputs, expected)
        assert torch.equal(labels, expected_labels)


def test_streaming_ends_with_its_loop(streamed: ImageFolder) -> None:
    import threading

    loader = TrainingLoader(
        streamed.split("train"), batch_size=2, data_share=1.0, augmentation=Augmentation(), seed=0
    )
    batches = iter(loader)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_joined_inputs_are_the_first_and_then_the_second() -> None:
    joined = Joined(torch.arange(6).view(3, 2), torch.arange(6, 10).view(2, 2))
    assert joined.shape == (5, 2)
    assert joined[torch.tensor([4, 0, 3])].tolist() == [[8, 9], [0, 1], [6, 7]]


def test_large_splits_are_joined_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_optuna.data.labelled.JOINED_IN_MEMORY", 0)
    first, second = (Split(torch.full((2, 1), value), torch.tensor([value, value])) for value in (0, 1))
    both = first + second
    assert isinstance(both.inputs, Joined)
    assert both.inputs[torch.arange(4)].flatten().tolist() == both.labels.tolist() == [0, 0, 1, 1]


def test_split_that_a_gpu_has_no_room_for_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    split = Split(torch.zeros(60, 1, dtype=torch.uint8), torch.zeros(60, dtype=torch.int64))
    assert split.to(torch.device("cuda")) is split
