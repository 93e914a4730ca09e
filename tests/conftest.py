"""Shared by all tests: the real digits, a folder of images, and the real command."""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import optuna
import pytest
import torch
from commands import Interpreter
from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from optuna.trial import FrozenTrial
from PIL import Image

from nas_optuna.data import Digits
from nas_optuna.estimation import Training
from nas_optuna.member import run_trial
from nas_optuna.objective import Objective
from nas_optuna.space import LAYERS, Stages
from nas_optuna.study import read_trials

# the shortest search that still does everything
SHORT = (
    "+experiment=digits",
    "n_trials=2",
    "estimation.epochs=1",
    "estimation.data_share=0.3",
    "final.epochs=1",
    "final.data_share=0.3",
    "final.finalists=2",
    "final.seeds=1",
    "workers=1",
    "estimation.device=cpu",
)

# of decoded images: apart from the user's, and new for each run of the tests
CACHE = Path(tempfile.gettempdir()) / f"nas-optuna-tests-{os.getppid()}"

# seconds that a test waits for what is sure to come: only what fails waits so long, a busy machine may half
PATIENCE = 300

Command = Callable[..., "subprocess.CompletedProcess[str]"]


# what tests train is too small to gain from more; and another number trains it to other digits
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: a long one that begins last keeps one process at work and all others idle."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Whatever a test has set, the next one begins with one."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(autouse=True)
def _forget_layers() -> Iterator[None]:
    known = dict(LAYERS)
    yield
    LAYERS.clear()
    LAYERS.update(known)


@pytest.fixture(scope="session")
def digits() -> Digits:
    data = Digits()
    data.prepare()
    return data


@pytest.fixture
def space() -> Stages:
    return make_space()


def make_space(**block: object) -> Stages:
    """Two stages, small enough to train in a moment."""
    return Stages(
        stem={"width": 8, "kernel": 3, "stride": 1},
        stages={
            "stage1": {
                "depth": {"low": 1, "high": 2},
                "width": {"low": 8, "high": 16, "step": 8},
                "stride": 1,
            },
            "stage2": {"depth": {"low": 1, "high": 2}, "width": [16, 24], "stride": 2},
        },
        block={"layer": ["conv", "dwsep"], "kernel": [3, 5], "residual": [True, False]} | block,
    )


def make_training(**changes: object) -> Training:
    """One short training on the CPU."""
    settings: dict[str, object] = {
        "epochs": 1,
        "data_share": 1.0,
        "validation_images": None,
        "batch_size": 64,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "muon_learning_rate": 0.1,
        "warmup": 0.25,
        "momentum": 0.9,
        "muon_momentum": 0.6,
        "weight_decay": 5e-4,
        "norm_momentum": 0.3,
        "small_share": 0.0,
        "small_scale": 1.0,
        "averaged_share": 0.1,
        "loss": "cross_entropy",
        "teacher": None,
        "temperature": 4.0,
        "teacher_weight": 0.9,
        "label_smoothing": 0.0,
        "device": "cpu",
        "execution": "32-true",
        "pruner": optuna.pruners.NopPruner(),
    }
    return Training(**(settings | changes))


def judge_next(study: optuna.Study, objective: Objective) -> FrozenTrial:
    """Run a trial as a worker does; as it ended."""
    trial, _ = run_trial(study, objective, read_trials(study))
    return trial


def compose_config(*overrides: str, name: str = "config") -> DictConfig:
    """The configuration that a command line with these overrides gives."""
    with initialize_config_module("nas_optuna.conf", version_base="1.3"):
        return compose(name, overrides=["study_name=study", *overrides])


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs ``python -m nas_optuna`` in an empty folder, with warnings as errors and without a network."""

    def run(*overrides: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        return run_command("nas_optuna", *overrides, folder=tmp_path, timeout=timeout)

    return run


def run_command(
    module: str,
    *overrides: str,
    folder: Path,
    timeout: float = PATIENCE,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m module`` in a folder, with warnings as errors and without a network."""
    environment = {**command_environment(), **variables}
    return _interpreter().run(module, *overrides, folder=folder, environment=environment, timeout=timeout)


