from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_training
from torch import nn

from nas_optuna.data import Digits
from nas_optuna.errors import InputError
from nas_optuna.estimation import (
    Choice,
    Execution,
    Executions,
    Fidelity,
    Probe,
    Training,
    execution,
    time_steps,
)
from nas_optuna.estimation.convolutions import ThinningConvolution
from nas_optuna.space import Architecture, Block, Stem

ARCHITECTURE = Architecture(Stem(8), (Block("conv", 16, 2, residual=True), Block("dwsep", 16)))
CPU = torch.device("cpu")
SHORT, LONG = 10, 100_000  # steps of a training
Table = tuple[dict[str, object], float]
Choose = Callable[..., Execution]


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch, digits: Digits) -> Choose:
    """Chooses on a machine whose steps take what a table says: the first entry that fits."""

    def run(*table: Table, steps: int = LONG, default: float = 1.0) -> Execution:
        monkeypatch.setattr(Probe, "seconds", lambda _, asked, **__: look_up(table, asked, default))
        return make_training(execution="auto").execution_of(ARCHITECTURE, digits, steps=steps)

    return run


def take_parts(
    monkeypatch: pytest.MonkeyPatch, digits: Digits, seconds: dict[int, float], threads: int
) -> int:
    """How many parts are chosen of a batch of 256 where a step takes so long."""
    monkeypatch.setattr(Probe, "seconds", lambda _, asked, images=32: seconds.get(asked.parts, 9.0))
    torch.set_num_threads(threads)
    training = make_training(execution="auto", batch_size=256)
    return training.execution_of(ARCHITECTURE, digits, steps=SHORT * 10_000).parts


def look_up(table: tuple[Table, ...], asked: Execution, default: float) -> float:
    for change, taken in table:
        if all(getattr(asked, name) == value for name, value in change.items()):
            return taken
    return default


def test_faster_precision_is_chosen(choose: Choose) -> None:
    assert choose(({"compile": True}, 9), ({"precision": "bf16-mixed"}, 0.5)) == Execution("bf16-mixed")


def test_near_tie_is_left_to_the_default(choose: Choose) -> None:
    assert choose(({"precision": "bf16-mixed"}, 0.95)) == Execution()


def test_decisions_build_on_one_another(choose: Choose) -> None:
    best = {"precision": "bf16-mixed", "memory_format": "contiguous"}
    chosen = choose(({"compile": True}, 9), (best, 0.2), ({"precision": "bf16-mixed"}, 0.5))
    assert (chosen.precision, chosen.memory_format) == ("bf16-mixed", "contiguous")


def test_short_training_is_not_measured(choose: Choose) -> None:
    assert choose(({"precision": "bf16-mixed"}, 1e-9), steps=SHORT) == Execution()


def test_what_is_too_short_for_one_training_is_measured_for_a_longer_one(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    table: tuple[Table, ...] = (({"compile": True}, 9), ({"precision": "bf16-mixed"}, 0.001))
    monkeypatch.setattr(Probe, "seconds", lambda _, asked, **__: look_up(table, asked, 0.01))
    training = make_training(execution="auto")
    chosen = [training.execution_of(ARCHITECTURE, digits, steps=steps) for steps in (SHORT, LONG)]
    assert [execution.precision for execution in chosen] == ["32-true", "bf16-mixed"]


@pytest.mark.parametrize(("seconds", "compiles"), [(0.01, False), (0.02, True)])
def test_compilation_is_tried_where_it_can_repay_itself(
    choose: Choose, seconds: float, compiles: bool
) -> None:
    table = ({"compile": True}, 0.1 * seconds)
    assert choose(table, steps=LONG, default=seconds).compile is compiles


def test_gpu_is_given_a_compilation_earlier_than_a_cpu() -> None:
    choice = Choice(Execution(), seconds=0.01)
    devices = [torch.device("cpu"), torch.device("cuda")]
    assert [choice.may_gain_by_compilation(LONG, device) for device in devices] == [False, True]


def test_compilation_is_used_only_by_trainings_that_repay_it() -> None:
    choice = Choice(Execution(), seconds=1.0, compiled_seconds=0.5)
    assert [choice.over(steps).compile for steps in (50, 500)] == [False, True]


def test_planning_compiles_nothing(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Execution] = []
    monkeypatch.setattr(Probe, "seconds", lambda _, execution, **__: asked.append(execution) or 100.0)
    time_steps(make_training(execution="auto"), ARCHITECTURE, digits)
    assert asked
    assert not any(execution.compile for execution in asked)


def test_fewer_threads_are_tried(choose: Choose) -> None:
    torch.set_num_threads(8)
    assert choose(({"compile": True}, 9), ({"threads": 4}, 0.5), ({"threads": 1}, 0.6)).threads == 4


@pytest.mark.parametrize(
    ("seconds", "threads", "parts"),
    [
        ({1: 1.0, 2: 0.8}, 8, 2),
        ({1: 1.0, 2: 0.8, 4: 0.6, 8: 0.58}, 8, 4),
        ({1: 1.0, 2: 0.95, 4: 0.5}, 8, 1),  # near tie
        ({1: 1.0, 2: 0.8, 4: 0.6}, 3, 2),  # no thread for each of four
        ({1: 1.0, 2: 0.1}, 1, 1),
    ],
)
def test_batch_is_cut_as_long_as_that_is_faster(
    digits: Digits, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], threads: int, parts: int
) -> None:
    assert take_parts(monkeypatch, digits, seconds, threads) == parts


