"""Data: labelled series of equal length from one file, npz or csv."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from nas_optuna.data.augmentation import mirror
from nas_optuna.data.labelled import LabelledData, Split, SplitName, divide
from nas_optuna.errors import InputError, check_number

Table = tuple[NDArray[np.float32], NDArray[Any]]


class SeriesAugmentation:
    """Shift and noise, drawn for each series of a batch on its own.

    Args:
        shift: Largest shift in steps, to either side; the border is mirrored in.
        noise: Standard deviation of noise added to each value, as a part of that of its channel.
    """

    def __init__(self, *, shift: int = 0, noise: float = 0.0) -> None:
        check_number("data.augmentation.shift", shift, whole=True, at_least=0)
        check_number("data.augmentation.noise", noise, at_least=0)
        self.shift, self.noise = shift, noise

    def __call__(self, series: Tensor, generator: Generator) -> Tensor:
        """Change a batch (N, C, L); the generator must live on the series' device."""
        count, channels, length = series.shape
        device = series.device
        if self.shift:
            shifts = torch.randint(
                -self.shift, self.shift + 1, (count, 1, 1), device=device, generator=generator
            )
            index = mirror(torch.arange(length, device=device) + shifts, length)
            series = series.gather(2, index.expand(-1, channels, -1))
        if self.noise:
            drawn = torch.randn(series.shape, device=device, generator=generator)
            deviation = series.std(dim=2, keepdim=True, unbiased=False)
            series = series + self.noise * deviation * drawn
        return series


class TimeSeries(LabelledData):
    """Series (N, C, L) of equal length with a class each.

    An ``npz`` file holds ``x`` (N, L) or (N, C, L) and ``y`` (N,), and may hold ``x_test`` and
    ``y_test``, ``x_validation`` and ``y_validation``. A ``csv`` or ``tsv`` file has one series a
    row: its class, then its values, channel after channel; a first row of names is skipped. What
    has no split of its own is taken from the training series, stratified by class and seeded.

    Args:
        path: The file.
        test_path: A csv file of test series, where they are apart.
        channels: Of a csv file's series: each row is divided into so many parts of equal length.
        test_share: Part of all series that is kept for the test, where it is not given.
        augmentation: Random changes to training series: ``shift``, ``noise``.
        validation_share, split_seed: See ``LabelledData``.
    """

    def __init__(
        self,
        *,
        path: str,
        test_path: str | None = None,
        channels: int = 1,
        augmentation: Mapping[str, Any] | None = None,
        validation_share: float = 0.2,
        test_share: float = 0.2,
        split_seed: int = 0,
    ) -> None:
        super().__init__(
            augment=SeriesAugmentation(**(augmentation or {})),
            validation_share=validation_share,
            split_seed=split_seed,
        )
        check_number("data.channels", channels, whole=True, at_least=1)
        check_number("data.test_share", test_share, above=0, below=1)
        self._path = Path(path).expanduser()
        self._test_path = Path(test_path).expanduser() if test_path is not None else None
        self._channels = channels
        self._test_share = test_share
        self._tables: dict[SplitName, Split] = {}

    def prepare(self) -> None:
        tables = self._load()
        self.classes = _list_classes(self._path, tables["train"][1])
        splits = {name: self._to_split(name, *table) for name, table in tables.items()}
        lengths = {name: split.inputs.shape[1:] for name, split in splits.items()}
        for name, shape in lengths.items():
            if shape != lengths["train"]:
                raise InputError(
                    f"data.path: the {name} series have the shape {tuple(shape)}, those to train on "
                    f"{tuple(lengths['train'])} (channels, length): they must agree."
                )
        if "test" not in splits:
            splits["train"], splits["test"] = self._divide(
                splits["train"], self._test_share, "data.test_share"
            )
        if "validation" not in splits:
            splits["train"], splits["validation"] = self._divide(
                splits["train"], self.validation_share, "data.validation_share"
            )
        self._tables = splits

    def read(self, name: SplitName) -> Split:
        return self._tables[name]

    @functools.cached_property
    def normalization(self) -> tuple[list[float], list[float]]:
        series = torch.cat(list(self.split("train").chunks())).double()
        mean, std = series.mean(dim=(0, 2)), series.std(dim=(0, 2), unbiased=False)
        # a constant channel would divide by zero
        return mean.tolist(), torch.where(std > 0, std, torch.ones_like(std)).tolist()

    def _load(self) -> dict[SplitName, Table]:
        if self._path.suffix == ".npz":
            if self._test_path is not None:
                raise InputError("data.test_path goes with a csv file; an npz file holds x_test and y_test.")
            return _load_npz(self._path)
        tables: dict[SplitName, Table] = {"train": _load_csv(self._path, "data.path", self._channels)}
        if self._test_path is not None:
            tables["test"] = _load_csv(self._test_path, "data.test_path", self._channels)
        return tables

    def _to_split(self, name: SplitName, values: NDArray[np.float32], labels: NDArray[Any]) -> Split:
        index = {label: number for number, label in enumerate(self.classes)}
        unknown = sorted({str(label) for label in labels} - set(index))
        if unknown:
            raise InputError(f"data.path: the {name} class {unknown[0]!r} has no series to train on.")
        numbers = np.array([index[str(label)] for label in labels], dtype=np.int64)
        return Split(torch.from_numpy(values), torch.from_numpy(numbers))

    def _divide(self, split: Split, share: float, key: str) -> tuple[Split, Split]:
        first, second = (
            torch.from_numpy(part)
            for part in divide(split.labels.numpy(), share, seed=self.split_seed, key=key)
        )
        return (
            Split(split.inputs[first], split.labels[first]),
            Split(split.inputs[second], split.labels[second]),
        )


