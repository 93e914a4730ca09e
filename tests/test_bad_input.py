"""Every wrong request ends with one clear error, before any training: the real command is run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import SHORT, compose_config, make_images
from PIL import Image

from nas_optuna.errors import InputError
from nas_optuna.search import search

if TYPE_CHECKING:
    from conftest import Command

FOLDER = ("+experiment=folder", "n_trials=1", "timeout=null", "data.root=images")


def refuse(command: Command, *overrides: str) -> str:
    """Run the command, check that it refuses clearly, return what it says."""
    result = command(*overrides)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert "trial" not in result.stdout
    return result.stderr


def refuse_in_one_line(command: Command, *overrides: str) -> str:
    said = refuse(command, *overrides)
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    ("override", "known"),
    [
        ("+experiment=digitz", ("digitz", "cifar", "digits", "fashion", "folder")),
        ("strategy=tpee", ("tpee", "gp", "nsga2", "random", "tpe")),
        ("estimation=halfing", ("halfing", "full", "halving", "hyperband", "median")),
        ("objective=speed", ("speed", "accuracy", "accuracy_macs")),
        ("data=mnist", ("mnist", "cifar10", "digits", "fashion_mnist", "folder")),
        ("space=conv", ("resconv", "mobile", "plain", "conv1d")),
    ],
)
def test_unknown_name_lists_the_known_ones(command: Command, override: str, known: tuple[str, ...]) -> None:
    said = refuse_in_one_line(command, override)
    assert all(name in said for name in known)


def test_unknown_key_is_named(command: Command) -> None:
    assert "n_trails" in refuse_in_one_line(command, *SHORT, "n_trails=3")


def test_flags_that_do_not_go_together_are_named(command: Command) -> None:
    assert "--multirun, --cfg" in refuse_in_one_line(command, "--multirun", "--cfg", "job")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("space.block.layer=[conv,convv]", ("space.block.layer", "'convv'", "conv, convnext, dwsep")),
        ("space.block.kernel=[]", ("space.block.kernel", "empty")),
        ("space.stages.stage1.depth=9..2", ("space.stages.stage1.depth", "low 9", "high 2")),
        ("n_trials=0", ("n_trials", "0", "at least 1")),
        (
            "storage=sqlite:///missing/folder/study.db",
            ("storage", "missing/folder/study.db", "can't be opened"),
        ),
    ],
)
def test_impossible_value_names_key_value_and_rule(
    command: Command, override: str, words: tuple[str, ...]
) -> None:
    said = refuse_in_one_line(command, *SHORT, override)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "space.stages.stage2.width={low:16,high:50,step:8}",
            ("space.stages.stage2.width", "use high 48 or 56"),
        ),
        ("space.stages.stage2.width=16...48", ("space.stages.stage2.width", "low..high by step")),
        ("timeout=0", ("timeout", "0", "above 0")),
        ("n_trials=null", ("no budget", "n_trials", "timeout")),
        ("seed=-1", ("seed", "-1", "at least 0")),
        ("storage=nonsense", ("storage", "nonsense", "can't be opened")),
        ("storage=oracel://host/name", ("storage", "oracel", "can't be opened")),
        ("storage=mysql+nothing://me:secret@host/name", ("storage", "me:***@host", "can't be opened")),
        ("study_name=a/b", ("study_name", "a/b", "slashes")),
        ("+strategy.nonsense=1", ("strategy", "nonsense")),
        ("strategy._target_=optuna.samplers.TPESampleer", ("strategy", "TPESampleer")),
        ("strategy=cmaes objective=accuracy_macs", ("strategy", "one objective", "nsga2")),
        ("duplicates=again", ("duplicates", "'again'", "reuse, retrain, skip")),
        ("objective.latency.form=tflite", ("objective.latency.form", "'tflite'", "exported")),
        ("objective.latency.threads=0", ("objective.latency.threads", "at least 1")),
        ("objective.latency.device=mps", ("objective.latency.device", "mps", "cpu")),
        ("objective.latency.seconds=0", ("objective.latency.seconds", "above 0")),
        ("+objective.latency.batch=2", ("objective.latency.batch", "batch_size")),
        ("objective.latency.measure=5", ("objective.latency.measure", "5", "_partial_")),
        ("data=none", ("data", "estimation=table")),
        ("strategy=predictor strategy.goal=good", ("strategy.goal", "'good'", "fast, best")),
        ("strategy=predictor strategy.n_startup_trials=0", ("strategy.n_startup_trials", "at least 1")),
        ("strategy=random strategy._target_=optuna.pruners.NopPruner", ("strategy", "NopPruner")),
        ("estimation=halving estimation.pruner.min_resource=0", ("estimation", "min_resource")),
        ("estimation.pruner.risk=1", ("estimation.pruner.risk", "below 0.5")),
        ("proxies.names=[synflaw]", ("proxies.names", "'synflaw'", "naswot")),
        ("proxies.names=synflow", ("proxies.names", "'synflow'", "[synflow]")),
        ("proxies.gate=+synflow", ("proxies.gate", "'+synflow'", "synflow")),
        ("proxies.gate=synflow proxies.candidates=1", ("proxies.candidates", "at least 2")),
        ("proxies.gate=synflow strategy=brute_force", ("proxies.gate", "BruteForceSampler", "strategy")),
        ("proxies.features=true", ("proxies.features", "proxies.names=[synflow]")),
        ("proxies.features=often", ("proxies.features", "true or false")),
        ("+proxies.gates=synflow", ("proxies.gates", "candidates")),
        ("proxies=synflow", ("proxies", "'synflow'", "names, gate")),
        ("estimation.learning_rate=-1", ("estimation.learning_rate", "above 0")),
        ("objective.limits.macs=0", ("objective.limits.macs", "above 0")),
        ("plan.search_share=1", ("plan.search_share", "below 1")),
        ("final.finalists=0", ("final.finalists", "at least 1")),
        ("data.validation_share=0.999", ("data.validation_share",)),
        ("estimation.device=mps", ("estimation.device", "mps", "auto or cpu")),
        ("+final.seed=3", ("final", "seed", "seeds")),
        ("final=null", ("final", "finalists")),
        ("+plan.foo=1", ("plan", "foo", "max_epochs")),
        ("study_dir=/dev/null/here", ("study_dir", "/dev/null/here")),
        ("data=cifar10 data.name=CIFAR11", ("data.name", "CIFAR11")),
        ("data=cifar10 data.name=SVHN", ("data.name", "SVHN")),
    ],
)
def test_every_part_refuses_before_anything_is_trained(
    override: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refused:
        search(compose_config(*SHORT, *override.split()))
    said = str(refused.value)
    assert "\n" not in said
    assert "secret" not in said
    assert all(word in said for word in words), said


def test_missing_folder_is_named(command: Command) -> None:
    assert "images" in refuse_in_one_line(command, *FOLDER)


def test_folder_must_be_given(command: Command) -> None:
    said = refuse_in_one_line(command, "+experiment=folder")
    assert "data.root is missing" in said


def test_empty_folder(command: Command, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    assert "no class folders" in refuse_in_one_line(command, *FOLDER)


def test_class_without_images(command: Command, image_folder: Path) -> None:
    (image_folder / "nothing").mkdir()
    said = refuse_in_one_line(command, *FOLDER)
    assert "nothing" in said
    assert "no images" in said


def test_single_class(command: Command, tmp_path: Path) -> None:
    make_images(tmp_path / "images", count=5, classes=("alone",))
    said = refuse_in_one_line(command, *FOLDER)
    assert "single class, 'alone'" in said


def test_unreadable_image(command: Command, image_folder: Path) -> None:
    (image_folder / "left" / "broken.png").write_bytes(b"this is no image")
    assert "broken.png" in refuse_in_one_line(command, *FOLDER)


def test_half_an_image(command: Command, image_folder: Path) -> None:
    broken = image_folder / "left" / "half.jpg"
    Image.new("RGB", (200, 200)).save(broken)
    broken.write_bytes(broken.read_bytes()[:-100])
    assert "half.jpg" in refuse_in_one_line(command, *FOLDER)


@pytest.mark.parametrize(("experiment", "name"), [("cifar", "CIFAR10"), ("fashion", "FashionMNIST")])
def test_data_that_cannot_be_downloaded_says_what_to_do(command: Command, experiment: str, name: str) -> None:
    said = refuse_in_one_line(command, f"+experiment={experiment}", "data.root=nowhere")
    assert all(word in said for word in (name, "nowhere", "data.root", "train/class", "+experiment=digits"))


@pytest.mark.slow
def test_study_of_another_space_or_objective(command: Command) -> None:
    assert command(*SHORT, "study_name=mine", "n_trials=1").returncode == 0
    other_space = refuse_in_one_line(command, *SHORT, "study_name=mine", "space.block.kernel=[3,5,7]")
    assert "space.block.kernel" in other_space
    assert "another study_name" in other_space
    other_images = refuse_in_one_line(command, *SHORT, "study_name=mine", "data.augmentation.crop=0")
    assert "data.augmentation.crop" in other_images
    other_objective = refuse_in_one_line(command, *SHORT, "study_name=mine", "objective=accuracy_macs")
    assert "maximize, minimize" in other_objective
    other_length = refuse_in_one_line(command, *SHORT, "study_name=mine", "estimation.epochs=2")
    assert "estimation.epochs" in other_length


def test_nothing_is_written_where_the_request_is_wrong(command: Command, tmp_path: Path) -> None:
    refuse_in_one_line(command, *SHORT, "space.block.kernel=[]")
    assert list(tmp_path.iterdir()) == []
