"""The command that exports a network of a study."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import torch
from conftest import SHORT, compose_config

import nas_optuna
from nas_optuna.errors import InputError
from nas_optuna.export import open_model
from nas_optuna.exporter import export_study
from nas_optuna.search import search


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short search."""
    folder = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        search(compose_config(*SHORT, "n_trials=1"))
    return folder / "runs" / "study"


@pytest.fixture
def study_dir(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "runs" / "study"))


@pytest.fixture
def run(study_dir: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def command(*overrides: str) -> str:
        export_study(compose_config(f"study_dir={study_dir}", *overrides, name="export"))
        return capsys.readouterr().out

    return command


def count_tests(study_dir: Path) -> int:
    study = optuna.load_study(study_name="study", storage=f"sqlite:///{study_dir / 'study.db'}")
    return int(study.user_attrs["tests"])


def test_winner_goes_to_the_studys_folder(run: Callable[..., str], study_dir: Path) -> None:
    said = run("format=[torch_export,python]")
    assert "on random inputs and on 64 of the study's validation inputs" in said
    assert {path.name for path in (study_dir / "exported").iterdir()} == {
        "network.pt2",
        "network.py",
        "weights.safetensors",
    }
    images = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        expected = nas_optuna.load(study_dir)(images)
    assert torch.allclose(open_model(study_dir / "exported" / "network.pt2")(images), expected, atol=1e-4)
    assert count_tests(study_dir) == 1


@pytest.mark.slow
def test_eight_bits_are_tested_once(run: Callable[..., str], study_dir: Path) -> None:
    first = run("int8=true", "calibration_images=64")
    assert "the test split was used 2 time(s) by this study" in first
    rows = [line.split() for line in first.splitlines() if line.startswith("network")]
    whole, small = rows
    assert int(small[1]) < int(whole[1])
    assert all(0 <= float(row[-1]) <= 1 for row in rows)
    # the same file: what was found is told again
    assert "was used 2 time(s)" in run("int8=true", "calibration_images=64")
    assert count_tests(study_dir) == 2


def test_network_without_its_data_is_exported_all_the_same(run: Callable[..., str], study_dir: Path) -> None:
    (study_dir / "study.db").unlink()
    said = run("format=python")
    assert "without the study: study_dir:" in said
    assert "checked on random inputs: the files say" in said


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("format=tflite", "format: 'tflite' is unknown; known: onnx, torch_export, python"),
        ("format=[]", "format: empty"),
        ("int8=perhaps", "int8: 'perhaps' must be true or false"),
        ("int8=true format=python", "format must hold onnx"),
        ("calibration_images=0", "calibration_images: 0 must be"),
        ("threads=0", "threads: 0 must be"),
        ("network=elsewhere", "no network can be loaded"),
    ],
)
def test_wrong_request_is_one_line(run: Callable[..., str], override: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason.replace("(", r"\(")) as caught:
        run(*override.split())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "reason"), [((), "study_dir is missing"), (("study_dir=nowhere",), "no folder 'nowhere'")]
)
def test_study_that_is_not_there_is_one_line(overrides: tuple[str, ...], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        export_study(compose_config(*overrides, name="export"))


def test_eight_bits_need_the_data(run: Callable[..., str], study_dir: Path) -> None:
    (study_dir / "study.db").unlink()
    with pytest.raises(InputError, match="holds no study"):
        run("int8=true")