def _list_classes(path: Path, labels: NDArray[Any]) -> tuple[str, ...]:
    # numbers in the order of numbers, words in that of words
    classes = tuple(str(label) for label in np.unique(labels))
    if len(classes) < 2:
        raise InputError(
            f"data.path: {str(path)!r} has a single class, {classes[0]!r}: there is nothing to tell apart."
        )
    return classes


def _load_npz(path: Path) -> dict[SplitName, Table]:
    names: dict[SplitName, str] = {"train": "", "validation": "_validation", "test": "_test"}
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # whatever numpy's and zip's parsers raise
        raise InputError(
            f"data.path: can't read {str(path)!r} ({error}). Give an npz or csv file of series."
        ) from error
    if not {"x", "y"} <= set(arrays):
        raise InputError(
            f"data.path: {str(path)!r} holds {', '.join(sorted(arrays)) or 'nothing'}; it must hold "
            "x (N, L) or (N, C, L) and y (N,)."
        )
    tables: dict[SplitName, Table] = {}
    for split, suffix in names.items():
        pair = {f"x{suffix}", f"y{suffix}"}
        lacking = sorted(pair - set(arrays))
        if len(lacking) == 1:
            there = min(pair - set(lacking))
            raise InputError(f"data.path: {str(path)!r} holds {there} without {lacking[0]}.")
        if not lacking:
            tables[split] = _check(path, f"x{suffix}", arrays[f"x{suffix}"], arrays[f"y{suffix}"])
    return tables


def _check(path: Path, name: str, values: NDArray[Any], labels: NDArray[Any]) -> Table:
    where = f"data.path: {name} of {str(path)!r}"
    if values.ndim == 2:
        values = values[:, None]
    if values.ndim != 3 or labels.shape != values.shape[:1] or 0 in values.shape:
        raise InputError(
            f"{where} has the shape {values.shape} and its labels {labels.shape}; they must be (N, L) or "
            "(N, C, L) and (N,)."
        )
    if not (np.issubdtype(values.dtype, np.integer) or np.issubdtype(values.dtype, np.floating)):
        raise InputError(f"{where} holds {values.dtype}; it must hold numbers.")
    return _finite(where, values.astype(np.float32)), _labels(map(str, labels))


def _finite(where: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        raise InputError(
            f"{where} has {len(wrong)} values that are missing or infinite, the first in series "
            f"{wrong[0][0]}: fill or remove them."
        )
    return np.ascontiguousarray(values)


def _load_csv(path: Path, key: str, channels: int) -> Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{key}: can't read {str(path)!r} ({error}). Give an npz or csv file of series."
        ) from error
    start = text[: text.find("\n") + 1 or None]
    delimiter = max(",;\t", key=start.count)
    try:
        table = list(csv.reader(text.splitlines(), delimiter=delimiter))
    except csv.Error as error:
        raise InputError(f"{key}: {str(path)!r} is no csv file ({error}).") from error
    rows = [(number, row) for number, row in enumerate(table, 1) if row]
    if rows and not any(map(_is_number, rows[0][1][1:])):
        rows = rows[1:]
    if not rows:
        raise InputError(f"{key}: {str(path)!r} holds no series: give one a row, its class first.")
    length = len(rows[0][1]) - 1
    if length < 1 or length % channels:
        raise InputError(
            f"data.channels: the {length} values of a row of {str(path)!r} can't be divided into "
            f"{channels} channels."
        )
    for number, row in rows:
        if len(row) - 1 != length or not all(map(_is_number, row[1:])):
            raise InputError(
                f"{key}: line {number} of {str(path)!r} must be a class and {length} numbers, "
                "as the first series is."
            )
    values = np.array([row[1:] for _, row in rows], dtype=np.float32)
    labels = _labels(row[0].strip() for _, row in rows)
    return _finite(f"{key}: {str(path)!r}", values.reshape(len(rows), channels, -1)), labels


def _labels(words: Iterable[str]) -> NDArray[Any]:
    """Whole numbers where all words are, however they are written; else the words."""
    words = list(words)
    if all(_is_number(word) and float(word).is_integer() for word in words):
        return np.array([int(float(word)) for word in words])
    return np.array(words)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
