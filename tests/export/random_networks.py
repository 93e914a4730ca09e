"""Networks to export."""

from __future__ import annotations

import random

import torch
from conftest import compose_config

from nas_optuna.configuration import build_space
from nas_optuna.limits import draw
from nas_optuna.space import Architecture, Block, Network, Stem

SHAPES = {
    "conv1d": (2, 64),
    "mobile": (3, 32, 32),
    "nasbench201": (3, 32, 32),
    "nasbench_macro": (3, 32, 32),
    "plain": (3, 32, 32),
    "resconv": (3, 32, 32),
    "resconv_photo": (3, 64, 64),
    "resconv_small": (1, 8, 8),
}
SMALL = Architecture(Stem(8), (Block("conv", 8, residual=True), Block("dwsep", 16, 2)))


def make_network(architecture: Architecture, shape: tuple[int, ...], *, seed: int = 0) -> Network:
    """With random weights, norms that have seen inputs, and logits as far apart as a trained network's."""
    torch.manual_seed(seed)
    mean, std = [0.5] * shape[0], [0.25] * shape[0]
    network = Network(architecture, classes=3, mean=mean, std=std)
    network(torch.rand(16, *shape))
    with torch.no_grad():
        network.head.linear.weight *= 3 / network.eval()(torch.rand(64, *shape)).std()
    network.input_shape, network.classes = shape, ("cat", "dog", 'the "third"')
    return network


def random_network(space: str, *, seed: int = 0) -> Network:
    built = build_space(compose_config(f"space={space}"))
    return make_network(built.at(draw(built, random.Random(seed))).canonical(), SHAPES[space], seed=seed)