def test_part_and_whole_are_timed_on_as_many_images(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def seconds(_: Probe, execution: Execution, images: int = 32) -> float:
        asked.append((execution.parts, images))
        return 1.0 / execution.parts

    monkeypatch.setattr(Probe, "seconds", seconds)
    torch.set_num_threads(4)
    split = digits.split("train")
    Probe(nn.Flatten(), split.inputs[:128] / 255, split.labels[:128], device=CPU).choose()
    assert asked[-4:] == [(1, 64), (2, 64), (2, 128), (4, 128)]


def test_network_that_draws_numbers_is_not_cut(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Probe, "seconds", lambda _, asked, images=32: 1.0 / asked.parts)
    torch.set_num_threads(4)
    split = digits.split("train")
    probe = Probe(nn.Dropout(), split.inputs[:128] / 255, split.labels[:128], device=CPU)
    assert probe.choose().execution.parts == 1


def test_compiled_kernels_compute_whole_batches() -> None:
    choice = Choice(Execution(parts=2), seconds=1.0, compiled_seconds=0.5)
    assert choice.over(500) == Execution(compile=True)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_step_is_timed_in_parts(digits: Digits, parts: int) -> None:
    split, network = digits.split("train"), make_training().build(ARCHITECTURE, digits, seed=0)
    probe = Probe(network, split.inputs[:64] / 255, split.labels[:64], device=CPU)
    assert 0 < probe.seconds(Execution(parts=parts), images=48) < 60


def test_measuring_leaves_the_network_as_it_is(digits: Digits) -> None:
    training = make_training()
    network = training.build(ARCHITECTURE, digits, seed=0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    split = digits.split("train")
    Probe(network, split.inputs[:8] / 255, split.labels[:8], device=CPU).choose()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(weight.grad is None for weight in network.parameters())


def test_what_a_device_can_not_do_is_not_chosen(digits: Digits) -> None:
    class NoHalf(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            if torch.is_autocast_enabled("cpu"):
                raise RuntimeError("no kernel")
            return self.linear(inputs.flatten(1))

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, 10)

    split = digits.split("train")
    probe = Probe(NoHalf(), split.inputs[:8] / 255, split.labels[:8], device=CPU)
    assert probe.choose().execution.precision == "32-true"


def choose_precision(precision: str) -> Callable[[Probe], Choice]:
    return lambda _: Choice(Execution(precision), seconds=0.0)


def auto_training(path: Path | None = None) -> Training:
    training = make_training(execution="auto")
    training.executions = Executions(path)
    return training


def test_choice_is_measured_once_for_all_processes(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (auto_training(tmp_path / "known.json") for _ in range(2))
    monkeypatch.setattr(Probe, "choose", choose_precision("bf16-mixed"))
    assert first.execution_of(ARCHITECTURE, digits, steps=LONG).precision == "bf16-mixed"

    def refuse(*_: object) -> Choice:
        raise AssertionError("measured again")

    monkeypatch.setattr(Probe, "choose", refuse)
    assert second.execution_of(ARCHITECTURE, digits, steps=LONG).precision == "bf16-mixed"


def test_choice_is_another_one_with_other_threads(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    training = auto_training()
    monkeypatch.setattr(Probe, "choose", choose_precision("bf16-mixed"))
    training.execution_of(ARCHITECTURE, digits, steps=LONG)
    monkeypatch.setattr(Probe, "choose", choose_precision("32-true"))
    torch.set_num_threads(64)
    assert training.execution_of(ARCHITECTURE, digits, steps=LONG).precision == "32-true"


@pytest.mark.parametrize(
    "asked",
    ["32-true", "bf16-mixed", {"memory_format": "contiguous"}, {"precision": "bf16-mixed", "threads": 1}],
    ids=str,
)
def test_network_learns_under_every_execution(digits: Digits, asked: object) -> None:
    module = make_training(execution=asked).fit(ARCHITECTURE, digits, fidelity=Fidelity(4), seed=0)
    assert module.curve[-1] > 0.8


def test_half_precision_sees_the_weights_of_the_last_step(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Autocast keeps converted weights as long as it is open, and a group holds many steps."""
    curves = []
    for size in (1, 32):
        monkeypatch.setattr("nas_optuna.data.loader.Groups.__init__.__kwdefaults__", {"size": size})
        module = make_training(execution="bf16-mixed").fit(ARCHITECTURE, digits, fidelity=Fidelity(2), seed=0)
        curves.append(module.curve)
    assert curves[0] == curves[1]


def test_depthwise_convolutions_stay_in_float32_on_a_cpu(digits: Digits) -> None:
    network = Execution("bf16-mixed").arrange(make_training().build(ARCHITECTURE, digits, seed=0))
    seen: dict[str, torch.dtype] = {}
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            kind = "depthwise" if module.groups > 1 else "standard"
            module.register_forward_hook(lambda *parts, kind=kind: seen.update({kind: parts[2].dtype}))
    inputs = torch.rand(2, 1, 8, 8)
    with Execution("bf16-mixed").autocast(CPU):
        network(inputs).sum().backward()
    assert seen == {"depthwise": torch.float32, "standard": torch.bfloat16}
    assert all(weight.grad is not None for weight in network.parameters())
    seen.clear()
    network(inputs)
    assert set(seen.values()) == {torch.float32}


def test_threads_are_given_back(digits: Digits) -> None:
    torch.set_num_threads(2)
    with Execution(threads=1).limited_threads():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("supported", [True, False])
def test_half_precision_of_a_gpu_is_the_one_it_has(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    precisions, _, threads = execution._alternatives(torch.device("cuda"), images=True)
    assert precisions == [{"precision": "bf16-mixed" if supported else "16-mixed"}]
    assert threads == []


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("fast", "fast.*bf16-mixed"),
        (3, "3.*mapping"),
        ({"speed": 1}, "speed.*precision"),
        ({"precision": "8"}, "precision.*8"),
        ({"threads": 0}, "threads.*0"),
        ({"compile": "yes"}, "compile.*yes"),
        ("16-mixed", "16-mixed needs a CUDA device"),
        ({"parts": 0}, "parts.*0.*at least 1"),
        ({"parts": 33}, "parts.*33.*at most 32"),
        ({"parts": 2, "compile": True}, "2 parts.*compile=false"),
    ],
)
def test_impossible_execution_is_named(asked: object, words: str) -> None:
    with pytest.raises(InputError, match=f"estimation.execution.*{words}"):
        make_training(execution=asked)


def test_parts_are_for_cpus() -> None:
    with pytest.raises(InputError, match=r"estimation.execution: 2 parts.*this is cuda.*parts=1 or auto"):
        Execution(parts=2).check(torch.device("cuda"))


def test_narrow_strided_shortcut_trains_on_a_cpu_without_avx512(tmp_path: Path) -> None:
    """There, the gradient of its weights is written past the end of its memory, and the process ends."""
    script = tmp_path / "train.py"
    script.write_text(
        "import torch\n"
        "from nas_optuna.estimation import Execution\n"
        "from nas_optuna.space import Architecture, Block, Network, Stem\n"
        "architecture = Architecture(Stem(4), (Block('conv', 8, 2, residual=True),))\n"
        "network = Execution().arrange(Network(architecture, classes=10, mean=[0.0], std=[1.0]))\n"
        "for _ in range(50):\n"
        "    images = Execution().lay_out(torch.rand(64, 1, 16, 16))\n"
        "    network(images).square().mean().backward()\n"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("settings", [{}, {"bias": True}, {"stride": (2, 1)}], ids=str)
def test_pixels_taken_before_a_pointwise_convolution_change_nothing(settings: dict[str, Any]) -> None:
    plain = nn.Conv2d(4, 8, 1, **{"stride": 2, "bias": False} | settings).double()
    arranged = Execution().arrange(copy.deepcopy(plain))
    assert type(arranged) is ThinningConvolution
    images = torch.rand(3, 4, 7, 5, dtype=torch.double)
    gradients = []
    for network in (plain, arranged):
        inputs = images.clone().requires_grad_()
        network(inputs).square().sum().backward()
        gradients.append([inputs.grad, *(weight.grad for weight in network.parameters())])
    torch.testing.assert_close(gradients[0], gradients[1])
