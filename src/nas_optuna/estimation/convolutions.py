"""Performance estimation: PyTorch's convolutions by a way that is fast and safe on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REGISTER = 16  # numbers in the widest register of a CPU


class DepthwiseConvolution(nn.Conv2d):
    """Computes in float32 where a CPU's autocast is on: its kernels are slower in bfloat16."""

    def forward(self, features: Tensor) -> Tensor:
        if features.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(features)
        with torch.autocast("cpu", enabled=False):
            return super().forward(features.float())


class ThinningConvolution(nn.Conv2d):
    """Pointwise and strided: takes the pixels that count, then convolves them with stride 1.

    With few channels, channels last, the gradient of a strided one's weights is written past the end of its
    memory on CPUs without AVX-512, which ends the process or spoils its numbers (oneDNN issue 6035).
    """

    @staticmethod
    def is_needed_for(module: nn.Conv2d) -> bool:
        """Whether its channels do not fill the registers of some CPU, and its stride leaves pixels out."""
        pointwise = module.kernel_size == (1, 1) and module.padding in ((0, 0), "valid")
        return pointwise and max(module.stride) > 1 and module.groups == 1 and module.in_channels < REGISTER

    def forward(self, features: Tensor) -> Tensor:
        if features.device.type != "cpu":
            return super().forward(features)
        rows, columns = self.stride
        return F.conv2d(features[..., ::rows, ::columns], self.weight, self.bias)
