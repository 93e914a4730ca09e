"""Zero-cost proxies: by hand on tiny networks, and for every layer and space."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from conftest import compose_config
from torch import Tensor, nn

from nas_optuna.configuration import build_space
from nas_optuna.errors import InputError
from nas_optuna.estimation import PROXIES, measure_proxies
from nas_optuna.space import Architecture, Block, Parts, Stem, measure_costs
from nas_optuna.space.layers import BUILT_IN

SPACES = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "space").glob("*.yaml"))
CELL = {"operations": "conv3x3,avgpool3x3,skip,conv1x1,none,conv3x3"}


def batch(*shape: int, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(*shape, generator=generator), torch.arange(shape[0]) % classes


def linear(*rows: list[float]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight.data = torch.tensor(rows)
    return layer


def measure(network: nn.Module | Architecture, name: str, images: Tensor, labels: Tensor) -> float:
    return measure_proxies(network, images=images, labels=labels, seed=0, names=[name])[name]


@pytest.mark.parametrize(
    "between",
    [[], [nn.ReLU()], [nn.BatchNorm1d(2), nn.SiLU()]],
    ids=["linear", "relu", "norm and silu are left out"],
)
def test_synflow_of_two_layers_by_hand(between: list[nn.Module]) -> None:
    # absolute weights, an input of ones: 5 (1 + 2) + 6 (3 + 4) = 57, once for each layer
    network = nn.Sequential(nn.Flatten(), linear([1.0, -2.0], [3.0, 4.0]), *between, linear([5.0, -6.0]))
    assert measure(network, "synflow", *batch(3, 1, 1, 2)) == pytest.approx(math.log(2 * 57))


def test_synflow_where_nothing_flows_is_finite() -> None:
    network = nn.Sequential(nn.Flatten(), linear([0.0, 0.0]))
    assert -1000 < measure(network, "synflow", *batch(3, 1, 1, 2)) < -700


def test_naswot_of_opposite_codes_is_the_determinant_of_a_diagonal() -> None:
    network = nn.Sequential(nn.Flatten(), linear([1.0], [-1.0], [2.0]), nn.ReLU())
    images = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    assert measure(network, "naswot", images, torch.tensor([0, 1])) == pytest.approx(2 * math.log(3))


def test_naswot_of_two_equal_images_is_finite_and_far_below() -> None:
    network = nn.Sequential(nn.Flatten(), linear([1.0], [-1.0], [2.0]), nn.ReLU())
    images = torch.ones(2, 1, 1, 1)
    # eigenvalues 2 * 3 and 0
    found = measure(network, "naswot", images, torch.tensor([0, 1]))
    assert found == pytest.approx(math.log(6) + math.log(6e-12), abs=1e-3)


def test_naswot_reads_codes_of_other_activations() -> None:
    images = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    networks = [nn.Sequential(nn.Flatten(), linear([1.0], [-1.0]), kind()) for kind in (nn.ReLU, nn.GELU)]
    first, second = (measure(network, "naswot", images, torch.tensor([0, 1])) for network in networks)
    assert first == second == pytest.approx(2 * math.log(2))


def test_jacob_cov_of_a_linear_network_has_one_gradient() -> None:
    # all images have it, so their correlations are ones: eigenvalues 2 and 0
    network = nn.Sequential(nn.Flatten(), linear([1.0, 2.0], [0.0, 3.0]))
    expected = -sum(math.log(value + 1e-5) + 1 / (value + 1e-5) for value in (2.0, 0.0))
    assert measure(network, "jacob_cov", *batch(2, 1, 1, 2)) == pytest.approx(expected)


def test_grad_norm_by_hand() -> None:
    weights = np.array([[1.0, -2.0], [3.0, 4.0]])
    images, labels = batch(5, 1, 1, 2, classes=2)
    inputs = images.flatten(1).double().numpy()
    likely = np.exp(inputs @ weights.T)
    likely /= likely.sum(axis=1, keepdims=True)
    gradient = (likely - np.eye(2)[labels.numpy()]).T @ inputs / len(inputs)
    network = nn.Sequential(nn.Flatten(), linear(*weights.tolist()))
    assert measure(network, "grad_norm", images, labels) == pytest.approx(np.linalg.norm(gradient), rel=1e-5)


def test_costs_are_those_of_the_space() -> None:
    network = Architecture(Stem(8), (Block("conv", 16, 2),))
    images, labels = batch(8, 3, 8, 8)
    found = measure_proxies(network, images=images, labels=labels, seed=0, names=["macs", "params"])
    costs = measure_costs(network, input_shape=(3, 8, 8), classes=4)
    assert found == {"macs": costs.macs, "params": costs.params}


def test_a_given_network_stays_as_it_is() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images, labels = batch(8, 1, 4, 4)
    names = [name for name in PROXIES if name != "macs"]
    measure_proxies(network.eval(), images=images, labels=labels, seed=0, names=names)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network.training


def test_seed_decides_the_weights() -> None:
    network = Architecture(Stem(8), (Block("conv", 16, 2),))
    images, labels = batch(8, 3, 8, 8)
    first, again, other = (measure_proxies(network, images=images, labels=labels, seed=s) for s in (0, 0, 1))
    assert first == again
    assert all(first[name] != other[name] for name in ("synflow", "naswot", "jacob_cov", "grad_norm"))


def test_unknown_proxy_is_named() -> None:
    with pytest.raises(InputError, match="zico"):
        measure(nn.Flatten(), "zico", *batch(2, 1, 1, 2))


def check_contract(network: Architecture, images: Tensor, labels: Tensor) -> None:
    first, again = (measure_proxies(network, images=images, labels=labels, seed=3) for _ in range(2))
    assert list(first) == list(PROXIES)
    assert all(map(math.isfinite, first.values()))
    assert first == again


@pytest.mark.parametrize("parts", [Parts(), Parts(1), Parts(2, "hardswish", "layer")], ids=str)
@pytest.mark.parametrize("layer", sorted(BUILT_IN))
def test_every_layer_has_finite_proxies_that_repeat(layer: str, parts: Parts) -> None:
    width, choices = (8, CELL) if layer == "cell" else (12, {})
    network = Architecture(Stem(8), (Block(layer, width, 1, True, choices=choices),), parts=parts)
    check_contract(network, *batch(6, 3, *[7] * parts.dimensions))


@pytest.mark.parametrize("name", SPACES)
def test_every_space_has_finite_proxies_that_repeat(name: str) -> None:
    space = build_space(compose_config(f"space={name}"))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    images, labels = batch(6, 3, *[12] * space.dimensions)
    check_contract(space(study.ask()).canonical(), images, labels)
