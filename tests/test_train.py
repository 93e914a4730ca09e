"""The command that trains networks of a finished study, and what it opens such a study with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import torch
from conftest import SHORT, command_environment, compose_config, run_command, wait_until
from optuna.trial import TrialState

import nas_optuna
from nas_optuna.data import Digits
from nas_optuna.errors import InputError
from nas_optuna.prepare import prepare
from nas_optuna.reopen import reopen
from nas_optuna.retrain import retrain
from nas_optuna.search import search
from nas_optuna.space import LAYERS
from nas_optuna.study import CONFIGURATION, keep_configuration

SEARCH = (
    *SHORT,
    "n_trials=3",
    "objective=accuracy_macs",
    "strategy=random",
    "estimation=full",
    "estimation.data_share=0.3",
    "estimation.execution=32-true",
    "final.data_share=0.5",
)

Train = Callable[..., str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search of three networks, a pruned one, one beyond a limit and one that failed."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = tmp_path_factory.mktemp("search") / "study"
    search(compose_config(*SEARCH, f"study_dir={folder}"))
    study = open_study(folder)
    complete = study.trials[0]
    pruned = optuna.trial.create_trial(
        state=TrialState.PRUNED,
        params=complete.params,
        distributions=complete.distributions,
        user_attrs=complete.user_attrs,
    )
    study.add_trial(pruned)
    study.tell(study.ask(), state=TrialState.FAIL)
    infeasible = study.ask()
    infeasible.set_constraint("limits", 1.0)
    for name, value in complete.user_attrs.items():
        infeasible.set_user_attr(name, value)
    infeasible.set_user_attr("infeasible", "macs 10 > 5")
    study.tell(infeasible, complete.values)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of it elsewhere."""
    return Path(shutil.copytree(finished, tmp_path / "moved"))


@pytest.fixture
def train(folder: Path, capsys: pytest.CaptureFixture[str]) -> Train:
    def run(*overrides: str) -> str:
        retrain(compose_config("study_name=null", f"study_dir={folder}", *overrides, name="train"))
        return capsys.readouterr().out

    return run


def open_study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name=None, storage=f"sqlite:///{folder / 'study.db'}")


def count_tests(folder: Path) -> int:
    return int(open_study(folder).user_attrs["tests"])


def accuracy_of(folder: Path, name: str) -> float:
    return float(open_study(folder).user_attrs[f"trained:{name}"]["test"]["accuracy"])


def small(folder: Path) -> int:
    """Number of a network of the front that neither won nor is the most accurate."""
    reopened = reopen(folder)
    taken = {reopened.ranked(1).number, reopened.front()[0].number}
    return next(trial.number for trial in reopened.front() if trial.number not in taken)


def test_winner_that_the_search_trained_is_shown_and_not_tested_again(folder: Path, train: Train) -> None:
    test = open_study(folder).user_attrs["final"]["test"]
    said = train()
    assert f"{test['accuracy']:.4f}" in said
    assert "1 time(s)" in said
    assert count_tests(folder) == 1
    assert not (folder / "trained").exists()


def test_network_is_trained_tested_once_and_saved(folder: Path, train: Train) -> None:
    number = small(folder)
    said = train(f"trial={number}")
    name = f"trial-{number}"
    accuracy = accuracy_of(folder, name)
    network = nas_optuna.load(folder / "trained" / name)
    assert str(network.architecture) in said
    assert f"{accuracy:.4f}" in said
    assert count_tests(folder) == 2
    assert not (folder / "trained" / name / "checkpoint.pt").exists()
    assert abs(accuracy - accuracy_on_test(network)) < 0.003  # rounding of a saved network's layout


def accuracy_on_test(network: torch.nn.Module) -> float:
    data = reopen_digits()
    split = data.split("test")
    with torch.inference_mode():
        hits = network(split.inputs.float() / 255).argmax(dim=1) == split.labels
    return float(hits.float().mean())


def reopen_digits() -> Digits:
    data = Digits()
    data.prepare()
    return data


