"""Latency that is measured on the spot, from the meter to whole searches."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import SHORT, compose_config, make_space
from omegaconf import DictConfig
from torch import nn

from nas_optuna.errors import InputError
from nas_optuna.estimation import Objectives
from nas_optuna.files import one_at_a_time
from nas_optuna.latency import LatencyMeter, LatencySettings
from nas_optuna.limits import describe_limits
from nas_optuna.search import search
from nas_optuna.space import Architecture, Block, Stem, measure_costs
from nas_optuna.survey import survey

SHAPE = (1, 8, 8)
SMALL, LARGE = (Architecture(Stem(8), (Block("conv", width),)).canonical() for width in (8, 16))
# what ``by_size`` was called with, in this process
CALLS: list[tuple[nn.Module, tuple[int, ...]]] = []


def by_size(network: nn.Module, input_shape: tuple[int, ...]) -> float:
    """Stands for a device elsewhere: a microsecond a parameter."""
    CALLS.append((network, input_shape))
    return sum(parameter.numel() for parameter in network.parameters()) / 1e3


class Phone:
    """A device elsewhere that has settings."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, network: nn.Module, input_shape: tuple[int, ...]) -> float:
        return self.factor * by_size(network, input_shape)


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


def make(
    measure: Callable[..., Any] | None = by_size, path: Path | None = None, **options: Any
) -> LatencyMeter:
    settings = LatencySettings(measure=measure, **options)
    return LatencyMeter(settings, input_shape=SHAPE, classes=3, path=path)


def configure(*overrides: str, name: str = "config", objective: str = "accuracy_latency") -> DictConfig:
    short = SHORT if name == "config" else ("survey.networks=10",)
    config = compose_config(*short, f"objective={objective}", *overrides, name=name)
    config.objective.latency.measure = {"_target_": f"{__name__}.by_size", "_partial_": True}
    return config


def trials() -> list[optuna.trial.FrozenTrial]:
    study = optuna.load_study(study_name="study", storage="sqlite:///runs/study/study.db")
    return study.get_trials(deepcopy=False)


@pytest.mark.parametrize("form", ["eager", "exported", "onnx"])
def test_every_form_measures(form: str) -> None:
    assert 0 < make(None, form=form, seconds=0.01)(SMALL) < 1000


def test_equal_network_is_measured_once_by_all_that_share_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    assert make(path=path)(SMALL) == make(path=path)(SMALL)
    assert len(CALLS) == 1
    make(path=path)(LARGE)
    assert len(CALLS) == 2


def test_another_way_of_measuring_is_another_latency(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    for batch_size in (1, 2):
        make(None, path, form="eager", seconds=0.01, batch_size=batch_size)(SMALL)
    assert len(json.loads(path.read_text())) == 2


def test_what_was_measured_before_there_was_a_folder_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "study" / "latency.json"
    meter = make(path=path)
    meter(SMALL)
    assert not path.parent.exists()
    path.parent.mkdir()
    meter.save()
    make(path=path)(SMALL)
    assert len(CALLS) == 1


def test_device_elsewhere_gets_a_network_that_is_ready() -> None:
    make()(SMALL)
    network, shape = CALLS[0]
    assert not network.training
    assert shape == SHAPE


@pytest.mark.parametrize("answer", [None, 0.0, -1.0, float("nan"), "fast"])
def test_answer_that_is_no_time_is_refused(answer: object) -> None:
    with pytest.raises(InputError, match=r"objective\.latency\.measure: it returned .* must be milliseconds"):
        make(lambda network, input_shape: answer).check(SMALL)


def test_device_elsewhere_that_fails_is_named() -> None:
    def fail(network: nn.Module, input_shape: tuple[int, ...]) -> float:
        raise ConnectionError("no phone")

    with pytest.raises(InputError, match=r"objective\.latency\.measure: .*ConnectionError: no phone"):
        make(fail).check(SMALL)


def test_missing_extra_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"onnxruntime is missing.*nas-optuna\[onnx\]"):
        LatencySettings(form="onnx")


def test_onnx_has_the_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(InputError, match=r"objective\.latency\.device: .*'cuda'.* use cpu"):
        LatencySettings(form="onnx", device="cuda")


