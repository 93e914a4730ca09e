"""Spaces and layers, searched: ours, one of a user's own, one for series, one with seeds."""

from __future__ import annotations

import json
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
import torch
from conftest import SHORT, compose_config
from numpy.typing import NDArray

import nas_optuna
from nas_optuna.configuration import build
from nas_optuna.errors import InputError
from nas_optuna.prepare import prepare
from nas_optuna.search import search
from nas_optuna.space import register_layer
from nas_optuna.strategy import PredictorSampler

if TYPE_CHECKING:
    from conftest import Command

PROJECT = Path(__file__).parent.parent
QUICK = ("estimation.data_share=0.05", "final.data_share=0.05", "final.finalists=1", "strategy=random")


def load_study(name: str = "study") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///runs/{name}/study.db")


def example(name: str) -> str:
    """The indented text that follows the mention of a file in the README."""
    return indented((PROJECT / "README.md").read_text().split(f"`{name}`:\n\n")[1])


def indented(text: str) -> str:
    """The indented lines that a text begins with."""
    lines = text.splitlines()
    end = next(index for index, line in enumerate(lines) if line and not line.startswith("    "))
    return textwrap.dedent("\n".join(lines[:end]))


@pytest.mark.slow
def test_layer_of_the_readme_is_searched_from_the_command_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_layers.py").write_text(example("my_layers.py"))
    (tmp_path / "my_conf" / "space").mkdir(parents=True)
    (tmp_path / "my_conf" / "space" / "ghost.yaml").write_text(example("my_conf/space/ghost.yaml"))
    only_ghosts = ["space.block.layer=ghost", "space.block.kernel=[3,5]", "study_name=ghosts"]
    result = command("--config-dir", "my_conf", *SHORT, *QUICK, "space=ghost", *only_ghosts)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / "ghosts"
    best = json.loads((folder / "summary.json").read_text())["best"]
    assert {block["layer"] for block in best["architecture"]["blocks"]} == {"ghost"}

    with pytest.raises(InputError, match=r"unknown layer 'ghost'.*register_layer\('ghost', \.\.\.\)"):
        nas_optuna.load(folder)
    monkeypatch.syspath_prepend(tmp_path)
    import my_layers

    register_layer("ghost", my_layers.Ghost)
    network = nas_optuna.load(folder)
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    del sys.modules["my_layers"]


def test_layers_of_the_readme_stand_beside_ours(command: Command, tmp_path: Path) -> None:
    (tmp_path / "my_layers.py").write_text(example("my_layers.py"))
    (tmp_path / "my_conf" / "space").mkdir(parents=True)
    (tmp_path / "my_conf" / "space" / "ghost.yaml").write_text(example("my_conf/space/ghost.yaml"))
    shown = command("--config-dir", "my_conf", "+experiment=digits", "space=ghost", "--cfg", "job")
    assert "- ghost" in shown.stdout


