"""``python -m nas_optuna.export``: a study's trained network as files that need nothing of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table as View
from rich.text import Text
from torch import Tensor, nn

from nas_optuna.configuration import plain
from nas_optuna.data import LabelledData, Split, to_float
from nas_optuna.errors import InputError, check_number, check_one_of
from nas_optuna.export import FORMATS, Model, describe, export, open_model
from nas_optuna.export.quantize import quantize
from nas_optuna.files import write_file
from nas_optuna.reopen import Reopened, overrides_of, reopen
from nas_optuna.results import TESTS, as_typed, count_test
from nas_optuna.space import load
from nas_optuna.space.latency import measure_latency
from nas_optuna.study_dir import given_study_dir

CHECKED_IMAGES = 64
BATCH = 256
INT8_FILE = "network-int8.onnx"


@dataclass(frozen=True)
class ExportSettings:
    """What is exported, and how.

    Attributes:
        network: Folder of a trained network in the study's folder.
        formats: Some of ``FORMATS``.
        folder: Where the files go.
        int8: Whether an ONNX file of 8 bits is made as well, and both are tested.
        calibration_images: Training inputs that say how large activations become.
        threads: CPU threads while the two ONNX files are timed.
    """

    network: str
    formats: tuple[str, ...]
    folder: Path
    int8: bool
    calibration_images: int
    threads: int

    def __post_init__(self) -> None:
        if not self.formats:
            raise InputError(f"format: empty; name one or more of {', '.join(FORMATS)}.")
        for name in self.formats:
            check_one_of("format", name, FORMATS)
        if not isinstance(self.int8, bool):
            raise InputError(f"int8: {self.int8!r} must be true or false.")
        if self.int8 and "onnx" not in self.formats:
            raise InputError(
                f"int8: it is made from the ONNX file, so format must hold onnx, not {self.formats[0]}."
            )
        check_number("calibration_images", self.calibration_images, whole=True, at_least=1)
        check_number("threads", self.threads, whole=True, at_least=1)


def export_study(config: DictConfig) -> None:
    """Export a network of a study as the configuration says, and print what was made.

    Raises:
        InputError: The request is wrong, or a file does not say what the network says.
    """
    study_dir = given_study_dir(config)
    formats = plain(config, "format")
    settings = ExportSettings(
        network=str(config.network),
        formats=tuple(formats) if isinstance(formats, list) else (formats,),
        folder=Path(str(config.folder)).expanduser(),
        int8=config.int8,
        calibration_images=config.calibration_images,
        threads=config.threads,
    )
    _Export(config, settings, study_dir).run()


class _Export:
    def __init__(self, config: DictConfig, settings: ExportSettings, study_dir: Path) -> None:
        self._settings = settings
        self._console = Console(highlight=False, soft_wrap=True)
        # a layer from elsewhere is known once the study's space is built
        self._reopened = self._reopen(config, study_dir)
        self._network = load(study_dir / settings.network)

    def run(self) -> None:
        samples, files = self._samples(), {}
        for kind in self._settings.formats:
            files[kind] = path = export(self._network, self._settings.folder, kind=kind, inputs=samples)
            self._say(f"{kind}: {path} ({_size(path)})")
        checked = f" and on {CHECKED_IMAGES} of the study's validation inputs" if samples is not None else ""
        self._say(f"checked on random inputs{checked}: the files say what the network says")
        if self._settings.int8:
            self._make_int8(files["onnx"])
        openable = [path for kind, path in files.items() if kind != "python"]
        if openable and describe(self._network).mode is not None:
            self._say(f"classify: {as_typed('python')} -m nas_optuna.predict model={openable[0]} IMAGES")

    def _say(self, text: str) -> None:
        self._console.print(Text(text))

    def _reopen(self, config: DictConfig, study_dir: Path) -> Reopened | None:
        """The study, for its data; only needed where the network is tested."""
        try:
            return reopen(
                study_dir,
                storage=config.storage,
                study_name=config.study_name,
                allow=plain(config, "allow"),
                overrides=overrides_of(config),
            )
        except InputError as error:
            if self._settings.int8:
                raise
            self._say(f"without the study: {error}")
            return None

    def _samples(self) -> Tensor | None:
        """Some validation inputs, where the data is at hand."""
        if self._reopened is None:
            return None
        try:
            return _inputs(self._reopened.data.split("validation"), CHECKED_IMAGES)
        except InputError as error:
            if self._settings.int8:
                raise
            self._say(f"without the data: {error}")
            return None

    def _make_int8(self, whole: Path) -> None:
        """Quantize an ONNX file; time and test both."""
        assert self._reopened is not None
        small = self._settings.folder / INT8_FILE
        images = _inputs(self._reopened.data.split("train"), self._settings.calibration_images)
        description = describe(self._network)
        write_file(small, quantize(whole.read_bytes(), description, images.split(64)))
        view = View(box=None, pad_edge=False)
        for name in ("file", "size", "milliseconds", "test accuracy"):
            view.add_column(name, justify="left" if name == "file" else "right", overflow="fold")
        accuracies = self._test(whole, small)
        for path in (whole, small):
            time = self._latency(path)
            view.add_row(path.name, _size(path), f"{time:.3g}", f"{accuracies[path]:.4f}")
        self._console.print(view)
        tests = self._reopened.study.user_attrs.get(TESTS, 0)
        self._say(f"timed with one input at a time on {self._settings.threads} CPU thread(s)")
        self._say(f"the test split was used {tests} time(s) by this study")

    def _latency(self, path: Path) -> float:
        model = open_model(path, threads=self._settings.threads)
        shape = self._network.input_shape
        timed = measure_latency(
            nn.Identity(), input_shape=shape, form="file", forms={"file": lambda *_: model}
        )
        return timed.milliseconds

    def _test(self, *paths: Path) -> dict[Path, float]:
        """Test accuracies; of files that were tested before, what was found then."""
        assert self._reopened is not None
        study = self._reopened.study
        known: dict[str, float] = study.user_attrs.get("exported", {})
        digests = {path: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in paths}
        if not set(digests.values()) <= set(known):
            count_test(study)
            data = self._reopened.data
            found = {digest: accuracy(open_model(path), data) for path, digest in digests.items()}
            known = {**known, **found}
            study.set_user_attr("exported", known)
        return {path: known[digest] for path, digest in digests.items()}


def accuracy(model: Model, data: LabelledData) -> float:
    """The share of the test split that a model gets right."""
    split = data.split("test")
    right = sum(
        int((model(inputs).argmax(dim=1) == labels).sum())
        for inputs, labels in zip(_batches(split), split.labels.split(BATCH), strict=True)
    )
    return right / len(split)


def _batches(split: Split) -> Iterator[Tensor]:
    for indices in torch.arange(len(split)).split(BATCH):
        yield to_float(split.inputs[indices])


def _inputs(split: Split, count: int) -> Tensor:
    """Some inputs of a split as a network takes them, always the same."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    return to_float(split.inputs[order[:count]])


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1024:,.0f} KiB"