def test_one_measurement_at_a_time() -> None:
    running, most = [], []

    def watch(network: nn.Module, input_shape: tuple[int, ...]) -> float:
        running.append(1)
        most.append(len(running))
        time.sleep(0.02)
        running.pop()
        return 1.0

    threads = [threading.Thread(target=make(watch), args=(SMALL,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


@pytest.mark.skipif(
    sys.platform == "win32",
    reason="processes wait for one another by flock, which Windows lacks: there none waits",
)
def test_process_that_dies_lets_others_go_on(tmp_path: Path) -> None:
    name = f"test-{tmp_path.name}"
    waiting = (
        f"import time; from nas_optuna.files import one_at_a_time\nwith one_at_a_time({name!r}):\n"
        "    print('in', flush=True); time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", waiting], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        process.kill()
        with one_at_a_time(name):
            pass


def costs(network: Architecture) -> Mapping[str, float]:
    return vars(measure_costs(network, input_shape=(3, 16, 16), classes=10))


def describe(measured: Callable[[Architecture], float], **limits: float) -> str:
    objectives = Objectives(directions={"accuracy": "maximize"}, limits=limits)
    return describe_limits(make_space(), objectives, costs, measured)


def in_million_macs(network: Architecture) -> float:
    return float(costs(network)["macs"]) / 1e6


def test_share_is_that_of_a_few_networks_that_were_timed() -> None:
    timed: list[str] = []

    def latency(network: Architecture) -> float:
        timed.append(network.hash)
        return 1.0

    text = describe(latency, latency=2.0, macs=1e12)
    assert "limits: of 300 random networks 100.0% fit" in text
    assert "of 30 random networks that were timed 100.0% fit (88.6% to 100.0%) a latency of 2 ms" in text
    assert len(set(timed)) <= 30


def test_latency_that_only_the_smallest_keep_to_is_no_error() -> None:
    least = min(in_million_macs(make_space().at(point)) for point in _smallest_points())
    assert "but smaller ones do" in describe(in_million_macs, latency=least * 1.001)


def _smallest_points() -> list[dict[str, Any]]:
    point = {name: choice.options[0] for name, choice in make_space().decisions.items()}
    return [point | {name: "dwsep" for name in point if name.endswith("layer")}]


def test_latency_that_none_keeps_to_is_the_culprit() -> None:
    with pytest.raises(InputError, match=r"objective\.limits\.latency: 1e-06 is below what any"):
        describe(in_million_macs, latency=1e-6, macs=1e12)


def test_latency_that_goes_with_no_other_limit_is_told() -> None:
    with pytest.raises(InputError, match=r"objective\.limits\.latency: none of 30 .* the other limits"):
        # what is small enough is slow
        describe(lambda network: 1 / in_million_macs(network), latency=1.0, macs=9e5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_candidates_of_a_strategy_are_not_measured(folder: Path) -> None:
    search(configure("strategy=predictor", "strategy.n_startup_trials=2", "n_trials=5", "final.finalists=1"))
    hashes = {trial.user_attrs["hash"] for trial in trials()}
    # one more before the search, to see that it can be done
    assert len(CALLS) <= len(hashes) + 1


def test_latency_is_a_value_and_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search(configure("strategy=random", "final.finalists=1"))
    for trial in trials():
        assert trial.values[1] == trial.user_attrs["latency"]
        assert trial.values[1] == pytest.approx(trial.user_attrs["params"] / 1e3, rel=1e-3)
        assert trial.user_attrs["known_values"] == [None, trial.values[1]]
    said = capsys.readouterr().out
    assert " latency " in said.partition("complete")[2]
    summary = json.loads(Path("runs/study/summary.json").read_text())
    assert summary["best"]["latency"] == summary["best"]["values"][1]
    assert summary["timing"]["latency"] >= 0


def test_network_beyond_the_limit_is_not_trained(folder: Path) -> None:
    sizes = "objective.limits.latency=20"
    search(configure("strategy=random", sizes, "n_trials=3", "seed=1", objective="accuracy"))
    beyond = [trial for trial in trials() if trial.user_attrs["latency"] > 20]
    assert beyond
    for trial in beyond:
        assert trial.constraints["limits"] > 0
        assert trial.user_attrs["infeasible"].endswith(" > 20 ms")
        assert "seed" not in trial.user_attrs


def test_network_beyond_another_limit_is_not_measured(folder: Path) -> None:
    limits = ("objective.limits.latency=1000", "objective.limits.params=20e3")
    search(configure("strategy=random", *limits, "n_trials=2", "seed=1", objective="accuracy"))
    beyond = [trial for trial in trials() if trial.user_attrs["params"] > 20e3]
    assert beyond
    assert not any("latency" in trial.user_attrs for trial in beyond)


def test_study_goes_on_with_the_same_measurement_only(folder: Path) -> None:
    search(configure("strategy=random", "final.finalists=1"))
    before = len(CALLS)
    search(configure("strategy=random", "final.finalists=1"))
    assert len(CALLS) == before
    with pytest.raises(InputError, match=r"objective\.latency\.threads: the study .* was made with 1"):
        search(configure("strategy=random", "objective.latency.threads=2"))


def test_limit_that_nothing_keeps_to_leaves_no_folder(folder: Path) -> None:
    with pytest.raises(InputError, match=r"objective\.limits\.latency: 0\.001 is below"):
        search(configure("objective.limits.latency=0.001"))
    assert not (folder / "runs").exists()


def test_class_with_settings_is_a_device_elsewhere(folder: Path) -> None:
    config = configure("strategy=random", "final.finalists=1")
    config.objective.latency.measure = {"_target_": f"{__name__}.Phone", "factor": 2.0}
    search(config)
    assert all(
        trial.values[1] == pytest.approx(trial.user_attrs["params"] / 500, rel=1e-3) for trial in trials()
    )


def test_table_without_latencies_leaves_them_to_be_measured(
    folder: Path, cell_tables: tuple[Path, Path]
) -> None:
    config = compose_config(
        "+experiment=nasbench201",
        "objective=accuracy_latency",
        f"estimation.table={cell_tables[0]}",
        "strategy=random",
        "n_trials=3",
        "workers=1",
    )
    config.objective.latency.measure = {"_target_": f"{__name__}.by_size", "_partial_": True}
    search(config)
    assert CALLS
    assert all(trial.user_attrs["latency"] > 0 for trial in trials())


@pytest.mark.slow
def test_workers_share_what_they_measured(folder: Path) -> None:
    config = compose_config(
        *SHORT, "objective=accuracy_latency", "workers=2", "n_trials=6", "strategy=random"
    )
    search(config)
    known = json.loads((folder / "runs" / "study" / "latency.json").read_text())
    for trial in trials():
        found = [value for key, value in known.items() if key.startswith(trial.user_attrs["hash"])]
        assert found == [trial.user_attrs["latency"]]


def test_survey_tells_the_share_within_a_latency(capsys: pytest.CaptureFixture[str]) -> None:
    survey(configure("objective.limits.latency=1e6", "survey.latency=true", name="survey"))
    said = capsys.readouterr().out
    assert "of 30 random networks that were timed 100.0% fit" in said
    assert "latency of the smallest: " in said
