from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_optuna.data import TimeSeries
from nas_optuna.data.series import SeriesAugmentation
from nas_optuna.errors import InputError


def series(count: int = 30, channels: int = 2, length: int = 12) -> dict[str, Any]:
    values = np.random.default_rng(0).normal(3, 2, size=(count, channels, length))
    return {"x": values, "y": np.arange(count) % 3}


def write_npz(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "series.npz", **arrays)
    return str(folder / "series.npz")


def prepared(**options: Any) -> TimeSeries:
    data = TimeSeries(**options)
    data.prepare()
    return data


def test_npz_is_divided_into_three_splits(tmp_path: Path) -> None:
    data = prepared(path=write_npz(tmp_path, **series()), test_share=0.2, validation_share=0.25)
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [18, 6, 6]
    assert data.input_shape == (2, 12)
    assert data.classes == ("0", "1", "2")
    parts = torch.cat([data.split(name).inputs for name in ("train", "validation", "test")])
    assert len(parts.flatten(1).unique(dim=0)) == 30


def test_npz_with_splits_of_its_own_keeps_them(tmp_path: Path) -> None:
    arrays = series()
    given = {f"{key}_{name}": value[:6] for name in ("test", "validation") for key, value in arrays.items()}
    data = prepared(path=write_npz(tmp_path, **arrays, **given))
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [30, 6, 6]


def test_univariate_series_have_one_channel(tmp_path: Path) -> None:
    arrays = series()
    assert prepared(path=write_npz(tmp_path, x=arrays["x"][:, 0], y=arrays["y"])).input_shape == (1, 12)


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("header", ["", "class{0}a{0}b{0}c{0}d\n"])
def test_csv_is_a_series_a_row(tmp_path: Path, delimiter: str, header: str) -> None:
    rows = [delimiter.join([word, str(i), "2", "3.5", "-1e2"]) for i in range(10) for word in ("up", "down")]
    (tmp_path / "train.csv").write_text(header.format(delimiter) + "\n".join(rows))
    data = prepared(path=str(tmp_path / "train.csv"), channels=2)
    assert data.classes == ("down", "up")
    first = data.split("train").inputs[0]
    assert first.shape == (2, 2)
    torch.testing.assert_close(first[1], torch.tensor([3.5, -100.0]))


def test_numbered_classes_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    # as the UCR archive writes them
    rows = [f"{label:e},{i},{i}" for i in range(8) for label in (10, 9, -1)]
    (tmp_path / "train.csv").write_text("\n".join(rows))
    assert prepared(path=str(tmp_path / "train.csv")).classes == ("-1", "9", "10")


def test_test_series_may_be_in_a_file_of_their_own(tmp_path: Path) -> None:
    for name, count in (("train", 20), ("test", 4)):
        rows = [f"{i % 2},{i},{i + 1}" for i in range(count)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(rows).replace(",", "\t"))
    data = prepared(path=str(tmp_path / "train.tsv"), test_path=str(tmp_path / "test.tsv"))
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [16, 4, 4]


def test_normalisation_is_that_of_each_channel_of_the_training_series(tmp_path: Path) -> None:
    data = prepared(path=write_npz(tmp_path, **series()))
    mean, std = data.normalization
    values = data.split("train").inputs
    torch.testing.assert_close(torch.tensor(mean), values.mean(dim=(0, 2)))
    torch.testing.assert_close(torch.tensor(std), values.std(dim=(0, 2), unbiased=False))