@functools.cache
def _interpreter() -> Interpreter:
    """One for all tests of this process."""
    return Interpreter(command_environment())


def wait_until(fulfilled: Callable[[], object], *, every: float = 0.05) -> None:
    """Ask again and again until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not fulfilled():
        assert time.monotonic() < deadline, f"not so after {PATIENCE} s"
        time.sleep(every)


def command_environment() -> dict[str, str]:
    """Environment of the command: a proxy that refuses every connection stands for no network."""
    dead_proxy = "http://127.0.0.1:9"
    return os.environ | {
        "PYTHONWARNINGS": "error",
        "OMP_NUM_THREADS": "1",
        "NAS_OPTUNA_CACHE": str(CACHE),
        "http_proxy": dead_proxy,
        "https_proxy": dead_proxy,
        "no_proxy": "",
    }


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Two easy classes, bright on the left or on the right, in every mode, format and size."""
    root = tmp_path / "images"
    make_images(root, count=20)
    return root


def make_images(root: Path, *, count: int, classes: tuple[str, ...] = ("left", "right")) -> None:
    random = np.random.default_rng(0)
    formats = [("L", "png"), ("RGB", "jpg"), ("RGBA", "png"), ("P", "png"), ("RGB", "bmp")]
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(count):
            mode, suffix = formats[index % len(formats)]
            height, width = random.integers(12, 40, size=2)
            pixels = random.integers(0, 60, size=(height, width, 3), dtype=np.uint8)
            half = slice(None, width // 2) if label == 0 else slice(width // 2, None)
            pixels[:, half] += 150
            Image.fromarray(pixels).convert(mode).save(root / name / f"{index}.{suffix}")


@pytest.fixture(scope="session")
def macro_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NAS-Bench-Macro's form: all its networks, better the larger their layers are, three seeds each."""
    table = {}
    for digits in itertools.product((0, 1, 2), repeat=8):
        # what commutes is equal
        stages = [sorted(digits[first:last], reverse=True) for first, last in ((1, 2), (3, 5), (6, 8))]
        worth = 0.2 * sum(map(sum, stages)) + digits[0] + digits[2] + digits[5]
        accuracies = [85 + worth + noise for noise in (-0.1, 0.0, 0.1)]
        table["".join(map(str, digits))] = {"test_acc": accuracies, "mean_acc": 85 + worth}
    path = tmp_path_factory.mktemp("table") / "macro.json"
    path.write_text(json.dumps(table))
    return path


@pytest.fixture(scope="session")
def cell_tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """NAS-Bench-201's form: accuracies of all cells, better the more convolutions; and their latencies."""
    folder = tmp_path_factory.mktemp("cells")
    accuracies, latencies = folder / "accuracies.csv", folder / "latencies.csv"
    names = ["val12", "val200_s0", "val200_s1", "val200_s2", "test200"]
    rows, times = [], []
    for index, digits in enumerate(itertools.product("01234", repeat=6)):
        convolutions = digits.count("2") + 2 * digits.count("3")
        worth = 50 + convolutions
        # the second seed was not trained, as in some rows of the real one
        row = [worth / 2, worth - 1, "", worth + 1, worth]
        rows.append([index, "".join(digits), *row, *(value and value - 10 for value in row)])
        times.append([index, 1 + convolutions])
    heads = [f"{data}_{name}" for data in ("c10", "c100") for name in names]
    for path, head, lines in ((accuracies, ["ops", *heads], rows), (latencies, ["lat_raspi4_ms"], times)):
        text = [",".join(["idx", *head]), *(",".join(map(str, line)) for line in lines)]
        path.write_text("\n".join(text))
    return accuracies, latencies
