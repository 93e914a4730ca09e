"""Smaller images and narrower networks in trials, and nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from conftest import SHORT, compose_config, make_training
from torch import Tensor, nn

from nas_optuna.configuration import build_space
from nas_optuna.data import Digits
from nas_optuna.errors import InputError
from nas_optuna.estimation import (
    FULL,
    Executions,
    Fidelity,
    PlanSettings,
    Recipe,
    Scale,
    Speed,
    Training,
    make_plan,
)
from nas_optuna.prepare import prepare
from nas_optuna.search import search
from nas_optuna.space import Architecture, Block, Stages, Stem, measure_costs, register_layer

NETWORK = Architecture(Stem(16), (Block("conv", 32, 2),))


class Spy(nn.Conv2d):
    """Remembers what it sees."""

    seen: set[tuple[int, ...]] = set()  # noqa: RUF012

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        self.seen.add((*features.shape[1:], self.training))
        return super().forward(features)


def recipe(**changes: Any) -> Recipe:
    return replace(make_training().recipe, **changes)


def test_network_is_trained_and_judged_at_the_resolution_and_width(digits: Digits) -> None:
    register_layer("spy", Spy)
    Spy.seen.clear()
    network = Architecture(Stem(16), (Block("spy", 32),))
    make_training().fit(
        network, digits, fidelity=Fidelity(1, 0.1), seed=0, scale=Scale(resolution=0.5, width=0.25)
    )
    assert Spy.seen == {(4, 4, 4, True), (4, 4, 4, False)}


def test_epoch_is_judged_at_the_size_that_it_was_trained_at(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas_optuna.estimation.module.SMALLEST_SIDE", 4)
    register_layer("spy", Spy)
    Spy.seen.clear()
    network = Architecture(Stem(16), (Block("spy", 32),))
    training = make_training(small_share=0.5, small_scale=0.5)
    training.fit(network, digits, fidelity=Fidelity(2, 0.1), seed=0)
    assert {(side, is_training) for _, side, _, is_training in Spy.seen} == {
        *((4, True), (4, False), (8, True), (8, False))
    }


def test_smaller_images_first_are_a_part_of_the_resolution() -> None:
    images = torch.rand(2, 3, 64, 48)
    half = recipe(small_share=0.5, small_scale=0.9, resolution=0.5)
    assert half.resize(images, progress=0.9).shape[2:] == (32, 24)
    assert half.resize(images, progress=0.1).shape[2:] == (29, 22)


def test_smaller_images_first_keep_the_side_at_which_classes_can_be_told_apart() -> None:
    half = recipe(small_share=0.5, small_scale=0.625, resolution=0.5)
    assert half.resize(torch.rand(2, 3, 32, 32), progress=0.1).shape[2:] == (16, 16)


def test_execution_is_timed_for_each_resolution(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas_optuna.estimation.training.SHORT", 0.0)
    training = make_training(execution="auto")
    training.executions = Executions(tmp_path / "execution.json")
    for scale in (FULL, Scale(resolution=0.5), FULL):
        training.execution_of(NETWORK, digits, steps=100, scale=scale)
    assert len(json.loads((tmp_path / "execution.json").read_text())) == 2


@pytest.mark.parametrize(
    ("fidelity", "words"),
    [
        ({"resolution": 0}, "fidelity.resolution"),
        ({"width": 1.5}, "fidelity.width"),
        ({"depth": 0.5}, "resolution, width"),
        (0.5, "resolution, width"),
    ],
)
def test_impossible_fidelity_is_named(fidelity: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_training(fidelity=fidelity)


def test_series_have_no_resolution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = np.random.default_rng(0).normal(size=(40, 1, 16)).astype(np.float32)
    np.savez("series.npz", x=inputs, y=np.arange(40) % 2)
    config = compose_config(
        "+experiment=series", "data.path=series.npz", "estimation.fidelity.resolution=0.5"
    )
    with pytest.raises(InputError, match=r"estimation\.fidelity\.resolution: 0\.5 is for images"):
        search(config)


@pytest.fixture
def scales(monkeypatch: pytest.MonkeyPatch) -> list[Scale]:
    """The scale of every training, in order."""
    seen: list[Scale] = []
    fit = Training.fit

    def watched(self: Training, *arguments: Any, scale: Scale = FULL, **others: Any) -> Any:
        seen.append(scale)
        return fit(self, *arguments, scale=scale, **others)

    monkeypatch.setattr(Training, "fit", watched)
    return seen


def test_trials_are_scaled_and_what_decides_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scales: list[Scale]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("estimation.fidelity.resolution=0.5", "estimation.fidelity.width=0.5")
    search(compose_config(*SHORT, "strategy=random", "estimation.data_share=0.2", *small))
    study = optuna.load_study(study_name="study", storage="sqlite:///runs/study/study.db")
    # two trials, two finalists, the winner
    assert scales == [Scale(0.5, 0.5)] * 2 + [FULL] * 3
    space = build_space(compose_config("+experiment=digits"))
    for trial in study.trials:
        costs = measure_costs(space.at(trial.params), input_shape=(1, 8, 8), classes=10)
        assert trial.user_attrs["macs"] == costs.macs


def test_study_of_another_fidelity_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = prepare(compose_config(*SHORT, "estimation.fidelity.width=0.5")).study
    study.tell(study.ask(), 0.5)
    with pytest.raises(InputError, match=r"estimation\.fidelity\.width: .* was made with 0\.5"):
        prepare(compose_config(*SHORT))


def test_full_fidelity_leaves_no_trace_in_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a study from before there was another fidelity goes on
    monkeypatch.chdir(tmp_path)
    study = prepare(compose_config(*SHORT)).study
    fingerprint = dict(study.user_attrs["fingerprint"])
    fingerprint["estimation"] = {
        name: value for name, value in fingerprint["estimation"].items() if name != "fidelity"
    }
    study.set_user_attr("fingerprint", fingerprint)
    study.tell(study.ask(), 0.5)
    assert prepare(compose_config(*SHORT)).study.study_name == study.study_name


def test_plan_knows_both_a_trial_and_a_full_training(
    digits: Digits, space: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(training: Training, architecture: Architecture, data: Digits, scale: Scale) -> Speed:
        return Speed(1e-3 * scale.width, 2.5e-4 * scale.width)

    monkeypatch.setattr("nas_optuna.estimation.plan.time_steps", timed)
    settings = PlanSettings(20, 3, 6, 0.65, 0.1, 8, 30)
    training = make_training(epochs=None, data_share=None, fidelity={"width": 0.5})
    made = make_plan(training, space, digits, settings=settings, timeout=300)
    assert made.trial_seconds is not None
    assert 20 * made.trial_seconds <= 300 * 0.65
    assert made.full_seconds == pytest.approx(2 * made.trial_seconds)