def test_same_request_shows_what_is_known(folder: Path, train: Train) -> None:
    number = small(folder)
    first = train(f"trial={number}")
    written = (folder / "trained" / f"trial-{number}" / "weights.safetensors").stat().st_mtime_ns
    again = train(f"trial={number}")
    assert again == first.split("\n", 1)[1]  # but for the line that it trains
    assert (folder / "trained" / f"trial-{number}" / "weights.safetensors").stat().st_mtime_ns == written
    assert count_tests(folder) == 2


def test_another_length_is_another_training(folder: Path, train: Train) -> None:
    number = small(folder)
    train(f"trial={number}")
    assert "2 epochs of 30.0% of the images" in train(f"trial={number}", "epochs=2", "data_share=0.3")
    assert count_tests(folder) == 3
    kept = open_study(folder).user_attrs[f"trained:trial-{number}"]
    assert (kept["test"]["epochs"], kept["test"]["data_share"]) == (2, 0.3)


def test_several_seeds_give_a_mean_and_its_error(folder: Path, train: Train) -> None:
    said = train("seeds=2")
    number = open_study(folder).user_attrs["final"]["test"]["number"]
    first = float(open_study(folder).user_attrs["final"]["test"]["accuracy"])
    second = accuracy_of(folder, f"trial-{number}-seed-2")
    assert f"{(first + second) / 2:.4f} ± {abs(first - second) / 2:.4f}" in said
    # the first of them is the search's own
    assert count_tests(folder) == 2


def test_whole_front_is_trained(folder: Path, train: Train) -> None:
    train("front=all", "epochs=1", "data_share=0.1")
    names = {path.name for path in (folder / "trained").iterdir()}
    assert names == {f"trial-{trial.number}" for trial in open_study(folder).best_trials}


def test_small_network_learns_from_the_largest(folder: Path, train: Train) -> None:
    number, best = small(folder), reopen(folder).front()[0].number
    alone = train(f"trial={number}")
    said = train(f"trial={number}", "teacher=largest")
    told, untold = accuracy_of(folder, f"trial-{number}-distilled"), accuracy_of(folder, f"trial-{number}")
    assert "with the teacher" not in alone
    assert f"{told:.4f} with the teacher, {untold:.4f} without, {told - untold:+.4f}" in said
    assert said.splitlines()[0].startswith("teacher: ")
    assert nas_optuna.load(folder / "trained" / f"trial-{number}-distilled").classes is not None
    # known, asked for again, and not tested again
    known = count_tests(folder)
    train(f"trial={number}", "teacher=largest")
    assert count_tests(folder) == known
    assert any(f"trial {best}: " in line for line in said.splitlines())


def test_missing_teacher_is_trained_first(folder: Path, train: Train) -> None:
    shutil.rmtree(folder / "final")
    best = reopen(folder).front()[0].number
    said = train(f"trial={small(folder)}", "teacher=largest")
    assert said.startswith(f"training trial {best}, seed 1: ")
    assert f"teacher: {folder / 'trained' / f'trial-{best}'}" in said


