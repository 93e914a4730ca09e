from __future__ import annotations

import pytest
import torch
from conftest import make_training
from torch import nn

from nas_optuna.data import Digits
from nas_optuna.estimation import Classifier, Fidelity
from nas_optuna.estimation.optimizer import Muon, orthogonalize
from nas_optuna.space import Architecture, Block, Network, Stem


@pytest.mark.parametrize("shape", [(8, 8), (4, 20), (20, 4)])
def test_orthogonalized_matrix_keeps_its_directions_and_evens_their_lengths(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalize(matrix[None])[0]
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.5
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert nn.functional.cosine_similarity(result.flatten(), (left @ right).flatten(), dim=0) > 0.97


@pytest.mark.parametrize("shape", [(16, 144), (96, 432), (144, 16), (16, 32)])
def test_iterating_on_squares_gives_what_iterating_on_matrices_gives(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    random = torch.Generator().manual_seed(0)
    # singular values over three decades, as gradients have them
    left, right = (torch.linalg.qr(torch.randn(side, min(shape), generator=random)).Q for side in shape)
    matrices = (left * torch.logspace(0, -3, min(shape)) @ right.mT)[None]
    found = orthogonalize(matrices)
    monkeypatch.setattr("nas_optuna.estimation.optimizer.LONG", 1000)
    torch.testing.assert_close(found, orthogonalize(matrices), rtol=0, atol=1e-3)


def test_step_is_that_of_the_definition() -> None:
    weight = nn.Parameter(torch.zeros(6, 2, 1, 1))
    gradients = [torch.randn(6, 2, 1, 1, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    optimizer = Muon([weight], lr=0.1, momentum=0.5)
    momentum, expected = torch.zeros(6, 2), torch.zeros(6, 2)
    for gradient in gradients:
        weight.grad = gradient
        optimizer.step()
        momentum = 0.5 * momentum + gradient.flatten(1)
        expected -= 0.1 * 3**0.5 * orthogonalize((gradient.flatten(1) + 0.5 * momentum)[None])[0]
    torch.testing.assert_close(weight.detach().flatten(1), expected)


def test_weights_of_one_shape_move_as_each_would_alone() -> None:
    shapes = [(6, 2, 3, 3), (6, 18), (18, 6), (6, 2, 3, 3)]
    random = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.randn(shape, generator=random)) for shape in shapes]
    alone = [nn.Parameter(weight.detach().clone()) for weight in weights]
    for weight, other in zip(weights, alone, strict=True):
        weight.grad = other.grad = torch.randn(weight.shape, generator=random)
        Muon([other], lr=0.1, momentum=0.5).step()
    Muon(weights, lr=0.1, momentum=0.5).step()
    torch.testing.assert_close(weights, alone)


def test_zero_gradient_moves_nothing() -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    weight.grad = torch.zeros(3, 3)
    Muon([weight], lr=1.0, momentum=0.9).step()
    assert torch.equal(weight.detach(), torch.ones(3, 3))


@pytest.mark.parametrize("channels", [1, 3])
def test_muon_moves_matrices_between_stem_and_head_alone(channels: int) -> None:
    architecture = Architecture(
        Stem(8), (Block("conv", 16, 2, choices={"kernel": 3}), Block("dwsep", 16, choices={"kernel": 3}))
    )
    network = Network(architecture, classes=10, mean=[0.5] * channels, std=[0.2] * channels)
    module = Classifier(network, make_training(optimizer="muon").recipe, steps=10)
    sgd, muon = module.configure_optimizers()
    names = {id(weight): name for name, weight in network.named_parameters()}
    moved = {names[id(weight)] for group in muon.param_groups for weight in group["params"]}
    others = {names[id(weight)] for group in sgd.param_groups for weight in group["params"]}
    assert moved | others == set(names.values())
    assert not moved & others
    shapes = sorted(tuple(dict(network.named_parameters())[name].shape) for name in moved)
    # the standard convolution and the pointwise half of the separable one
    assert shapes == [(16, 8, 3, 3), (16, 16, 1, 1)]


def test_network_learns_with_muon(digits: Digits) -> None:
    architecture = Architecture(Stem(8), (Block("conv", 16, 2, residual=True), Block("conv", 16)))
    training = make_training(optimizer="muon", learning_rate=0.3, muon_learning_rate=0.24)
    module = training.fit(architecture, digits, fidelity=Fidelity(3), seed=0)
    assert module.curve[-1] > 0.8