def test_constant_channel_is_borne(tmp_path: Path) -> None:
    arrays = series()
    arrays["x"][:, 1] = 7
    assert prepared(path=write_npz(tmp_path, **arrays)).normalization[1][1] == 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((4, 3))}, "holds x; it must hold x"),
        ({"x": np.ones((4, 3)), "y": np.arange(3)}, r"shape \(4, 1, 3\) and its labels \(3,\)"),
        ({"x": np.ones((4, 3)), "y": np.zeros(4)}, "single class"),
        ({"x": np.full((4, 3), np.nan), "y": np.arange(4) % 2}, "12 values that are missing"),
        ({"x": np.array([["a"], ["b"]]), "y": np.arange(2)}, "must hold numbers"),
        ({"x": np.ones((4, 3), dtype=object), "y": np.arange(4)}, "can't read"),
        ({"x": np.ones((8, 3)), "y": np.arange(8) % 2, "x_test": np.ones((2, 3))}, "x_test without y_test"),
        ({"x": np.ones((8, 3)), "y": np.arange(8) % 2, "y_test": np.ones(2)}, "y_test without x_test"),
        ({"x": np.ones((4, 3), dtype=complex), "y": np.arange(4) % 2}, "must hold numbers"),
        (
            {"x": np.ones((8, 3)), "y": np.arange(8) % 2, "x_test": np.ones((2, 4)), "y_test": np.arange(2)},
            r"test series have the shape \(1, 4\)",
        ),
        (
            {
                "x": np.ones((8, 3)),
                "y": np.arange(8) % 2,
                "x_test": np.ones((2, 3)),
                "y_test": np.arange(2) + 1,
            },
            "test class '2' has no series to train on",
        ),
    ],
)
def test_wrong_npz_is_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"data\.path: .*{message}"):
        prepared(path=write_npz(tmp_path, **arrays))


@pytest.mark.parametrize(
    ("text", "channels", "message"),
    [
        ("", 1, "holds no series"),
        ("a,1,2\nb,1\n", 1, "line 2 .* must be a class and 2 numbers"),
        ("a,1,2\nb,1,x\n", 1, "line 2 .* must be a class and 2 numbers"),
        ("a,1,2,3\nb,1,2,3\n", 2, r"data\.channels: the 3 values of a row"),
        ("a\nb\n", 1, "the 0 values of a row"),
        ("a,1,nan\nb,1,2\n", 1, "1 values that are missing"),
    ],
)
def test_wrong_csv_is_refused(tmp_path: Path, text: str, channels: int, message: str) -> None:
    (tmp_path / "wrong.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        prepared(path=str(tmp_path / "wrong.csv"), channels=channels)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", b"\x93NUMPY\x01\x00"])
def test_damaged_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "series.npz").write_bytes(content)
    with pytest.raises(InputError, match="can't read"):
        prepared(path=str(tmp_path / "series.npz"))


def test_array_that_is_called_npz_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "series.npy", np.ones(3))
    (tmp_path / "series.npy").rename(tmp_path / "series.npz")
    with pytest.raises(InputError, match="can't read"):
        prepared(path=str(tmp_path / "series.npz"))


def test_first_series_with_a_missing_value_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "gap.csv").write_text("a,,1\nb,1,2\n")
    with pytest.raises(InputError, match=r"line 1 .* must be a class and 2 numbers"):
        prepared(path=str(tmp_path / "gap.csv"))


def test_field_that_is_too_long_is_refused(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text("a," + "1 " * 100_000)
    with pytest.raises(InputError, match="is no csv file"):
        prepared(path=str(tmp_path / "long.csv"))


def test_classes_are_the_same_numbers_however_they_are_stored(tmp_path: Path) -> None:
    arrays = series()
    given = {"x_test": arrays["x"][:6], "y_test": arrays["y"][:6].astype(float)}
    assert prepared(path=write_npz(tmp_path, **arrays, **given)).classes == ("0", "1", "2")


def test_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"data\.path: can't read 'nowhere\.csv'"):
        prepared(path="nowhere.csv")


def test_shift_moves_all_channels_of_a_series_alike() -> None:
    ramp = torch.arange(20.0).expand(64, 3, 20) + torch.tensor([0.0, 100.0, 200.0])[:, None]
    moved = SeriesAugmentation(shift=2)(ramp, torch.Generator().manual_seed(0))
    offsets = moved[:, :, 10] - ramp[:, :, 10]
    assert set(offsets[:, 0].tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0}
    torch.testing.assert_close(offsets, offsets[:, :1].expand(-1, 3))


def test_noise_is_a_part_of_each_channels_deviation() -> None:
    quiet, loud = torch.randn(256, 1, 100), 50 * torch.randn(256, 1, 100)
    series = torch.cat([quiet, loud], dim=1)
    noise = SeriesAugmentation(noise=0.1)(series, torch.Generator().manual_seed(0)) - series
    deviations = noise.std(dim=(0, 2))
    torch.testing.assert_close(deviations, torch.tensor([0.1, 5.0]), rtol=0.1, atol=0.01)