def test_saved_network_is_a_teacher(folder: Path, train: Train) -> None:
    number = small(folder)
    said = train(f"trial={number}", f"teacher={folder / 'final'}")
    assert f"teacher: {folder / 'final'}" in said
    assert (folder / "trained" / f"trial-{number}-distilled" / "weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trial=99"], "trial: 99 must be a whole number, at least 0, at most 5"),
        (["trial=first"], "trial: 'first' must be a whole number"),
        (["trial=3"], "trial: 3 was stopped early"),
        (["trial=4"], "trial: 4 failed"),
        (["trial=5"], r"trial: 5 is infeasible \(macs 10 > 5\)"),
        (["rank=9"], "rank: 9 must be a whole number, at least 1, at most 2"),
        (["rank=0"], "rank: 0"),
        (["front=some"], "front: 'some' is unknown"),
        (["trial=0", "rank=1"], "trial=0, rank=1, front=None: give one of them"),
        (["seeds=0"], "seeds: 0"),
        (["epochs=0"], "epochs: 0"),
        (["data_share=2"], "data_share: 2"),
        (["teacher=nowhere"], "no network can be loaded from 'nowhere'"),
        (["teacher=5"], "teacher: 5 must be largest, or the folder"),
        (["teacher=largest"], "teacher: largest is trial 0"),
        (["study_name=other"], "study_name: 'other' is not the one study to open"),
        (["+data.rot=x"], "data.rot: 'x' is no setting of this study"),
        (["+data.split_seed=1"], "data.images: the study 'study' was made with"),
        (["+estimation.learning_rate=0.1"], "estimation.learning_rate: .* Give the data and the settings"),
        (["estimation.device=tpu"], "estimation.device: 'tpu'"),
        (["allow=[os system]"], "allow: 'os system'"),
        (["storage=nonsense"], "storage: 'nonsense' can't be opened"),
    ],
)
def test_wrong_request_is_refused(train: Train, overrides: list[str], message: str) -> None:
    # of a length that the search's final training had not
    length = [] if any("epochs" in text for text in overrides) else ["epochs=2"]
    with pytest.raises(InputError, match=message):
        train(*length, *overrides)


def test_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no study"):
        reopen(tmp_path)
    assert not list(tmp_path.iterdir())


def test_study_that_found_nothing_is_refused(tmp_path: Path) -> None:
    prepare(compose_config(*SEARCH, f"study_dir={tmp_path}"))
    with pytest.raises(InputError, match="no network that was trained to the end"):
        reopen(tmp_path)


def test_study_that_does_not_say_how_it_was_made_is_refused(folder: Path) -> None:
    open_study(folder).set_user_attr(CONFIGURATION, "")
    with pytest.raises(InputError, match="does not say how it was made"):
        reopen(folder)


def test_one_of_several_studies_is_to_be_named(folder: Path) -> None:
    optuna.create_study(study_name="second", storage=f"sqlite:///{folder / 'study.db'}")
    with pytest.raises(InputError, match=r"('study', 'second'|'second', 'study')"):
        reopen(folder)
    assert reopen(folder, study_name="study").study.study_name == "study"


def test_study_of_a_stranger_runs_none_of_their_code(folder: Path, tmp_path: Path) -> None:
    study = open_study(folder)
    config = json.loads(study.user_attrs[CONFIGURATION])
    config["space"]["layers"] = {"evil": {"_target_": "os.mkdir", "path": str(tmp_path / "evil")}}
    study.set_user_attr(CONFIGURATION, json.dumps(config))
    with pytest.raises(InputError, match=r"space.layers.evil._target_: the study names 'os.mkdir'"):
        reopen(folder)
    assert not (tmp_path / "evil").exists()


GHOST = """
from torch import nn


class Ghost(nn.Conv2d):
    def __init__(self, in_channels, out_channels, stride=1, kernel=3):
        super().__init__(in_channels, out_channels, kernel, stride, padding=kernel // 2)
"""


def test_layer_of_the_user_s_own_is_to_be_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ghost_layers.py").write_text(GHOST)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "study"
    own = ["+space.layers.ghost={_target_:ghost_layers.Ghost,_partial_:true}", "space.block.layer=[ghost]"]
    search(compose_config(*SEARCH, *own, "n_trials=1", f"study_dir={folder}"))
    LAYERS.pop("ghost")
    asked = ["study_name=null", f"study_dir={folder}", "epochs=2"]
    with pytest.raises(InputError, match=r"ghost_layers.Ghost', which is no part .* allow=\[ghost_layers\]"):
        retrain(compose_config(*asked, name="train"))
    retrain(compose_config(*asked, "allow=ghost_layers", name="train"))
    assert "ghost3" in capsys.readouterr().out.splitlines()[-3]


