"""A layer of one's own: a module with in_channels and out_channels, whose other parameters are choices."""

import optuna
import torch
from torch import nn

from nas_optuna.space import Network, Stages, measure_costs, register_layer


class Ghost(nn.Module):
    """Half of the channels follow cheaply from the other half (Han et al. 2020)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, kernel: int = 3) -> None:
        super().__init__()
        half = out_channels // 2
        self.first = nn.Sequential(nn.Conv2d(in_channels, half, 1, stride), nn.BatchNorm2d(half))
        self.cheap = nn.Conv2d(half, out_channels - half, kernel, padding=kernel // 2, groups=half)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        first = self.first(features)
        return torch.cat([first, self.cheap(first)], dim=1)


register_layer("ghost", Ghost)
space = Stages(
    stem={"width": 16, "kernel": 3, "stride": 1},
    stages={"stage1": {"depth": "1..3", "width": "16..48 by 16", "stride": 2}},
    block={"layer": ["conv", "ghost"], "kernel": [3, 5], "residual": [True, False]},
)
optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
for _ in range(5):
    architecture = space(study.ask()).canonical()
    costs = measure_costs(architecture, input_shape=(3, 32, 32), classes=10)
    logits = Network(architecture, classes=10, mean=[0.5] * 3, std=[0.2] * 3)(torch.rand(2, 3, 32, 32))
    print(f"{costs.macs:>9,} MACs  {costs.params:>6,} parameters  {tuple(logits.shape)}  {architecture}")