@pytest.mark.slow
def test_space_of_the_documentation_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (PROJECT / "docs" / "space.md").read_text().split("## A space of your own\n")[1]
    (tmp_path / "my_space.py").write_text(indented(text.split("architecture:\n\n")[1]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    config = compose_config("data=digits", "n_trials=2", "estimation.epochs=1", "final.epochs=1", *QUICK)
    config.space = {"_target_": "my_space.Twins", "encoding": "conditional"}
    search(config)
    assert {name for trial in load_study().trials for name in trial.params} == {"width", "layer"}
    del sys.modules["my_space"]


def test_missing_layer_file_is_named(command: Command) -> None:
    layer = "+space.layers.ghost={_target_: nowhere.Ghost, _partial_: true}"
    result = command(*SHORT, layer, "space.block.layer=ghost")
    assert result.returncode == 2
    assert "nowhere" in result.stderr
    assert "Traceback" not in result.stderr


def test_layer_that_cannot_be_built_is_found_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    even = "+space.layers.even={_target_: torch.nn.Conv2d, _partial_: true, kernel_size: 30}"
    with pytest.raises(InputError, match=r"even.* can't be built for inputs of \(1, 8, 8\)"):
        search(compose_config(*SHORT, even, "space.block.layer=even"))


def cylinder_bell_funnel(count: int, length: int = 96) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Three shapes at random places in noise (Saito 1994), a benchmark of series classification."""
    random = np.random.default_rng(0)
    series, names = [], []
    for index in range(count):
        start, width = random.integers(10, 30), random.integers(25, 55)
        time = np.arange(length)
        inside = (time >= start) & (time < start + width)
        rise = (time - start) / width
        shape = (np.ones(length), rise, 1 - rise)[index % 3]
        series.append(inside * shape * (6 + random.normal()) + random.normal(size=length))
        names.append(("cylinder", "bell", "funnel")[index % 3])
    return np.array(series, dtype=np.float32), np.array(names)


@pytest.mark.slow
def test_series_from_search_to_tested_winner(command: Command, tmp_path: Path) -> None:
    values, names = cylinder_bell_funnel(900)
    np.savez(tmp_path / "shapes.npz", x=values, y=names)
    result = command(
        "+experiment=series",
        "data.path=shapes.npz",
        "timeout=null",
        "n_trials=3",
        "estimation.epochs=4",
        "final.epochs=8",
        "final.seeds=1",
        "data.augmentation.shift=3",
        "study_name=shapes",
    )
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "runs" / "shapes" / "summary.json").read_text())
    assert summary["test"]["accuracy"] >= 0.9
    network = nas_optuna.load(tmp_path / "runs" / "shapes")
    assert network.classes == ("bell", "cylinder", "funnel")
    assert network.input_shape == (1, 96)
    with torch.no_grad():
        said = network(torch.from_numpy(values[:30, None])).argmax(dim=1)
    assert np.mean(np.array(network.classes)[said.numpy()] == names[:30]) >= 0.9


@pytest.mark.parametrize("space", ["mobile", "plain", "nasbench_macro", "nasbench201"])
def test_every_space_for_images_is_searched(
    space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = ("data=digits", "n_trials=1", "estimation.epochs=1", "final.epochs=1")
    config = compose_config(*short, *QUICK, f"space={space}")
    search(config)
    trial = load_study().best_trial
    assert set(trial.user_attrs.get("void", ())) == build(config, "space").void(trial.params)
    assert set(trial.user_attrs) >= {"macs", "params", "memory", "size", "hash", "network"}
    assert nas_optuna.load("runs/study")(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_strategy_is_told_what_is_void(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts = prepare(compose_config(*SHORT, "strategy=predictor"))
    assert isinstance(parts.study.sampler, PredictorSampler)
    assert parts.study.sampler.describe is not None
    params = {name: parts.space.decisions[name].options[0] for name in parts.space.distributions()}
    told = parts.study.sampler.describe(params)
    assert told.void == parts.space.void(params)
    assert told.void
    assert parts.study.sampler.describe(
        {name: params[name] for name in params.keys() - told.void}
    ) == replace(told, void=frozenset())


def test_seeds_are_tried_first_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = (*SHORT, *QUICK, "space.seeds=[resnet,mobilenet]")
    search(compose_config(*config, "n_trials=2"))
    search(compose_config(*config, "n_trials=3"))
    trials = load_study().trials
    assert [trial.user_attrs.get("seed_network") for trial in trials] == ["resnet", "mobilenet", None]


def test_seed_that_is_added_when_a_study_goes_on_is_tried_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    search(compose_config(*SHORT, *QUICK, "n_trials=1", "space.seeds=[]"))
    search(compose_config(*SHORT, *QUICK, "n_trials=2", "space.seeds=[resnet]"))
    trials = load_study().trials
    assert [trial.user_attrs.get("seed_network") for trial in trials] == [None, "resnet"]
    trials = trials[1:]
    layers = {value for name, value in trials[0].params.items() if name.endswith("layer")}
    assert layers == {"conv"}


def test_study_starts_from_anothers_best_across_spaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    search(compose_config(*SHORT, *QUICK, "n_trials=1"))
    earlier: Any = json.loads(Path("runs/study/summary.json").read_text())["best"]
    wider = ("space.block.layer=[conv,dwsep,mbconv]", "+space.block.expansion=[2,4]")
    search(
        compose_config(*SHORT, *QUICK, *wider, "study_name=wider", "n_trials=1", "space.seeds=[runs/study]")
    )
    first = load_study("wider").trials[0]
    assert first.user_attrs["network"] == earlier["summary"]
    assert first.user_attrs["seed_network"].startswith("runs/study ")


def test_equal_networks_from_different_points_are_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one_stage = ("space.stages.stage1.depth=2", "space.stages.stage1.width=16")
    others = ("~space.stages.stage2", "~space.stages.stage3")
    layers = ("space.block.layer=[conv,identity]", "space.block.kernel=3", "space.block.residual=false")
    search(compose_config(*SHORT, *QUICK, *one_stage, *others, *layers, "n_trials=3"))
    trials = load_study().trials
    trained = [trial for trial in trials if "untrained" not in trial.user_attrs]
    assert len(trained) == len({trial.user_attrs["hash"] for trial in trials}) == 3
    assert all(trial.user_attrs["hash"] in {t.user_attrs["hash"] for t in trained} for trial in trials)