def test_length_that_a_final_training_began_with_is_kept(finished: Path, folder: Path) -> None:
    study = open_study(folder)
    request = study.user_attrs["final"]["request"]
    study.set_user_attr("final_begun", {"request": request, "epochs": 2, "data_share": 0.4})
    shutil.rmtree(folder / "final")
    search(compose_config(*SEARCH, f"study_dir={folder}"))
    test = open_study(folder).user_attrs["final"]["test"]
    assert (test["epochs"], test["data_share"]) == (2, 0.4)


def test_password_and_budget_are_not_kept(folder: Path) -> None:
    study = open_study(folder)
    config = {"storage": "postgresql://me:secret@host/name", "n_trials": 3, "seed": 0}
    keep_configuration(study, config)
    kept = study.user_attrs[CONFIGURATION]
    assert "secret" not in kept
    assert json.loads(kept).keys() == {"storage", "seed"}


def test_command_asks_for_a_study(tmp_path: Path) -> None:
    result = run_command("nas_optuna.train", folder=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "study_dir" in result.stderr


def test_data_that_moved_is_found_where_the_command_says(tmp_path: Path, image_folder: Path) -> None:
    folder = tmp_path / "study"
    options = ["n_trials=1", f"data.root={image_folder}", "data.image_size=16", f"study_dir={folder}"]
    search(compose_config(*SHORT, "data=folder", "data.augmentation.crop=1", *options))
    moved = image_folder.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"data\.root"):
        _ = reopen(folder).data
    overrides = {"data": {"root": str(moved)}}
    assert reopen(folder, overrides=overrides).data.classes == ("left", "right")
    next((moved / "left").iterdir()).unlink()
    with pytest.raises(InputError, match=r"data.images: the study .* Give the data"):
        _ = reopen(folder, overrides=overrides).data


def kill_in_training(module: str, *overrides: str, folder: Path, checkpoint: Path) -> None:
    """Start a command, and end it by SIGKILL when it has written a checkpoint."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *overrides],
        cwd=folder,
        env=command_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: checkpoint.is_file() or process.poll() is not None, every=0.005)
    process.kill()
    process.wait()
    assert checkpoint.is_file()


@pytest.mark.slow
def test_killed_command_goes_on_and_ends_as_if_it_had_run_through(folder: Path, tmp_path: Path) -> None:
    number = small(folder)
    name = f"trial-{number}"
    through = Path(shutil.copytree(folder, tmp_path / "through"))
    options = [f"trial={number}", "epochs=25", "data_share=0.5", "estimation.device=cpu"]
    killed = [f"study_dir={folder}", *options]
    checkpoint = folder / "trained" / name / "checkpoint.pt"
    kill_in_training("nas_optuna.train", *killed, folder=tmp_path, checkpoint=checkpoint)
    assert count_tests(folder) == 1
    resumed = run_command("nas_optuna.train", *killed, folder=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "the training goes on after epoch" in resumed.stdout
    run_command("nas_optuna.train", f"study_dir={through}", *options, folder=tmp_path)
    assert accuracy_of(folder, name) == accuracy_of(through, name)
    weights = [place / "trained" / name / "weights.safetensors" for place in (folder, through)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert count_tests(folder) == 2


@pytest.mark.slow
def test_search_that_was_killed_in_its_final_training_goes_on_there(tmp_path: Path) -> None:
    options = [*SEARCH, "n_trials=1", "final.epochs=25"]
    killed, through = tmp_path / "runs" / "killed", tmp_path / "runs" / "through"
    kill_in_training(
        "nas_optuna",
        *options,
        "study_name=killed",
        folder=tmp_path,
        checkpoint=killed / "final" / "checkpoint.pt",
    )
    resumed = run_command("nas_optuna", *options, "study_name=killed", folder=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "the training goes on after epoch" in resumed.stdout
    run_command("nas_optuna", *options, "study_name=through", folder=tmp_path)
    tests = [open_study(place).user_attrs["final"]["test"] for place in (killed, through)]
    assert tests[0] == tests[1]
    weights = [place / "final" / "weights.safetensors" for place in (killed, through)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert not (killed / "final" / "checkpoint.pt").exists()
