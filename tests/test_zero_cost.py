"""Zero-cost proxies in searches: told of networks, as a gate, as features, in the report."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest
import torch
from conftest import SHORT, compose_config, make_training
from torch import nn

from nas_optuna.errors import InputError
from nas_optuna.estimation import measure_proxies
from nas_optuna.objective import rebuild
from nas_optuna.prepare import Parts, draw_networks, prepare
from nas_optuna.search import search
from nas_optuna.space import Architecture, Block, Network, Stem, register_layer
from nas_optuna.strategy import PredictorSampler
from nas_optuna.zero_cost import ProxyMeter, ProxySettings

if TYPE_CHECKING:
    from nas_optuna.data import Digits, LabelledData

SMALL, LARGE = (Architecture(Stem(8), (Block("conv", width),)).canonical() for width in (8, 16))


def trials() -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=None, storage="sqlite:///runs/study/study.db").trials


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def proxy(parts: Parts, network: Architecture, name: str) -> float:
    """One of them, of a network."""
    return ProxyMeter(ProxySettings([name]), parts.training, parts.data)(network)[name]


def asked(*overrides: str, count: int = 12) -> list[float]:
    """Synflow of the networks that a search asks for first."""
    parts = prepare(compose_config(*SHORT, "space.seeds=[]", *overrides))
    networks = [parts.space(parts.study.ask()).canonical() for _ in range(count)]
    return [proxy(parts, network, "synflow") for network in networks]


def test_proxies_are_told_with_each_network_and_reported(folder: Path) -> None:
    config = compose_config(*SHORT, "proxies.names=[synflow,naswot]", "n_trials=5", "final.finalists=1")
    search(config)
    parts = prepare(config)
    split = parts.data.split("train")
    chosen = torch.arange(64) * len(split) // 64
    images, labels = split.inputs[chosen].float() / 255, split.labels[chosen]
    trained = [trial for trial in parts.study.trials if "seed" in trial.user_attrs]
    assert len(trained) == 5
    for trial in trained:
        built = parts.training.build(rebuild(parts.space, trial), parts.data, seed=0)
        expected = measure_proxies(built, images=images, labels=labels, seed=0, names=["synflow", "naswot"])
        assert {name: trial.user_attrs[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    table = (folder / "runs" / "study" / "report.md").read_text().partition("How costs and proxies")[2]
    assert "| synflow |" in table
    assert "| naswot |" in table


def test_network_that_is_not_trained_is_not_measured(folder: Path) -> None:
    config = compose_config(
        *SHORT, "proxies.names=[synflow]", "strategy=random", "objective.limits.params=20e3", "n_trials=1"
    )
    study = prepare(config).study
    search(config)
    beyond = [trial for trial in study.trials if trial.user_attrs["params"] > 20e3]
    assert beyond
    assert not any("synflow" in trial.user_attrs for trial in beyond)


@pytest.mark.parametrize("strategy", ["random", "evolution"])
def test_gate_decides_what_is_tried(strategy: str, folder: Path) -> None:
    largest = asked(f"strategy={strategy}", "proxies.gate=synflow", "seed=1")
    smallest = asked(f"strategy={strategy}", "proxies.gate=-synflow", "study_dir=runs/smallest")
    # of four at random three of four are on the gate's side of the median
    assert statistics.median(largest) > statistics.median(smallest)
    assert statistics.quantiles(largest)[0] > statistics.median(smallest)


def test_first_network_is_gated(folder: Path) -> None:
    parts = prepare(compose_config(*SHORT, "space.seeds=[]", "proxies.gate=-params", "proxies.candidates=50"))
    network = parts.space(parts.study.ask()).canonical()
    sizes = sorted(proxy(parts, other, "params") for other in draw_networks(parts.space, 50))
    assert proxy(parts, network, "params") < sizes[10]


def test_gate_lets_no_network_through_that_is_beyond_a_limit(folder: Path) -> None:
    limit = "objective.limits.params=2e4"
    parts = prepare(
        compose_config(
            *SHORT, "space.seeds=[]", "strategy=random", "proxies.gate=params", "proxies.candidates=50", limit
        )
    )
    networks = [parts.space(parts.study.ask()).canonical() for _ in range(5)]
    assert all(proxy(parts, network, "params") <= 2e4 for network in networks)


def test_predictor_learns_from_proxies(folder: Path) -> None:
    parts = prepare(compose_config(*SHORT, "proxies.names=[synflow,naswot]", "proxies.features=true"))
    assert isinstance(parts.study.sampler, PredictorSampler)
    assert parts.study.sampler.describe is not None
    point = parts.study.ask(parts.space.distributions()).params
    told = parts.study.sampler.describe(point).features
    plain = prepare(compose_config(*SHORT, "study_dir=runs/plain")).study.sampler
    assert isinstance(plain, PredictorSampler)
    assert plain.describe is not None
    known = plain.describe(point).features
    assert parts.proxies is not None
    found = parts.proxies(parts.space.at(point).canonical())
    assert told == (*known, found["synflow"], found["naswot"])


def test_equal_network_is_measured_once(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Architecture] = []
    training = make_training()
    build = training.build

    def counted(network: Architecture, data: LabelledData, *, seed: int) -> Network:
        calls.append(network)
        return build(network, data, seed=seed)

    monkeypatch.setattr(training, "build", counted)
    meter = ProxyMeter(ProxySettings(["naswot"]), training, digits)
    assert meter(SMALL) == meter(SMALL) != meter(LARGE)
    assert calls == [SMALL, LARGE]


def test_network_too_large_for_the_device_has_no_proxies(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory.")

    training = make_training()
    monkeypatch.setattr(training, "build", build)
    assert ProxyMeter(ProxySettings(["naswot"]), training, digits)(SMALL) == {}


class Stubborn(nn.Module):
    """A layer that a proxy can't compute: it has one type of number."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, 1, stride)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.convolution(inputs.to(torch.float32))


def test_layer_that_can_not_be_measured_is_named_before_the_search(folder: Path) -> None:
    register_layer("stubborn", Stubborn)
    config = compose_config(
        *SHORT, "space.seeds=[]", "space.block.layer=[stubborn]", "proxies.names=[synflow]"
    )
    with pytest.raises(InputError, match=r"proxies: synflow can't be measured of the network .*stubborn"):
        prepare(config)
    assert not (folder / "runs").exists()


def test_table_has_no_images(folder: Path, macro_table: Path) -> None:
    config = compose_config(
        "+experiment=nasbench_macro", f"estimation.table={macro_table}", "proxies.names=[synflow]"
    )
    with pytest.raises(InputError, match=r"proxies: synflow need images"):
        prepare(config)


@pytest.mark.slow
def test_workers_tell_proxies_and_have_the_gate(folder: Path) -> None:
    search(
        compose_config(
            *SHORT,
            "proxies.names=[naswot]",
            "proxies.gate=synflow",
            "workers=2",
            "n_trials=4",
            "final.finalists=1",
        )
    )
    trained = [trial for trial in trials() if "seed" in trial.user_attrs]
    assert len(trained) >= 4
    assert all({"naswot", "synflow"} <= trial.user_attrs.keys() for trial in trained)
