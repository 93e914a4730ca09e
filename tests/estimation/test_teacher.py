from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import SHORT, compose_config, make_training
from torch import Tensor, nn

from nas_optuna.data import Digits
from nas_optuna.errors import InputError
from nas_optuna.estimation import Fidelity, Teacher
from nas_optuna.prepare import prepare
from nas_optuna.search import search
from nas_optuna.space import Architecture, Block, Network, Stem, save


class Oracle(nn.Module):
    """Knows every digit by its pixels, and counts what it is asked."""

    def __init__(self, data: Digits, *, shift: int = 0) -> None:
        super().__init__()
        self.asked = 0
        for name in ("train", "validation"):
            split = data.split(name)
            self.register_buffer(f"{name}_inputs", split.inputs.flatten(1).float() / 255)
            self.register_buffer(f"{name}_labels", (split.labels + shift) % 10)

    def forward(self, inputs: Tensor) -> Tensor:
        self.asked += len(inputs)
        known = torch.cat([self.train_inputs, self.validation_inputs])
        labels = torch.cat([self.train_labels, self.validation_labels])
        nearest = torch.cdist(inputs.flatten(1), known).argmin(dim=1)
        return 8.0 * nn.functional.one_hot(labels[nearest], 10).float()


@pytest.fixture
def data(tmp_path: Path) -> Digits:
    data = Digits()
    data.cache_dir = tmp_path / "cache"
    data.prepare()
    return data


def small() -> Architecture:
    return Architecture(Stem(8), (Block("conv", 16, 2),))


def accuracy(data: Digits, **settings: object) -> float:
    training = make_training(epochs=4, **settings)
    return float(training.fit(small(), data, fidelity=Fidelity(4), seed=0).curve[-1])


def test_network_learns_what_its_teacher_says(data: Digits) -> None:
    assert accuracy(data, loss="kl", teacher=Oracle(data)) > 0.6
    # one that calls each digit by the next one's name teaches just that
    assert accuracy(data, loss="kl", teacher=Oracle(data, shift=1)) < 0.1


def test_labels_count_as_much_as_their_weight(data: Digits) -> None:
    liar = Oracle(data, shift=1)
    assert accuracy(data, loss="distillation", teacher=liar, teacher_weight=0.0) > 0.6
    assert accuracy(data, loss="distillation", teacher=liar, teacher_weight=1.0) < 0.1


def test_final_training_hears_the_teacher_on_all_its_images(data: Digits) -> None:
    training = make_training(loss="kl", teacher=Oracle(data), epochs=2)
    module = training.fit(small(), data, fidelity=Fidelity(2), seed=0, with_validation=True, test=True)
    assert module.test_accuracy is not None
    assert module.test_accuracy > 0.4


def test_teacher_is_asked_once_for_each_example(data: Digits) -> None:
    teacher = Oracle(data)
    training = make_training(loss="kl", teacher=teacher)
    for seed in range(2):
        training.fit(small(), data, fidelity=Fidelity(1), seed=seed)
    assert teacher.asked == len(data.split("train"))


def test_processes_share_what_the_teacher_said(data: Digits) -> None:
    first, second = Oracle(data), Oracle(data)
    answers = [Teacher(oracle).logits(data, "train", torch.device("cpu")) for oracle in (first, second)]
    assert (first.asked, second.asked) == (len(data.split("train")), 0)
    torch.testing.assert_close(*answers)


def test_another_teacher_is_asked_anew(data: Digits) -> None:
    answers = [
        Teacher(Oracle(data, shift=shift)).logits(data, "train", torch.device("cpu")) for shift in (0, 1)
    ]
    assert not torch.equal(*answers)


def test_search_learns_from_a_saved_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    digits = Digits()
    digits.prepare()
    mean, std = digits.normalization
    network = Network(small(), classes=10, mean=mean, std=std)
    save(tmp_path / "teacher", network, input_shape=digits.input_shape, classes=digits.classes)
    search(compose_config(*SHORT, "estimation.loss=distillation", "estimation.teacher=teacher"))
    assert (tmp_path / "runs" / "study" / "final" / "weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss": "kl"}, "kl and distillation need a teacher"),
        ({"teacher": nn.Identity()}, "cross_entropy takes none"),
        ({"loss": "kl", "teacher": "nowhere"}, "no network can be loaded from 'nowhere'"),
        ({"loss": "kl", "teacher": 3}, "3 must be the folder of a saved network, or a torch.nn.Module"),
        ({"loss": "hinge"}, "estimation.loss: 'hinge' is unknown; known: cross_entropy, kl, distillation"),
        ({"temperature": 0}, "estimation.temperature: 0 must be a number, above 0"),
        ({"teacher_weight": 2}, "estimation.teacher_weight: 2 must be a number, at least 0, at most 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as refused:
        make_training(**settings)
    assert words in str(refused.value)


@pytest.mark.parametrize("teacher", ["torch.nn.Identity", "torch.nn.Flatten"])
def test_teacher_of_something_else_is_refused_before_the_search(
    teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = compose_config(*SHORT, "estimation.loss=kl", f"estimation.teacher={{_target_: {teacher}}}")
    with pytest.raises(InputError, match=r"estimation\.teacher: its answer to two examples has the shape"):
        prepare(config)
